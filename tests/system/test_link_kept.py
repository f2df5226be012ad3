"""P8 and P9 for links: whatever is killed at whatever moment, a link that was acknowledged opens until its time
is over, one that was not is whole or not there, and after its time nothing opens any more."""
import json
import os
import random
import signal
import threading
import time
from http.client import HTTPException

import pytest

from device import Refused, request
from outside import wait_for
from relayed import Person, letter, make_tree
from sender import Link

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the world needs root")

VICTIMS = ["store", "keeper", "web", "relay"]
KILLS, SHORT, LONG = 12, 8, 3600  # so often; seconds that links live


class Sent:
    """A mail with one link, as it was tried to be sent."""

    def __init__(self, alice, n, seconds):
        self.alice, self.acknowledged, self.mail = alice, False, None
        self.link = Link(f"k{n}-{os.urandom(4).hex()}@outside.test", int(time.time()) + seconds)
        self.text = letter(alice.address, [self.link.address], body=os.urandom(40_000).hex().encode() + b"\r\n")

    def over(self):
        return time.time() >= self.link.expires

    def insist(self):
        """As a client does that meets a tree in the middle of a restart."""
        while not self.acknowledged and not self.over():
            try:
                if self.mail is None:
                    self.mail = self.alice.seal(self.text, [], links=[self.link])
                answer = self.alice.try_send(self.mail)
                self.acknowledged = answer.status in (200, 409)
            except (OSError, HTTPException, Refused, ValueError, AssertionError):
                try:
                    self.alice.device.login()
                except (OSError, HTTPException, Refused, AssertionError):
                    time.sleep(0.05)

    def ask(self, what):
        """Status and body, once the tree answers."""
        tree = self.alice.tree

        def look():
            try:
                answer = request(tree.url, tree.ca, "GET", self.link.path + what, headers=self.link.authorization)
                return None if answer.status >= 500 else (answer.status, answer.body)
            except (OSError, HTTPException):
                return None
        return wait_for(look)

    def opens(self):
        assert self.ask("")[0] == 200
        status, body = self.ask("/envelope")
        assert status == 200 and self.mail.envelope_bytes() in body
        assert self.ask("/piece/0") == (200, self.mail.pieces[0])

    def is_gone(self):
        for what in ("", "/envelope", "/piece/0"):
            assert self.ask(what)[0] == 404, what


def test_P9_links_survive_kills_until_they_expire(world):
    tree = make_tree("root", world).start()
    try:
        survive(tree, Person(tree, "alice"), random.Random(8))
    finally:
        tree.remove()


def survive(tree, alice, chance):
    sent, ended = [], threading.Event()

    def send_all():
        while not ended.is_set():
            sent.append(Sent(alice, len(sent), SHORT if len(sent) % 2 else LONG))
            sent[-1].insist()

    worker = threading.Thread(target=send_all)
    worker.start()
    for kill in range(KILLS):  # while links are sent, and the first of them expire
        time.sleep(chance.uniform(0.1, 0.9))
        ready = tree.said().count("sealpostd: ready")
        os.kill(tree.pids()[VICTIMS[kill % len(VICTIMS)]], signal.SIGKILL)
        tree.wait_ready(ready + 1)
    ended.set()
    worker.join(180)
    assert not worker.is_alive() and sum(s.acknowledged for s in sent) >= 6

    alice.device.login()
    long = [s for s in sent if s.link.expires - time.time() > 600]
    assert all(s.acknowledged for s in long[:-1])
    for s in long:
        s.opens() if s.acknowledged or s.ask("")[0] == 200 else s.is_gone()
    short = [s for s in sent if s not in long]
    wait_for(lambda: all(s.over() for s in short))
    for s in short:
        s.is_gone()

    def listed():
        return {row["id"] for row in json.loads(tree.ctl("--json", "link", "list"))}
    alive = {s.link.id.hex() for s in long if s.ask("")[0] == 200}
    wait_for(lambda: listed() == alive)  # nothing is left of the others
    tree.stop()
    tree.start()
    for s in short:
        s.is_gone()
    for s in long:
        s.opens() if s.link.id.hex() in alive else s.is_gone()
