#!/bin/sh
# The main job on real mail, on loopback, in a scratch directory: enrol, receive over STARTTLS, look at
# what is stored, read it back, compare, see the audit log, stop.
set -eu
B=$(cd "${B:-build}" && pwd)
work=$(mktemp -d /var/tmp/sealpost-demo.XXXXXX)
daemon=""
finish() {
    status=$?
    if [ -n "$daemon" ]; then
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    [ $status = 0 ] || { echo; echo "The demo failed. What sealpostd said:"; cat "$work/stderr" 2>/dev/null || true; }
    rm -rf "$work"
    exit $status
}
trap finish EXIT
trap 'exit 1' INT TERM
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n== %s\n' "$*"; }
show() { printf '  %s\n' "$*"; }

set -- $(python3 - <<'PY'
import socket
socks = [socket.socket() for _ in range(2)]
for s in socks:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in socks))
PY
)
smtp=$1 web=$2
mode=--user-mode
[ "$(id -u)" != 0 ] || mode=""
cat >"$work/sealpost.conf" <<EOF
[appliance]
hostname = mail.example.org
domain = example.org
state = $work/state
audit_log = $work/log/audit.log
control = $work/control.sock
uid_base = 59300
[tls]
certificate = $work/cert.pem
key = $work/key.pem
[smtp]
listen = 127.0.0.1:$smtp
[web]
listen = 127.0.0.1:$web
url = https://127.0.0.1:$web
[storage]
map_size = 1G
EOF
case $(stat -f -c %T "$work") in
ext2/ext3 | xfs | tmpfs) ;;
*) echo "slots = accept-cow" >>"$work/sealpost.conf" ;; # a container's overlay, say
esac
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/key.pem" \
    -out "$work/cert.pem" -days 2 -subj /CN=mail.example.org \
    -addext subjectAltName=DNS:mail.example.org,IP:127.0.0.1 2>/dev/null

say "1. Start the tree (${mode:-as root, each role its own uid})"
"$B/sealpostd" --config "$work/sealpost.conf" $mode 2>"$work/stderr" &
daemon=$!
n=0
until grep -q 'sealpostd: ready' "$work/stderr"; do
    n=$((n + 1))
    [ $n -lt 200 ] && kill -0 "$daemon" 2>/dev/null || exit 1
    sleep 0.1
done
ps -o pid,user,args --ppid "$daemon" | sed 's/^/  /'
pid=$(ps -o pid=,args= --ppid "$daemon" | awk '/--role sealer/ { print $1 }')
show "the sealer's cage: $(grep -E '^(NoNewPrivs|Seccomp|CapEff|VmLck):' "/proc/$pid/status" | tr -s '\t ' ' ' | tr '\n' ' ')"

say "2. A user: the operator gives a code, the client makes keys and enrols"
code=$("$B/sealpostctl" --config "$work/sealpost.conf" user add alice@example.org)
export SEALPOST_HOME="$work/alice" SEALPOST_CA="$work/cert.pem"
show "code: $code"
"$B/sealpost" enroll "https://127.0.0.1:$web" alice@example.org "$code" 2>&1 </dev/null | sed 's/^/  /'

say "3. Mail from outside, over STARTTLS, with an attachment"
head -c 300000 /dev/urandom | base64 >"$work/report.txt"
swaks --server 127.0.0.1 --port "$smtp" --tls --from bob@outside.example --to alice@example.org \
    --header "Subject: the report" --body "Dear Alice, here is the secret report." \
    --attach-type application/pdf --attach "@$work/report.txt" >"$work/swaks.log" 2>&1
grep -E '^(<~|~>|=== TLS|<-  220|<-  250 2.0.0)' "$work/swaks.log" | cut -c1-100 | head -12 | sed 's/^/  /'

say "4. What the appliance holds: ciphertext"
"$B/sealpost" list | sed 's/^/  /'
id=$("$B/sealpost" list --json | python3 -c 'import json, sys; r = json.load(sys.stdin); print((r if isinstance(r, list) else r["messages"])[0]["id"])')
"$B/sealpost" raw "$id" --out "$work/raw" 2>/dev/null
ls -l "$work/raw" | awk 'NR > 1 { print "  " $5 "\t" $9 }'
show "piece-0.bin: $(od -An -tx1 -N16 "$work/raw/piece-0.bin")..."
if grep -rqa "secret report" "$work/state" "$work/log" "$work/raw"; then
    show "PLAINTEXT FOUND"
    exit 1
fi
show "'secret report' occurs in no file of state, log and ciphertext"

say "5. Only its recipient can open it"
"$B/sealpost" read "$id" >"$work/read.eml"
sed -n '1,14p' "$work/read.eml" | sed 's/^/  /'
# The message as swaks sent it is the read one, less the trace header of ours in front.
python3 - "$work/swaks.log" "$work/read.eml" <<'PY'
import re, sys
log, read = open(sys.argv[1], "rb").read(), open(sys.argv[2], "rb").read()
sent = b"\r\n".join(l[4:].rstrip(b"\r") for l in log.split(b"\n") if l.startswith((b" ~> ")))
sent = sent[sent.index(b"Date: "):]
sent = sent[:sent.rindex(b"\r\n.")] + b"\r\n" if b"\r\n." in sent else sent
got = read[read.index(b"Date: "):]
if got != sent:
    sys.exit("the message is not what was sent")
print(f"  {len(got)} bytes, equal to what was sent")
PY

say "6. The audit log, and its verification"
cut -c1-150 "$work/log/audit.log" | sed 's/^/  /; s/$/.../'
"$B/sealpostctl" --config "$work/sealpost.conf" audit verify | sed 's/^/  /'

say "7. Stop"
kill "$daemon"
wait "$daemon"
daemon=""
show "ended cleanly"
