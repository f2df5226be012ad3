"""The resolver in its real cage, asked as a delivery would ask, answered by a real name server."""
import json
import os
import re
import signal
import socket
import struct
import threading

import pytest

import nameserver
from lonerole import LoneRole, pair, receive, send
from sealpost import Tree
from test_attack import wait_for

CT_RESOLV_CONF = 0x010a
RP_DELIVERY = 0x0b00
RD_MX, RD_ADDRESS, RD_MX_REPLY, RD_ADDRESS_REPLY = 0x0e00, 0x0e01, 0x0e80, 0x0e81
FOUND, NO_NAME, NO_DATA, LATER, BOGUS = range(5)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a role alone needs root")


class Delivery:
    def __init__(self, role, number):
        self.sock, theirs = pair()
        send(role.edges["relay"], RP_DELIVERY, struct.pack(">IQ", number, number), fd=theirs.fileno())
        theirs.close()
        self.asked = 0

    def ask(self, kind, name):
        self.asked += 1
        name = name.encode()
        send(self.sock, kind, struct.pack(">H", len(name)) + name, self.asked)
        return self.asked

    def hear(self, seconds=60):
        """result, secure, entries (host with preference, or address in text), id."""
        frame = receive(self.sock, seconds)
        assert frame is not None, "the resolver closed the channel"
        kind, number, body = frame
        result, secure, n = struct.unpack(">BBH", body[:4])
        at, found = 4, []
        for _ in range(n):
            if kind == RD_MX_REPLY:
                preference, length = struct.unpack_from(">HH", body, at)
                found.append((preference, body[at + 4:at + 4 + length].decode()))
                at += 4 + length
            else:
                length, = struct.unpack_from(">H", body, at)
                family = {4: socket.AF_INET, 16: socket.AF_INET6}[length]
                found.append(socket.inet_ntop(family, body[at + 2:at + 2 + length]))
                at += 2 + length
        assert at == len(body)
        return result, bool(secure), found, number

    def mx(self, name):
        number = self.ask(RD_MX, name)
        *answer, same = self.hear()
        assert same == number
        return tuple(answer)

    def mx_between(self, name, other):
        """Asks while something else is waited for, which must not be what is heard."""
        number = self.ask(RD_MX, name)
        *answer, heard = self.hear()
        assert heard == number != other
        return tuple(answer)

    def address(self, name):
        number = self.ask(RD_ADDRESS, name)
        *answer, same = self.hear()
        assert same == number
        return tuple(answer)


@pytest.fixture(scope="module")
def names():
    server = nameserver.NameServer(
        nameserver.resolver_zones(), signed=["signed.test"], broken=["broken.test"],
        bogus={"bogus.test": lambda text: re.sub(r"\bMX\t10 mx", "MX\t10 evil", text)}).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def role(names):
    role = LoneRole("resolver", f"resolver.server={names.address}\nrelay.deliveries=20\n", ["relay"],
                    [None, names.anchor])
    yield role
    assert role.stop() == 0, role.said()


@pytest.fixture
def delivery(role):
    delivery.number = getattr(delivery, "number", 0) + 1
    d = Delivery(role, delivery.number)
    yield d
    d.sock.close()


def test_mail_exchangers(delivery):
    """In order of preference; a name that is no host's is left out."""
    assert delivery.mx("outside.test") == (FOUND, False, [(10, "first.outside.test"),
                                                          (20, "second.outside.test")])
    assert delivery.mx("OUTSIDE.Test")[2][0] == (10, "first.outside.test")
    assert delivery.mx("mxalias.outside.test")[2][0] == (10, "first.outside.test")
    assert delivery.mx("null.outside.test") == (FOUND, False, [(0, "")])
    assert delivery.mx("plain.outside.test") == (NO_DATA, False, [])
    assert delivery.mx("nobody.outside.test") == (NO_NAME, False, [])
    assert delivery.mx("useless.outside.test") == (FOUND, False, [])


def test_addresses(delivery):
    assert delivery.address("second.outside.test") == (FOUND, False, ["::1", "127.0.0.3"])
    assert delivery.address("first.outside.test") == (FOUND, False, ["127.0.0.2"])
    assert delivery.address("six.outside.test") == (FOUND, False, ["fd00::25"])
    assert delivery.address("alias.outside.test") == (FOUND, False, ["127.0.0.4"])
    assert delivery.address("null.outside.test") == (NO_DATA, False, [])
    assert delivery.address("nobody.outside.test") == (NO_NAME, False, [])
    assert delivery.address("zero.outside.test") == (NO_DATA, False, [])


def test_more_than_we_take(delivery):
    result, _, found = delivery.mx("many.outside.test")
    assert result == FOUND and [p for p, _ in found] == list(range(41, 91))
    result, _, found = delivery.address("crowd.outside.test")
    assert result == FOUND and len(found) == 16 and [":" in a for a in found] == [True] * 8 + [False] * 8


def test_signed(delivery):
    assert delivery.mx("signed.test") == (FOUND, True, [(10, "mx.signed.test")])
    assert delivery.address("mx.signed.test") == (FOUND, True, ["fd00::6", "127.0.0.6"])
    assert delivery.address("nothing.signed.test") == (NO_DATA, True, [])
    assert delivery.mx("nobody.signed.test") == (NO_NAME, True, [])


def test_forged(role, delivery):
    """A record that was changed after it was signed is as good as none; what is true beside it is true."""
    before = int(role.status()["bogus"])
    assert delivery.mx("bogus.test") == (BOGUS, False, [])
    assert delivery.address("mx.bogus.test") == (FOUND, True, ["fd00::6", "127.0.0.6"])
    assert int(role.status()["bogus"]) == before + 1


def test_server_failure(delivery):
    assert delivery.mx("broken.test") == (LATER, False, [])
    assert delivery.address("mx.broken.test") == (LATER, False, [])


@pytest.mark.parametrize("name", ["", ".", "a..test", ".test", "test.", "-a.test", "a-.test", "a b.test",
                                  "a\0.test", "a\\.test", "x" * 64 + ".test", "127.0.0.1", "1.2.3.4.5",
                                  ".".join(["x" * 60] * 4) + ".longer.test", "ä.test"])
def test_names_that_cannot_be(role, delivery, name):
    asked = role.status()["waiting"]
    assert delivery.mx(name) == (NO_NAME, False, [])
    assert delivery.address(name) == (NO_NAME, False, [])
    assert role.status()["waiting"] == asked


def test_each_has_a_few_questions(role, delivery):
    """Four at a time; a fifth ends the channel, and no other delivery's."""
    for i in range(4):
        delivery.ask(RD_MX, f"q{i}.outside.test")
    assert sorted(delivery.hear()[3] for _ in range(4)) == [1, 2, 3, 4]
    stalled = blackhole()
    lonely = LoneRole("resolver", f"resolver.server={stalled.address}\nrelay.deliveries=20\n", ["relay"],
                      [None, None])
    one, other = Delivery(lonely, 1), Delivery(lonely, 2)
    for i in range(5):
        one.ask(RD_MX, f"q{i}.outside.test")
    other.ask(RD_ADDRESS, "q.outside.test")
    assert receive(one.sock) is None
    assert lonely.status()["delivery_channels"] == "1"
    assert other.hear()[:3] == (LATER, False, [])
    assert "loses its channel" in lonely.said()
    assert lonely.stop() == 0
    stalled.close()


class blackhole:
    """Takes questions and never answers."""

    def __init__(self):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.sock.getsockname()[1]}"
        self.close = self.sock.close


def test_a_delivery_that_dies_leaves_nothing(role):
    """Its questions are answered to nobody, and their memory comes back."""
    for number in range(1000, 1010):
        d = Delivery(role, number)
        for i in range(4):
            d.ask(RD_ADDRESS, f"n{number}-{i}.outside.test")
        d.sock.close()
    last = Delivery(role, 1010)
    assert last.mx("signed.test")[0] == FOUND
    last.sock.close()
    while role.status()["waiting"] != "0" or role.status()["delivery_channels"] != "0":
        pass


@pytest.mark.parametrize("frame", [(RD_MX_REPLY, b""), (RP_DELIVERY, b"\0\0\0\1"), (RD_MX, b"\0\5abc"),
                                   (RD_ADDRESS, b"\0\1ab"), (RD_MX, b""), (RD_MX, b"\1\0" + b"x" * 256)])
def test_what_no_delivery_sends(role, delivery, frame):
    send(delivery.sock, *frame)
    assert receive(delivery.sock) is None
    assert role.process.poll() is None


def test_what_no_relay_sends(names):
    """It ends the relay's edge, as nothing honest would; deliveries have no channel any more."""
    lonely = LoneRole("resolver", f"resolver.server={names.address}\nrelay.deliveries=20\n", ["relay"],
                      [None, names.anchor])
    d = Delivery(lonely, 1)
    assert d.mx("outside.test")[0] == FOUND
    Delivery(lonely, 1)
    assert receive(d.sock) is None
    Delivery(lonely, 2)
    assert lonely.status()["delivery_channels"] == "0" and "relay loses its edge" in lonely.said()
    assert lonely.stop() == 0


def test_more_deliveries_than_there_may_be(role):
    them = [Delivery(role, 2000 + i) for i in range(57)]
    refused = 0
    for d in them:
        try:
            refused += d.mx("outside.test")[0] != FOUND
        except (BrokenPipeError, ConnectionResetError, AssertionError):
            refused += 1
        d.sock.close()
    assert refused == 1


def test_over_ipv6(names):
    """By UDP, and by TCP where an answer is long."""
    lonely = LoneRole("resolver", f"resolver.server=[::1]:{names.port}\nrelay.deliveries=20\n", ["relay"],
                      [None, names.anchor])
    d = Delivery(lonely, 1)
    assert d.mx("signed.test") == (FOUND, True, [(10, "mx.signed.test")])
    assert len(d.mx("many.outside.test")[2]) == 50
    assert lonely.stop() == 0


def test_without_a_trust_anchor(names):
    """It says so, and calls nothing secure: not what would validate, and nothing forged bogus."""
    lonely = LoneRole("resolver", f"resolver.server={names.address}\nrelay.deliveries=20\n", ["relay"])
    d = Delivery(lonely, 1)
    assert d.mx("signed.test") == (FOUND, False, [(10, "mx.signed.test")])
    assert d.mx("bogus.test")[:2] == (FOUND, False)
    assert "no DNSSEC trust anchor" in lonely.said()
    assert lonely.status()["validation"] == "off: no trust anchor"
    assert lonely.stop() == 0


def test_servers_of_the_system(names, tmp_path):
    """resolv.conf(5), as it was when the tree started; port 53 is the only one it can name."""
    conf = tmp_path / "resolv.conf"
    conf.write_text("# comment\nsearch example.test\nnameserver 127.0.0.53\n nameserver\t::1 \noptions x\n"
                    "nameserver fe80::1%eth0\nnameserver 127.0.0.54\nnameserver 127.0.0.55\n")
    lonely = LoneRole("resolver", "relay.deliveries=20\n", ["relay"], [conf, names.anchor])
    assert lonely.status()["servers"] == "127.0.0.53 ::1 127.0.0.54"
    assert lonely.status()["trust_anchors"] == "1"
    assert lonely.stop() == 0
    conf.write_text("\n")
    lonely = LoneRole("resolver", "relay.deliveries=20\n", ["relay"], [conf, names.anchor])
    assert lonely.status()["servers"] == "127.0.0.1"
    assert lonely.stop() == 0


class Forwarder:
    """A name server's port 53 on an address of its own, which is all that resolv.conf can name."""

    def __init__(self, address, names):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((address, 53))
        self.address, self.port, self.asked = address, names.port, 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                question, client = self.sock.recvfrom(4096)
            except OSError:
                return
            if not question:
                return
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(10)
                s.sendto(question, ("127.0.0.1", self.port))
                self.asked += b"\6signed" in question
                self.sock.sendto(s.recv(65535), client)

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"", (self.address, 53))


def test_servers_that_change(names, tmp_path):
    """resolv.conf is handed over again: others are asked, a channel and what it waits for stay."""
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.71\n")
    first, second = Forwarder("127.0.0.71", names), Forwarder("127.0.0.72", names)
    hole = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    hole.bind(("127.0.0.73", 53))
    lonely = LoneRole("resolver", "relay.deliveries=20\n", ["relay"], [conf, names.anchor])
    d = Delivery(lonely, 1)
    assert d.mx("signed.test") == (FOUND, True, [(10, "mx.signed.test")])
    assert first.asked > 0
    first.close()

    conf.write_text("nameserver 127.0.0.73\n")
    lonely.tell(CT_RESOLV_CONF, conf)
    assert lonely.status()["servers"] == "127.0.0.73"
    waits = d.ask(RD_MX, "signed.test")
    wait_for(lambda: lonely.status()["waiting"] == "1")  # what is told comes another way, and could be heard first

    conf.write_text("nameserver 127.0.0.72\n")
    lonely.tell(CT_RESOLV_CONF, conf)
    assert lonely.status()["servers"] == "127.0.0.72"
    assert d.mx_between("signed.test", waits) == (FOUND, True, [(10, "mx.signed.test")])
    assert second.asked > 0

    asked = second.asked
    for _ in range(20):  # the same again and again: nothing changes, what was learned is not forgotten
        lonely.tell(CT_RESOLV_CONF, conf)
    assert d.mx_between("signed.test", waits)[0] == FOUND and second.asked == asked
    assert d.hear()[0] in (LATER, BOGUS)  # what the silent one was asked
    conf.write_bytes(b"nameserver\0 127.0.0.1\n")
    lonely.tell(CT_RESOLV_CONF, conf)
    assert lonely.status()["servers"] == "127.0.0.72"
    assert "was not taken over" in lonely.said()
    assert lonely.stop() == 0
    second.close()
    hole.close()


def test_a_setting_stays(names, tmp_path):
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.74\n")
    lonely = LoneRole("resolver", f"resolver.server={names.address}\nrelay.deliveries=20\n", ["relay"],
                      [conf, names.anchor])
    before = lonely.status()["servers"]
    lonely.tell(CT_RESOLV_CONF, conf)
    assert lonely.status()["servers"] == before
    assert lonely.stop() == 0


def test_reload_of_a_tree(tmp_path):
    """SIGHUP, with an /etc/resolv.conf of its own."""
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.75\n")
    tree = Tree("root")
    wrapper = tree.dir / "sealpostd"
    wrapper.write_text(f"#!/bin/sh\nexec unshare -m sh -c 'mount --bind {conf} /etc/resolv.conf && "
                       f"exec {tree.binary} \"$@\"' sh \"$@\"\n")
    wrapper.chmod(0o755)
    tree.binary = wrapper
    tree.start()
    servers = lambda: [r["value"] for r in json.loads(tree.ctl("status", "--json")) if r["name"] == "servers"]
    assert servers() == ["127.0.0.75"]
    conf.write_text("nameserver 127.0.0.76\n")
    tree.process.send_signal(signal.SIGHUP)
    wait_for(lambda: servers() == ["127.0.0.76"])
    assert tree.stop() == 0
    tree.remove()


def test_a_server_without_signatures(tmp_path, names):
    """The root's own key is trusted, and a server that knows nothing of it cannot be: it is said at once."""
    lonely = LoneRole("resolver", f"resolver.server={names.address}\nrelay.deliveries=20\n", ["relay"],
                      [None, "/usr/share/dns/root.key"])
    d = Delivery(lonely, 1)
    assert d.mx("outside.test")[0] in (LATER, BOGUS)
    assert lonely.status()["trust_anchors"] == "2"
    assert lonely.stop() == 0
