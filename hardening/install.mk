# Included by the Makefile: make install DESTDIR=... PREFIX=/usr. Puts files in place; starts nothing,
# makes no user. sealpost.conf is left alone where there is one.
SBIN    := $(DESTDIR)$(PREFIX)/sbin
BIN     := $(DESTDIR)$(PREFIX)/bin
UNITS   := $(DESTDIR)$(PREFIX)/lib/systemd/system
SYSUSER := $(DESTDIR)$(PREFIX)/lib/sysusers.d
TMPFILE := $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
DOC     := $(DESTDIR)$(PREFIX)/share/doc/sealpost
ETC     := $(DESTDIR)/etc/sealpost

install: $(PROGRAMS)
	install -d -m 0755 $(SBIN) $(BIN) $(UNITS) $(SYSUSER) $(TMPFILE) $(DOC)
	install -d -m 0750 $(ETC)
	install -m 0755 $(B)/sealpostd $(B)/sealpostctl $(SBIN)/
	install -m 0755 $(B)/sealpost $(BIN)/
	sed 's|/usr/sbin/sealpostd|$(PREFIX)/sbin/sealpostd|g' hardening/sealpost.service > $(B)/sealpost.service
	install -m 0644 $(B)/sealpost.service $(UNITS)/
	install -m 0644 hardening/sealpost.sysusers $(SYSUSER)/sealpost.conf
	install -m 0644 hardening/sealpost.tmpfiles $(TMPFILE)/sealpost.conf
	test -e $(ETC)/sealpost.conf || install -m 0640 hardening/sealpost.conf $(ETC)/sealpost.conf
	install -m 0644 $(wildcard docs/*.md) hardening/sealpost.conf LICENSE $(DOC)/
	@test -n "$(DESTDIR)" || echo "Next: systemd-sysusers; systemd-tmpfiles --create sealpost.conf;" \
	    "edit /etc/sealpost/sealpost.conf; systemctl enable --now sealpost"

uninstall:
	rm -f $(SBIN)/sealpostd $(SBIN)/sealpostctl $(BIN)/sealpost $(UNITS)/sealpost.service \
	    $(SYSUSER)/sealpost.conf $(TMPFILE)/sealpost.conf
	rm -rf $(DOC)
.PHONY: install uninstall
