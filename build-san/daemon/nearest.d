build-san/daemon/nearest.o: daemon/nearest.c daemon/nearest.h
daemon/nearest.h:
