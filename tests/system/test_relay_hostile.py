"""Servers of the outside that lie, stall and break off. Whatever they do, a mail ends as sent, deferred or
failed, as the standards have it; nothing crashes, nothing of theirs gets where it does not belong."""
import os
import socket
import ssl
import time

import pytest

from outside import Drop, wait_for
from relayed import Person, check_arrived, letter, make_tree, no_crash

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the world needs root")


@pytest.fixture(scope="module")
def strict(world):
    """A tree that sends verified TLS or nothing."""
    t = make_tree("root", world, tls="require").start()
    yield t
    assert t.stop() == 0, t.said()
    t.remove()


@pytest.fixture
def alice(sending):
    return Person(sending, f"alice-{os.urandom(4).hex()}")


def send_to(person, *addresses):
    text = letter(person.address, addresses)
    return text, person.send(text, list(addresses))


def at(stage, said):
    """A trick: these bytes at that stage."""
    return lambda session, now, line: said if now == stage else None


def cut(stage):
    def trick(session, now, line):
        if now == stage:
            raise Drop
    return trick


def sent(row):
    return row["state"] == "sent"


def deferred(row):
    return row["state"] == "deferred" and row["next_ms"] > time.time() * 1000


def failed(row):
    return row["state"] == "failed"


def either(row):
    return sent(row) or deferred(row)


def cut_in_content(session, now, line):
    if now == "body" and b"all is well" in line:
        raise Drop


def early_replies(session, now, line):
    """All replies of a whole dialogue in one piece, before anything was said."""
    if now == "connect":
        return b"220 hi\r\n250 hi\r\n250 ok\r\n250 ok\r\n354 go\r\n250 kept\r\n221 bye\r\n"
    return b""


def endless_reply(session, now, line):
    if now == "ehlo":
        for _ in range(200000):
            session.sock.sendall(b"250-" + b"x" * 60 + b"\r\n")
        raise Drop


def endless_line(session, now, line):
    if now == "mail":
        for _ in range(2000):
            session.sock.sendall(b"2" * 8192)
        raise Drop


def endless_extensions(session, now, line):
    if now == "ehlo":
        return b"".join(b"250-X%d\r\n" % i for i in range(5000)) + b"250 SIZE 1\r\n"


TABLE = [
    ("421 at once", at("connect", b"421 4.3.2 busy\r\n"), deferred),
    ("554 at once", at("connect", b"554 5.3.2 nothing here\r\n"), lambda r: deferred(r) or failed(r)),
    ("421 at EHLO", at("ehlo", b"421 4.3.2 busy\r\n"), deferred),
    ("502 at EHLO", at("ehlo", b"502 5.5.1 what?\r\n"), sent),
    ("451 at MAIL", at("mail", b"451 4.3.0 not now\r\n"), deferred),
    ("550 at MAIL", at("mail", b"550 5.7.1 not you\r\n"), failed),
    ("450 at RCPT", at("rcpt", b"450 4.2.1 not now\r\n"), deferred),
    ("550 at RCPT", at("rcpt", b"550 5.1.1 nobody\r\n"), failed),
    ("451 at DATA", at("data", b"451 4.3.0 not now\r\n"), deferred),
    ("554 at DATA", at("data", b"554 5.5.1 no\r\n"), failed),
    ("452 after the dot", at("dot", b"452 4.3.1 full\r\n"), deferred),
    ("554 after the dot", at("dot", b"554 5.6.0 spam\r\n"), failed),
    ("250 instead of 354", at("data", b"250 ok\r\n"), deferred),
    ("354 at MAIL", at("mail", b"354 go on\r\n"), deferred),
    ("no reply at all", cut("connect"), deferred),
    ("cut at EHLO", cut("ehlo"), deferred),
    ("cut at MAIL", cut("mail"), deferred),
    ("cut at RCPT", cut("rcpt"), deferred),
    ("cut at DATA", cut("data"), deferred),
    ("cut in the middle of the content", cut_in_content, deferred),
    ("cut after the dot", cut("dot"), deferred),
    ("cut at QUIT", cut("quit"), sent),
    ("nonsense at QUIT", at("quit", b"\xff\0\r\n"), sent),
    ("not SMTP at all", at("connect", b"HTTP/1.1 200 OK\r\n\r\n"), deferred),
    ("an empty line", at("mail", b"\r\n"), deferred),
    ("a code of two digits", at("mail", b"25 ok\r\n"), deferred),
    ("a code of four digits", at("mail", b"2500 ok\r\n"), deferred),
    ("a code out of range", at("mail", b"999 ok\r\n"), deferred),
    ("a code with blanks", at("mail", b" 250 ok\r\n"), deferred),
    ("two codes in a reply", at("mail", b"250-fine\r\n550 not fine\r\n"), deferred),
    ("a NUL in a reply", at("mail", b"250 o\0k\r\n"), either),
    ("a CR in a reply", at("rcpt", b"550 5.1.1 no\rX-Evil: yes\r\n"), lambda r: deferred(r) or failed(r)),
    ("bare line feeds", at("mail", b"250-ok\n250 ok\n"), either),
    ("all replies beforehand", early_replies, either),
    ("one reply too many", at("mail", b"250 ok\r\n250 ok\r\n"), either),
    ("a reply without an end", endless_reply, deferred),
    ("a line without an end", endless_line, deferred),
    ("too many extensions", endless_extensions, lambda r: sent(r) or deferred(r) or failed(r)),
]


@pytest.mark.parametrize("trick,right", [t[1:] for t in TABLE], ids=[t[0] for t in TABLE])
def test_trick(world, alice, trick, right):
    server, domain = world.trick(trick)
    text, mail = send_to(alice, f"x@{domain}")
    row = alice.tried(mail)
    assert right(row), row
    assert row["text"].isprintable() and row["text"].isascii() and len(row["text"]) <= 500
    for _, recipients, content in server.mails:
        assert recipients == [f"x@{domain}"]
        check_arrived(world, content, text)
    assert len(server.mails) == (1 if row["state"] == "sent" and "beforehand" not in row["text"] else 0) \
        or trick is early_replies
    no_crash(alice.tree)


def refuse_and_close(session, now, line):
    if now == "mail":
        session.sock.sendall(b"550 5.7.1 not you\r\n")
        session.sock.shutdown(socket.SHUT_WR)
        while session.sock.recv(65536):
            pass
        raise Drop


@pytest.mark.parametrize("extensions", ([], [b"PIPELINING"]), ids=("in turn", "pipelined"))
def test_refused_at_mail_and_hung_up(world, alice, extensions):
    server, domain = world.trick(refuse_and_close, extensions=extensions)
    row = alice.tried(send_to(alice, f"x@{domain}")[1])
    assert failed(row) and "not you" in row["text"], row
    assert server.connections == 1
    no_crash(alice.tree)


def test_words_of_a_server_are_only_words(world, alice):
    """Escape sequences and bytes beyond ASCII in a refusal: none of it reaches status or report as such."""
    said = b"".join(b"550-5.1.1 \x1b[31m" + b"spam\xff\x80 " * 8 + b"\r\n" for _ in range(5))
    said += b"550 5.1.1 end\tX-Evil: yes\r\n"
    server, domain = world.trick(at("rcpt", said))
    text, mail = send_to(alice, f"x@{domain}")
    row = alice.settled(mail)
    assert failed(row) and row["text"].isprintable() and row["text"].isascii() and len(row["text"]) <= 500
    report = alice.report()
    assert b"\x1b" not in report.bytes and b"\0" not in report.bytes and b"\nX-Evil" not in report.bytes
    assert b"\xff" not in report.bytes and report.of(f"x@{domain}")["Status"] == "5.1.1"


def test_so_many_recipients_and_no_more(world, alice):
    """452 from the third on (RFC 5321 4.5.3.1.10): who was taken gets it, the others later."""
    def trick(session, now, line):
        if now == "rcpt" and len(session.recipients) == 2:
            return b"452 4.5.3 too many recipients\r\n"
    server, domain = world.trick(trick)
    addresses = [f"x{i}@{domain}" for i in range(3)]
    text, mail = send_to(alice, *addresses)
    states = [alice.tried(mail, a)["state"] for a in addresses]
    assert states[:2] == ["sent", "sent"] and states[2] in ("sent", "deferred")
    if states[2] == "deferred":
        alice.tree.ctl("queue", "retry", mail.id.hex())
        assert alice.settled(mail, addresses[2])["state"] == "sent"
    got = sorted(r for _, recipients, _ in server.mails for r in recipients)
    assert got == addresses
    assert not alice.received()


def test_some_refused_some_not(world, alice):
    def trick(session, now, line):
        if now == "rcpt" and b"bad" in line:
            return b"550 5.1.1 nobody\r\n"
        if now == "rcpt" and b"later" in line:
            return b"451 4.2.0 later\r\n"
    server, domain = world.trick(trick)
    names = [f"{n}@{domain}" for n in ("good", "bad", "later", "fine")]
    text, mail = send_to(alice, *names)
    assert [alice.tried(mail, n)["state"] for n in names] == ["sent", "failed", "deferred", "sent"]
    assert [sorted(m[1]) for m in server.mails] == [sorted([names[0], names[3]])]
    assert len(alice.report().recipients) == 1


def test_pipelining_and_chunking(world, alice):
    """What a server offers may be used; what arrives is the same."""
    for extensions in ([b"PIPELINING"], [b"CHUNKING", b"8BITMIME"],
                       [b"PIPELINING", b"CHUNKING", b"8BITMIME", b"SIZE 1000000", b"SMTPUTF8", b"DSN"]):
        server, domain = world.trick(extensions=extensions)
        text = letter(alice.address, [f"x@{domain}"], body=b".\r\n.dot\r\n" + b"line\r\n" * 30000)
        mail = alice.send(text, [f"x@{domain}"])
        assert alice.settled(mail)["state"] == "sent"
        [(_, _, content)] = server.mails
        check_arrived(world, content, text)


def test_a_mail_larger_than_a_server_takes(world, alice):
    """SIZE (RFC 1870): not a byte of it is sent, and the sender is told."""
    server, domain = world.trick(extensions=[b"SIZE 1000"])
    text = letter(alice.address, [f"x@{domain}"], body=b"line\r\n" * 1000)
    mail = alice.send(text, [f"x@{domain}"])
    assert failed(alice.settled(mail))
    assert not server.mails and not any(c.upper().startswith(b"DATA") for c in server.commands)
    assert alice.report().of(f"x@{domain}")["Status"] == "5.3.4"


# --- TLS ---

def test_tls_with_a_server_of_any_certificate(world, alice):
    server, domain = world.trick(tls=True)
    text, mail = send_to(alice, f"x@{domain}")
    assert sent(alice.settled(mail))
    assert any(c.upper() == b"STARTTLS" for c in server.commands)
    check_arrived(world, server.mails[0][2], text)


def test_a_handshake_that_breaks(world, alice):
    """May be encrypted: so it is tried again without, or later. Nothing of the mail goes into a broken
    handshake."""
    def trick(session, now, line):
        if now == "starttls":
            session.sock.sendall(b"220 go ahead\r\n")
            session.sock.recv(1)
            session.sock.sendall(b"\x15\x03\x01\x00\x02\x02\x28 this is no TLS" * 10)
            raise Drop
    server, domain = world.trick(trick, tls=True)
    text, mail = send_to(alice, f"x@{domain}")
    assert either(alice.tried(mail))
    for _, _, content in server.mails:
        check_arrived(world, content, text)


def test_words_injected_behind_starttls(world, alice):
    """What comes behind the 220 in the clear is not heard inside TLS (CVE-2011-0411)."""
    def trick(session, now, line):
        if now == "starttls":
            session.sock.sendall(b"220 go ahead\r\n250-evil.test\r\n250 X-INJECTED\r\n250 ok\r\n250 ok\r\n")
            session.sock = session.server.context.wrap_socket(session.sock, server_side=True)
            session.tls, session.buffer = True, b""
            return b""
        return b"550 5.7.0 never\r\n" if now == "mail" and session.tls else None
    server, domain = world.trick(trick, tls=True)
    text, mail = send_to(alice, f"x@{domain}")
    row = alice.tried(mail)
    assert not sent(row) or all(not s for s in server.mails), row
    assert not server.mails
    no_crash(alice.tree)


def test_require_sends_verified_or_not_at_all(world, strict):
    """With tls = require: a stripped STARTTLS, none at all, and a wrong name get nothing."""
    person = Person(strict, "strict")
    stripped, domain = world.trick()
    text, mail = send_to(person, f"x@{domain}")
    row = person.tried(mail)
    assert deferred(row) or failed(row)
    assert not stripped.mails and not any(c.upper().startswith(b"MAIL") for c in stripped.commands)
    for unfit in ("x@misnamed.test", "x@plain.test"):
        text, mail = send_to(person, unfit)
        row = person.tried(mail)
        assert deferred(row) or failed(row)
        assert not world.postfix.for_recipient(unfit) and not world.plain.for_recipient(unfit)
    to = f"verified-{os.urandom(4).hex()}@outside.test"
    text, mail = send_to(person, to)
    assert sent(person.settled(mail))
    [(_, _, content, trace)] = world.postfix.arrived(to)
    assert "using TLS" in trace
    check_arrived(world, content, text)


def test_a_slow_server_holds_up_nobody_else(world, alice):
    """One that says a byte a second has its own process; the others' mail is long gone."""
    stop = []

    def trick(session, now, line):
        if now == "connect":
            while not stop:
                session.sock.sendall(b"2")
                time.sleep(0.2)
            raise Drop
    server, domain = world.trick(trick)
    _, slow = send_to(alice, f"x@{domain}")
    wait_for(lambda: server.connections)
    for _ in range(5):
        to = f"quick-{os.urandom(4).hex()}@outside.test"
        _, mail = send_to(alice, to)
        assert sent(alice.settled(mail))
    assert alice.state(slow)["state"] == "queued"
    stop.append(True)
    assert deferred(alice.tried(slow))
