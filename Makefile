# SPDX-License-Identifier: Apache-2.0
# gait: one Makefile. `make` builds build/gaitd; `sudo make demo` shows it; `sudo make test` tests it.
#   CC=clang make         another compiler          SAN=1 make      with ASan and UBSan (in build-san/)
#   B=DIR make            another build directory   V=1 make        shows the commands

ifeq ($(origin CC),default)
CC      := gcc
endif
ifeq ($(origin CXX),default)
CXX     := g++
endif
# Tells the target's name; with V=1 the whole command.
V       ?= 0
Q        = $(if $(filter 1,$(V)),,@echo "  $@" && )
PKGS    := rdkafka hiredis jansson yaml-0.1 simdjson libxxhash zlib libzstd libmicrohttpd gnutls libcurl ncursesw
SAN     ?= 0
FUZZ    ?= 0
ifeq ($(SAN),1)
B       ?= build-san
SANFLAGS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
else ifeq ($(FUZZ),1)
B       ?= build-fuzz
SANFLAGS := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
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
# Addresses are bound at start and read-only from then on: one way less to turn a bug into an attack.
LDFLAGS += -Wl,-z,relro,-z,now
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
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# The vector kernels alone are compiled for their instruction set; which one runs is decided at start (cpu.c).
# The generic one may not contract a·b + c: its results are the same everywhere.
$(B)/modules/lstm_generic.o: CFLAGS += -O3 -ffp-contract=off
$(B)/modules/model_input.o: CFLAGS += -O3 -ffp-contract=off
$(B)/modules/lstm_avx2.o:   CFLAGS += -mavx2 -mfma
$(B)/modules/lstm_avx512.o: CFLAGS += -mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma
$(B)/modules/dense_avx2.o:   CFLAGS += -mavx2 -mfma
$(B)/modules/dense_avx512.o: CFLAGS += -mavx512f -mfma

# The same seed gives the same bytes on any machine: no compiler may fuse a multiplication with an addition there.
$(B)/daemon/shop%.o: CFLAGS += -ffp-contract=off

# The files that it puts into the binary.
$(B)/daemon/admin_assets.o: $(wildcard daemon/dashboard/*) conf/openapi.json

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(B)/%.o: %.cc Makefile
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -MMD -MP -c -o $@ $<

$(B)/tests/%.o: CPPFLAGS += -Idaemon

# An archive, so that a test which brings its own engine (tests/fake_engine.h) takes only the parts that it names.
$(B)/libgait.a: $(LIBOBJ)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

# The same for what tests share.
$(B)/tests/libsupport.a: $(B)/tests/support.o
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(B)/tests/%: $(B)/tests/%.o $(B)/tests/libsupport.a $(B)/libgait.a
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

$(B)/tests/kernel_lstm: $(B)/tests/lstm_wide.o
$(B)/tests/lstm_wide.o: CFLAGS += -ffp-contract=off

units: $(UNITS)
	@for t in $(UNITS); do $$t || exit 1; done

# The real binary on each of tests/case, against what is expected.
cases: $(B)/gaitd
	tests/cases.py --gaitd $(B)/gaitd $(CASES)

SIM     := $(B)/tests/sim
$(SIM): $(addprefix $(B)/tests/,sim.o sim_world.o sim_config.o sim_modules.o sim_compare.o oracle.o) $(B)/libgait.a
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# The simulator: SEEDS histories of faults, FROM the first seed.
SEEDS   ?= 200
FROM    ?= 1
sim: $(SIM)
	$(SIM) --seeds $(SEEDS) --from $(FROM)

# The bugs that can be planted into it: each has to be found.
sim-bugs: $(SIM)
	$(SIM) --prove

# A real Apache Kafka for tests and demo, from Maven Central into build/kafka.
kafka-dist: build/kafka/.done
build/kafka/.done: tests/e2e/pom.xml
	rm -rf build/kafka
	mvn -q -B -f tests/e2e/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/build/kafka/libs
	touch $@

build/venv/.done: tests/e2e/requirements.txt
	python3 -m venv build/venv
	build/venv/bin/pip -q install -r tests/e2e/requirements.txt
	touch $@

# The real binary with a real Kafka and a real Redis. T='-k name' picks tests.
e2e: $(B)/gaitd $(B)/tests/bench/w1_model kafka-dist build/venv/.done
	GAIT_BUILD=$(abspath $(B)) build/venv/bin/python -m pytest -q -p no:cacheprovider tests/e2e $(T)

# Three daemons, a real Kafka and a real Redis, and everything killed at random: hours of production in half an hour.
# CHAOS='--seed 7 --events 100000 --faults 10 --minutes 2' for another run.
CHAOS   ?= --events 2000000 --faults 60 --minutes 25
chaos: $(B)/gaitd $(B)/tests/bench/w1_model kafka-dist build/venv/.done
	GAIT_BUILD=$(abspath $(B)) build/venv/bin/python tests/e2e/chaos.py $(CHAOS)

# ---- everything that a release has to pass -------------------------------------------------------------------------

# What building needs, and what testing needs besides, by Debian's names. Installed only where something is lacking.
DEPS := gcc g++ libc6-dev make pkg-config python3 librdkafka-dev libhiredis-dev libjansson-dev libyaml-dev \
        libsimdjson-dev libxxhash-dev zlib1g-dev libzstd-dev libev-dev libcurl4-openssl-dev libncurses-dev libmicrohttpd-dev libgnutls28-dev
# Kafka is not in Debian: Maven Central has it, and PyPI the Python client that starts and asks it.
KAFKA_DEPS := $(DEPS) redis-server maven default-jdk-headless python3-venv
TEST_DEPS := $(KAFKA_DEPS) git libcmocka-dev clang libclang-rt-dev man-db groff mandoc \
             dpkg-dev lintian systemd openssl faketime
define install
@lacking=$$(for p in $(1); do dpkg-query -W -f '$${db:Status-Status}\n' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
if [ -n "$$lacking" ]; then echo "installing" $$lacking; \
    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy $$lacking; fi
endef
deps:
	$(call install,$(DEPS))
test-deps:
	$(call install,$(TEST_DEPS))
demo-kafka-deps:
	$(call install,$(KAFKA_DEPS) kcat redis-tools)

# The same tests with each of the kernels, as far as this processor has them.
# Those in which a kernel runs; the others have nothing to choose.
ISA_UNITS := $(filter %/kernel_lstm %/unit_model_lstm %/unit_train %/unit_train_network %/unit_eval,$(UNITS))
units-isa: $(UNITS)
	@for isa in generic avx2 avx512; do echo "GAIT_CPU=$$isa"; \
	    for t in $(ISA_UNITS); do GAIT_CPU=$$isa $$t || exit 1; done; done

tidy:
	tests/tidy.sh

pages: $(B)/gaitd
	tests/docs.sh $(B)/gaitd
	tests/boards.py

# Each fuzz_*.c for its share of FUZZ_SECONDS, under the sanitizers, by clang's libFuzzer.
FUZZERS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/fuzz_*.c))
FUZZ_SECONDS ?= 60
fuzz:
	$(MAKE) FUZZ=1 CC=clang CXX=clang++ OPT="-O1 -g" fuzz-run
fuzz-run: $(FUZZERS)
	@for f in $(FUZZERS); do mkdir -p $$f.corpus && \
	    $$f -max_total_time=$$(($(FUZZ_SECONDS) / $(words $(FUZZERS)))) -timeout=10 -rss_limit_mb=2048 -verbosity=0 \
	        -print_final_stats=1 -artifact_prefix=$$f. $$f.corpus || exit 1; echo "$$(basename $$f): 1 passed, 0 failed"; done
$(B)/tests/fuzz_%: $(B)/tests/fuzz_%.o $(B)/tests/libsupport.a $(B)/libgait.a
	$(Q)$(CXX) $(CXXFLAGS) -fsanitize=fuzzer $(LDFLAGS) -o $@ $^ $(LDLIBS)

sanitized:
	$(MAKE) SAN=1 units cases sim SEEDS=40

test: test-deps
	$(MAKE) all $(UNITS)
	$(MAKE) units units-isa cases sim sim-bugs tidy pages package
	$(MAKE) e2e
	$(MAKE) sanitized
	$(MAKE) fuzz

# ---- installing ------------------------------------------------------------------------------------------------------

# All of them may be given; DESTDIR goes in front of each. Configuration that is there already is left alone.
PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
BINDIR     ?= $(PREFIX)/bin
DATADIR    ?= $(PREFIX)/share/gait
DOCDIR     ?= $(PREFIX)/share/doc/gaitd
MANDIR     ?= $(PREFIX)/share/man
UNITDIR    ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
INSTALL    ?= install
# The units, pages and configuration in the tree name the paths of a distribution's package.
PLACED      = sed -e 's|/usr/bin/|$(BINDIR)/|g' -e 's|/usr/share/gait|$(DATADIR)|g' -e 's|/etc/gait|$(SYSCONFDIR)/gait|g'
CONFIGS    := gaitd.yaml rules.yaml
UNITS_OF_SYSTEMD := gaitd.service gaitd@.service gaitd-train.service gaitd-train.timer

install: $(B)/gaitd
	$(INSTALL) -D -m 755 $(B)/gaitd $(DESTDIR)$(BINDIR)/gaitd
	$(INSTALL) -d $(DESTDIR)$(SYSCONFDIR)/gait $(DESTDIR)$(DATADIR)/presets $(DESTDIR)$(DATADIR)/schema $(DESTDIR)$(DOCDIR) \
	    $(addprefix $(DESTDIR)$(MANDIR)/man,5 7 8) $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERSDIR) $(DESTDIR)$(TMPFILESDIR)
	$(INSTALL) -m 644 conf/presets/*.yaml $(DESTDIR)$(DATADIR)/presets
	$(INSTALL) -m 644 conf/schema/*.json $(DESTDIR)$(DATADIR)/schema
	$(INSTALL) -m 644 README.md SECURITY.md conf/METRICS.md conf/gaitd.full.yaml conf/tests.yaml $(DESTDIR)$(DOCDIR)
	for f in $(CONFIGS); do [ -e $(DESTDIR)$(SYSCONFDIR)/gait/$$f ] || \
	    $(INSTALL) -m 644 conf/$$f $(DESTDIR)$(SYSCONFDIR)/gait/$$f || exit 1; done
	for f in conf/gaitd.conf.5 conf/gait-formats.7 daemon/gaitd.8; do \
	    $(PLACED) $$f >$(DESTDIR)$(MANDIR)/man$${f##*.}/$$(basename $$f) || exit 1; done
	for f in $(UNITS_OF_SYSTEMD); do $(PLACED) systemd/$$f >$(DESTDIR)$(UNITDIR)/$$f || exit 1; done
	$(PLACED) systemd/gait.sysusers >$(DESTDIR)$(SYSUSERSDIR)/gait.conf
	$(PLACED) systemd/gait.tmpfiles >$(DESTDIR)$(TMPFILESDIR)/gait.conf

uninstall: # but for the configuration
	rm -rf $(DESTDIR)$(BINDIR)/gaitd $(DESTDIR)$(DATADIR) $(DESTDIR)$(DOCDIR) \
	    $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS_OF_SYSTEMD)) $(DESTDIR)$(SYSUSERSDIR)/gait.conf $(DESTDIR)$(TMPFILESDIR)/gait.conf \
	    $(DESTDIR)$(MANDIR)/man8/gaitd.8 $(DESTDIR)$(MANDIR)/man5/gaitd.conf.5 $(DESTDIR)$(MANDIR)/man7/gait-formats.7

# A Debian package, from the installed tree: build/gaitd_VERSION_ARCHITECTURE.deb
DEB_DEPS := $(DEPS) dpkg-dev
deb: $(B)/gaitd
	systemd/deb/build.sh $(B)

deb-deps:
	$(call install,$(DEB_DEPS))

# Installs into a folder, builds the package, installs and purges it in a copy of this system.
package: $(B)/gaitd
	tests/package.sh $(B)

# ---- to look at -------------------------------------------------------------------------------------------------------

demo: deps
	$(MAKE) all
	conf/demo.sh $(B)/gaitd

demo-kafka: demo-kafka-deps
	$(MAKE) all kafka-dist build/venv/.done
	conf/demo-kafka.sh $(B)/gaitd

# The demo's model, from another shop than the demo's (another seed), in a minute. The same command gives the same bytes.
demo-model: $(B)/gaitd
	$(B)/gaitd gen --users 5000 --events 300000 --seed 1 --out $(B)/demo-train.jsonl.gz
	$(B)/gaitd train --events $(B)/demo-train.jsonl.gz --target category,intent --layers 48 --epochs 20 \
	    --schedule cosine --seed 1 --out conf/demo.safetensors --card conf/demo-model.md

# Job W1 (README, "Benchmark"): a real broker and a real Redis on core 1, gaitd on core 0.
bench: $(B)/gaitd $(B)/tests/bench/probe $(B)/tests/bench/w1_model kafka-dist build/venv/.done
	GAIT_BUILD=$(abspath $(B)) build/venv/bin/python tests/bench/w1.py --build $(B) $(BENCH)

# Seconds to take over from a dead daemon with a million users in Redis; peak memory with 20,000,000 events of lag.
bench-recovery: $(B)/gaitd $(B)/tests/bench/w1_model kafka-dist build/venv/.done
	GAIT_BUILD=$(abspath $(B)) build/venv/bin/python tests/bench/recovery.py --build $(abspath $(B)) $(BENCH)

# What one LSTM step costs, by kernel and size of the wave.
bench-lstm: $(B)/tests/bench/bench_lstm
	$<

# How fast the trainer learns the preset purchase-28; beside it TensorFlow, where it is installed.
bench-train: $(B)/tests/bench/bench_train
	tests/bench/bench_train.sh $<

# Quality on data that no one here made, where it is at hand (GAIT_DATA).
gates: $(B)/gaitd
	GAITD=$(abspath $<) tests/gates/eshop.sh
.PHONY: bench-train bench-recovery gates

# What decoding an event and writing a score cost.
bench-decode: $(B)/tests/bench/bench_decode
	$<

bench-window: $(B)/tests/bench/bench_window
	$< $(or $(USERS),200000) $(or $(EVENTS),2000000)

$(B)/tests/bench/%: $(B)/tests/bench/%.o $(B)/tests/support.o $(LIBOBJ)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# The pages that are made from the option and metric rows; tests/docs.sh fails when they have fallen behind.
docs: $(B)/gaitd
	$(B)/gaitd options --yaml >conf/gaitd.full.yaml
	$(B)/gaitd options --man >conf/gaitd.conf.5
	$(B)/gaitd options --metrics >conf/METRICS.md

clean:
	rm -rf build build-san build-fuzz

.PHONY: bench demo-model all objects units units-isa cases sim sim-bugs tidy pages docs deps test-deps demo-kafka-deps kafka-dist e2e chaos \
        fuzz fuzz-run sanitized test demo demo-kafka clean bench-decode bench-lstm bench-window
.SECONDARY:
-include $(OBJ:.o=.d) $(wildcard $(B)/tests/*.d $(B)/tests/bench/*.d)
