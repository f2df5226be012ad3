"""Strangers who know a user's address, user id and device id, and have nothing else: they learn nothing of who was
invited, and neither invitation nor login nor sending is theirs to use up."""
import json
import os
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device import Device, b16, b32, connect, request
from relayed import Person, letter
from test_link_client import set_clock

WRONG = "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA"
MANY = 25  # of them, who are answered late and so get nowhere alone
TRIES = 6  # of each before the user begins: in all, more than a user's ration (storage/ration.h)


def enrol_body(address, code=WRONG):
    return b16(address.encode()) + b16(code.encode()) + b32(bytes(200))


class Stranger(threading.Thread):
    """Tries on one connection until the user has done what they want to do."""

    def __init__(self, tree, done):
        super().__init__(daemon=True)
        self.web, self.done = connect(tree.url, tree.ca), done
        self.ready, self.tries, self.answers = threading.Event(), 0, set()

    def post(self, path, body):
        self.web.request("POST", path, body=body)
        answer = self.web.getresponse()
        return answer.status, answer.read()

    def run(self):
        try:
            while not self.done.is_set():
                self.answers.add(self.attempt()[0])
                self.tries += 1
                if self.tries == TRIES:
                    self.ready.set()
        finally:
            self.ready.set()
            self.web.close()


class Enroller(Stranger):
    def __init__(self, tree, done, address):
        super().__init__(tree, done)
        self.address = address

    def attempt(self):
        return self.post("/v1/enroll", enrol_body(self.address))


class Forger(Stranger):
    """Signs with a key of their own, so that the signature is looked at as a whole."""

    def __init__(self, tree, done, user_id, device_id):
        super().__init__(tree, done)
        self.who, self.signature = user_id + device_id, Ed25519PrivateKey.generate().sign(b"let me in")

    def attempt(self):
        challenge = self.post("/v1/challenge", b"")[1]
        return self.post("/v1/session", self.who + challenge + self.signature)


@pytest.fixture
def name(request):
    """Of a user whom the test has for itself."""
    return f"s{os.getpid()}-{abs(hash(request.node.nodeid))}"


def work(strangers, done, what):
    """Does it while they all try, and have tried often enough."""
    for s in strangers:
        s.start()
    try:
        assert all(s.ready.wait(300) for s in strangers)
        what()
    finally:
        done.set()
        for s in strangers:
            s.join(120)
    for s in strangers:
        assert s.tries >= TRIES and s.answers == {403}, (type(s), s.tries, s.answers)


def test_strangers_keep_no_user_from_their_mail(tree, name):
    """The client logs in each time it is run."""
    alice, bob, done = tree.user(name), Person(tree, name + "-bob"), threading.Event()
    user_id, wires = bob.device.sigchain(alice.address)
    device_id = wires[0][4 + 66:][:16]
    strangers = [*(Enroller(tree, done, alice.address) for _ in range(MANY)),
                 *(Forger(tree, done, user_id, device_id) for _ in range(MANY))]

    def mail():
        for i in range(10):
            alice.run("list")
            alice.run("send", bob.address, input=b"Subject: %d\r\n\r\ntext\r\n" % i)
    work(strangers, done, mail)
    assert len(bob.received()) == 10


def test_strangers_keep_no_device_from_its_work(tree, name):
    """Logins, links of the history, mail that is sent: each takes from the ration of the user who does it."""
    ann, done = Person(tree, name), threading.Event()
    strangers = [*(Enroller(tree, done, ann.address) for _ in range(MANY)),
                 *(Forger(tree, done, ann.device.user_id, ann.device.device_id) for _ in range(MANY))]

    def act():
        for _ in range(10):
            ann.device.login()
            ann.device.rotate()
            ann.send(letter(ann.address, [ann.address]), [ann.address])
    work(strangers, done, act)
    assert len(ann.mailbox()) == 10


def test_wrong_codes_void_nothing(tree, name):
    address = name + "@example.test"
    code, done = tree.ctl("user", "add", address), threading.Event()
    client = tree.client(address=address)
    work([Enroller(tree, done, address) for _ in range(MANY)], done, lambda: client.run("enroll", tree.url, address, code))
    assert client.list() == []


def test_what_proves_nothing_is_answered_late(tree, name):
    """A quarter of a second each, on one connection one after the other; what is proved does not wait."""
    ann = Person(tree, name)
    forger = Forger(tree, threading.Event(), ann.device.user_id, ann.device.device_id)
    enroller = Enroller(tree, threading.Event(), ann.address)
    started = time.monotonic()
    for stranger in (forger, enroller) * 4:
        assert stranger.attempt()[0] == 403
    assert time.monotonic() - started > 8 * 0.24


def seen(tree, address, code=WRONG):
    """All of an answer but the time."""
    answer = request(tree.url, tree.ca, "POST", "/v1/enroll", enrol_body(address, code))
    return answer.status, answer.body, [h for h in answer.headers.items() if h[0] != "Date"]


def test_nobody_without_the_code_learns_who_was_invited(fresh):
    """One answer for whoever is invited, was, has enrolled, was removed, or is nobody. Who has the code hears more."""
    tree = fresh(test_build=True).start()
    codes = {name: tree.ctl("user", "add", f"{name}@example.test") for name in ("expired", "enrolled", "removed")}
    enrolled = Device(tree.url, tree.ca, "enrolled@example.test").enroll(codes["enrolled"])
    tree.ctl("user", "remove", "removed@example.test")
    set_clock(tree, 30 * 86400)
    codes["invited"] = tree.ctl("user", "add", "invited@example.test")
    states = {row["address"].partition("@")[0]: row["state"] for row in json.loads(tree.ctl("user", "list", "--json"))}
    assert states == {"expired": "expired", "enrolled": "enrolled", "invited": "invited"}
    answers = {name: seen(tree, f"{name}@example.test") for name in [*codes, "nobody"]}
    answers["elsewhere"] = seen(tree, "nobody@elsewhere.test")
    answers["no address"] = seen(tree, "nobody")
    answers["no code"] = seen(tree, "enrolled@example.test", "x")
    answers["another's code"] = seen(tree, "enrolled@example.test", codes["invited"])
    assert answers["nobody"][0] == 403
    assert all(a == answers["nobody"] for a in answers.values()), answers
    assert enrolled.try_enroll(codes["enrolled"]).status == 409
    late = tree.client(address="expired@example.test").run("enroll", tree.url, "expired@example.test", codes["expired"],
                                                           check=False)
    assert late.returncode == 1 and b"has expired" in late.stderr
    assert Device(tree.url, tree.ca, "invited@example.test").try_enroll(codes["invited"]).status == 200
