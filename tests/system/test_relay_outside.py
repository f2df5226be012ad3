"""Where mail may go: whoever owns a domain could otherwise have this host speak to its own services."""
import os

import pytest

from outside import wait_for
from relayed import Person, letter, make_tree
from world import POSTFIX

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix needs root")


@pytest.fixture
def outside_tree(mode, world):
    trees = []

    def make(**relay):
        tree = make_tree(mode, world)
        trees.append(tree)
        tree.extra["relay"].update(relay)
        tree.write_config()
        return tree.start()

    yield make
    for t in trees:
        assert t.stop() == 0, t.said()
        t.remove()


@pytest.mark.parametrize("domain", ["outside.test", "fallback.test", "direct.test"])
def test_not_to_the_host_itself(outside_tree, world, domain):
    """What the DNS says (users cannot write address literals); it fails at once, and says why."""
    tree = outside_tree(private_addresses="no")
    alice = Person(tree, "alice")
    server, trick = world.trick()
    to = [f"bob@{domain}", f"bob@{trick}"]
    mail = alice.send(letter(alice.address, to), to)
    for address in to:
        row = alice.settled(mail, address)
        assert row["state"] == "failed" and "at a loopback address" in row["text"], row
    assert server.connections == 0 and world.postfix.for_recipient(to[0]) == []
    wait_for(lambda: tree.events("relay.failed"))


def test_where_the_name_server_is_inside_exchangers_may_be(outside_tree, world):
    """The default: this world's own name server is at a loopback address."""
    tree = outside_tree(private_addresses="auto")
    alice = Person(tree, "alice")
    to = f"friend-{os.urandom(6).hex()}@outside.test"
    mail = alice.send(letter(alice.address, [to]), [to])
    assert alice.settled(mail)["state"] == "sent"


def test_a_smarthost_may_be_anywhere(outside_tree, world):
    tree = outside_tree(private_addresses="no", mode="smarthost", smarthost=f"{POSTFIX}:{world.port}")
    alice = Person(tree, "alice")
    to = f"friend-{os.urandom(6).hex()}@outside.test"
    mail = alice.send(letter(alice.address, [to]), [to])
    assert alice.settled(mail)["state"] == "sent"
    assert wait_for(lambda: world.postfix.for_recipient(to))
