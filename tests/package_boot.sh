#!/bin/sh
# Runs as root in a booted system, started by its systemd: the units as they are installed and enabled, with all that
# they restrict. Says what went wrong, or "the unit: good"; then turns the system off. tests/package.sh starts it.
exec >/root/boot.out 2>&1
trap 'systemctl poweroff' EXIT
fail() {
    echo "FAILED: $*"
    systemctl status sealpost sealpost-door --no-pager -l
    journalctl -b -u sealpost -u sealpost-door --no-pager
    exit 1
}
state() { systemctl show "${2:-sealpost}" --value -p "$1"; }
network() { readlink "/proc/$1/ns/net"; }
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
# Nobody but the door is in this system's network.
door=$(state MainPID sealpost-door)
[ "$(network "$door")" = "$(network self)" ] || fail "the door is in another network"
for pid in $(pgrep -x sealpostd; pgrep -f -- --role); do
    [ "$pid" = "$door" ] || [ "$(network "$pid")" != "$(network self)" ] || fail "process $pid is in the host's network"
done
grep -q '^CapEff:[[:space:]]*0*$' "/proc/$door/status" || fail "the door has capabilities left"
# From outside of the service, through a socket of the door's.
mail() { # SUBJECT
    printf 'EHLO x\r\nMAIL FROM:<bob@outside.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\nSubject: %s\r\n\r\nx\r\n.\r\nQUIT\r\n' "$1" |
        while read -r line; do sleep 0.2; printf '%s\n' "$line"; done |
        bash -c 'exec 3<>/dev/tcp/127.0.0.1/25; cat >&3; cat <&3' | grep -q '^250 2.0.0 Sealed' || fail "mail: $1"
    sealpost sync /root/Maildir >/root/sync.out 2>&1 && grep -rq "^Subject: $1" /root/Maildir || fail "not there: $1"
}
mail first
systemctl reload sealpost || fail reload
until_said 'certificates reloaded' 1
role=$(pgrep -f -- '--role store') && kill -9 "$role"
until_said 'sealpostd: ready' 2
sealpost read 1 | grep -q 'It works' || fail "read after a crash"
# Longer than half the watchdog's time: it was fed.
sleep 20
[ "$(state MainPID) $(state NRestarts)" = "$main 0" ] || fail "the service was restarted"
[ "$(state WatchdogTimestampMonotonic)" -gt "$(state ActiveEnterTimestampMonotonic)" ] || fail "the watchdog was never fed"
# The door dies: both are started anew.
kill -9 "$door"
n=0
until [ "$(state ActiveState) $(state ActiveState sealpost-door)" = "active active" ] &&
    [ "$(state MainPID)" != "$main" ] && [ "$(state MainPID sealpost-door)" != "$door" ]; do
    n=$((n + 1))
    [ $n -lt 60 ] || fail "not started anew: $(state ActiveState), $(state ActiveState sealpost-door)"
    sleep 1
done
mail second
# A new listener takes a restart of the service alone; a key may be a credential.
door=$(state MainPID sealpost-door)
printf '[smtp]\nlisten = 127.0.0.1:25\nlisten = 127.0.0.1:2025\nmax_connections_per_minute = 0\n' >>/etc/sealpost/sealpost.conf
sed -i 's|^key = .*|key = credential:tls.key|' /etc/sealpost/sealpost.conf
mkdir -p /etc/systemd/system/sealpost.service.d
mv /etc/sealpost/privkey.pem /root/tls.key
printf '[Service]\nLoadCredential=tls.key:/root/tls.key\n' >/etc/systemd/system/sealpost.service.d/key.conf
systemctl daemon-reload
systemctl restart sealpost || fail restart
[ "$(state MainPID sealpost-door)" != "$door" ] || fail "the door was not restarted with the service"
bash -c 'exec 3<>/dev/tcp/127.0.0.1/2025; read -r line <&3; echo "$line"' | grep -q ^220 || fail "the new listener"
mail third
sealpostctl check | grep FINDING | grep -v '^host  *\(kernel\|clock\|swap\)' && fail "check has findings after the restart"
# It gives up: nobody listens any more, until an operator mends it.
mv /root/tls.key /root/away
systemctl kill -s KILL sealpost
n=0
until case "$(state ActiveState) $(state ActiveState sealpost-door)" in
    "failed inactive" | "inactive failed") true ;; # whichever met its limit of starts
    *) false ;;
    esac do
    n=$((n + 1))
    [ $n -lt 60 ] || fail "given up, and still: $(state ActiveState), $(state ActiveState sealpost-door)"
    sleep 1
done
mv /root/away /root/tls.key
systemctl reset-failed sealpost sealpost-door
systemctl start sealpost || fail "start after giving up"
mail fourth
systemctl stop sealpost || fail stop
[ "$(state ActiveState sealpost-door)" = inactive ] || fail "the door stays behind"
[ "$(state Result) $(state ExecMainStatus)" = "success 0" ] || fail "it did not end cleanly"
sealpostctl audit verify /var/log/sealpost/audit.log || fail "audit verify"
for unit in sealpost sealpost-door; do systemd-analyze security $unit --no-pager | tail -1; done
systemctl start sealpost || fail "start after stop"
. /root/package_life.sh
echo "the unit: good"
