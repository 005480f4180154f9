build-san/daemon/error.o: daemon/error.c include/gait/error.h
include/gait/error.h:
