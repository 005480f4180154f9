build-san/daemon/metrics.o: daemon/metrics.c include/gait/metrics.h
include/gait/metrics.h:
