build-san/daemon/log.o: daemon/log.c include/gait/log.h \
 include/gait/clock.h
include/gait/log.h:
include/gait/clock.h:
