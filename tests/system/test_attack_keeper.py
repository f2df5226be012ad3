"""P6 from the outside of the keeper: what a store, a relay, a web or a delivery that was taken over may ask,
and what it gets. The keeper is the real one in its cage; this test stands for all others."""
import os
import struct
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import scan
from device import b16, b32, raw_private, raw_public
from lonerole import LoneRole, ended, pair, receive, send
from opener import hashlib
from sender import Mail

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a role alone needs root")

VT_SLOTS, VT_SECRET, VT_LEASE, VT_LEASE_END, VT_ERASE = 0x0900, 0x0901, 0x0904, 0x0905, 0x0906
VT_SLOTS_REPLY, VT_SECRET_REPLY, VT_ERASE_REPLY = 0x0980, 0x0981, 0x0986
RP_DELIVERY = 0x0b00
CT_KEY, CT_AUTH = 0x0102, 0x0109
KD_OPEN, KD_PASSWORD, KD_DKIM, KD_AUTH = 0x0d00, 0x0d01, 0x0d02, 0x0d03
KD_OPEN_REPLY = 0x0d80
OK, RELAY = 0, 2
CONFIG = ("smtp.max_sessions=10\nrelay.mode=mx\nrelay.deliveries=10\nstorage.slots=accept-cow\n"
          "memory.lock=best\n")


class Someone:
    """A device, as far as sealing a mail needs one."""

    def __init__(self):
        self.user_id, self.sign, self.seeds = os.urandom(16), Ed25519PrivateKey.generate(), {1: os.urandom(32)}
        self.address = "someone@example.test"


class Keeper:
    def __init__(self, folder, slots=(), config=CONFIG, complete=True):
        self.folder, self.frame = folder, 0
        files = [(folder / n, os.O_RDWR | os.O_CREAT) for n in ("keeper.key", "slots")]
        self.role = LoneRole("keeper", config, ["smtp", "web", "store", "relay"], files)
        if complete:
            self.give_key()
        self.store, self.relay = self.role.edges["store"], self.role.edges["relay"]
        named = b"".join(struct.pack(">I", s) for s in slots)
        answer = self.ask(VT_SLOTS, VT_SLOTS_REPLY, b"\0" + named)
        assert answer[0] == OK
        self.pk = answer[1:33]

    def give_key(self):
        """The TLS key, the last of what a keeper is given at its start."""
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        send(self.role.control, CT_KEY, pem)

    def ask(self, kind, reply, body):
        self.frame += 1
        send(self.store, kind, body, self.frame)
        while True:
            got, frame, answer = receive(self.store)
            if frame == self.frame:
                assert got == reply
                return answer

    def mail(self):
        return Mail(Someone(), b"Subject: x\r\n\r\ny\r\n", [], ["x@outside.test"], keeper_pk=self.pk)

    def take(self, mail, recipient=None, message=None):
        """status, slot, wrapped."""
        box = mail.boxes[-1]
        a = self.ask(VT_SECRET, VT_SECRET_REPLY, (message or mail.id) + bytes([RELAY])
                     + (recipient or box["recipient_id"]) + b16(mail.sealed_secret))
        return (a[0], None, None) if a[0] != OK else (a[0], struct.unpack(">I", a[1:5])[0], a[7:])

    def lease(self, number, mail, slot, wrapped):
        send(self.store, VT_LEASE, struct.pack(">Q", number) + mail.id + bytes([RELAY])
             + mail.boxes[-1]["recipient_id"] + struct.pack(">I", slot) + b16(wrapped))

    def erase(self, mail, slot):
        return self.ask(VT_ERASE, VT_ERASE_REPLY, struct.pack(">I", slot) + mail.id + bytes([RELAY])
                        + mail.boxes[-1]["recipient_id"] + struct.pack(">Q", 1) + b16(b"sent"))[0]

    def delivery(self, number, lease):
        ours, theirs = pair()
        send(self.relay, RP_DELIVERY, struct.pack(">IQ", number, lease), fd=theirs.fileno())
        theirs.close()
        return ours

    def queued(self, number):
        """A mail whose lease this is."""
        mail = self.mail()
        status, slot, wrapped = self.take(mail)
        assert status == OK
        self.lease(number, mail, slot, wrapped)
        return mail, slot, wrapped

    def stop(self):
        assert self.role.stop() == 0, self.role.said()


def open_request(mail):
    e, b = mail.envelope, mail.boxes[-1]
    return (bytes([e["suite"]]) + e["message_id"] + b16(e["sender_user_id"]) + b16(e["sender_sign_pk"])
            + e["ephemeral_pk"] + e["bcc_commitment"] + hashlib.sha256(e["manifest"]).digest()
            + b32(Mail.box_fields(b) + b16(b["sealed"])))


@pytest.fixture
def keeper(tmp_path):
    made = Keeper(tmp_path)
    yield made
    made.stop()


def opened(sock, mail):
    """What a delivery gets for this mail: its key, an error's number, or None when its channel ends."""
    try:
        send(sock, KD_OPEN, open_request(mail), 7)
        got = receive(sock)
    except (BrokenPipeError, ConnectionResetError):
        return None
    if got is None:
        return None
    kind, frame, body = got
    assert (kind, frame) == (KD_OPEN_REPLY, 7)
    return body[1:33] if body[0] == OK else body[0]


def test_a_delivery_gets_the_key_of_its_mail_once(keeper):
    mail, _, _ = keeper.queued(1)
    d = keeper.delivery(1, 1)
    assert opened(d, mail) == mail.shared
    assert opened(d, mail) is None and ended(d)


def test_no_delivery_before_the_smarthosts_password(tmp_path):
    """One that was opened before would be told that there is none, and go without, and without TLS."""
    keeper = Keeper(tmp_path, config=CONFIG.replace("mode=mx", "mode=smarthost"), complete=False)
    mail, _, _ = keeper.queued(1)
    d = keeper.delivery(1, 1)
    send(d, KD_OPEN, open_request(mail), 7)
    assert keeper.role.status()["secrets_opened"] == "0"
    time.sleep(0.3)
    assert keeper.role.status()["secrets_opened"] == "0"
    (tmp_path / "auth").write_text("user:password\n")
    keeper.role.tell(CT_AUTH, tmp_path / "auth")
    keeper.give_key()
    kind, frame, body = receive(d)
    assert (kind, frame, body[0]) == (KD_OPEN_REPLY, 7, OK)
    assert body[1:] == mail.shared + b"\1"  # there is one, and it is asked for
    send(d, KD_AUTH, frame=8)
    assert receive(d)[2] == bytes([OK]) + b16(b"user") + b16(b"password")
    keeper.stop()


def test_no_delivery_gets_anothers(keeper):
    """Not by asking for it, not with the other's lease, not with one that does not exist."""
    mine, _, _ = keeper.queued(1)
    others, _, _ = keeper.queued(2)
    d = keeper.delivery(1, 1)
    got = opened(d, others)
    assert got is None or isinstance(got, int)
    e = keeper.delivery(2, 2)
    assert opened(e, others) == others.shared
    f = keeper.delivery(3, 2)
    got = opened(f, others)
    assert got is None or isinstance(got, int)


def test_a_lease_ends_with_its_delivery(keeper):
    mail, _, _ = keeper.queued(1)
    first = keeper.delivery(1, 1)
    assert isinstance(opened(first, mail), bytes)  # once, and to nobody else afterwards
    first.close()
    again = opened(keeper.delivery(2, 1), mail)
    assert again is None or isinstance(again, int)


@pytest.mark.parametrize("change", ["message_id", "sender_user_id", "ephemeral_pk", "bcc_commitment", "manifest"])
def test_nothing_opens_that_differs(keeper, change):
    """The digest binds all of it (FORMAT.md 4.5)."""
    mail, _, _ = keeper.queued(1)
    mail.envelope[change] = bytes([mail.envelope[change][0] ^ 1]) + mail.envelope[change][1:]
    got = opened(keeper.delivery(1, 1), mail)
    assert got is None or isinstance(got, int)


def test_a_secret_belongs_to_its_box(keeper):
    """Filed under another box, or not sealed for us: refused."""
    mail = keeper.mail()
    assert keeper.take(mail, recipient=os.urandom(16))[0] != OK
    mail.sealed_secret = os.urandom(len(mail.sealed_secret))
    assert keeper.take(mail)[0] != OK
    foreign = Mail(Someone(), b"x", [], ["x@outside.test"], keeper_pk=raw_public(X25519PrivateKey.generate()))
    assert keeper.take(foreign)[0] != OK


def test_wrapped_bytes_belong_to_their_message(keeper):
    """A store that was taken over cannot have one mail's secret opened in the name of another."""
    mine, slot, wrapped = keeper.queued(1)
    other = keeper.mail()
    keeper.lease(2, other, slot, wrapped)
    got = opened(keeper.delivery(2, 2), other)
    assert got is None or isinstance(got, int)


def test_P4_erased_is_erased(tmp_path):
    """With the keeper's key, the slots file and the wrapped bytes as they were: nothing opens any more, in
    this keeper or the next. The one that was not erased still does."""
    keeper = Keeper(tmp_path)
    gone, gone_slot, gone_wrapped = keeper.queued(1)
    kept, kept_slot, kept_wrapped = keeper.queued(2)
    assert keeper.erase(gone, gone_slot) == OK
    got = opened(keeper.delivery(1, 1), gone)
    assert got is None or isinstance(got, int)
    secrets = {"gone": raw_private(gone.relay_key), "kept": raw_private(kept.relay_key)}
    for child in children_of(keeper.role.process.pid):
        assert not scan.needles_in_memory(child, secrets)
    keeper.stop()
    assert not scan.needles_in_files(secrets, tmp_path)
    keeper = Keeper(tmp_path, [gone_slot, kept_slot])
    keeper.lease(1, gone, gone_slot, gone_wrapped)
    keeper.lease(2, kept, kept_slot, kept_wrapped)
    got = opened(keeper.delivery(1, 1), gone)
    assert got is None or isinstance(got, int)
    assert opened(keeper.delivery(2, 2), kept) == kept.shared
    keeper.stop()


def test_a_slot_that_nobody_names_is_wiped(tmp_path):
    keeper = Keeper(tmp_path)
    mail, slot, wrapped = keeper.queued(1)
    keeper.stop()
    Keeper(tmp_path).stop()
    keeper = Keeper(tmp_path, [slot])
    keeper.lease(1, mail, slot, wrapped)
    got = opened(keeper.delivery(1, 1), mail)
    assert got is None or isinstance(got, int)
    keeper.stop()


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(p) for p in f.read().split()]


STORE_FRAMES = [VT_SLOTS, VT_SECRET, 0x0902, 0x0903, VT_LEASE, VT_LEASE_END, VT_ERASE]


@pytest.mark.parametrize("edge", ["web", "smtp"])
@pytest.mark.parametrize("kind", [*STORE_FRAMES, KD_OPEN, KD_PASSWORD, KD_DKIM, KD_AUTH])
def test_no_other_role_has_a_word_in_it(keeper, edge, kind):
    """web and smtp cannot hand in, lease, open or erase: their edge ends, the store's goes on."""
    mail, slot, _ = keeper.queued(1)
    body = {VT_ERASE: struct.pack(">I", slot) + mail.id + bytes([RELAY]) + mail.boxes[-1]["recipient_id"]
            + struct.pack(">Q", 1) + b16(b"x"), KD_OPEN: open_request(mail), VT_SLOTS: b"\0"}.get(kind, b"")
    send(keeper.role.edges[edge], kind, body, 9)
    keeper.role.edges[edge].settimeout(0.3)
    try:
        assert not keeper.role.edges[edge].recv(4096)
    except (TimeoutError, ConnectionResetError):
        pass
    assert keeper.take(keeper.mail())[0] == OK
    assert "loses its edge" in keeper.role.said()
    assert opened(keeper.delivery(1, 1), mail) == mail.shared


@pytest.mark.parametrize("kind", [*STORE_FRAMES, KD_OPEN, KD_PASSWORD, KD_DKIM, KD_AUTH])
def test_relay_has_no_other_word_in_it(tmp_path, kind):
    """Nor can relay. Without its edge nothing would be sent, and all look well: the keeper ends, for a fresh tree."""
    keeper = Keeper(tmp_path)
    mail, slot, wrapped = keeper.queued(1)
    body = {VT_ERASE: struct.pack(">I", slot) + mail.id + bytes([RELAY]) + mail.boxes[-1]["recipient_id"]
            + struct.pack(">Q", 1) + b16(b"x"), KD_OPEN: open_request(mail), VT_SLOTS: b"\0"}.get(kind, b"")
    send(keeper.relay, kind, body, 9)
    assert keeper.role.process.wait(60) == 1, keeper.role.said()
    keeper.role.stop()
    keeper = Keeper(tmp_path, [slot])
    keeper.lease(1, mail, slot, wrapped)
    assert opened(keeper.delivery(1, 1), mail) == mail.shared  # nothing was erased
    keeper.stop()


def test_a_store_that_breaks_the_protocol(tmp_path):
    """Without its edge nothing would be erased any more: the keeper ends, for a fresh tree. What was to be erased
    before, is."""
    keeper = Keeper(tmp_path)
    mail, slot, wrapped = keeper.queued(1)
    send(keeper.store, VT_ERASE, struct.pack(">I", slot) + mail.id + bytes([RELAY]) + mail.boxes[-1]["recipient_id"]
         + struct.pack(">Q", 1) + b16(b"sent"))
    send(keeper.store, VT_SLOTS, b"\0")
    assert keeper.role.process.wait(60) == 1, keeper.role.said()
    keeper.role.stop()
    keeper = Keeper(tmp_path, [slot])
    keeper.lease(1, mail, slot, wrapped)
    got = opened(keeper.delivery(1, 1), mail)
    assert got is None or isinstance(got, int)
    keeper.stop()


def test_a_delivery_asks_for_nothing_else(keeper):
    """Neither a password (its mail has none), nor the smarthost's (there is none), nor the store's frames."""
    for i, (kind, body) in enumerate([(KD_PASSWORD, b""), (KD_AUTH, b""), (VT_ERASE, b""), (VT_SECRET, b""),
                                      (KD_DKIM, b"\0" + bytes(31))]):
        keeper.queued(10 + i)
        d = keeper.delivery(10 + i, 10 + i)
        send(d, kind, body)
        got = None
        try:
            got = receive(d)
        except ConnectionResetError:
            pass
        assert got is None or (got[2][0] != OK and len(got[2]) < 8)
