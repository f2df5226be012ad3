"""A store that was taken over, or somebody who edits its database: it cannot send mail to whom its sender did
not name, nor by way of another host, nor a link."""
import os
import time

import pytest

import scan
from outside import wait_for
from relayed import Person, letter, make_tree
from sealpost import Tree
from sender import Link

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the world needs root")


def hosts_alike(world):
    """Two servers that take no mail yet, and their domains, of equal length."""
    def later(session, stage, line):
        return b"450 4.2.1 not yet\r\n" if stage == "rcpt" and session.server.shut else None

    found = []
    while len(found) < 2 or len(found[-1][1]) != len(found[-2][1]):
        server, domain = world.trick(later)
        server.shut = True
        found.append((server, domain))
    return found[-2:]


def edit(tree, old, new):
    """Every place of the database, which knows no checksum."""
    assert len(old) == len(new)
    path = tree.state / "data" / "data.mdb"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


@pytest.mark.parametrize("way,what", [("relay", "recipient"), ("relay", "host"), ("link", "recipient"),
                                      ("link", "host"), ("link", "subject")])
def test_it_sends_to_nobody_else(world, way, what):
    """Another recipient in the sender's place, the right one at the wrong host, a link's subject: the delivery
    sends nothing at all, and the sender hears of it. What nobody has changed goes out."""
    (mine, domain), (evil, elsewhere) = hosts_alike(world)
    tree = make_tree("root", world).start()
    try:
        alice = Person(tree, "alice")
        to, text = f"robert@{domain}", letter(alice.address, ["robert"])
        if way == "relay":
            mail = alice.send(text, [to])
        else:
            mail = alice.send(text, links=[Link(to, int(time.time()) + 3600, "a few words")])
        assert alice.tried(mail, to)["state"] == "deferred"
        kept = None
        if what != "host":
            kept = alice.send(text, [f"other@{domain}"])
            assert alice.tried(kept)["state"] == "deferred"
        tree.stop()
        edit(tree, *{"recipient": (b"robert@", b"mallet@"), "host": (domain.encode(), elsewhere.encode()),
                     "subject": (b"a few words", b"a few swabs")}[what])
        mine.shut = evil.shut = False
        tree.start()
        alice.device.login()
        tree.ctl("queue", "retry", "all")

        def rows():
            found = [r for r in alice.status(mail).values() if r["kind"] != "user"]
            return found if all(r["state"] == "failed" for r in found) else None

        row, = wait_for(rows)
        assert "signed" in row["text"]
        assert alice.report().of(row["address"])["Status"] == "5.7.7"
        assert kept is None or alice.settled(kept)["state"] == "sent"
        assert len(mine.mails) == (kept is not None) and not evil.mails
    finally:
        tree.stop()
        tree.remove()


def test_it_keeps_no_enrolment_code():
    """Whoever is in it later learns none that is still good: neither one that was told, nor one that was not."""
    tree = Tree("root").start()
    try:
        codes = {"new": tree.ctl("user", "add", "alice@example.test").encode()}
        tree.user("bob")
        assert tree.ctl("user", "add", "bob@example.test", check=False).returncode != 0
        codes["again"] = tree.ctl("user", "add", "alice@example.test").encode()
        assert all(len(code) > 8 for code in codes.values())
        for role, pid in tree.pids().items():
            assert scan.needles_in_memory(pid, codes) == set(), role
        assert scan.needles_in_memory(tree.process.pid, codes) == set()
    finally:
        tree.remove()
