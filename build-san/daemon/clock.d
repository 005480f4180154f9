build-san/daemon/clock.o: daemon/clock.c include/gait/clock.h
include/gait/clock.h:
