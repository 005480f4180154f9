build-san/modules/decode_time.o: modules/decode_time.c \
 modules/decode_time.h include/gait/decode.h include/gait/error.h \
 include/gait/event.h include/gait/str.h
modules/decode_time.h:
include/gait/decode.h:
include/gait/error.h:
include/gait/event.h:
include/gait/str.h:
