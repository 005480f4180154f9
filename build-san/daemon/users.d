build-san/daemon/users.o: daemon/users.c include/gait/user.h \
 include/gait/error.h include/gait/str.h include/gait/metrics.h \
 include/gait/module.h include/gait/batch.h include/gait/arena.h \
 include/gait/event.h include/gait/clock.h include/gait/columns.h \
 include/gait/option.h
include/gait/user.h:
include/gait/error.h:
include/gait/str.h:
include/gait/metrics.h:
include/gait/module.h:
include/gait/batch.h:
include/gait/arena.h:
include/gait/event.h:
include/gait/clock.h:
include/gait/columns.h:
include/gait/option.h:
