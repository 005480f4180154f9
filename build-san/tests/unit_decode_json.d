build-san/tests/unit_decode_json.o: tests/unit_decode_json.c \
 include/gait/decode.h include/gait/error.h include/gait/event.h \
 include/gait/str.h include/gait/module.h include/gait/batch.h \
 include/gait/arena.h include/gait/clock.h include/gait/columns.h \
 include/gait/metrics.h include/gait/option.h include/gait/user.h
include/gait/decode.h:
include/gait/error.h:
include/gait/event.h:
include/gait/str.h:
include/gait/module.h:
include/gait/batch.h:
include/gait/arena.h:
include/gait/clock.h:
include/gait/columns.h:
include/gait/metrics.h:
include/gait/option.h:
include/gait/user.h:
