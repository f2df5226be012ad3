#!/bin/sh
# The three jobs on real mail, on loopback, in a scratch directory: enrol, receive over STARTTLS, look at
# what is stored, read it back, compare; send to another user, to the outside, and by a link; see the
# audit log, stop.
set -eu
B=$(cd "${B:-build}" && pwd)
work=$(mktemp -d /var/tmp/sealpost-demo.XXXXXX)
daemon="" outside=""
finish() {
    status=$?
    [ -z "$outside" ] || kill "$outside" 2>/dev/null || true
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
socks = [socket.socket() for _ in range(3)]
for s in socks:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in socks))
PY
)
smtp=$1 web=$2 elsewhere=$3
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
[relay]
mode = smarthost
smarthost = 127.0.0.1:$elsewhere
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

say "6. From user to user: end to end, the appliance cannot read it"
code=$("$B/sealpostctl" --config "$work/sealpost.conf" user add bob@example.org)
SEALPOST_HOME="$work/bob" "$B/sealpost" enroll "https://127.0.0.1:$web" bob@example.org "$code" >/dev/null 2>&1 </dev/null
printf 'Subject: lunch\n\nAt noon, Bob?\n' | "$B/sealpost" send bob@example.org 2>&1 | sed 's/^/  /'
SEALPOST_HOME="$work/bob" "$B/sealpost" list | sed 's/^/  /'
SEALPOST_HOME="$work/bob" "$B/sealpost" read 1 >"$work/lunch.eml" 2>"$work/lunch.said"
grep -q 'At noon, Bob' "$work/lunch.eml"
show "bob reads: $(grep 'At noon' "$work/lunch.eml" | tr -d '\r')"

say "7. To the outside: the appliance gets a key for this one mail, and erases it"
python3 - "$elsewhere" "$work/outside" <<'PY' &
"""Another mail server, as small as one can be: keeps what it is given."""
import os, socketserver, sys
folder = sys.argv[2]
os.makedirs(folder)
class Session(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")
    def handle(self):
        self.say("220 elsewhere.example")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"DATA":
                self.say("354 go on")
                mail = b""
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    mail += line[1:] if line.startswith(b".") else line
                name = os.path.join(folder, str(len(os.listdir(folder))))
                with open(name + ".part", "wb") as file:
                    file.write(mail)
                os.rename(name + ".part", name + ".eml")
            self.say("221 bye" if verb == b"QUIT" else "250 ok")
            if verb == b"QUIT":
                return
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("127.0.0.1", int(sys.argv[1])), Session).serve_forever()
PY
outside=$!
arrived() { # waits for the N-th mail elsewhere
    n=0
    until [ -e "$work/outside/$1.eml" ]; do
        n=$((n + 1))
        [ $n -lt 300 ] || { echo "nothing arrived elsewhere"; exit 1; }
        sleep 0.1
    done
}
n=0
until python3 -c "import socket; socket.create_connection(('127.0.0.1', $elsewhere))" 2>/dev/null; do
    n=$((n + 1))
    [ $n -lt 100 ] || exit 1
    sleep 0.1
done
printf 'Subject: an offer\n\nDear Carol, here it is.\n' | "$B/sealpost" send carol@elsewhere.example 2>&1 | sed 's/^/  /'
arrived 0
sed 's/^/  | /' "$work/outside/0.eml"

say "8. By a link: the outsider opens it in a browser, until it expires"
printf 'Subject: the contract\n\nDear Dave, for your eyes only.\n' |
    "$B/sealpost" send --link --expires 1h dave@elsewhere.example 2>&1 | sed 's/^/  /'
arrived 1
link=$(tr -d '\r' <"$work/outside/1.eml" | grep -m1 "^https://127.0.0.1:$web/m/")
show "dave gets: $link"
"$B/sealpost" open "$link" 2>/dev/null >"$work/contract.eml"
grep -q 'for your eyes only' "$work/contract.eml"
show "and opens it: $(grep 'for your eyes' "$work/contract.eml" | tr -d '\r')"
"$B/sealpostctl" --config "$work/sealpost.conf" link list | sed 's/^/  /'

say "9. The audit log, and its verification"
cut -c1-150 "$work/log/audit.log" | sed 's/^/  /; s/$/.../'
grep -q '"event":"secret.erased"' "$work/log/audit.log"
"$B/sealpostctl" --config "$work/sealpost.conf" audit verify | sed 's/^/  /'

say "10. Stop"
kill "$daemon"
wait "$daemon"
daemon=""
show "ended cleanly"
