"""Sends mail as a client does, written from FORMAT.md, docs/api.md and the form in daemon/messages.h: a
second implementation that shares no code with the client."""
import hashlib
import json
import os
import struct
import time
import urllib.parse

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt
from nacl.public import PublicKey, SealedBox

from device import b16, b32, b64u, hkdf, raw_private, raw_public
from opener import Reader, digest, hmac256

USER, RELAY, LINK = 1, 2, 3
SERVER_ACCESS = 1
PART = 262144


def cake(key, plaintext):
    nonce = os.urandom(24)
    derived = hashlib.sha512(key + nonce).digest()
    out, aead = nonce + derived[32:], AESGCM(derived[:32])
    for i in range(len(plaintext) // 16384 + 1):
        chunk = plaintext[i * 16384:(i + 1) * 16384]
        last = len(chunk) < 16384
        out += aead.encrypt((2 * i + last).to_bytes(12, "little"), chunk, None)
    return out


def message_id():
    """UUID version 7 (RFC 9562)."""
    random = int.from_bytes(os.urandom(10), "big")
    value = int(time.time() * 1000) << 80 | random
    value = value & ~(0xf << 76) | 7 << 76
    value = value & ~(3 << 62) | 2 << 62
    return value.to_bytes(16, "big")


def newest_puk(wires):
    """generation and public key, of a chain that is taken at its word."""
    generation, puk = None, None
    for wire in wires:
        link = wire[4:-64]
        kind, body = link[5], link[5 + 1 + 16 + 4 + 32 + 8 + 16:]
        at = {1: 64, 3: 16, 4: 0}.get(kind)
        if at is not None:
            generation, puk = struct.unpack_from(">I", body, at)[0], body[at + 4:at + 36]
    return generation, puk


class Link:
    """What the recipient of a link holds, and what the appliance is given of it (FORMAT.md section 6)."""

    def __init__(self, address, expires, subject=""):
        self.address, self.expires, self.subject = address, expires, subject
        self.id, self.password, self.digest = os.urandom(16), os.urandom(32), None

    @property
    def gate(self):
        return hmac256(self.password, b"sealpost/1 gate")

    @property
    def authorization(self):
        return {"Authorization": "Sealpost-Gate " + b64u(self.gate)}

    @property
    def path(self):
        return f"/m/{b64u(self.id)}"

    @property
    def fragment(self):
        return f"{b64u(self.password)}.{b64u(self.digest)}"

    def secrets(self):
        """What must be found nowhere once the link is sent, in every form in which it travels."""
        raw = {"password": self.password, "gate": self.gate}
        return raw | {f"{name} in text": b64u(value).encode() for name, value in raw.items()}


class Mail:
    """One mail, sealed and ready to be uploaded. users: [(user_id, generation, puk)], the sender among
    them. outside: addresses. links: of class Link. attachments: [(splice_at, bytes)] in order. Every field may be changed
    before form() is called, to see what the appliance thinks of it."""

    def __init__(self, device, body, users, outside=(), bcc="", attachments=(), mail_from=None,
                 keeper_pk=None, flags=None, links=()):
        self.device, self.outside, self.links = device, list(outside), {l.id: l for l in links}
        self.mail_from = mail_from or device.address
        self.id, self.ephemeral = message_id(), X25519PrivateKey.generate()
        self.shared, self.commitment_key, self.bcc = os.urandom(32), os.urandom(32), bcc.encode()
        self.piece_keys = [os.urandom(32) for _ in range(1 + len(attachments))]
        contents = [body, *(data for _, data in attachments)]
        self.pieces = [cake(key, data) for key, data in zip(self.piece_keys, contents)]
        if flags is None:
            flags = SERVER_ACCESS if outside or links else 0
        manifest = b"SPMF" + struct.pack(">BBQI", 1, flags, int(time.time() * 1000), len(contents))
        for i, (key, sealed, data) in enumerate(zip(self.piece_keys, self.pieces, contents)):
            manifest += bytes([i > 0]) + key + hashlib.sha256(sealed).digest()
            manifest += struct.pack(">QQ", len(data), attachments[i - 1][0] if i > 0 else 0)
            manifest += b16(b"application/octet-stream" if i > 0 else b"message/rfc822")
            manifest += b16(b"a.bin" if i > 0 else b"")
        self.envelope = {"suite": 1, "flags": 0, "message_id": self.id,
                         "ephemeral_pk": raw_public(self.ephemeral), "sender_user_id": device.user_id,
                         "sender_sign_pk": raw_public(device.sign),
                         "bcc_commitment": hmac256(self.commitment_key, self.bcc),
                         "lengths": [len(p) for p in self.pieces],
                         "manifest": cake(self.shared, manifest + b32(b""))}
        self.boxes = [self.box(USER, user_id, generation, puk) for user_id, generation, puk in users]
        self.relay_key = self.sealed_secret = None
        self.keeper_pk = keeper_pk
        if self.outside:
            self.relay_key = X25519PrivateKey.generate()
            box = self.box(RELAY, os.urandom(16), 0, raw_public(self.relay_key))
            self.boxes.append(box)
            self.sealed_secret = self.for_keeper(box, raw_private(self.relay_key))
        for link in links:
            self.boxes.append(self.link_box(link))

    def for_keeper(self, box, secret):
        text = b"SPSK" + bytes([1, box["kind"]]) + box["recipient_id"] + secret
        return SealedBox(PublicKey(self.keeper_pk)).encrypt(text)

    def box(self, kind, recipient_id, generation, pk):
        box = {"kind": kind, "recipient_id": recipient_id, "generation": generation, "recipient_pk": pk,
               "context": b""}
        d = digest(self.envelope, box)
        signature = self.device.sign.sign(b16(b"sealpost/1 recipient signature") + d)
        k = hmac256(self.ephemeral.exchange(X25519PublicKey.from_public_bytes(pk)), d)
        nonce = os.urandom(24)
        box["sealed"] = nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(self.shared + signature, None,
                                                                           nonce, k)
        return box

    def link_box(self, link):
        box = {"kind": LINK, "recipient_id": link.id, "generation": 0, "recipient_pk": b"",
               "context": struct.pack(">Q", link.expires)}
        link.digest = digest(self.envelope, box)
        signature = self.device.sign.sign(b16(b"sealpost/1 recipient signature") + link.digest)
        box["sealed"] = cake(hmac256(link.password, link.digest), self.shared + signature)
        return box

    def secrets(self):
        """All that opens this mail, but for the users' own keys and what links hold."""
        relay = [raw_private(self.relay_key)] if self.relay_key else []
        return [self.shared, raw_private(self.ephemeral), *self.piece_keys, *relay]

    # --- bytes ---

    def envelope_bytes(self):
        e = self.envelope
        out = b"SPEV" + struct.pack(">BBH", 1, e["suite"], e["flags"]) + e["message_id"]
        out += e["ephemeral_pk"] + b16(e["sender_user_id"]) + b16(e["sender_sign_pk"]) + e["bcc_commitment"]
        out += struct.pack(">I", len(e["lengths"])) + b"".join(struct.pack(">Q", n) for n in e["lengths"])
        return out + b32(e["manifest"])

    @staticmethod
    def box_fields(b):
        return (bytes([b["kind"]]) + b16(b["recipient_id"]) + struct.pack(">I", b["generation"])
                + b16(b["recipient_pk"]) + b16(b["context"]))

    def sent_copy(self):
        signed = b16(b"sealpost/1 recipient list") + struct.pack(">I", len(self.boxes))
        signed += b"".join(digest(self.envelope, b) for b in self.boxes)
        text = b"SPST\1" + b32(self.bcc) + self.commitment_key + struct.pack(">H", len(self.boxes))
        for b in self.boxes:
            addresses = [a.encode() for a in self.outside] if b["kind"] == RELAY else []
            if b["kind"] == LINK:
                addresses = [self.links[b["recipient_id"]].address.encode()]
            text += self.box_fields(b) + struct.pack(">H", len(addresses)) + b"".join(map(b16, addresses))
        text += self.device.sign.sign(signed)
        generation = max(self.device.seeds)
        key = hkdf(self.device.seeds[generation], b"sealpost/1 puk symmetric")
        return struct.pack(">I", generation) + cake(key, text)

    def relay_order(self, box, address):
        own = next(b["recipient_pk"] for b in self.boxes if b["recipient_id"] == self.device.user_id)
        return self.device.sign.sign(b16(b"sealpost/1 relay order") + digest(self.envelope, box) + own
                                     + b16(self.mail_from.encode()) + b16(address.encode()))

    def link_order(self, link):
        return hmac256(link.password, b16(b"sealpost/1 link order") + link.id + link.digest
                       + struct.pack(">Q", link.expires) + b16(self.mail_from.encode())
                       + b16(link.address.encode()) + b16(link.subject.encode()))

    def unsigned_form(self):
        out = b"SPSB\1" + b32(self.envelope_bytes()) + b32(self.sent_copy()) + b16(self.mail_from.encode())
        out += struct.pack(">H", len(self.boxes))
        for b in self.boxes:
            out += b32(self.box_fields(b) + b16(b["sealed"]))
            if b["kind"] == RELAY:
                out += b16(self.sealed_secret) + struct.pack(">H", len(self.outside))
                out += b"".join(b16(a.encode()) + self.relay_order(b, a) for a in self.outside)
            if b["kind"] == LINK:
                link = self.links[b["recipient_id"]]
                out += b16(self.for_keeper(b, link.password)) + b16(link.address.encode())
                out += hashlib.sha256(link.gate).digest() + b16(link.subject.encode()) + self.link_order(link)
        return out

    def form(self, upload):
        """Signed for this upload (its id, 16 bytes)."""
        out = self.unsigned_form()
        return out + self.device.sign.sign(b16(b"sealpost/1 form") + upload + hashlib.sha256(out).digest())


class Sender:
    """What a device does to send."""

    def __init__(self, device):
        self.device = device

    def chain_by_id(self, user_id):
        body = self.device.call("GET", f"/v1/sigchain/by-id/{user_id}", expect=200).body
        rest, wires = body[16:], []
        while rest:
            n = 4 + struct.unpack(">I", rest[:4])[0] + 64
            wires.append(rest[:n])
            rest = rest[n:]
        return wires

    def users_of(self, address):
        """None: not the appliance's. Else its users, with their newest keys."""
        answer = self.device.call("GET", "/v1/resolve/" + urllib.parse.quote(address, safe=""), expect=200)
        found = json.loads(answer.body)
        if not found["ours"]:
            return None
        return [(bytes.fromhex(u), *newest_puk(self.chain_by_id(u))) for u in found["users"]]

    def keeper_pk(self):
        return self.device.call("GET", "/v1/keeper", expect=200).body

    def seal(self, message, to, bcc=(), links=(), **more):
        """A Mail for all recipients, the sender's own copy included."""
        d = self.device
        users = {d.user_id: (d.user_id, max(d.seeds), newest_puk(self.chain_by_id(d.user_id.hex()))[1])}
        outside = []
        for address in [*to, *bcc]:
            ours = self.users_of(address)
            if ours is None:
                outside.append(address)
            for user in ours or []:
                users[user[0]] = user
        return Mail(d, message, list(users.values()), outside, bcc=", ".join(bcc),
                    keeper_pk=self.keeper_pk() if outside or links else None, links=links, **more)

    def upload(self, mail, form=None):
        """The upload's id, in hex."""
        d = self.device
        sizes = struct.pack(">H", len(mail.pieces)) + b"".join(struct.pack(">Q", len(p)) for p in mail.pieces)
        upload = d.call("POST", "/v1/upload", sizes, expect=200).body.hex()
        parts = {f"piece/{i}": piece for i, piece in enumerate(mail.pieces)}
        parts["form"] = mail.form(bytes.fromhex(upload)) if form is None else form
        for name, data in parts.items():
            for at in range(0, len(data), PART):
                d.call("PUT", f"/v1/upload/{upload}/{name}?offset={at}", data[at:at + PART], expect=204)
        return upload

    def try_send(self, mail, form=None):
        return self.device.call("POST", f"/v1/upload/{self.upload(mail, form)}/send", b"")

    def send(self, message, to=(), bcc=(), **more):
        """The Mail, once it is acknowledged."""
        mail = self.seal(message, to, bcc, **more)
        answer = self.try_send(mail)
        assert answer.status == 200 and answer.body == mail.id, (answer.status, answer.body)
        return mail

    def status(self, mail):
        """{address: its row}."""
        answer = self.device.call("GET", f"/v1/message/{mail.id.hex()}/status", expect=200).json
        return {row["address"]: row for row in answer["recipients"]}

    def open_sent(self, mail):
        """The sent copy as the sender's other devices read it: the BCC header, and the addresses."""
        body = self.device.call("GET", f"/v1/message/{mail.id.hex()}/sent", expect=200).body
        from opener import open_cake
        seed = self.device.seeds[struct.unpack(">I", body[:4])[0]]
        r = Reader(open_cake(hkdf(seed, b"sealpost/1 puk symmetric"), body[4:]))
        assert r.take(5) == b"SPST\1"
        bcc, addresses = r.counted(4).decode(), []
        r.take(32)
        for _ in range(r.num(2)):
            r.take(1), r.counted(2), r.take(4), r.counted(2), r.counted(2)
            addresses += [r.counted(2).decode() for _ in range(r.num(2))]
        r.take(64)
        r.end()
        return bcc, addresses
