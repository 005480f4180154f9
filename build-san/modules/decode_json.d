build-san/modules/decode_json.o: modules/decode_json.c \
 modules/decode_fields.h modules/decode_time.h include/gait/decode.h \
 include/gait/error.h include/gait/event.h include/gait/str.h \
 include/gait/arena.h include/gait/module.h include/gait/batch.h \
 include/gait/clock.h include/gait/columns.h include/gait/metrics.h \
 include/gait/option.h include/gait/user.h
modules/decode_fields.h:
modules/decode_time.h:
include/gait/decode.h:
include/gait/error.h:
include/gait/event.h:
include/gait/str.h:
include/gait/arena.h:
include/gait/module.h:
include/gait/batch.h:
include/gait/clock.h:
include/gait/columns.h:
include/gait/metrics.h:
include/gait/option.h:
include/gait/user.h:
