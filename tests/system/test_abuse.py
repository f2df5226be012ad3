"""Senders that mean no good, and mail that is large on purpose: limits hold and are told, memory stays what it
is, and everybody else is served meanwhile."""
import contextlib
import json
import smtplib
import socket
import ssl
import threading
import time

import pytest

from conftest import MODES
from sealpost import Tree, content_of, crlf
from test_attack import wait_for

ORDINARY = crlf("Subject: x\n\ntext\n")


@pytest.fixture
def mode():
    return MODES[0]  # what is tested here is the same in both


def connect(tree, source="127.0.0.1", lmtp=False):
    s = socket.create_connection(("127.0.0.1", tree.lmtp_port if lmtp else tree.smtp_port), timeout=120,
                                 source_address=(source, 0))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s, s.makefile("rb")


def say(sock, replies, line):
    sock.sendall(line.encode() + b"\r\n")
    return reply(replies)


def reply(replies):
    while (line := replies.readline().decode())[3:4] == "-":
        pass
    return line


def greeting(tree, **how):
    sock, replies = connect(tree, **how)
    with sock:
        return reply(replies)


def role_memory(tree, role):
    """Kilobytes that are the process's own."""
    return int(tree.proc_status(tree.pids()[role])["RssAnon"].split()[0])


def status(tree):
    return {row["name"]: row["value"] for row in json.loads(tree.ctl("status", "--json")) if row["role"] == "smtp"}


# --- limits by client ---

def test_connections_a_minute(fresh):
    t = fresh(settings={"smtp": {"max_connections_per_minute": 5}}).start()
    assert [greeting(t)[:3] for _ in range(5)] == ["220"] * 5
    assert [greeting(t)[:9] for _ in range(100)] == ["421 4.7.0"] * 100
    assert greeting(t, source="127.0.0.2")[:3] == "220"  # somebody else
    assert [greeting(t, lmtp=True)[:3] for _ in range(20)] == ["220"] * 20  # a server in front of us
    assert int(status(t)["refused_too_many_connections"]) == 100
    logged = [e for e in t.events("session.refused") if e["why"] == "too-many-connections"]
    assert len(logged) == 10 and logged[0]["client"] == "127.0.0.1"  # nobody fills the disk by being refused
    assert t.stop() == 0
    logged = [e for e in t.events("session.refused") if e["why"] == "too-many-connections"]
    assert len(logged) == 11 and logged[-1]["left_out"] == 89  # and nothing goes unsaid


def test_lesser_offences_add_up(fresh):
    """Half of what is tolerated, and some of it is forgiven in the meantime: three, or two at once, are too many."""
    t = fresh(settings={"smtp": {"hold_off": "10s"}}).start()
    cut = 0
    while True:
        sock, replies = connect(t)
        if not reply(replies).startswith("220"):
            break
        assert say(sock, replies, "GET / HTTP/1.1")[:9] == "421 4.7.0"
        assert replies.read() == b""
        cut += 1
        wait_for(lambda: len(t.events("session.cut")) == cut)
    assert cut in (2, 3) and {e["why"] for e in t.events("session.cut")} == {"speaks-http"}
    assert status(t)["cut_speaks_http"] == str(cut)
    assert greeting(t) == "421 4.7.0 mail.example.test Not now, try again later\r\n"
    assert greeting(t, source="127.0.0.2")[:3] == "220"
    wait_for(lambda: greeting(t)[:3] == "220")


def test_who_talks_before_the_greeting(fresh):
    t = fresh(settings={"smtp": {"greet_delay": "1s"}}).start()
    sock, replies = connect(t)
    sock.sendall(b"EHLO x\r\nMAIL FROM:<a@b.test>\r\n")
    assert reply(replies)[:9] == "554 5.5.0" and replies.read() == b""
    assert greeting(t)[:3] == "220"
    wait_for(lambda: t.events("session.cut"))
    assert t.events("session.cut")[-1]["why"] == "talks-too-early"


def test_slow_senders(fresh):
    """Less than the lowest rate, once a tenth of `idle` was waited: by DATA and by BDAT."""
    t = fresh(settings={"smtp": {"idle": "10s", "min_rate": "1K"}}).start()
    alice = t.user("alice")
    for command in ("DATA", "BDAT 100000 LAST"):
        sock, replies = connect(t)
        reply(replies)
        for line in ("EHLO x", "MAIL FROM:<a@b.test>", f"RCPT TO:<{alice.address}>"):
            assert say(sock, replies, line)[:3] == "250"
        sock.sendall(command.encode() + b"\r\n")
        assert command != "DATA" or reply(replies)[:3] == "354"
        with contextlib.suppress(OSError):
            for _ in range(100):
                sock.sendall(b"drop\r\n")
                time.sleep(0.1)
        assert reply(replies)[:9] == "421 4.4.2"
    wait_for(lambda: len(t.events("session.cut")) == 2)
    assert {e["why"] for e in t.events("session.cut")} == {"too-slow"}
    assert {e["why"] for e in t.events("message.refused")} == {"interrupted"}
    assert alice.list() == []


def test_idle_and_shutdown(fresh):
    t = fresh(settings={"smtp": {"idle": "1s"}}).start()
    sock, replies = connect(t)
    assert reply(replies)[:3] == "220" and reply(replies)[:9] == "421 4.4.2" and replies.read() == b""
    sock, replies = connect(t)
    assert reply(replies)[:3] == "220" and say(sock, replies, "EHLO x")[:3] == "250"
    assert t.stop() == 0
    assert reply(replies)[:9] == "421 4.3.2" and replies.read() == b""


def test_sessions_at_once(fresh):
    t = fresh(settings={"smtp": {"max_sessions_per_client": 2, "max_sessions": 3}}).start()
    first = [connect(t) for _ in range(2)]
    assert [reply(replies)[:3] for _, replies in first] == ["220"] * 2
    assert greeting(t)[:9] == "421 4.7.0"
    other = connect(t, source="127.0.0.2")
    assert reply(other[1])[:3] == "220"
    assert greeting(t, source="127.0.0.3")[:9] == "421 4.3.2"
    said = status(t)
    assert said["refused_too_many_sessions_of_client"] == "1" and said["refused_too_many_sessions"] == "1"


# --- TLS ---

def handshake(tree, sock):
    return ssl.create_default_context(cafile=tree.ca).wrap_socket(sock, server_hostname="127.0.0.1")


def test_close_notify_within_a_chunk(fresh):
    """What comes in the clear behind it is no rest of the chunk, and no command (CVE-2026-45185)."""
    t = fresh().start()
    alice = t.user("alice")
    sock, replies = connect(t)
    reply(replies)
    say(sock, replies, "EHLO x")
    assert say(sock, replies, "STARTTLS")[:3] == "220"
    tls = handshake(t, sock)
    replies = tls.makefile("rb")
    for line in ("EHLO x", "MAIL FROM:<a@b.test>", f"RCPT TO:<{alice.address}>"):
        assert say(tls, replies, line)[:3] == "250"
    tls.sendall(b"BDAT 20 LAST\r\nhello\r\n")
    replies.close()
    with contextlib.suppress(OSError, ssl.SSLError):
        raw = tls.unwrap()
        raw.sendall(b"0123456789abcNOOP\r\nQUIT\r\n")
        assert raw.recv(1000) == b""
    wait_for(lambda: t.children(t.pids()["smtp"]) == [])
    assert alice.list() == []
    assert t.events("session.crashed") == []


def test_tls_required(fresh):
    t = fresh(settings={"smtp": {"tls": "require"}}).start()
    alice = t.user("alice")
    sock, replies = connect(t)
    reply(replies)
    for line, want in [("HELO x", "530 5.7.0"), ("EHLO x", "250"), ("NOOP", "250"), ("MAIL FROM:<a@b.test>", "530 5.7.0"),
                       ("RSET", "530 5.7.0"), ("VRFY x", "530 5.7.0"), ("DATA", "530 5.7.0"), ("HELP", "530 5.7.0"),
                       ("BDAT 6 LAST\r\nQUIT", "530 5.7.0"), ("NOOP", "250"), ("STARTTLS", "220")]:
        assert say(sock, replies, line).startswith(want), line
    tls = handshake(t, sock)
    replies = tls.makefile("rb")
    for line in ("EHLO x", "MAIL FROM:<a@b.test>", f"RCPT TO:<{alice.address}>", "BDAT 4 LAST\r\nab"):
        assert say(tls, replies, line)[:3] == "250"
    assert content_of(alice.read(alice.newest()["id"])) == b"ab\r\n"


# --- addresses in Unicode ---

def test_unicode_and_ascii_domains_are_one(fresh):
    t = fresh(settings={"appliance": {"domain": "b\u00fccher.example"}}).start()
    user = t.user("j\u00f6rg@B\u00dcCHER.example")
    team = "\u4f8b@xn--bcher-kva.example"
    t.ctl("alias", "add", team, "j\u00f6rg@b\u00fccher.example")
    with t.smtp() as s:
        s.ehlo()
        for rcpt in ("j\u00f6rg@b\u00fccher.example", "j\u00f6rg@XN--Bcher-KVA.example", "j\u00f6rg@bu\u0308cher.example",
                     "\u4f8b@b\u00fccher.example"):
            s.send(f"MAIL FROM:<\u00e9@b\u00fccher.example> SMTPUTF8\r\nRCPT TO:<{rcpt}>\r\n".encode())
            assert s.getreply()[0] == 250
            assert s.getreply()[0] == 250, rcpt
            assert s.data(ORDINARY)[0] == 250
            got = user.read(user.newest()["id"])
            assert content_of(got) == ORDINARY
            assert got.startswith("Return-Path: <\u00e9@b\u00fccher.example>\r\n".encode())
            assert b" with UTF8SMTP id " in got
    assert len(user.list()) == 4


def test_protocol_names(fresh):
    t = fresh().start()
    alice = t.user("alice")
    for lmtp, tls, utf8, want in [(False, False, True, b"UTF8SMTP"), (False, True, True, b"UTF8SMTPS"),
                                  (True, False, True, b"UTF8LMTP"), (True, True, True, b"UTF8LMTPS"),
                                  (False, True, False, b"ESMTPS"), (True, False, False, b"LMTP")]:
        with t.smtp(lmtp, tls) as s:
            s.sendmail("a@b.test", [alice.address], ORDINARY, ["SMTPUTF8", "BODY=8BITMIME"] if utf8 else [])
        assert b" with %s id " % want in alice.read(alice.newest()["id"])


# --- many, and much ---

@pytest.fixture(scope="module")
def big():
    t = Tree(MODES[0], settings={"smtp": {"max_sessions": 2200, "max_sessions_per_client": 2200,
                                          "max_refused_recipients": 1000000, "max_errors": 1000000}}).start()
    yield t, t.user("alice")
    assert t.stop() == 0, t.said()
    t.remove()


def test_two_thousand_who_do_nothing(big):
    """And some of them feed a command byte by byte: others are served, and a session costs little."""
    t, alice = big
    idle = [connect(t)[0] for _ in range(2000)]
    try:
        assert all(s.recv(100).startswith(b"220") for s in idle)
        for byte in b"EHLO slow.loris.test"[:10]:
            for s in idle[:500]:
                s.sendall(bytes([byte]))
        before = len(alice.list())
        for tls in (False, True):
            assert t.deliver(ORDINARY, [alice.address], tls=tls) == {}
        assert len(alice.list()) == before + 2
        sessions = t.children(t.pids()["smtp"])
        assert len(sessions) == 2000
        own = [int(t.proc_status(pid)["RssAnon"].split()[0]) for pid in sessions[:20]]
        assert max(own) < 2048  # much of it is shared with the parent
    finally:
        for s in idle:
            s.close()
    wait_for(lambda: t.children(t.pids()["smtp"]) == [], 120)


def pipelined(tree, lines, want, batch=500):
    """Says all lines after MAIL, a batch at a time; the replies, until the connection is over."""
    sock, replies = connect(tree)
    reply(replies)
    assert say(sock, replies, "EHLO x")[:3] == "250" and say(sock, replies, "MAIL FROM:<a@b.test>")[:3] == "250"
    got = []
    for at in range(0, len(lines), batch):
        with contextlib.suppress(OSError):
            sock.sendall(b"".join(lines[at:at + batch]))
        for _ in lines[at:at + batch]:
            got.append(replies.readline()[:9].decode())
            if got[-1] == "":
                return got[:-1]
    sock.close()
    return got


def test_a_hundred_thousand_recipients(big):
    t, alice = big
    before = {role: role_memory(t, role) for role in ("sealer", "store", "smtp")}
    unknown = [b"RCPT TO:<nobody%d@example.test>\r\n" % i for i in range(100_000)]
    assert set(pipelined(t, unknown, "550 5.1.1")) == {"550 5.1.1"}
    for role, kb in before.items():
        assert role_memory(t, role) < kb + 4096, role
    # Those who are here: as many as may be, ten times that in vain, and it is over.
    got = pipelined(t, [b"RCPT TO:<%s>\r\n" % alice.address.encode()] * 100_000, "")
    assert got == ["250 2.1.5"] * 100 + ["452 4.5.3"] * 1000 + ["421 4.7.0"]


class Watch(threading.Thread):
    """The most memory that a session had of its own, meanwhile."""

    def __init__(self, tree):
        super().__init__()
        self.tree, self.most, self.end = tree, 0, threading.Event()
        self.parent = tree.pids()["smtp"]

    def run(self):
        while not self.end.wait(0.02):
            for pid in self.tree.children(self.parent):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError, KeyError):
                    self.most = max(self.most, int(self.tree.proc_status(pid)["RssAnon"].split()[0]))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.join()


def repeat(piece, total):
    return piece * (total // len(piece))


LARGE = {
    "a header of 10 MB": (repeat(b"X-Field: " + b"v" * 60 + b"\r\n", 10_000_000), b"\r\nbody\r\n"),
    "one field of 10 MB": (b"Subject: " + repeat(b"w" * 70 + b"\r\n ", 10_000_000), b"\r\n\r\nbody\r\n"),
    "a name of a field of 10 MB": (b"N" * 10_000_000, b": x\r\n\r\nbody\r\n"),
    "Authentication-Results of 10 MB": (b"Authentication-Results: x.test; " + repeat(b"c" * 70 + b"\r\n ", 10_000_000),
                                        b"\r\n\r\nbody\r\n"),
    "a line of 100 MB": (b"Subject: x\r\n\r\n", b"x" * 100_000_000 + b"\r\n"),
    "10 million parts": (b"Content-Type: multipart/mixed; boundary=B\r\n\r\n", b"--B\r\n\r\n" * 10_000_000 + b"--B--\r\n"),
    "10 million parts with attachments": (b"Content-Type: multipart/mixed; boundary=B\r\n\r\n",
                                          b"--B\r\nContent-Type: image/x\r\n\r\n" * 1_000_000 + b"--B--\r\n"),
}


@pytest.mark.parametrize("name", LARGE)
def test_large(big, name):
    """Scaled down: parts with attachments are one million, as their header fields make 33 MB of each million."""
    t, alice = big
    message = b"".join(LARGE[name])
    before = role_memory(t, "sealer")
    others = []
    with Watch(t) as watch, contextlib.closing(smtplib.SMTP("127.0.0.1", t.smtp_port, timeout=300)) as s:
        s.ehlo()
        s.mail("a@b.test")
        s.rcpt(alice.address)
        s.putcmd(f"BDAT {len(message)} LAST")
        half = len(message) // 2
        s.sock.sendall(message[:half])
        others.append(t.deliver(ORDINARY, [alice.address]))  # somebody else is served in the midst of it
        s.sock.sendall(message[half:])
        assert s.getreply()[0] == 250
    assert others == [{}]
    assert 0 < watch.most < 2048
    assert role_memory(t, "sealer") < before + 4096
    assert t.events("message.sealed")[-1]["window_bytes"] <= 128 * 1024
    rows = alice.list()
    assert content_of(alice.read(rows[-1]["id"])) == message
    for row in rows:
        alice.run("delete", row["id"])
