"""[smtp] check_sender: a sender whose domain takes no mail (null MX, RFC 7505) is refused, by the word of a real
name server. A hint, no more: who cannot be asked about is taken, and a session that asks too much is on its own."""
import contextlib
import json
import os
import struct

import pytest

import nameserver
from conftest import MODES
from lonerole import LoneRole, ended, pair, receive, send
from sealpost import Tree, crlf
from test_attack import wait_for
from test_resolver import Delivery, FOUND, RD_MX, blackhole

SP_SESSION, SP_SESSION_GONE, RD_SENDER, RD_SENDER_REPLY = 0x0200, 0x0201, 0x0e02, 0x0e82
QUESTIONS = 100
NULL = "550 5.7.27 Your domain takes no mail (null MX)"
MAIL = crlf("Subject: x\n\ntext\n")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a role alone needs root")


@pytest.fixture(scope="module")
def names():
    zones = nameserver.resolver_zones()
    zones["secure.test"] = zones["forged.test"] = "@ IN MX 0 .\n"
    zones["xn--bcher-kva.test"] = "@ IN MX 0 .\n"
    zones["example.test"] = "@ IN MX 0 .\nmail IN MX 0 .\n"
    server = nameserver.NameServer(zones, signed=["secure.test"], broken=["broken.test"],
                                   bogus={"forged.test": lambda text: text.replace("MX\t0 .", "MX\t1 .")}).start()
    yield server
    server.stop()


def checking(names, mode, test_build=False):
    return Tree(mode, test_build, {"smtp": {"check_sender": "yes"}, "resolver": names.settings}).start()


@pytest.fixture(scope="module", params=MODES)
def tree(request, names):
    t = checking(names, request.param)
    t.alice = t.user("alice")
    yield t
    assert t.stop() == 0, t.said()
    t.remove()


def status(tree, role="resolver"):
    return {row["name"]: row["value"] for row in json.loads(tree.ctl("status", "--json")) if row["role"] == role}


def rcpt(s, sender, to="alice@example.test", options=""):
    """The reply to RCPT."""
    s.command_encoding = "utf-8"
    assert s.docmd(f"MAIL FROM:<{sender}>{options}")[0] == 250
    code, text = s.docmd(f"RCPT TO:<{to}>")
    s.docmd("RSET")
    return f"{code} {text.decode()}"


def test_a_null_mx_is_refused(tree):
    before = len(tree.events("sender.refused")), int(status(tree)["senders_refused_null_mx"])
    with contextlib.closing(tree.smtp()) as s:
        s.ehlo()
        assert rcpt(s, "bob@null.outside.test") == NULL
        assert rcpt(s, "bob@NULL.Outside.Test") == NULL
        assert rcpt(s, "@x.test:bob@secure.test") == NULL
        assert rcpt(s, "bob@b\u00fccher.test", options=" SMTPUTF8") == NULL
        for good in ("bob@outside.test", "bob@plain.outside.test", "bob@nobody.outside.test",
                     "bob@useless.outside.test", "bob@mxalias.outside.test"):
            assert rcpt(s, good).startswith("250 "), good
        s.quit()
    wait_for(lambda: len(tree.events("sender.refused")) == before[0] + 3)
    assert [e["domain"] for e in tree.events("sender.refused")[before[0]:]] == \
        ["null.outside.test", "secure.test", "xn--bcher-kva.test"]
    event = tree.events("sender.refused")[-1]
    assert event["why"] == "null-mx" and event["session"] == tree.events("session.open")[-1]["session"]
    assert int(status(tree)["senders_refused_null_mx"]) == before[1] + 3


def test_a_refused_sender_leaves_nothing(tree):
    """Not even with the recipients behind it pipelined, and the session goes on."""
    with contextlib.closing(tree.smtp()) as s:
        s.ehlo()
        s.send("MAIL FROM:<bob@null.outside.test>\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<alice@example.test>\r\n"
               "DATA\r\n")
        assert [s.getreply()[0] for _ in range(4)] == [250, 550, 550, 554]
        s.docmd("RSET")
        s.sendmail("bob@outside.test", ["alice@example.test"], MAIL)
        s.quit()
    assert len(tree.alice.list()) == 1


def test_who_is_not_asked_about(tree):
    """A report, a literal, our own domain and name, who writes to nobody here; and LMTP, whose client has seen
    to it. Not even the question is asked."""
    asked = status(tree)["asked"]
    with contextlib.closing(tree.smtp()) as s:
        s.ehlo()
        for sender in ("", "bob@[192.0.2.1]", "alice@example.test", "bob@Mail.Example.Test"):
            assert rcpt(s, sender).startswith("250 "), sender
        assert rcpt(s, "bob@null.outside.test", "alice@elsewhere.test").startswith("550 5.7.1 ")
        s.quit()
    with contextlib.closing(tree.smtp(lmtp=True)) as s:
        s.ehlo()
        assert rcpt(s, "bob@null.outside.test").startswith("250 ")
        s.quit()
    assert status(tree)["asked"] == asked
    assert status(tree)["session_channels"] == "0"


def test_what_does_not_validate_is_no_answer(tree):
    with contextlib.closing(tree.smtp()) as s:
        s.ehlo()
        assert rcpt(s, "bob@forged.test").startswith("250 ")
        assert rcpt(s, "bob@broken.test").startswith("250 ")
        s.quit()


def test_many_domains_in_one_session(tree):
    """So many questions, then none: the session is taken at its word, and its channel was not abused."""
    asked = int(status(tree)["asked"])
    with contextlib.closing(tree.smtp()) as s:
        s.ehlo()
        for i in range(QUESTIONS + 5):
            assert rcpt(s, f"bob@d{i}.outside.test").startswith("250 ")
        assert rcpt(s, "bob@null.outside.test").startswith("250 ")
        s.quit()
    assert int(status(tree)["asked"]) == asked + QUESTIONS
    assert "loses its channel" not in tree.said()


def test_the_log_is_not_filled(fresh, names):
    """Ten refusals a minute are told, all are counted."""
    t = fresh(settings={"smtp": {"check_sender": "yes"}, "resolver": names.settings}).start()
    t.user("alice")
    with contextlib.closing(t.smtp()) as s:
        s.ehlo()
        for i in range(24):
            assert rcpt(s, ["bob@null.outside.test", "bob@secure.test"][i % 2]) == NULL
        s.quit()
    assert status(t)["senders_refused_null_mx"] == "24"
    wait_for(lambda: t.events("session.close"))
    assert len(t.events("sender.refused")) == 10
    assert t.stop() == 0


def test_no_edge_unless_it_is_wanted(fresh, names):
    """Without the setting smtp has no way to the resolver."""
    t = fresh(settings={"resolver": names.settings}).start()
    t.user("alice")
    with contextlib.closing(t.smtp()) as s:
        s.ehlo()
        assert rcpt(s, "bob@null.outside.test").startswith("250 ")
        s.quit()
    assert status(t)["asked"] == "0" and "session_channels" not in status(t)
    assert t.stop() == 0


def test_no_server_answers(fresh):
    """Mail is taken, after some seconds at first; when nothing is heard at all, soon without waiting."""
    hole = blackhole()
    t = fresh(settings={"smtp": {"check_sender": "yes"}, "resolver": {"server": hole.address, "trust_anchor": "/dev/null"}})
    t.start()
    t.user("alice")
    open_at_once = [t.smtp() for _ in range(8)]
    for i, s in enumerate(open_at_once):
        s.ehlo()
        s.send(f"MAIL FROM:<bob@d{i}.outside.test>\r\nRCPT TO:<alice@example.test>\r\n")
    for s in open_at_once:
        assert [s.getreply()[0] for _ in range(2)] == [250, 250]
        s.close()
    probe = t.smtp()
    probe.ehlo()
    probe.send("MAIL FROM:<bob@probe.outside.test>\r\nRCPT TO:<alice@example.test>\r\n")
    assert probe.getreply()[0] == 250
    wait_for(lambda: int(status(t)["waiting"]) > 0)
    waiting = status(t)["waiting"]
    with contextlib.closing(t.smtp()) as s:
        s.ehlo()
        assert rcpt(s, "bob@late.outside.test").startswith("250 ")
    assert status(t)["waiting"] == waiting  # it was not even asked
    assert probe.getreply()[0] == 250
    probe.close()
    hole.close()
    assert t.stop() == 0


# --- those who do what they may not ---

def frame(kind, body=b"", number=1):
    return (struct.pack(">HHI", kind, 0, number) + body).hex()


def b16(text):
    return struct.pack(">H", len(text)) + text


def forged(s, hexed):
    code, text = s.docmd("XFORGE resolver " + hexed)
    assert code == 250
    return int(text.split()[-1])


@pytest.mark.parametrize("wrong", [frame(RD_MX, b16(b"outside.test")), frame(RD_SENDER, b"\0\5abc"),
                                   frame(RD_SENDER), frame(SP_SESSION_GONE, b"\0\0\0\1"), "00"],
                         ids=["the whole answer", "short", "empty", "its parent's", "no frame"])
def test_a_forged_frame_ends_the_channel_alone(names, fresh, wrong):
    """From inside a session that was taken over: it hears nothing, then or later; others and the tree go on."""
    t = fresh(test_build=True, settings={"smtp": {"check_sender": "yes"}, "resolver": names.settings}).start()
    t.user("alice")
    with contextlib.closing(t.smtp()) as bad, contextlib.closing(t.smtp()) as good:
        bad.ehlo()
        good.ehlo()
        assert forged(bad, frame(RD_SENDER, b16(b"null.outside.test"))) == 9
        assert forged(bad, wrong) == 0
        assert forged(bad, frame(RD_SENDER, b16(b"null.outside.test"))) <= 0
        wait_for(lambda: "loses its channel" in t.said())
        assert rcpt(good, "bob@null.outside.test") == NULL
    assert t.stop() == 0


def test_a_flood_ends_the_channel_alone(names, fresh):
    """One question more than a session has."""
    t = fresh(test_build=True, settings={"smtp": {"check_sender": "yes"}, "resolver": names.settings}).start()
    t.user("alice")
    with contextlib.closing(t.smtp()) as bad:
        bad.ehlo()
        for i in range(QUESTIONS):
            assert forged(bad, frame(RD_SENDER, b16(b"q%d.outside.test" % (i % 3)))) == 9
        assert forged(bad, frame(RD_SENDER, b16(b"null.outside.test"))) == 0
        assert f"{QUESTIONS}" == status(t)["asked"]
    assert t.stop() == 0


class Session:
    def __init__(self, role, number):
        self.sock, theirs = pair()
        send(role.edges["smtp"], SP_SESSION, struct.pack(">I", number) + b16(b"192.0.2.1"), fd=theirs.fileno())
        theirs.close()

    def ask(self, name, number=1):
        send(self.sock, RD_SENDER, b16(name.encode()), number)

    def hear(self):
        kind, number, body = receive(self.sock)
        assert kind == RD_SENDER_REPLY
        return number, body


def lone(server, anchor=None, sessions=20):
    return LoneRole("resolver", f"resolver.server={server}\nrelay.deliveries=20\nsmtp.check_sender=yes\n"
                                f"smtp.max_sessions={sessions}\n", ["relay", "smtp"], [None, anchor])


@needs_root
def test_one_at_a_time():
    """A second question before the first was answered ends the channel; deliveries notice nothing."""
    hole = blackhole()
    role = lone(hole.address)
    one, other, delivery = Session(role, 1), Session(role, 2), Delivery(role, 1)
    one.ask("a.test")
    one.ask("b.test")
    other.ask("c.test", 7)
    delivery.ask(RD_MX, "d.test")
    assert ended(one.sock)
    assert role.status()["session_channels"] == "1"
    assert other.hear() == (7, b"\0")
    assert delivery.hear()[0] != FOUND
    assert role.stop() == 0
    hole.close()


@needs_root
def test_sessions_do_not_take_the_places_of_deliveries():
    """However many they are: what is beyond their share is answered at once."""
    hole = blackhole()
    role = lone(hole.address, sessions=700)
    them = [Session(role, i) for i in range(600)]
    for i, s in enumerate(them):
        s.ask(f"s{i}.test")
    wait_for(lambda: role.status()["asked"] == "600")
    assert role.status()["waiting"] == "512"
    delivery = Delivery(role, 1)
    delivery.ask(RD_MX, "d.test")
    wait_for(lambda: int(role.status()["waiting"]) == 513)
    for s in them:
        s.sock.close()
    wait_for(lambda: role.status()["session_channels"] == "0")
    assert role.stop() == 0
    hole.close()


@needs_root
def test_what_no_smtp_sends(names):
    """It ends the edge and its sessions' channels, not those of deliveries."""
    role = lone(names.address, names.anchor)
    s, delivery = Session(role, 1), Delivery(role, 1)
    s.ask("null.outside.test")
    assert s.hear() == (1, b"\1")
    Session(role, 1)
    assert ended(s.sock)
    assert role.status()["session_channels"] == "0"
    assert "smtp loses its edge" in role.said()
    assert delivery.mx("outside.test")[0] == FOUND
    assert role.stop() == 0
