# Sealpost. The one place for flags, and every target:
#   make            the programs, in build/
#   make demo       the main job, shown on real mail        make check   all tests
#   make fuzz T=60  each fuzz harness for T seconds         make bench   side-by-side benchmarks
#   make install DESTDIR=...                                 make deps    the Debian packages needed
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:

CC      ?= gcc
CC      := $(if $(filter cc default,$(CC)),gcc,$(CC))
CLANG   ?= clang
B       ?= build
PREFIX  ?= /usr
VERSION := 0.1.0

PACKAGES := openssl libsodium libseccomp lmdb libevent libevent_openssl libevent_pthreads jansson inih libcurl
WARN    := -Wall -Wextra -Wconversion -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Werror
HARDEN  := -fPIE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection \
           -fcf-protection -ftrivial-auto-var-init=zero
COMMON  := -std=c11 -D_GNU_SOURCE -DSEALPOST_VERSION='"$(VERSION)"' -I. -I$(B)/gen -MMD -MP $(WARN)
CFLAGS  ?= -O2 -g
SANITIZE := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LDHARDEN := -pie -Wl,-z,now,-z,relro,-z,noexecstack
LIBS     = $(shell pkg-config --libs libssl libcrypto libsodium libseccomp lmdb libevent libevent_openssl jansson inih)
CLIENT_LIBS = $(shell pkg-config --libs libcurl)

# make V=1 shows the commands.
Q       := $(if $(V),,@)
say      = @printf '  %-4s %s\n' $(1) $@

# Each folder is a library of its own kind; the programs are their mains.
ENVELOPE := $(wildcard envelope/*.c)
SANDBOX  := $(wildcard sandbox/*.c)
DAEMON   := $(filter-out daemon/main.c,$(wildcard daemon/*.c)) $(wildcard storage/*.c) \
            $(wildcard daemon/smtp/*.c daemon/sealer/*.c daemon/keeper/*.c daemon/web/*.c daemon/audit/*.c)
CONTROL  := $(wildcard daemon/control/*.c)
CLIENT   := $(wildcard client/*.c)

SEALPOSTD   := daemon/main.c $(DAEMON) $(SANDBOX) $(ENVELOPE)
SEALPOSTCTL := $(CONTROL) daemon/ipc.c daemon/config.c daemon/audit/log.c $(ENVELOPE) sandbox/lockmem.c
SEALPOST    := $(CLIENT) $(ENVELOPE) sandbox/lockmem.c
UNIT        := $(wildcard tests/unit/test_*.c)
FUZZ        := $(wildcard fuzz/fuzz_*.c)

PROGRAMS := $(B)/sealpostd $(B)/sealpostctl $(B)/sealpost
all: $(PROGRAMS)

# obj: release; test: the same with the hooks that the tests need; asan: unit tests.
$(B)/obj/%.o: %.c | tools
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(COMMON) $(CFLAGS) $(HARDEN) -c -o $@ $<
$(B)/test/%.o: %.c | tools
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(COMMON) $(CFLAGS) $(HARDEN) -DSEALPOST_TEST -c -o $@ $<
$(B)/asan/%.o: %.c | tools
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(COMMON) $(SANITIZE) -DSEALPOST_TEST -c -o $@ $<

$(B)/sealpostd: $(SEALPOSTD:%.c=$(B)/obj/%.o)
	$(call say,LINK)
	$(Q)$(CC) $(LDHARDEN) -o $@ $^ $(LIBS)
$(B)/sealpostctl: $(SEALPOSTCTL:%.c=$(B)/obj/%.o)
	$(call say,LINK)
	$(Q)$(CC) $(LDHARDEN) -o $@ $^ $(LIBS)
$(B)/sealpost: $(SEALPOST:%.c=$(B)/obj/%.o)
	$(call say,LINK)
	$(Q)$(CC) $(LDHARDEN) -o $@ $^ $(LIBS) $(CLIENT_LIBS)
$(B)/test/sealpostd: $(SEALPOSTD:%.c=$(B)/test/%.o)
	$(call say,LINK)
	$(Q)$(CC) $(LDHARDEN) -o $@ $^ $(LIBS)

# Unit tests link what is not a main, under the sanitizers.
$(B)/asan/libsealpost.a: $(patsubst %.c,$(B)/asan/%.o,$(DAEMON) $(SANDBOX) $(ENVELOPE))
	$(Q)rm -f $@ && ar rcs $@ $^
$(B)/asan/test_%: $(B)/asan/tests/unit/test_%.o $(B)/asan/libsealpost.a
	$(Q)$(CC) $(SANITIZE) -o $@ $^ $(LIBS) $(shell pkg-config --libs cmocka)
unit: $(UNIT:tests/unit/%.c=$(B)/asan/%)
	@for t in $^; do $$t || exit 1; done

-include $(shell test -d $(B) && find $(B) -name '*.d')
.PHONY: all unit tools
tools:
	@:
