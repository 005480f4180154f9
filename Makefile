# SPDX-License-Identifier: Apache-2.0
# gait: one Makefile. `make` builds build/gaitd; `sudo make demo` shows it; `sudo make test` tests it.
#   CC=clang make         another compiler          SAN=1 make      with ASan and UBSan (in build-san/)
#   B=DIR make            another build directory

ifeq ($(origin CC),default)
CC      := gcc
endif
ifeq ($(origin CXX),default)
CXX     := g++
endif
PKGS    := rdkafka hiredis jansson yaml-0.1 simdjson libxxhash zlib libzstd
SAN     ?= 0
ifeq ($(SAN),1)
B       ?= build-san
SANFLAGS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
else
B       ?= build
SANFLAGS :=
endif
OPT     ?= -O2 -g
WARN    := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
# Texts that are cut to fit are meant to be; clang has no such warning.
ifneq ($(findstring gcc,$(CC)),)
WARN    += -Wno-format-truncation
endif
CPPFLAGS += -Iinclude -D_GNU_SOURCE $(shell pkg-config --cflags $(PKGS))
CFLAGS  += -std=c17 $(OPT) $(WARN) $(SANFLAGS) -fno-strict-aliasing -fstack-protector-strong
CXXFLAGS += -std=c++17 $(OPT) -Wall -Wextra -Werror $(SANFLAGS)
LDLIBS  += $(shell pkg-config --libs $(PKGS)) -lev -lm -lpthread -lstdc++

SRC     := $(wildcard daemon/*.c) $(wildcard modules/*.c)
SRCXX   := $(wildcard modules/*.cc)
OBJ     := $(SRC:%.c=$(B)/%.o) $(SRCXX:%.cc=$(B)/%.o)
LIBOBJ  := $(filter-out $(B)/daemon/main.o,$(OBJ))
UNITS   := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/unit_*.c) $(wildcard tests/kernel*.c))

all: $(B)/gaitd

objects: $(OBJ)

$(B)/gaitd: $(OBJ)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# The vector kernels alone are compiled for their instruction set; which one runs is decided at start (cpu.c).
# The generic one may not contract a·b + c: its results are the same everywhere.
$(B)/modules/lstm_generic.o: CFLAGS += -O3 -ffp-contract=off
$(B)/modules/lstm_avx2.o:   CFLAGS += -mavx2 -mfma
$(B)/modules/lstm_avx512.o: CFLAGS += -mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma
$(B)/modules/dense_avx2.o:   CFLAGS += -mavx2 -mfma
$(B)/modules/dense_avx512.o: CFLAGS += -mavx512f -mfma

# The same seed gives the same bytes on any machine: no compiler may fuse a multiplication with an addition there.
$(B)/daemon/shop%.o: CFLAGS += -ffp-contract=off

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(B)/%.o: %.cc Makefile
	@mkdir -p $(@D)
	$(CXX) $(CPPFLAGS) $(CXXFLAGS) -MMD -MP -c -o $@ $<

$(B)/tests/%.o: CPPFLAGS += -Idaemon

# An archive, so that a test which brings its own engine (tests/fake_engine.h) takes only the parts that it names.
$(B)/libgait.a: $(LIBOBJ)
	@rm -f $@
	$(AR) rcs $@ $^

# The same for what tests share.
$(B)/tests/libsupport.a: $(B)/tests/support.o
	@rm -f $@
	$(AR) rcs $@ $^

$(B)/tests/%: $(B)/tests/%.o $(B)/tests/libsupport.a $(B)/libgait.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

units: $(UNITS)
	@for t in $(UNITS); do $$t || exit 1; done

# The real binary on each of tests/case, against what is expected.
cases: $(B)/gaitd
	tests/cases.py --gaitd $(B)/gaitd $(CASES)

SIM     := $(B)/tests/sim
$(SIM): $(B)/tests/sim.o $(B)/tests/sim_world.o $(B)/tests/sim_modules.o $(B)/tests/oracle.o $(B)/libgait.a
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# The simulator: SEEDS histories of faults, FROM the first seed.
SEEDS   ?= 200
FROM    ?= 1
sim: $(SIM)
	$(SIM) --seeds $(SEEDS) --from $(FROM)

# What one LSTM step costs, by kernel and size of the wave.
bench-lstm: $(B)/tests/bench/bench_lstm
	$<

bench-window: $(B)/tests/bench/bench_window
	$< $(or $(USERS),200000) $(or $(EVENTS),2000000)

$(B)/tests/bench/%: $(B)/tests/bench/%.o $(B)/tests/support.o $(LIBOBJ)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# The pages that are made from the option and metric rows; tests/docs.sh fails when they have fallen behind.
docs: $(B)/gaitd
	$(B)/gaitd options --yaml >conf/gaitd.full.yaml
	$(B)/gaitd options --man >conf/gaitd.conf.5
	$(B)/gaitd options --metrics >conf/METRICS.md

clean:
	rm -rf build build-san

.PHONY: bench-lstm bench-window all objects units cases clean
.SECONDARY:
-include $(OBJ:.o=.d) $(wildcard $(B)/tests/*.d $(B)/tests/bench/*.d)
