"""A delivery that the server it speaks to has taken over, in the running tree: hooks of the test build do from
inside what the server says in its answer to EHLO. It has its own mail, and gets no other."""
import os
import signal
import struct
import threading

import pytest

from outside import wait_for
from relayed import Person, letter, make_tree
from test_attack_keeper import open_request
from test_promises import PROBES

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the world needs root")

KD_OPEN, KD_PASSWORD, KD_DKIM, KD_AUTH = 0x0d00, 0x0d01, 0x0d02, 0x0d03
SD_JOB, SD_ENVELOPE, SD_PIECE, SD_RESULT = 0x0c00, 0x0c01, 0x0c02, 0x0c05


@pytest.fixture(scope="module")
def tree(world):
    t = make_tree("root", world, test_build=True).start()
    yield t
    assert t.stop() == 0, t.said()
    t.remove()


@pytest.fixture(scope="module")
def alice(tree):
    return Person(tree, "alice")


class Taken:
    """One delivery to a server of ours, in which `action` is done; what it said of it."""

    def __init__(self, world, tree, alice, action):
        self.tree = tree
        self.server, self.domain = world.trick(
            lambda session, stage, line: b"250-trick.test\r\n250 " + action.encode() + b"\r\n"
            if stage == "ehlo" else b"450 4.2.1 later\r\n" if stage == "rcpt" else None)
        self.ended = len(self.ends())
        self.mail = alice.send(letter(alice.address, ["x"]), [f"x@{self.domain}"])

    def ends(self):
        return self.tree.events("sandbox.violation")

    def told(self):
        """Its words; None: it died of the attempt."""
        def look():
            said = [c for c in self.server.commands if c.startswith(b"XTOLD ")]
            return said or len(self.ends()) > self.ended or None
        said = wait_for(look)
        return None if said is True else said[0].decode().split(" ")[1:]


def frame(kind, body=b""):
    return (struct.pack(">HHI", kind, 0, 7) + body).hex()


def test_it_gets_no_other_mails_key(world, tree, alice):
    """Another mail of the same user waits in the same queue. Its envelope and box, which the store would not
    even show, presented to the keeper: no answer, and the channel is gone."""
    other = alice.send(letter(alice.address, ["y"]), ["y@dead.test"])
    assert alice.tried(other)["state"] == "deferred"
    taken = Taken(world, tree, alice, "XFORGE keeper " + frame(KD_OPEN, open_request(other)))
    assert taken.told() == ["got", "0", ""]
    assert not tree.events("role.crashed")


@pytest.mark.parametrize("kind,body", [(KD_PASSWORD, b""), (KD_AUTH, b""), (KD_DKIM, b"\0" + bytes(64)),
                                       (0x0900, b"\0"), (0x0901, bytes(64)), (0x0904, bytes(64)),
                                       (0x0906, bytes(64)), (0x0400, bytes(32))])
def test_the_keeper_gives_it_nothing_more(world, tree, alice, kind, body):
    """Passwords, a second signature, the store's and a session's requests."""
    assert Taken(world, tree, alice, "XFORGE keeper " + frame(kind, body)).told() == ["got", "0", ""]


@pytest.mark.parametrize("kind,body", [(SD_JOB, b""), (0x0607, bytes(62)), (0x0606, bytes(52)), (0x0a00, bytes(4)),
                                       (0x0980, bytes(33)), (0x0b00, bytes(12)),
                                       (SD_RESULT, struct.pack(">HBHHBHHH", 0, 0, 1, 77, 1, 250, 0, 0))])
def test_the_store_gives_it_no_other_mail(world, tree, alice, kind, body):
    """A second job, users' requests, the relay's and the keeper's words, a result for a recipient not its own."""
    taken = Taken(world, tree, alice, "XFORGE store " + frame(kind, body))
    assert taken.told() == ["got", "0", ""]


def test_what_it_reads_is_its_own_mail(world, tree, alice):
    """The store's frames name no message: beyond its own pieces there is nothing."""
    taken = Taken(world, tree, alice, "XFORGE store " + frame(SD_ENVELOPE, struct.pack(">I", 0)))
    got = bytes.fromhex(taken.told()[2])
    assert taken.mail.id in got
    taken = Taken(world, tree, alice, "XFORGE store " + frame(SD_PIECE, struct.pack(">HQI", 1, 0, 100)))
    assert len(bytes.fromhex(taken.told()[2])) == 9  # a status that is none of success


def test_one_that_crashes_is_in_the_log(world, tree, alice):
    """While its server keeps it waiting. Its mail goes out by the next one."""
    go_on = threading.Event()
    server, domain = world.trick(lambda session, stage, line: None if go_on.wait(60) else b"421 late\r\n")
    mail = alice.send(letter(alice.address, ["x"]), [f"x@{domain}"])
    wait_for(lambda: server.connections)
    for pid in tree.children(tree.pids()["relay"]):
        os.kill(pid, signal.SIGSEGV)
    wait_for(lambda: tree.events("delivery.crashed"))
    assert {e["signal"] for e in tree.events("delivery.crashed")} == {signal.SIGSEGV}
    go_on.set()
    alice.tried(mail)
    tree.ctl("queue", "retry", "all")
    assert alice.settled(mail)["state"] == "sent" and len(server.mails) == 1
    assert not tree.events("role.crashed")


def test_its_cage(world, tree, alice):
    """Each action is refused, or it dies of it, alone; but for connecting a socket that it was given, which is its work."""
    before = tree.pids()
    for probe in PROBES:
        if probe == "connect":
            continue
        told = Taken(world, tree, alice, f"XPROBE {probe}").told()
        assert told is None or int(told[1]) > 0, f"{probe} was allowed"
    assert all(e["role"] == "delivery" for e in tree.events("sandbox.violation"))
    assert tree.pids() == before
