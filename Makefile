# Sealpost. The one place for flags, and every target:
#   make            the programs, in build/
#   make demo       the main job, shown on real mail        make check   all tests
#   make fuzz T=60  each fuzz harness for T seconds         make bench   side-by-side benchmarks
#   make install DESTDIR=...                                 make deps    the Debian packages needed
#   make deb        a Debian package, in build/deb/         make package-check   it, in bare systems
#   parts of check: make lint, unit, seeds, system PYTEST="-k P9", browser; make clean, help
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:

CC      ?= gcc
CC      := $(if $(filter cc default,$(CC)),gcc,$(CC))
CLANG   ?= clang
B       ?= build
PREFIX  ?= /usr
VERSION := 0.1.0

PACKAGES := openssl libsodium libseccomp lmdb libevent libevent_openssl libevent_pthreads jansson inih libidn2 libcurl libunbound
WARN    := -Wall -Wextra -Wconversion -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Werror
HARDEN  := -fPIE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection \
           -fcf-protection -ftrivial-auto-var-init=zero
COMMON  := -std=c11 -D_GNU_SOURCE -DSEALPOST_VERSION='"$(VERSION)"' -I. -I$(B)/gen -MMD -MP $(WARN)
CFLAGS  ?= -O2 -g
SANITIZE := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LDHARDEN := -pie -Wl,-z,now,-z,relro,-z,noexecstack
# libunbound is to find our socket() (daemon/door/sockets.c).
EXPORTS  := -Wl,--export-dynamic-symbol=socket
LIBS     = $(shell pkg-config --libs libssl libcrypto libsodium libseccomp lmdb libevent libevent_openssl jansson inih libidn2 libunbound) -lresolv
CLIENT_LIBS = $(shell pkg-config --libs libcurl)

# make V=1 shows the commands.
Q       := $(if $(V),,@)
say      = @printf '  %-4s %s\n' $(1) $@

