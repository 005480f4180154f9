build-san/modules/decode_fields.o: modules/decode_fields.c \
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
