build-san/daemon/event.o: daemon/event.c include/gait/event.h \
 include/gait/str.h include/gait/error.h
include/gait/event.h:
include/gait/str.h:
include/gait/error.h:
