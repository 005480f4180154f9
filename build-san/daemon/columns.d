build-san/daemon/columns.o: daemon/columns.c include/gait/columns.h \
 daemon/nearest.h
include/gait/columns.h:
daemon/nearest.h:
