"""Smarthost mode with a password: into a real Postfix that asks Cyrus SASL, and past servers that are not who they
should be. The password is said to the right one, over TLS that verified, or to nobody."""
import base64
import os
import secrets
import signal

import pytest

import scan
from outside import make_authority, make_certificate, server_context, wait_for
from relayed import Person, check_arrived, letter, make_tree
from sealpost import NOBODY

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix needs root")
USER = "appliance"


def make_smarthost_tree(mode, world, host, password, user, **relay):
    tree = make_tree(mode, world)
    tree.auth = tree.dir / "smarthost.auth"
    write_password(tree, password, user)
    tree.extra["relay"].update({"mode": "smarthost", "smarthost": f"{host}:{world.port}", "private_addresses": "no",
                                "smarthost_auth": tree.auth, **relay})
    tree.write_config()
    return tree.start()


def write_password(tree, password, user):
    tree.auth.write_text(f"{user}:{password}\n")
    tree.auth.chmod(0o600)
    if tree.mode == "user":
        os.chown(tree.auth, NOBODY, NOBODY)


@pytest.fixture
def smarthost_tree(mode, world):
    made = []

    def make(host, password, user, **relay):
        made.append(make_smarthost_tree(mode, world, host, password, user, **relay))
        return made[-1]

    yield make
    for t in made:
        assert t.stop() == 0, t.said()
        t.remove()


def friend():
    return f"friend-{os.urandom(6).hex()}@anywhere.test"


@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN", "PLAIN LOGIN", "CRAM-MD5 LOGIN"])
def test_the_password_is_taken(smarthost_tree, world, mechanisms):
    password = "p4ss " + secrets.token_urlsafe(20) + ":%\u00e4"
    server, host = world.submission(USER, password, mechanisms)
    tree = smarthost_tree(host, password, f"{USER}@{host}")
    alice, to = Person(tree, "alice"), friend()
    text = letter(alice.address, [to])
    mail = alice.send(text, [to])
    row = alice.settled(mail)
    assert row["state"] == "sent", (row, server.log()[-2000:])
    [(_, _, content, trace)] = wait_for(lambda: server.for_recipient(to))
    check_arrived(world, content, text)
    assert f"Authenticated sender: {USER}@{host}" in trace
    used = "PLAIN" if "PLAIN" in mechanisms else "LOGIN"
    assert f"sasl_method={used}, sasl_username={USER}" in server.log()
    assert tree.events("relay.sent")[-1]["tls"] == "verified"


def test_a_wrong_password(smarthost_tree, world):
    """The mail waits, since it is the operator's to mend, and says why; with the right one it goes."""
    password = secrets.token_urlsafe(20)
    server, host = world.submission(USER, password, "PLAIN LOGIN")
    wrong = secrets.token_urlsafe(20)
    tree = smarthost_tree(host, wrong, f"{USER}@{host}")
    alice, to = Person(tree, "alice"), friend()
    mail = alice.send(letter(alice.address, [to]), [to])
    row = alice.tried(mail)
    assert row["state"] == "deferred" and "authentication failed" in row["text"], row
    wait_for(lambda: tree.events("relay.deferred"))  # the log follows the status
    assert tree.events("relay.deferred")[-1]["code"] == 535
    assert "authentication failed" in server.log() and server.mails() == []
    write_password(tree, password, f"{USER}@{host}")
    tree.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "certificates reloaded" in tree.said())
    tree.ctl("queue", "retry", mail.id.hex())
    assert alice.settled(mail)["state"] == "sent"
    assert wait_for(lambda: server.for_recipient(to))
    for said in (tree.said(), tree.log.read_text(), tree.ctl("queue", "list"), str(alice.status(mail))):
        assert wrong not in said and password not in said


@pytest.mark.parametrize("case", ["another name", "another authority", "no TLS", "TLS refused", "unknown mechanism"])
def test_who_is_not_who_it_should_be(smarthost_tree, world, tmp_path, case):
    """Nobody hears the password: not even the word AUTH."""
    password = secrets.token_urlsafe(20)
    extensions = [b"AUTH CRAM-MD5" if case == "unknown mechanism" else b"AUTH PLAIN LOGIN"]
    trick = (lambda s, stage, line: b"454 4.7.0 not now\r\n" if stage == "starttls" else None) \
        if case == "TLS refused" else None
    server, domain = world.trick(trick, tls=case != "no TLS", extensions=extensions)
    host = domain.replace("t", "h", 1)
    if case == "another name":
        server.context = server_context(make_certificate(world.dir, f"{secrets.token_hex(4)}.elsewhere.test"))
    if case == "another authority":
        make_authority(tmp_path)
        server.context = server_context(make_certificate(tmp_path, host))
    tree = smarthost_tree(host, password, USER)
    alice, to = Person(tree, "alice"), friend()
    mail = alice.send(letter(alice.address, [to]), [to])
    row = alice.tried(mail)
    assert row["state"] == "deferred", row
    assert server.connections > 0 and server.mails == []
    assert not [c for c in server.commands if c.upper().startswith((b"AUTH", b"MAIL"))]
    plain = base64.b64encode(f"\0{USER}\0{password}".encode())
    assert not [c for c in server.commands if password.encode() in c or plain in c]


def test_the_keeper_alone_has_it(smarthost_tree, world):
    """Neither in relay, which forks the deliveries, nor in the supervisor, which opened the file, nor anywhere
    else that root can read; deliveries are gone with their mail."""
    password = "NeEdLe-" + secrets.token_hex(20)
    server, host = world.submission(USER, password, "PLAIN")
    tree = smarthost_tree(host, password, f"{USER}@{host}")
    alice, to = Person(tree, "alice"), friend()
    mail = alice.send(letter(alice.address, [to]), [to])
    assert alice.settled(mail)["state"] == "sent"
    relay = tree.pids()["relay"]
    wait_for(lambda: not tree.children(relay))
    needles = {"password": password.encode(), "coded": base64.b64encode(f"\0{USER}@{host}\0{password}".encode())}
    roles = {pid: role for role, pid in tree.pids().items()}
    for pid in tree.all_pids():
        assert scan.needles_in_memory(pid, needles) == set() or roles.get(pid) == "keeper", roles.get(pid, pid)
    assert scan.needles_in_files(needles, tree.state, tree.log.parent) == set()
