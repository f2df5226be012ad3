"""The promises P1 to P5 and P9 to P11 on the real tree, each by its name."""
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import smtplib
import socket
import struct
import subprocess
import threading
import time

import pytest

import scan
from sealpost import ROLES, content_of, crlf
from outside import wait_for
from test_mail import TEXT, attachment, encoded, multipart

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can read other processes' memory")


def half_sent(tree, address, message, part, chunks=False):
    """A session in the middle of a message: everything up to the byte `part` is sent."""
    s = socket.create_connection(("127.0.0.1", tree.smtp_port))
    f = s.makefile("rb")

    def say(line):
        s.sendall(line + b"\r\n")
        while True:
            reply = f.readline()
            if reply[3:4] != b"-":
                return reply

    f.readline()
    say(b"EHLO test")
    say(b"MAIL FROM:<a@outside.test>")
    assert say(b"RCPT TO:<%s>" % address.encode()).startswith(b"250")
    if not chunks:
        assert say(b"DATA").startswith(b"354")
    s.sendall(message[:part])
    return s, say


def everything_in_sight(t):
    found = set()
    for pid in t.all_pids():
        found |= scan.in_memory(pid)
    return found


@root_only
@pytest.mark.parametrize("kind", ["body", "attachment", "chunks"])
def test_P1_window_and_P3_gone(fresh, kind):
    t = fresh(test_build=True).start()
    alice = t.user("alice")
    message = scan.marked_message(8 << 20, 1)
    if kind == "attachment":
        message = multipart([TEXT, attachment(message)])
    most = 0
    s, say = half_sent(t, alice.address, message, 0, kind == "chunks")
    for i in range(8):
        # A chunk's command, and the beginning of the next one, come in one read with content.
        command = b"BDAT %d\r\n" % (1 << 20) if kind == "chunks" else b""
        s.sendall(command + message[i << 20:(i + 1) << 20])
        time.sleep(0.15)
        in_sight = len(everything_in_sight(t)) + scan.in_locked_memory(t.dir / "control.sock")
        most = max(most, in_sight)
    assert 0 < most * scan.EVERY <= 128 * 1024, f"{most * scan.EVERY} bytes in sight"
    if kind == "chunks":
        rest = message[8 << 20:]
        assert [say(b"BDAT %d LAST\r\n" % len(rest) + rest[:-2])[:3]] + [say(b"NOOP")[:3] for _ in range(8)] == [b"250"] * 9
    else:
        s.sendall(message[8 << 20:])
        assert say(b".").startswith(b"250")
    # The session is still there, and so is everybody else: not a fragment is left.
    assert everything_in_sight(t) == set()
    assert scan.in_locked_memory(t.dir / "control.sock") == 0
    assert scan.in_files(t.state, t.log.parent) == set()
    assert t.events("message.sealed")[-1]["window_bytes"] <= 128 * 1024
    assert content_of(alice.read(alice.newest()["id"])) == message
    s.close()


@root_only
def test_P1_memory_does_not_grow(fresh):
    t = fresh().start()
    alice = t.user("alice")
    peaks = []
    for size in (1 << 20, 100 << 20):
        message = scan.marked_message(size, 2)
        s, say = half_sent(t, alice.address, message, len(message))
        session = max(t.children(t.pids()["smtp"]))
        peaks.append({k: int(t.proc_status(p)["VmHWM"].split()[0])
                      for k, p in [("session", session), ("sealer", t.pids()["sealer"])]})
        assert say(b".").startswith(b"250")
        s.close()
    assert peaks[1]["session"] <= peaks[0]["session"] + 1024  # KiB
    # The sealer's ring of ciphertext is shared memory of a fixed size; nothing else may grow.
    assert peaks[1]["sealer"] <= peaks[0]["sealer"] + 33 * 1024


@root_only
def test_P2_no_trace_of_a_session_that_crashes(fresh):
    t = fresh(test_build=True).start()
    alice = t.user("alice")
    message = scan.marked_message(2 << 20, 3)
    s, _ = half_sent(t, alice.address, message, 1 << 20)
    time.sleep(0.3)
    session = max(t.children(t.pids()["smtp"]))
    limits = pathlib.Path(f"/proc/{session}/limits").read_text()
    assert "Max core file size        0                    0" in limits
    os.kill(session, signal.SIGSEGV)
    for _ in range(100):
        if t.events("session.close"):
            break
        time.sleep(0.05)
    assert t.events("session.crashed")[-1]["signal"] == signal.SIGSEGV
    assert everything_in_sight(t) == set()
    assert scan.in_locked_memory(t.dir / "control.sock") == 0
    assert scan.in_files(t.dir) == set()
    assert not list(pathlib.Path("/").glob("core*"))
    for role, pid in t.pids().items():
        assert "Max core file size        0                    0" in \
            pathlib.Path(f"/proc/{pid}/limits").read_text(), role
    assert alice.list() == []
    s.close()


@root_only
def test_P2_plaintext_lives_in_memory_that_cannot_be_swapped(tree):
    with tree.smtp():  # what a session has of its own is locked as well: a chunk comes along with commands
        session = max(tree.children(tree.pids()["smtp"]))
        assert int(tree.proc_status(session)["VmLck"].split()[0]) >= 16
    for role in ("sealer", "keeper"):
        smaps = pathlib.Path(f"/proc/{tree.pids()[role]}/smaps").read_text()
        assert "/secretmem" in smaps, f"{role}: no memfd_secret mapping"


def test_P4_storage_opens_nothing(fresh):
    """The keys that open the mail occur nowhere at rest, in no spelling; and they do open it."""
    from opener import open_raw
    t = fresh().start()
    alice, eve = t.user("alice"), t.user("eve")
    message = multipart([TEXT, attachment(encoded(60_000))])
    t.deliver(message, [alice.address])
    mail = alice.newest()["id"]
    alice.run("raw", mail, "--out", t.dir / "raw")
    got, secrets = open_raw(t.dir / "raw", json.loads(alice.run("keys").stdout))
    assert content_of(got) == message
    t.stop()
    rest = b"".join(p.read_bytes() for d in (t.state, t.log.parent) for p in d.rglob("*") if p.is_file())
    assert len(secrets) >= 5
    for secret in secrets:
        for spelling in (secret, secret.hex().encode(), secret[::-1]):
            assert spelling not in rest
    with pytest.raises(Exception):
        open_raw(t.dir / "raw", json.loads(eve.run("keys").stdout))
    t.start()
    assert eve.run("read", mail, check=False).returncode == 1


FORGED = {
    "unknown type": (0x0399, b""),
    "content without a recipient": (0x0304, b"\0\1\0\0\0\0"),
    "finish without content": (0x0305, bytes(16)),
    "a store's frame": (0x0582, b"\0"),
    "an operator's frame": (0x0703, b""),
    "recipient too long": (0x0300, struct.pack(">H", 599) + b"x" * 590),
    "length that lies": (0x0300, struct.pack(">H", 50) + b"x"),
    "bytes left over": (0x0300, struct.pack(">H", 1) + b"xy"),
    "empty": (0x0302, b"x"),
}


@pytest.mark.parametrize("name", FORGED)
def test_P5_forged_frames_end_the_session_alone(shared_test_tree, name):
    t, alice = shared_test_tree
    kind, body = FORGED[name]
    before, told = t.pids(), len(t.events("message.refused"))
    other = t.smtp()
    other.ehlo()
    frame = struct.pack(">HHI", kind, 0, 0) + body
    with t.smtp() as s:
        s.ehlo()
        code, text = s.docmd("XFORGE sealer " + frame.hex())
        assert text.split()[-1] == b"0", text  # end of file: the channel is gone
        s.mail("a@outside.test")
        assert s.docmd(f"RCPT TO:<{alice.address}>")[0] in (451, -1)
    assert t.pids() == before
    wait_for(lambda: len(t.events("message.refused")) > told)
    assert t.events("message.refused")[-1]["why"] == "forged-frame"
    n = len(alice.list())
    other.sendmail("a@outside.test", [alice.address], crlf("Subject: x\n\nstill here\n"))
    other.quit()
    assert len(alice.list()) == n + 1


@pytest.mark.parametrize("body", [b"", b"\0\5ECDSA\0\6SHA256\0\0\0\4evil",
                                  b"\0\5ECDSA\0\6SHA256" + struct.pack(">I", 130) + b" " * 64
                                  + b"TLS 1.3, client CertificateVerify\0" + b"h" * 32])
def test_P5_the_keeper_signs_nothing_else(shared_test_tree, body):
    t, _ = shared_test_tree
    before = t.pids()
    with t.smtp() as s:
        s.ehlo()
        code, text = s.docmd("XFORGE keeper " + (struct.pack(">HHI", 0x0400, 0, 0) + body).hex())
        assert int(text.split()[-1]) <= 9, text  # a status at the most, no signature
    assert t.pids() == before


PROBES = ["open", "peek", "open-proc", "create", "read-state", "socket-inet", "socket-unix", "connect", "bind",
          "execve", "ptrace", "fork", "mmap-exec", "mprotect-exec", "kill", "kill-supervisor", "send-message",
          "process-vm-readv", "pidfd-getfd", "setuid", "unshare", "mount", "chroot", "bpf", "io-uring",
          "userfaultfd", "perf", "keyctl"]


@pytest.mark.parametrize("probe", PROBES)
def test_P10_cage_of_a_session(shared_test_tree, probe):
    t, _ = shared_test_tree
    before = t.pids()
    violations = len(t.events("sandbox.violation"))
    with t.smtp() as s:
        s.ehlo()
        try:
            code, text = s.docmd(f"XPROBE {probe}")
            assert int(text.split()[-1]) > 0, f"{probe} was allowed"
        except smtplib.SMTPServerDisconnected:
            for _ in range(100):
                if len(t.events("sandbox.violation")) > violations:
                    break
                time.sleep(0.02)
            assert t.events("sandbox.violation")[-1]["role"] == "session"
    assert t.pids() == before  # it harmed itself alone


ALLOWED = {"smtp": ["fork"], "relay": ["fork"], "door": ["socket-inet"]}
ROLE_PROBES = ["open", "read-state", "socket-inet", "socket-unix", "socket-netlink", "execve", "ptrace", "fork", "mmap-exec",
               "kill-supervisor"]


@pytest.mark.parametrize("role", ROLES)
def test_P10_cage_of_a_role(shared_test_tree, role):
    t, _ = shared_test_tree
    for probe in ROLE_PROBES:
        if probe in ALLOWED.get(role, ()):
            continue  # what its work needs
        pid, ready = t.pids()[role], t.said().count("sealpostd: ready")
        body = struct.pack(">BH", ROLES.index(role), len(probe)) + probe.encode()
        try:
            reply = scan.ask(t.dir / "control.sock", scan.CC_PROBE, body)
            rows = scan.table(reply) if reply else []
        except TimeoutError:
            rows = []
        errnos = [int(value) for _, name, value in rows if name == "result"]
        if errnos:
            assert errnos[0] > 0, f"{role}: {probe} was allowed"
            assert t.pids()[role] == pid
        else:
            t.wait_ready(ready + 1)  # it died of it, and a fresh tree is there
            assert t.events("sandbox.violation")[-1]["role"] == role, probe


@pytest.fixture(scope="module", params=["root", "user"] if os.geteuid() == 0 else ["user"])
def shared_test_tree(request):
    from sealpost import Tree
    t = Tree(request.param, test_build=True).start()
    alice = t.user("alice")
    yield t, alice
    t.remove()


@root_only
def test_P10_the_kernel_says_the_same(tree):
    """What docs/sandbox.md says of each role is what /proc shows of it."""
    own = {ns: os.readlink(f"/proc/self/ns/{ns}") for ns in ("net", "ipc", "uts", "mnt", "pid")}
    uids = set()
    for role, pid in tree.pids().items():
        st = tree.proc_status(pid)
        assert st["NoNewPrivs"] == "1" and st["Seccomp"] == "2", role
        keeps = 1 << 14 if role in ("sealer", "keeper") and tree.mode == "root" else 0  # CAP_IPC_LOCK
        for caps in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(st[caps], 16) & ~keeps == 0, (role, caps, st[caps])
        assert len(set(st["Uid"].split())) == 1
        uids.add(st["Uid"].split()[0])
        for ns, mine in own.items():
            shared = ns == "net" and role == "door"  # it makes the sockets to the outside
            assert (os.readlink(f"/proc/{pid}/ns/{ns}") == mine) == shared, (role, ns)
        interfaces = pathlib.Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
        assert role == "door" or [line.split(":")[0].strip() for line in interfaces] == ["lo"], (role, interfaces)
        assert os.readlink(f"/proc/{pid}/root") != "/", role
        names = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert not [n for n in names if n.startswith("/") and n != "/dev/null"
                    and not n.startswith((str(tree.dir), "/memfd", "/secretmem"))], (role, names)
    if tree.mode == "root":
        assert len(uids) == len(ROLES) and "0" not in uids


class Sender(threading.Thread):
    """Sends numbered messages until told to stop; remembers which were acknowledged."""

    def __init__(self, tree, address, name):
        super().__init__()
        self.tree, self.address, self.name_, self.acked, self.sent = tree, address, name, [], 0
        self.end = threading.Event()

    def message(self, n):
        rnd = random.Random(f"{self.name_}-{n}")
        body = crlf(f"Subject: {self.name_}-{n}\n\n")
        if n % 5 == 4:
            return multipart([TEXT, attachment(encoded(rnd.randint(1, 400_000), n))]).replace(
                b"From: bob", f"Subject: {self.name_}-{n}\r\nFrom: bob".encode(), 1)
        return body + b"x" * rnd.randint(1, 4000) + b"\r\n"

    def run(self):
        while not self.end.is_set():
            n, self.sent = self.sent, self.sent + 1
            try:
                with self.tree.smtp() as s:
                    s.sendmail("a@outside.test", [self.address], self.message(n))
                    self.acked.append(n)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.02)


def subject(message):
    for line in message.split(b"\r\n"):
        if line.startswith(b"Subject: "):
            return line[9:].decode()
    raise AssertionError("no subject: half a message")


def test_P9_kept(fresh):
    """kill -9 of any process, or of all, at any moment: what was acknowledged is there, whole."""
    t = fresh().start()
    alice = t.user("alice")
    senders = [Sender(t, alice.address, f"s{i}") for i in range(4)]
    for s in senders:
        s.start()
    rnd = random.Random(9)
    rounds = [*ROLES, "all", *(rnd.choice([*ROLES, "all", "session"]) for _ in range(10))]
    for victim in rounds:
        time.sleep(rnd.uniform(0.1, 0.5))
        ready = t.said().count("sealpostd: ready")
        if victim == "all":
            victims = t.all_pids()
            for pid in victims:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            t.process.wait()
            t.wait_gone(victims)
            t.start()
        elif victim == "session":
            for pid in t.children(t.pids()["smtp"]):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        else:
            os.kill(t.pids()[victim], signal.SIGKILL)
            t.wait_ready(ready + 1)  # no hand is needed
    time.sleep(0.5)
    for s in senders:
        s.end.set()
    for s in senders:
        s.join(60)
    acked = {f"{s.name_}-{n}": s for s in senders for n in s.acked}
    assert len(acked) > 20
    found = set()
    for row in alice.list():
        got = content_of(alice.read(row["id"]))
        name = subject(got)
        sender, n = next(s for s in senders if s.name_ == name.split("-")[0]), int(name.split("-")[1])
        assert got == sender.message(n), f"{name} is not what was sent"
        found.add(name)
    assert set(acked) - found == set(), "acknowledged, and lost"
    assert "events, each linked" in t.ctl("audit", "verify")


def test_P11_audit(fresh):
    t = fresh(settings={"audit": {"checkpoint_events": 10}}).start()
    alice = t.user("alice")
    first_key = json.loads(t.log.read_bytes().splitlines()[0])["audit_key"]
    for i in range(20):
        t.deliver(crlf(f"Subject: {i}\n\nx\n"), [alice.address])
    t.stop()
    t.ctl("audit", "verify", "--key", first_key)
    good = t.log.read_bytes().splitlines(keepends=True)
    for line in good:  # anyone can check the chain with a few lines of script
        body, tail = line[:line.rindex(b',"hash":')], json.loads(line)["hash"]
        assert hashlib.sha256(body).hexdigest() == tail
    newest = max(i for i, l in enumerate(good) if json.loads(l)["event"] == "checkpoint")
    rnd = random.Random(11)

    def rehashed(lines):
        """As one does who took the machine over: every hash made to fit again."""
        prev, out = "0" * 64, []
        for line in lines:
            body = line[:line.rindex(b',"prev":')]
            body += b',"prev":"%s"' % prev.encode()
            prev = hashlib.sha256(body).hexdigest()
            out.append(body + b',"hash":"%s"}\n' % prev.encode())
        return out

    def verdict(lines):
        t.log.write_bytes(b"".join(lines))
        return t.ctl("audit", "verify", check=False).returncode

    assert verdict(good) == 0
    for _ in range(6):
        i, j = sorted(rnd.sample(range(1, newest), 2))
        edited = good[:i] + [good[i].replace(b'"', b"'", 1)] + good[i + 1:]
        changed = good[:i] + [good[i].replace(b"T", b"t", 1)] + good[i + 1:]
        swapped = good[:i] + [good[j]] + good[i + 1:j] + [good[i]] + good[j + 1:]
        for bad in (edited, changed, swapped, good[:i] + good[i + 1:], good[:i] + [good[i]] + good[i:],
                    good[:i]):
            assert verdict(bad) == 1
            assert verdict(rehashed(bad)) == 1
    assert verdict(good) == 0