# Each folder is a library of its own kind; the programs are their mains.
ENVELOPE := $(wildcard envelope/*.c)
SANDBOX  := $(wildcard sandbox/*.c)
DAEMON   := $(filter-out daemon/main.c,$(wildcard daemon/*.c)) $(wildcard storage/*.c) \
            $(wildcard daemon/smtp/*.c daemon/sealer/*.c daemon/keeper/*.c daemon/web/*.c daemon/audit/*.c daemon/relay/*.c daemon/resolver/*.c daemon/door/*.c) \
            $(B)/gen/page_assets.c
CONTROL  := $(wildcard daemon/control/*.c)
CLIENT   := $(wildcard client/*.c)

SEALPOSTD   := daemon/main.c $(DAEMON) $(SANDBOX) $(ENVELOPE)
SEALPOSTCTL := $(CONTROL) daemon/inplace.c daemon/ipc.c daemon/config.c daemon/config_keys.c daemon/config_listen.c daemon/credential.c daemon/domain.c daemon/selfsigned.c daemon/audit/log.c daemon/audit/head.c \
               daemon/keeper/dkimkey.c daemon/pem.c daemon/aside.c daemon/certificate.c daemon/tlspair.c $(SANDBOX) $(ENVELOPE)
SEALPOST    := $(CLIENT) $(ENVELOPE) sandbox/lockmem.c
UNIT        := $(wildcard tests/unit/test_*.c)
FUZZ        := $(wildcard fuzz/fuzz_*.c)

PROGRAMS := $(B)/sealpostd $(B)/sealpostctl $(B)/sealpost
all: $(PROGRAMS)

# What a target needs from Debian is installed when root runs make, and named otherwise.
$(B)/.deps-%: hardening/deps.sh
	@mkdir -p $(B)
	@B=$(B) sh hardening/deps.sh $* && touch $@
deps: $(B)/.deps-check

# obj: release; test: the same with the hooks that the tests need; asan: unit tests.
$(B)/obj/%.o: %.c | $(B)/.deps-build
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(COMMON) $(CFLAGS) $(HARDEN) -c -o $@ $<
$(B)/test/%.o: %.c | $(B)/.deps-build
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(COMMON) $(CFLAGS) $(HARDEN) -DSEALPOST_TEST -c -o $@ $<
$(B)/asan/%.o: %.c | $(B)/.deps-check
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(COMMON) $(SANITIZE) -DSEALPOST_TEST -c -o $@ $<

$(B)/sealpostd: $(SEALPOSTD:%.c=$(B)/obj/%.o)
	$(call say,LINK)
	$(Q)$(CC) $(LDHARDEN) $(EXPORTS) -o $@ $^ $(LIBS)
$(B)/sealpostctl: $(SEALPOSTCTL:%.c=$(B)/obj/%.o)
	$(call say,LINK)
	$(Q)$(CC) $(LDHARDEN) -o $@ $^ $(LIBS)
$(B)/sealpost: $(SEALPOST:%.c=$(B)/obj/%.o)
	$(call say,LINK)
	$(Q)$(CC) $(LDHARDEN) -o $@ $^ $(LIBS) $(CLIENT_LIBS)
$(B)/test/sealpostd: $(SEALPOSTD:%.c=$(B)/test/%.o)
	$(call say,LINK)
	$(Q)$(CC) $(LDHARDEN) $(EXPORTS) -o $@ $^ $(LIBS)

# The link page (page/): what its lock file pins is fetched, bundled, and laid out as C arrays. Nothing
# that is fetched runs a script of its own while it is installed (page/.npmrc).
PAGE_NPM := page/package.json page/package-lock.json page/.npmrc
# Nothing to do, and no network needed, where the same is installed already.
npm_ci = if test -e $@ && cat $(PAGE_NPM) | cmp -s - $@; then touch $@; else \
    rm -rf $(@D) && mkdir -p $(@D) && cp $(PAGE_NPM) $(@D)/ && \
    (cd $(@D) && npm ci $1 --no-progress --loglevel=error >npm.log 2>&1 || { cat npm.log; exit 1; }) && \
    cat $(PAGE_NPM) >$@; fi
$(B)/npm/.done: $(PAGE_NPM) | $(B)/.deps-page
	$(call say,NPM)
	$(Q)$(call npm_ci,--omit=dev)
$(B)/gen/page_assets.c: $(wildcard page/*.js page/*.mjs page/*.html page/*.css page/*.svg) $(B)/npm/.done
	$(call say,PAGE)
	$(Q)node page/bundle.mjs $(B)
# The tests' own packages: a browser's driver, axe-core.
$(B)/npm-dev/.done: $(PAGE_NPM) | $(B)/.deps-browser
	$(call say,NPM)
	$(Q)$(call npm_ci)
# In Node and in Chromium, which meets the page as the real web role serves it.
browser: $(B)/sealpostd $(B)/npm-dev/.done | $(B)/.deps-browser
	B=$(abspath $(B)) node --test --test-concurrency=$(shell nproc) $(BROWSER) $(wildcard tests/browser/*.test.js)

# Unit tests link what is not a main, under the sanitizers.
$(B)/asan/libsealpost.a: $(patsubst %.c,$(B)/asan/%.o,$(DAEMON) $(SANDBOX) $(ENVELOPE))
	$(Q)rm -f $@ && ar rcs $@ $^
$(B)/asan/test_%: $(B)/asan/tests/unit/test_%.o $(B)/asan/libsealpost.a
	$(call say,LINK)
	$(Q)$(CC) $(SANITIZE) -Wl,-z,now -o $@ $^ $(LIBS) $(CLIENT_LIBS) $(shell pkg-config --libs cmocka)
# The client is no part of that library: a test of it includes files and stands in for the server, or
# links what needs none.
$(B)/asan/libclient.a: $(patsubst %.c,$(B)/asan/%.o,$(filter-out client/main.c,$(CLIENT)))
	$(Q)rm -f $@ && ar rcs $@ $^
$(B)/asan/test_client_send $(B)/asan/test_part: $(B)/asan/test_%: $(B)/asan/tests/unit/test_%.o $(B)/asan/libclient.a $(B)/asan/libsealpost.a
	$(call say,LINK)
	$(Q)$(CC) $(SANITIZE) -Wl,-z,now -o $@ $^ $(LIBS) $(CLIENT_LIBS) $(shell pkg-config --libs cmocka)
# Each is run, as many at a time as make may; said is what one says that fails.
RUNS := $(UNIT:tests/unit/%.c=unit-%)
$(RUNS): unit-%: $(B)/asan/%
	@$< >$<.log 2>&1 || { cat $<.log; echo "FAILED: $<"; exit 1; }
unit: $(RUNS)
	@sh tests/counted.sh unit $(RUNS:unit-%=$(B)/asan/%.log)

# Most of them wait more than they compute: three at a time for each processor, twelve at the most.
JOBS ?= $(shell n=$$((3 * $$(nproc))); echo $$((n < 12 ? n : 12)))
system: $(PROGRAMS) $(B)/test/sealpostd | $(B)/.deps-check
	@/usr/bin/python3 -c 'import xdist' 2>/dev/null || { echo "missing: python3-pytest-xdist (apt-get install python3-pytest-xdist)"; exit 1; }
	B=$(B) /usr/bin/python3 -m pytest -q -p no:cacheprovider -n $(JOBS) tests/system $(PYTEST)

# A harness includes the .c files it tests; its first line names the libraries.
T ?= 60
comma := ,
FUZZFLAGS := -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -std=c11 -D_GNU_SOURCE -I.
$(B)/fuzz/%: fuzz/%.c | $(B)/.deps-fuzz
	@mkdir -p $(@D)
	$(call say,FUZZ)
	$(Q)$(CLANG) $(FUZZFLAGS) -MMD -MP -MF $@.d -MT $@ -o $@ $< $(shell sed -n '1s|.*libs:\(.*\)\*/.*|\1|p' $<)
# What fuzz/page.mjs asks: the appliance's decoders as a filter.
$(B)/fuzz/judge: FUZZFLAGS := $(subst fuzzer$(comma),,$(FUZZFLAGS))
FUZZERS := $(FUZZ:fuzz/%.c=$(B)/fuzz/%)
# Found inputs go to build/fuzz/found; what crashes stops the run and is named.
fuzz: $(FUZZERS) $(B)/fuzz/judge
	@for f in $(FUZZERS); do n=$${f##*/fuzz_}; log=$(B)/fuzz/$$n.log; mkdir -p $(B)/fuzz/found/$$n; \
	    echo "== $$n, $(T) s"; \
	    $$f -max_total_time=$(T) -max_len=8192 -print_final_stats=1 -artifact_prefix=$(B)/fuzz/ \
	        $(B)/fuzz/found/$$n fuzz/corpus/$$n >$$log 2>&1 || { tail -40 $$log; exit 1; }; \
	    grep -E '^stat::(number|average)| DONE ' $$log; done
SEEDS := $(FUZZ:fuzz/fuzz_%.c=seeds-%)
$(SEEDS): seeds-%: $(B)/fuzz/fuzz_%
	@$< -runs=0 fuzz/corpus/$* >$(B)/fuzz/$*.log 2>&1 || { cat $(B)/fuzz/$*.log; echo "FAILED: $<"; exit 1; }
seeds: $(SEEDS) $(B)/fuzz/judge
	@node fuzz/page.mjs $(B)/fuzz/judge fuzz/corpus 0
	@sh tests/counted.sh seeds $(SEEDS:seeds-%=$(B)/fuzz/%.log)

lint: | $(B)/.deps-build
	@sh tests/lint.sh

check: | $(B)/.deps-check $(B)/.deps-browser
	@B=$(B) MAKE="$(MAKE)" sh tests/check.sh

demo: $(PROGRAMS) | $(B)/.deps-demo
	@B=$(B) sh tests/demo.sh

# Side by side with Dovecot, Postfix and nginx; BENCH gives options: make bench BENCH="--only small,large"
$(B)/bench/load: $(patsubst %.c,$(B)/obj/%.o,$(wildcard bench/*.c))
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) $(LDHARDEN) -o $@ $^ -lssl -lcrypto
bench: $(PROGRAMS) $(B)/bench/load $(B)/npm-dev/.done | $(B)/.deps-bench $(B)/.deps-browser
	B=$(B) python3 bench/run $(BENCH)

# Puts files in place; starts nothing, makes no user. sealpost.conf is left alone where there is one.
SBIN    := $(DESTDIR)$(PREFIX)/sbin
BIN     := $(DESTDIR)$(PREFIX)/bin
UNITS   := $(DESTDIR)$(PREFIX)/lib/systemd/system
SYSUSER := $(DESTDIR)$(PREFIX)/lib/sysusers.d
TMPFILE := $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
DOC     := $(DESTDIR)$(PREFIX)/share/doc/sealpost
MAN     := $(DESTDIR)$(PREFIX)/share/man
BASH    := $(DESTDIR)$(PREFIX)/share/bash-completion/completions
ETC     := $(DESTDIR)/etc/sealpost
ARMOR   := $(DESTDIR)$(PREFIX)/share/apparmor/extra-profiles

install: $(PROGRAMS)
	install -d -m 0755 $(SBIN) $(BIN) $(UNITS) $(SYSUSER) $(TMPFILE) $(DOC)/examples $(BASH) $(ARMOR) \
	    $(MAN)/man1 $(MAN)/man5 $(MAN)/man8
	install -d -m 0750 $(ETC)
	install -m 0755 $(B)/sealpostd $(B)/sealpostctl $(SBIN)/
	install -m 0755 $(B)/sealpost $(BIN)/
	for unit in sealpost sealpost-door; do \
	    sed 's|/usr/sbin/sealpostd|$(PREFIX)/sbin/sealpostd|g' hardening/$$unit.service > $(B)/$$unit.service && \
	    install -m 0644 $(B)/$$unit.service $(UNITS)/ || exit 1; done
	install -m 0644 hardening/sealpost.sysusers $(SYSUSER)/sealpost.conf
	install -m 0644 hardening/sealpost.tmpfiles $(TMPFILE)/sealpost.conf
	test -e $(ETC)/sealpost.conf || install -m 0640 hardening/sealpost.conf $(ETC)/sealpost.conf
	install -m 0644 $(wildcard docs/*.md) hardening/sealpost.conf LICENSE $(DOC)/
	install -m 0644 hardening/nftables.example $(DOC)/examples/
	install -m 0644 hardening/apparmor.profile $(ARMOR)/usr.sbin.sealpostd
	install -m 0644 hardening/man/sealpost.1 $(MAN)/man1/
	install -m 0644 hardening/man/sealpostd.8 hardening/man/sealpostctl.8 $(MAN)/man8/
	awk -f hardening/man/conf.awk hardening/sealpost.conf > $(B)/sealpost.conf.5
	install -m 0644 $(B)/sealpost.conf.5 $(MAN)/man5/
	install -m 0644 hardening/sealpostctl.completion $(BASH)/sealpostctl
	ln -sf sealpostctl $(BASH)/sealpost
	@test -n "$(DESTDIR)" || echo "Next: systemd-sysusers; systemd-tmpfiles --create sealpost.conf;" \
	    "edit /etc/sealpost/sealpost.conf; systemctl enable --now sealpost"

# A Debian package, in build/deb/: from what git tracks, in a copy of its own.
deb: | $(B)/.deps-deb
	rm -rf $(B)/deb
	mkdir -p $(B)/deb/sealpost
	git ls-files -z | tar -c --null -T - | tar -x -C $(B)/deb/sealpost
	cp -r hardening/debian $(B)/deb/sealpost/debian
	cd $(B)/deb/sealpost && dpkg-buildpackage -jauto -b -us -uc --no-sign >../build.log 2>&1 || \
	    { tail -50 ../build.log; exit 1; }
	lintian --fail-on error $(B)/deb/*.changes
	@ls $(B)/deb/*.deb

# The package in a bare Debian 12 or 13, from installing to purging; as root. Takes minutes: no part of check.
SUITES ?= bookworm trixie
package-check: | $(B)/.deps-package
	@for suite in $(SUITES); do B=$(B) sh tests/package.sh $$suite || exit 1; done

uninstall:
	rm -f $(SBIN)/sealpostd $(SBIN)/sealpostctl $(BIN)/sealpost $(UNITS)/sealpost.service $(UNITS)/sealpost-door.service \
	    $(SYSUSER)/sealpost.conf $(TMPFILE)/sealpost.conf $(BASH)/sealpostctl $(BASH)/sealpost $(ARMOR)/usr.sbin.sealpostd \
	    $(MAN)/man1/sealpost.1 $(MAN)/man5/sealpost.conf.5 $(MAN)/man8/sealpostd.8 $(MAN)/man8/sealpostctl.8
	rm -rf $(DOC)

help:
	@sed -n '2,/^MAKEFLAGS/{/^#/p}' Makefile

clean:
	rm -rf $(B)

-include $(shell test -d $(B) && find $(B) \( -path $(B)/deb -o -path $(B)/chroot \) -prune -o -type f -name '*.d' -print)
.PHONY: all deps unit $(RUNS) browser system fuzz seeds $(SEEDS) lint check demo bench deb package-check install uninstall help clean
.SECONDARY:
