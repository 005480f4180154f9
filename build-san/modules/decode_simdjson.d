build-san/modules/decode_simdjson.o: modules/decode_simdjson.cc \
 modules/decode_plan.h include/gait/decode.h include/gait/error.h \
 include/gait/event.h include/gait/str.h
modules/decode_plan.h:
include/gait/decode.h:
include/gait/error.h:
include/gait/event.h:
include/gait/str.h:
