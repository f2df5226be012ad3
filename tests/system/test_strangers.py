"""Strangers who know a user's address, user id and device id, and have nothing else: they learn nothing of who was
invited, and neither invitation nor login nor sending is theirs to use up."""
import asyncio
import json
import os
import ssl
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from device import Device, b16, b32, request
from relayed import Person, letter
from test_link_client import set_clock

WRONG = "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA"
MANY = 300  # each answered late, so 1,200 tries a second at most: a ration (storage/ration.h) of 100 gains 200
TRIES = 3  # of each before the user begins


def enrol_body(address, code=WRONG):
    return b16(address.encode()) + b16(code.encode()) + b32(bytes(200))


class Stranger:
    """Tries on one connection that is kept."""

    def __init__(self, who):
        self.who, self.tries = who, 0

    async def connect(self, tree):
        context = ssl.create_default_context(cafile=tree.ca)
        context.check_hostname = False
        self.web = await asyncio.open_connection("127.0.0.1", tree.web_port, ssl=context)
        return self

    def close(self):
        self.web[1].close()

    async def post(self, path, body):
        """status, body"""
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        self.web[1].write(head.encode() + body)
        status, *fields = (await self.web[0].readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next(int(f.split(":")[1]) for f in fields if f.startswith("content-length:"))
        return int(status.split()[1]), await self.web[0].readexactly(length)


class Enroller(Stranger):
    """who: an address."""

    async def attempt(self):
        return await self.post("/v1/enroll", enrol_body(self.who))


class Forger(Stranger):
    """Signs with a key of their own, so that the signature is looked at as a whole. who: ids of user and device."""
    signature = Ed25519PrivateKey.generate().sign(b"let me in")

    async def attempt(self):
        challenge = (await self.post("/v1/challenge", b""))[1]
        return await self.post("/v1/session", self.who + challenge + self.signature)


class Crowd(threading.Thread):
    """Many strangers of a kind, who all try until `done`."""

    def __init__(self, tree, kind, who):
        super().__init__(daemon=True)
        self.tree, self.strangers = tree, [kind(who) for _ in range(MANY)]
        self.ready, self.done, self.answers, self.error = threading.Event(), threading.Event(), set(), None

    def run(self):
        try:
            asyncio.run(self.all_try())
        except Exception as e:  # told by who waits for them
            self.error = e
        finally:
            self.ready.set()

    async def all_try(self):
        entrance = asyncio.Semaphore(10)  # a handshake has its time
        await asyncio.gather(*(self.one_tries(s, entrance) for s in self.strangers))

    async def one_tries(self, s, entrance):
        async with entrance:
            await s.connect(self.tree)
        while not self.done.is_set():
            self.answers.add((await s.attempt())[0])
            s.tries += 1
            if s.tries == TRIES and all(other.tries >= TRIES for other in self.strangers):
                self.ready.set()
        s.close()


@pytest.fixture
def name(request):
    """Of a user whom the test has for itself."""
    return f"s{os.getpid()}-{abs(hash(request.node.nodeid))}"


def work(tree, kind, who, what):
    """Does it while they all try, and have tried often enough to use up what is to be used up."""
    crowd = Crowd(tree, kind, who)
    crowd.start()
    try:
        assert crowd.ready.wait(300)
        what()
    finally:
        crowd.done.set()
        crowd.join(120)
    assert not crowd.is_alive() and crowd.error is None and crowd.answers == {403}, (crowd.error, crowd.answers)


KINDS = pytest.mark.parametrize("kind", [Enroller, Forger])


@KINDS
def test_strangers_keep_no_user_from_their_mail(tree, name, kind):
    """The client logs in each time it is run."""
    alice, bob = tree.user(name), Person(tree, name + "-bob")
    user_id, wires = bob.device.sigchain(alice.address)

    def mail():
        for i in range(10):
            alice.run("list")
            alice.run("send", bob.address, input=b"Subject: %d\r\n\r\ntext\r\n" % i)
    work(tree, kind, alice.address if kind is Enroller else user_id + wires[0][4 + 66:][:16], mail)
    assert len(bob.received()) == 10


@KINDS
def test_strangers_keep_no_device_from_its_work(tree, name, kind):
    """Logins, links of the history, mail that is sent: each takes from the ration of the user who does it."""
    ann = Person(tree, name)

    def act():
        for _ in range(10):
            ann.device.login()
            ann.device.rotate()
            ann.send(letter(ann.address, [ann.address]), [ann.address])
    work(tree, kind, ann.address if kind is Enroller else ann.device.user_id + ann.device.device_id, act)
    assert len(ann.mailbox()) == 10


def test_wrong_codes_void_nothing(tree, name):
    address = name + "@example.test"
    code, client = tree.ctl("user", "add", address), tree.client(address=address)
    work(tree, Enroller, address, lambda: client.run("enroll", tree.url, address, code))
    assert client.list() == []


def test_what_proves_nothing_is_answered_late(tree, name):
    """A quarter of a second each, on one connection one after the other; what is proved does not wait."""
    ann = Person(tree, name)

    async def all_try():
        forger = await Forger(ann.device.user_id + ann.device.device_id).connect(tree)
        enroller = await Enroller(ann.address).connect(tree)
        answers = [(await stranger.attempt())[0] for stranger in (forger, enroller) * 4]
        forger.close()
        enroller.close()
        return answers
    started = time.monotonic()
    assert asyncio.run(all_try()) == [403] * 8
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
