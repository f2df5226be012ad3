#!/bin/sh
# Runs as root in a booted system, started by its systemd: the unit as it is installed and enabled, with all that
# it restricts. Says what went wrong, or "the unit: good"; then turns the system off. tests/package.sh starts it.
exec >/root/boot.out 2>&1
trap 'systemctl poweroff' EXIT
fail() {
    echo "FAILED: $*"
    systemctl status sealpost --no-pager -l
    journalctl -b -u sealpost --no-pager
    exit 1
}
state() { systemctl show sealpost --value -p "$1"; }
until_is() { # PROPERTY VALUE
    n=0
    until [ "$(state "$1")" = "$2" ]; do
        n=$((n + 1))
        [ $n -lt 60 ] && [ "$(state ActiveState)" != failed ] || fail "$1 is $(state "$1"), not $2"
        sleep 1
    done
}
until_said() { # TEXT TIMES
    n=0
    until [ "$(journalctl -b -u sealpost --no-pager | grep -c -- "$1")" = "$2" ]; do
        n=$((n + 1))
        [ $n -lt 60 ] || fail "not said $2 times: $1"
        sleep 1
    done
}
until_is ActiveState active
main=$(state MainPID)
export SEALPOST_CA=/etc/sealpost/fullchain.pem SEALPOST_HOME=/root/alice
code=$(sealpostctl user add alice@example.org) || fail "user add"
sealpost enroll https://mail.example.org alice@example.org "$code" </dev/null || fail enroll
printf 'Subject: to myself\n\nIt works.\n' | sealpost send alice@example.org || fail send
sealpost read 1 | grep -q 'It works' || fail read
# The host's settings and clock are not the package's matter.
sealpostctl check | grep FINDING | grep -v '^host  *\(kernel\|clock\|swap\)' && fail "check has findings"
systemctl reload sealpost || fail reload
until_said 'certificates reloaded' 1
role=$(pgrep -f -- '--role store') && kill -9 "$role"
until_said 'sealpostd: ready' 2
sealpost read 1 | grep -q 'It works' || fail "read after a crash"
# Longer than half the watchdog's time: it was fed.
sleep 20
[ "$(state MainPID) $(state NRestarts)" = "$main 0" ] || fail "the service was restarted"
[ "$(state WatchdogTimestampMonotonic)" -gt "$(state ActiveEnterTimestampMonotonic)" ] || fail "the watchdog was never fed"
systemctl stop sealpost || fail stop
[ "$(state Result) $(state ExecMainStatus)" = "success 0" ] || fail "it did not end cleanly"
sealpostctl audit verify /var/log/sealpost/audit.log || fail "audit verify"
systemd-analyze security sealpost --no-pager | tail -1
echo "the unit: good"
