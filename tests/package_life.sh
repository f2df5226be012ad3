# shellcheck shell=sh
# The package under a running service: upgraded, removed, installed again, purged. A part of package_boot.sh.
newer() { # VERSION [OUTPUT]: this package under a higher version, installed
    rm -rf /root/new
    systemctl reset-failed sealpost sealpost-door # nobody upgrades five times a minute
    dpkg-deb -R /root/sealpost.deb /root/new
    sed -i "s/^Version: .*/Version: $1/" /root/new/DEBIAN/control
    dpkg-deb -Znone -b /root/new /root/new.deb >/dev/null || fail "dpkg-deb $1"
    dpkg -i /root/new.deb >"${2:-/root/dpkg.out}" 2>&1 || { cat "${2:-/root/dpkg.out}"; fail "upgrade to $1"; }
    [ "$(dpkg-query -W -f '${Version} ${Status}' sealpost)" = "$1 install ok installed" ] || fail "not upgraded to $1"
}
both() { printf '%s %s' "$(state ActiveState)" "$(state ActiveState sealpost-door)"; }
nobody_left() { # WHEN
    [ "$(both)" = "inactive inactive" ] || fail "$1: $(both)"
    ! pgrep -x sealpostd && ! pgrep -f -- '--role ' || fail "$1: something still runs"
}
not_on_disk() { sealpostctl --config "${1:-/etc/sealpost/sealpost.conf}" check | grep -c '^[^ ]*  *program  *FINDING'; }

# An upgrade while mail comes in. What a sender was told 250 for is there; all else he sends again.
cat >/root/sender <<'SENDER'
say() { printf '%s\r\n' "$1" >&3; }
hear() { # CODE
    while read -r -t 30 line <&3; do
        [ "${line:3:1}" = - ] || break
    done
    [ "${line:0:3}" = "$1" ]
}
# A session that was open before, and says nothing: the upgrade does not wait for it.
exec 4<>/dev/tcp/127.0.0.1/25
n=0
until [ -e /root/enough ]; do
    n=$((n + 1))
    (
        exec 3<>/dev/tcp/127.0.0.1/25 && hear 220 && say "EHLO x" && hear 250 &&
            say "MAIL FROM:<bob@outside.example>" && hear 250 && say "RCPT TO:<alice@example.org>" && hear 250 &&
            say DATA && hear 354 && say "Subject: during-$n." && say "" && say x && say . && hear 250
    ) 2>/dev/null && echo "$EPOCHREALTIME $n" >>/root/accepted
    sleep 0.02
done
timeout 20 cat <&4 >/root/idle
SENDER
accepted() { wc -l </root/accepted; }
until_accepted() { # HOW MANY
    n=0
    until [ "$(accepted)" -ge "$1" ]; do
        n=$((n + 1))
        [ $n -lt 60 ] || fail "the sender got $(accepted) mails in, not $1"
        sleep 1
    done
}
main=$(state MainPID)
door=$(state MainPID sealpost-door)
: >/root/accepted
bash /root/sender &
until_accepted 5
newer 1.1
until_accepted $(($(accepted) + 5))
touch /root/enough
wait $!
[ "$(both)" = "active active" ] || fail "after the upgrade: $(both)"
[ "$(state MainPID)" != "$main" ] && [ "$(state MainPID sealpost-door)" != "$door" ] || fail "the old program goes on"
[ "$(not_on_disk)" = 0 ] || fail "another program than the installed one runs after an upgrade"
grep -q '^421' /root/idle || fail "an idle session was not told 421: $(cat /root/idle)"
sealpost sync /root/Maildir >/root/sync.out 2>&1 || fail "sync after the upgrade"
while read -r _ n; do
    grep -rq "^Subject: during-$n\\." /root/Maildir || fail "250, and lost in the upgrade: $n"
done </root/accepted
sealpost read 1 | grep -q 'It works' || fail "read after the upgrade"
echo "upgraded: $(accepted) mails came in meanwhile; the longest time between two was $(
    awk 'NR > 1 && $1 - last > most { most = $1 - last } { last = $1 } END { printf "%.1f", most }' /root/accepted) s"

# A configuration that the new program does not take: the old one goes on, and does so after a crash.
main=$(state MainPID)
cp -p /etc/sealpost/sealpost.conf /root/good.conf
printf '[smtp]\nno_such_key = 1\n' >>/etc/sealpost/sealpost.conf
newer 1.2 /root/warned
grep -q 'WARNING: the OLD program goes on' /root/warned && grep -q no_such_key /root/warned || fail "not warned: $(cat /root/warned)"
[ "$(both) $(state MainPID)" = "active active $main" ] || fail "a broken configuration: $(both)"
[ "$(not_on_disk /root/good.conf)" -gt 5 ] || fail "check does not say that the old program runs"
ready=$(journalctl -b -u sealpost --no-pager | grep -c 'sealpostd: ready')
role=$(pgrep -f -- '--role store') && kill -9 "$role"
until_said 'sealpostd: ready' $((ready + 1))
[ "$(state MainPID)" = "$main" ] || fail "the old program did not restart its roles"
mail fifth
cp -p /root/good.conf /etc/sealpost/sealpost.conf
systemctl restart sealpost || fail "restart with the configuration mended"
[ "$(not_on_disk)" = 0 ] || fail "still the old program"

# What does not run is not started.
systemctl stop sealpost
newer 1.3
nobody_left "upgraded while stopped"
systemctl start sealpost || fail "start after an upgrade"

# Removed while it runs: ended first, and all is kept.
ended() { journalctl -b -u sealpost --no-pager | grep -c 'sealpost.service: Deactivated successfully'; }
ends=$(ended)
dpkg -r sealpost >/root/dpkg.out 2>&1 || { cat /root/dpkg.out; fail remove; }
nobody_left "removed while running"
[ "$(ended)" = $((ends + 1)) ] || fail "it did not end by itself when removed"
[ ! -e /usr/sbin/sealpostd ] && [ -s /var/lib/sealpost/data/data.mdb ] && [ -s /var/lib/sealpost/slots ] &&
    [ -s /etc/sealpost/sealpost.conf ] || fail "removed: too much, or too little"
dpkg -i /root/sealpost.deb >/root/dpkg.out 2>&1 || { cat /root/dpkg.out; fail "install again"; }
nobody_left "installed again"
systemctl start sealpost || fail "start when installed again"
sealpost read 1 | grep -q 'It works' || fail "read when installed again"
mail sixth
sealpostctl audit verify /var/log/sealpost/audit.log || fail "audit verify at the end"

# Purged while it runs: ended first, then the keys, then the rest.
ends=$(ended)
exec 5</var/lib/sealpost/slots
dpkg -P sealpost >/root/dpkg.out 2>&1 || { cat /root/dpkg.out; fail purge; }
nobody_left "purged while running"
[ "$(ended)" = $((ends + 1)) ] || fail "it did not end by itself when purged"
[ "$(head -c 4096 <&5 | tr -d '\0' | wc -c) $(tr -d '\0' <&5 | wc -c)" = "0 0" ] || fail "the slots were not erased"
exec 5<&-
left=$(find /etc /usr /var/lib/sealpost* /var/log/sealpost* /run/sealpost* -name '*sealpost*' ! -path '*/sealpost.service.d*' 2>/dev/null)
[ -z "$left" ] || fail "purged, and left: $left"
# As on a new machine: unconfigured, and so not started.
dpkg -i /root/sealpost.deb >/root/dpkg.out 2>&1 || { cat /root/dpkg.out; fail "install after a purge"; }
nobody_left "installed after a purge"
[ "$(systemctl is-enabled sealpost)" = disabled ] || fail "enabled after a purge"
echo "the package: stopped before it goes, restarted when new, never started"
