build-san/daemon/arena.o: daemon/arena.c include/gait/arena.h
include/gait/arena.h:
