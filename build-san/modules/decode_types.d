build-san/modules/decode_types.o: modules/decode_types.c \
 modules/decode_fields.h modules/decode_time.h include/gait/decode.h \
 include/gait/error.h include/gait/event.h include/gait/str.h \
 include/gait/arena.h
modules/decode_fields.h:
modules/decode_time.h:
include/gait/decode.h:
include/gait/error.h:
include/gait/event.h:
include/gait/str.h:
include/gait/arena.h:
