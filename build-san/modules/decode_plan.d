build-san/modules/decode_plan.o: modules/decode_plan.c \
 modules/decode_plan.h include/gait/decode.h include/gait/error.h \
 include/gait/event.h include/gait/str.h
modules/decode_plan.h:
include/gait/decode.h:
include/gait/error.h:
include/gait/event.h:
include/gait/str.h:
