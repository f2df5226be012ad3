"""P4 and P6 from inside a web process that was taken over: root takes its descriptors out of the running tree
and speaks in its place. It acts for whoever is logged in, and that is all it gets."""
import contextlib
import copy
import os
import struct
import time
import time

import pytest
from device import b16, puk_email_key, raw_public, request
from lonerole import receive, send
from outside import wait_for
from relayed import Person, letter, make_tree
from sender import Link, Mail
from stolen import Stolen

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root takes the descriptors")

OK, AUTH = 0, 3
SW_LIST, SW_MESSAGE, SW_PIECE, SW_KEEPER_KEY, SW_UPLOAD, SW_UPLOAD_PUT, SW_UPLOAD_DROP, SW_SEND, SW_SENT, SW_STATUS = (
    0x605, 0x606, 0x607, 0x60a, 0x60c, 0x60e, 0x60f, 0x610, 0x611, 0x612)
SW_LINK_PIECE = 0x616
FORM = 0xffff


@pytest.fixture(scope="module")
def tree(world):
    t = make_tree("root", world, test_build=True).start()
    yield t
    assert t.stop() == 0, t.said()
    t.remove()


class Web(Stolen):
    """What a web process can say to the store."""

    def __init__(self, tree):
        super().__init__(tree, "web", "store")

    def upload(self, token, mail, form=None):
        sizes = struct.pack(">H", len(mail.pieces)) + b"".join(struct.pack(">Q", len(p)) for p in mail.pieces)
        answer = self.ask(SW_UPLOAD, token + sizes)
        assert answer[0] == OK
        form = mail.form(answer[1:]) if form is None else form
        for n, data in [*enumerate(mail.pieces), (FORM, form)]:
            for at in range(0, len(data), 65536):
                part = struct.pack(">HQ", n, at) + data[at:at + 65536]
                assert self.ask(SW_UPLOAD_PUT, token + answer[1:] + part)[0] == OK
        return answer[1:]

    def send_mail(self, token, mail, form=None):
        return self.ask(SW_SEND, token + self.upload(token, mail, form))

    def keeper_pk(self):
        return self.ask(SW_KEEPER_KEY, b"")[1:]


    def try_form(self, token, mail, change):
        """The status of a form that was changed once the device had signed it."""
        sizes = struct.pack(">H", len(mail.pieces)) + b"".join(struct.pack(">Q", len(p)) for p in mail.pieces)
        upload = self.ask(SW_UPLOAD, token + sizes)[1:]
        for n, data in [*enumerate(mail.pieces), (FORM, change(mail, upload))]:
            assert self.ask(SW_UPLOAD_PUT, token + upload + struct.pack(">HQ", n, 0) + data)[0] == OK
        status = self.ask(SW_SEND, token + upload)[0]
        self.ask(SW_UPLOAD_DROP, token + upload)
        return status


def sealed(person, to, pk, links=()):
    """Made without a word to web, which is stopped."""
    d = person.device
    me = (d.user_id, 1, raw_public(puk_email_key(d.seeds[1])))
    return Mail(d, letter(person.address, [to]), [me], [to], keeper_pk=pk, links=links)


PARTS = [lambda m: m.id, lambda m: m.envelope["ephemeral_pk"], lambda m: m.envelope["bcc_commitment"],
         lambda m: m.envelope["sender_sign_pk"], lambda m: m.envelope["manifest"],
         lambda m: m.boxes[0]["sealed"], lambda m: m.boxes[0]["recipient_pk"], lambda m: m.sealed_secret]


def flipped(part):
    def change(mail, upload):
        form = mail.form(upload)
        at = form.index(part(mail)) + 15
        return form[:at] + bytes([form[at] ^ 1]) + form[at + 1:]
    return change


def replaced(old, new):
    return lambda mail, upload: mail.form(upload).replace(old, new)


def with_signature_of(signed):
    """All that the form says now, under the signature of what it was."""
    def change(mail, upload):
        old = signed.form(upload)
        return mail.unsigned_form() + old[-64:]
    return change


def test_it_sends_for_nobody_who_did_not_sign(tree):
    """Another's mail under one's token is refused. A mail of which anything was changed on the way is refused,
    for the device's signature covers it all. As it was, it is taken, once."""
    alice, mallory = Person(tree, "alice"), Person(tree, "mallory")
    with Web(tree) as web:
        pk = web.keeper_pk()
    mail = sealed(alice, "x@dead.test", pk)
    with Web(tree) as web:
        assert web.send_mail(mallory.device.token, mail)[0] != OK
        for part in PARTS:
            assert web.try_form(alice.device.token, sealed(alice, "x@dead.test", pk), flipped(part)) != OK
        answer = web.send_mail(alice.device.token, mail)
        assert answer[0] == OK and answer[1:] == mail.id
        assert web.send_mail(alice.device.token, mail)[0] != OK


def test_it_changes_no_recipient(tree):
    """Nobody is added or replaced, whether by mail or by link; what a notification says stays, and how long a
    link lives. A form is good for the one upload that its device has signed it for."""
    alice = Person(tree, "ann")
    token, expires = alice.device.token, int(time.time()) + 3600
    with Web(tree) as web:
        pk = web.keeper_pk()
        mail = sealed(alice, "x@dead.test", pk, [Link("y@dead.test", expires, "hello")])
        added = copy.copy(mail)
        added.outside = [*mail.outside, "mallory@dead.test"]
        another = copy.copy(mail)
        link = Link("mallory@dead.test", expires, "hello")
        another.links = {**mail.links, link.id: link}
        another.boxes = [*mail.boxes, another.link_box(link)]
        for change in [replaced(b"x@dead.test", b"m@dead.test"), replaced(b"y@dead.test", b"m@dead.test"),
                       replaced(b"hello", b"hella"), replaced(struct.pack(">Q", expires), struct.pack(">Q", expires + 9)),
                       replaced(alice.address.encode(), alice.address.upper().encode()),
                       lambda m, _: m.form(os.urandom(16))]:
            assert web.try_form(token, mail, change) == AUTH
        assert web.try_form(token, added, with_signature_of(mail)) == AUTH
        assert web.try_form(token, another, with_signature_of(mail)) == AUTH
        assert web.send_mail(token, mail)[0] == OK
    assert set(alice.status(mail)) - {alice.address} == {"x@dead.test", "y@dead.test"}


def test_it_opens_nothing(tree):
    """All that it can read of a mail that waits: envelope, the user's own box, ciphertext, status. No answer
    holds a secret of it, and no box but the asking user's."""
    alice, bob = Person(tree, "alice2"), Person(tree, "bob2")
    with Web(tree) as web:
        mail = sealed(alice, "x@dead.test", web.keeper_pk())
        assert web.send_mail(alice.device.token, mail)[0] == OK
        answers = [web.ask(SW_MESSAGE, alice.device.token + mail.id + struct.pack(">I", 0)),
                   web.ask(SW_PIECE, alice.device.token + mail.id + struct.pack(">HQI", 0, 0, 65536)),
                   web.ask(SW_SENT, alice.device.token + mail.id + struct.pack(">I", 0)),
                   web.ask(SW_STATUS, alice.device.token + mail.id)]
        assert all(a[0] == OK for a in answers)
        for answer in answers:
            assert not any(secret in answer for secret in mail.secrets())
            assert mail.sealed_secret not in answer and mail.boxes[-1]["sealed"] not in answer
        for kind, rest in [(SW_MESSAGE, struct.pack(">I", 0)), (SW_PIECE, struct.pack(">HQI", 0, 0, 65536)),
                           (SW_SENT, struct.pack(">I", 0)), (SW_STATUS, b"")]:
            assert web.ask(kind, bob.device.token + mail.id + rest)[0] != OK
            assert web.ask(kind, os.urandom(32) + mail.id + rest)[0] != OK


def test_P12_it_reads_no_link_behind_the_logs_back(tree):
    """It asks for a link's bytes as if that went on with a request of before: the log has it, unless it does."""
    alice = Person(tree, "alice3")
    link = Link("eve@dead.test", int(time.time()) + 3600)
    mail = alice.send(letter(alice.address, [link.address], body=os.urandom(100_000).hex().encode() + b"\r\n"),
                      links=[link])
    piece = mail.pieces[0]

    def seen():
        return [(e["what"], e["got"]) for e in tree.events("link.opened") if e["client"] == "203.0.113.9"]
    with Web(tree) as web:
        for n, (offset, events) in enumerate([(1000, 1), (66536, 1), (66536, 2), (1000, 3), (0, 4)]):
            answer = web.ask(SW_LINK_PIECE, link.id + link.gate + b16(b"203.0.113.9")
                             + struct.pack(">HQIB", 0, offset, 65536, 0))
            assert answer[0] == OK and answer[13:] == piece[offset:offset + 65536], n
            wait_for(lambda: len(seen()) >= events)
            assert seen() == [("piece 0", "ok")] * events


@pytest.mark.parametrize("other,kinds", [
    ("store", [0x0500, 0x0501, 0x0503, 0x0900, 0x0901, 0x0a00, 0x0a80, 0x0b00, 0x0c00, 0x0c05, 0x0980]),
    ("keeper", [0x0900, 0x0901, 0x0904, 0x0906, 0x0b00, 0x0d00, 0x0d01, 0x0d02, 0x0d03]),
])
def test_it_speaks_for_nobody_else(tree, other, kinds):
    """Frames of the sealer, the keeper, the relay or a delivery, out of web's mouth: the edge ends, without an
    answer, and the tree starts afresh."""
    for kind in kinds:
        tree.wait_ready(tree.said().count("sealpostd: ready"))
        ready = tree.said().count("sealpostd: ready")
        web = Stolen(tree, "web", other)
        web.sock.setblocking(True)
        send(web.sock, kind, bytes(64), 5)
        try:
            got = receive(web.sock)
        except ConnectionResetError:
            got = None
        assert got is None or got[1] != 5
        web.__exit__()
        if other == "keeper":  # web notices when it next needs a signature
            with contextlib.suppress(OSError):
                request(tree.url, tree.ca, "GET", "/healthz")
        tree.wait_ready(ready + 1)
