"""Real programs that send mail, each a set of messages: all of them arrive, byte for byte. Exim and OpenSMTPD
cannot be installed beside Postfix: hardening/deps.sh unpacks them, and they run in a mount namespace of their
own that has their users."""
import os
import pathlib
import shutil
import smtplib
import socket
import subprocess
import tempfile
import time

import pytest

from conftest import MODES
from outside import wait_for
from place import free_ports
from sealpost import BUILD, Tree, crlf
from test_dialog import new_mail
from test_promises import root_only

HEAD = ("From: Bob <bob@outside.test>\nTo: alice@example.test\nDate: Fri, 1 May 2026 10:00:00 +0000\n"
        "Message-Id: <%s@outside.test>\nSubject: %s\nMIME-Version: 1.0\n")
BODIES = {
    "short": "Content-Type: text/plain\n\nhello\n",
    "dots": "\n.\n..\n.x\n...\nx.\n",
    "empty": "\n",
    "long": "\n" + "x" * 990 + "\n" + "y" * 990 + "\n",
    "eight": "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\ngr\u00fc\u00dfe \u4f8b\n",
    "parts": "Content-Type: multipart/mixed; boundary=BOUND\n\n--BOUND\nContent-Type: text/plain\n\ntext\n"
             "--BOUND\nContent-Type: application/octet-stream; name=a.bin\nContent-Transfer-Encoding: base64\n\n"
             + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ej\n" * 3000 + "--BOUND--\n",
}
MESSAGES = {name: (HEAD % (name, name) + body).encode() for name, body in BODIES.items()}


@pytest.fixture(scope="module")
def world():
    tree = Tree(MODES[0]).start()
    yield tree, tree.user("alice")
    assert tree.stop() == 0, tree.said()
    tree.remove()


@pytest.fixture
def scratch():
    """A directory that other users may enter."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="sealpost-sender-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def all_arrive(alice, log=lambda: "", but=()):
    """Each as it was sent, behind trace fields and what else the sender puts in front."""
    wanted = {n: crlf(m) for n, m in MESSAGES.items() if n not in but}
    got, end = [], time.monotonic() + 120
    while len(got) < len(wanted) and time.monotonic() < end:
        got += new_mail(alice)
    assert len(got) == len(wanted), log()
    for name, message in wanted.items():
        assert [g for g in got if g.endswith(message)], (name, got, log())


def run(*args, input=None, **more):
    done = subprocess.run(list(map(str, args)), input=input, capture_output=True, timeout=180, **more)
    assert done.returncode == 0, (args, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
    return done.stdout


# --- programs that a user runs ---

@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_smtplib(world, tls):
    tree, alice = world
    for message in MESSAGES.values():
        assert tree.deliver(crlf(message), [alice.address], tls=tls) == {}
    all_arrive(alice)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_swaks(world, scratch, tls):
    tree, alice = world
    for name, message in MESSAGES.items():
        if name == "empty":
            continue  # swaks makes it one line longer, or shorter
        (scratch / name).write_bytes(message[:-1])  # it ends the last line
        run("swaks", "--server", f"127.0.0.1:{tree.smtp_port}", "--from", "bob@outside.test", "--to", alice.address,
            "--data", f"@{scratch / name}", "--pipeline", *(["--tls"] if tls else []))
    all_arrive(alice, but=["empty"])


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_curl(world, scratch, tls):
    tree, alice = world
    for name, message in MESSAGES.items():
        (scratch / name).write_bytes(crlf(message))
        run("curl", "-sS", f"smtp://127.0.0.1:{tree.smtp_port}/client.test", "--mail-from", "bob@outside.test",
            "--mail-rcpt", alice.address, "-T", scratch / name,
            *(["--ssl-reqd", "--cacert", tree.ca] if tls else []))
    all_arrive(alice)


@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_msmtp(world, tls, lmtp):
    tree, alice = world
    for message in MESSAGES.values():
        run("msmtp", "--host=127.0.0.1", f"--port={tree.lmtp_port if lmtp else tree.smtp_port}",
            f"--protocol={'lmtp' if lmtp else 'smtp'}", "--from=bob@outside.test", f"--tls={'on' if tls else 'off'}",
            f"--tls-trust-file={tree.ca}", "--auth=off", "--file=/dev/null", alice.address, input=message,
            env={**os.environ, "HOME": "/nonexistent"})
    all_arrive(alice)


# --- servers ---

POSTFIX = """compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
maillog_file = {dir}/log
mail_owner = postfix
setgid_group = postdrop
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.outside.test
mydestination =
alias_maps =
relayhost = [127.0.0.1]:{port}
smtp_tls_security_level = {tls}
smtp_tls_CAfile = {ca}
smtp_discard_ehlo_keywords = {discard}
"""
POSTFIX_MASTER = """pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
smtp unix - - n - - smtp
relay unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


@root_only
@pytest.mark.parametrize("tls, discard", [("none", ""), ("encrypt", ""), ("encrypt", "pipelining, size, 8bitmime")])
def test_postfix(world, scratch, tls, discard):
    tree, alice = world
    (scratch / "data").mkdir()
    shutil.chown(scratch / "data", "postfix")
    (scratch / "queue").mkdir()
    (scratch / "ca.pem").write_bytes(tree.ca.read_bytes())
    (scratch / "main.cf").write_text(POSTFIX.format(dir=scratch, port=tree.smtp_port, tls=tls, discard=discard,
                                                    ca=scratch / "ca.pem"))
    (scratch / "master.cf").write_text(POSTFIX_MASTER)
    subprocess.run(["postfix", "-c", scratch, "start"], capture_output=True, timeout=180, check=True)
    try:
        # Postfix converts what the next server would not take.
        but = ["eight"] if "8bit" in discard else []
        for name, message in MESSAGES.items():
            if name not in but:
                run("sendmail", "-C", scratch, "-i", "-f", "bob@outside.test", alice.address, input=message)
        all_arrive(alice, (scratch / "log").read_text, but)
        wait_for(lambda: (scratch / "log").read_text().count("status=sent (250 2.0.0 Sealed") >= len(MESSAGES) - len(but))
    finally:
        subprocess.run(["postfix", "-c", scratch, "stop"], capture_output=True, timeout=180)


def with_users(scratch, *users):
    """A command's beginning: it will see these users, and nobody else will."""
    passwd, group = pathlib.Path("/etc/passwd").read_text(), pathlib.Path("/etc/group").read_text()
    for i, user in enumerate(users):
        passwd += f"{user}:x:{60500 + i}:{60500 + i}::/nonexistent:/usr/sbin/nologin\n"
        group += f"{user}:x:{60500 + i}:\n"
    (scratch / "passwd").write_text(passwd)
    (scratch / "group").write_text(group)
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec",
            f"mount --bind {scratch}/passwd /etc/passwd; mount --bind {scratch}/group /etc/group; exec \"$@\"", "sh"]


EXIM = """exim_path = {exim}
primary_hostname = exim.outside.test
spool_directory = {dir}/spool
log_file_path = {dir}/log-%s
qualify_domain = outside.test
keep_environment =
log_selector = +all
begin routers
all:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = out
begin transports
out:
  driver = smtp
  port = {port}
  allow_localhost
  hosts_try_chunking = {chunking}
  hosts_require_tls = {tls}
  hosts_avoid_tls = {no_tls}
  tls_verify_certificates = {dir}/ca.pem
  tls_verify_hosts = {tls}
  tls_verify_cert_hostnames =
begin retry
* * F,1h,1m
"""


@root_only
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("chunking", [False, True], ids=["data", "bdat"])
def test_exim(world, scratch, tls, chunking):
    tree, alice = world
    prefix = with_users(scratch, "Debian-exim")
    (scratch / "spool").mkdir()
    os.chown(scratch, 60500, 60500)
    os.chown(scratch / "spool", 60500, 60500)
    (scratch / "ca.pem").write_bytes(tree.ca.read_bytes())
    config = scratch / "exim.conf"
    exim = BUILD.absolute() / "senders/usr/sbin/exim4"
    config.write_text(EXIM.format(exim=exim, dir=scratch, port=tree.smtp_port, chunking="*" if chunking else "",
                                  tls="*" if tls else "", no_tls="" if tls else "*"))
    config.chmod(0o644)
    for message in MESSAGES.values():
        run(*prefix, exim, "-C", config, "-odf", "-i", "-f", "bob@outside.test",
            alice.address, input=message)
    log = "".join(p.read_text() for p in scratch.glob("log-*"))
    all_arrive(alice, lambda: log)
    sent = [line for line in log.splitlines() if " => " in line]
    assert len(sent) == len(MESSAGES)
    for line in sent:
        assert (" K " in line) == chunking and (" X=TLS1.3" in line) == tls, line


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


OPENSMTPD = """listen on 127.0.0.1 port {ours}
action "out" relay host "{url}" {verify} helo opensmtpd.outside.test
match from any for any action "out"
"""


@root_only
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_opensmtpd(world, scratch, tls):
    tree, alice = world
    ours, = free_ports(1)
    config = scratch / "smtpd.conf"
    config.write_text(OPENSMTPD.format(ours=ours, url=f"smtp{'+tls' if tls else '+notls'}://127.0.0.1:{tree.smtp_port}",
                                       verify="tls no-verify" if tls else ""))
    config.chmod(0o644)
    prefix = with_users(scratch, "opensmtpd", "opensmtpq")
    places = ("for d in /run /var/spool /var/lib; do mount -t tmpfs -o mode=755 none $d; done; "
              "mkdir -p /var/lib/opensmtpd/empty; exec \"$@\"")
    with open(scratch / "log", "wb") as log:
        server = subprocess.Popen([*prefix, "sh", "-ec", places, "sh", BUILD.absolute() / "senders/usr/sbin/smtpd", "-d",
                                   "-f", config], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 120
        while not listens(ours):
            time.sleep(0.1)
            assert server.poll() is None and time.monotonic() < end, (scratch / "log").read_text()
        for message in MESSAGES.values():
            with smtplib.SMTP("127.0.0.1", ours, timeout=120) as s:
                s.sendmail("bob@outside.test", [alice.address], crlf(message), ["BODY=8BITMIME"])
        all_arrive(alice, (scratch / "log").read_text)
    finally:
        server.terminate()
        server.wait(20)
