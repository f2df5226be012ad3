"""The server's side of sending, as docs/api.md has it, for one test: it keeps what the client uploads,
and checks a form from FORMAT.md alone, sharing no code with the appliance or its client."""
import hashlib
import json
import os
import re
import struct
import urllib.parse

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_box_keypair

from device import b16, hkdf, raw_public
from opener import Reader, digest, hmac256, open_cake, read_box, read_envelope, read_manifest, rejoin


class Form:
    def __init__(self, data):
        r = Reader(data)
        assert r.take(4) == b"SPSB" and r.num(1) == 1
        self.envelope_bytes, self.sent_copy = r.counted(4), r.counted(4)
        self.envelope = read_envelope(self.envelope_bytes)
        self.mail_from = r.counted(2).decode()
        self.boxes, self.relay, self.outside, self.links = [], None, [], []
        for _ in range(r.num(2)):
            raw = r.counted(4)
            box = read_box(raw)
            box["raw"] = raw
            self.boxes.append(box)
            if box["kind"] == 2:
                box["secret"] = r.counted(2)
                self.outside, self.orders = [], []
                for _ in range(r.num(2)):
                    self.outside.append(r.counted(2).decode())
                    self.orders.append(r.take(64))
            elif box["kind"] == 3:
                box.update(secret=r.counted(2), address=r.counted(2).decode(), gate_sha256=r.take(32),
                           subject=r.counted(2).decode(), order=r.take(32))
                self.links.append(box)
            else:
                assert box["kind"] == 1
        self.signature = r.take(64)
        r.end()
        self.signed = data[:-64]

    def check(self, upload):
        """What the device has signed: all of it, for this upload, and each recipient's order."""
        device, sender = Ed25519PublicKey.from_public_bytes(self.envelope["sender_sign_pk"]), self.mail_from.encode()
        device.verify(self.signature, b16(b"sealpost/1 form") + upload + hashlib.sha256(self.signed).digest())
        own = next(b["recipient_pk"] for b in self.boxes if b["recipient_id"] == self.envelope["sender_user_id"])
        for box in self.boxes:
            for address, order in zip(self.outside, self.orders) if box["kind"] == 2 else []:
                device.verify(order, b16(b"sealpost/1 relay order") + digest(self.envelope, box) + own + b16(sender)
                              + b16(address.encode()))

    def check_order(self, link, password):
        """That of a link, whose password it takes."""
        assert link["order"] == hmac256(password, b16(b"sealpost/1 link order") + link["recipient_id"]
                                        + digest(self.envelope, link) + link["context"]
                                        + b16(self.mail_from.encode()) + b16(link["address"].encode())
                                        + b16(link["subject"].encode()))


class Sent:
    """A message that was sent, and how it is opened."""

    def __init__(self, form, pieces):
        self.form, self.pieces = Form(form), [bytes(p) for p in pieces]
        e = self.form.envelope
        assert e["lengths"] == [len(p) for p in self.pieces]
        assert e["suite"] == 1 and e["flags"] == 0
        assert len(e["sender_user_id"]) == 16 and len(e["sender_sign_pk"]) == 32

    def box_for(self, user_id):
        found = [b for b in self.form.boxes if b["recipient_id"] == user_id]
        assert len(found) == 1
        return found[0]

    def relay_box(self):
        return next((b for b in self.form.boxes if b["kind"] == 2), None)

    def shared_key(self, box, sk):
        """Opens a box and checks the signature in it. sk: a link's password for a box of kind 3."""
        e = self.form.envelope
        if box["kind"] == 3:
            d = digest(e, box)
            return self.signed(open_cake(hmac256(sk, d), box["sealed"]), d)
        assert raw_public(X25519PrivateKey.from_private_bytes(sk)) == box["recipient_pk"]
        shared = X25519PrivateKey.from_private_bytes(sk).exchange(
            X25519PublicKey.from_public_bytes(e["ephemeral_pk"]))
        d = digest(e, box)
        payload = crypto_aead_xchacha20poly1305_ietf_decrypt(box["sealed"][24:], None, box["sealed"][:24],
                                                             hmac256(shared, d))
        return self.signed(payload, d)

    def signed(self, payload, d):
        assert len(payload) == 96
        Ed25519PublicKey.from_public_bytes(self.form.envelope["sender_sign_pk"]).verify(
            payload[32:], b16(b"sealpost/1 recipient signature") + d)
        return payload[:32]

    def open(self, box, sk):
        """The message and its manifest."""
        m = read_manifest(open_cake(self.shared_key(box, sk), self.form.envelope["manifest"]))
        pieces = []
        for info, sealed in zip(m["pieces"], self.pieces, strict=True):
            assert hashlib.sha256(sealed).digest() == info["hash"]
            pieces.append(open_cake(info["key"], sealed))
            assert len(pieces[-1]) == info["length"]
        return rejoin(m, pieces), m

    def open_for(self, keys):
        """For a user, from what `sealpost keys` prints."""
        box = self.box_for(bytes.fromhex(keys["user_id"]))
        seed = {p["generation"]: p["seed"] for p in keys["puk"]}[box["generation"]]
        return self.open(box, hkdf(bytes.fromhex(seed), b"sealpost/1 puk email x25519"))

    def sent_copy(self, keys):
        """bcc header and [(kind, addresses)], after everything in the copy is checked."""
        copy = self.form.sent_copy
        generation = struct.unpack(">I", copy[:4])[0]
        seed = {p["generation"]: p["seed"] for p in keys["puk"]}[generation]
        r = Reader(open_cake(hkdf(bytes.fromhex(seed), b"sealpost/1 puk symmetric"), copy[4:]))
        assert r.take(4) == b"SPST" and r.num(1) == 1
        bcc, key = r.counted(4), r.take(32)
        assert hmac256(key, bcc) == self.form.envelope["bcc_commitment"]
        listed, digests = [], b""
        for _ in range(r.num(2)):
            box = {"kind": r.num(1), "recipient_id": r.counted(2), "generation": r.num(4),
                   "recipient_pk": r.counted(2), "context": r.counted(2)}
            addresses = [r.counted(2).decode() for _ in range(r.num(2))]
            twin = self.box_for(box["recipient_id"])
            assert all(twin[k] == box[k] for k in box)
            digests += digest(self.form.envelope, box)
            listed.append((box["kind"], addresses))
        signature = r.take(64)
        r.end()
        assert len(listed) == len(self.form.boxes)
        Ed25519PublicKey.from_public_bytes(self.form.envelope["sender_sign_pk"]).verify(
            signature, b16(b"sealpost/1 recipient list") + struct.pack(">I", len(listed)) + digests)
        return bcc.decode(), listed


class SendServer:
    """Answers the routes of sending; everything else is the tree's. users: {address: [user_id, ...]}."""

    def __init__(self, domain="example.test"):
        self.domain, self.users = domain, {}
        self.keeper_pk, self.keeper_sk = crypto_box_keypair()
        self.uploads, self.sent, self.asked = {}, {}, []
        self.told = None     # /v1/info in place of the tree's
        self.reader = None   # whose mailbox is shown
        self.stale = 0       # so many sends are refused as sealed for old keys
        self.refuse = None   # (status, body) for sends
        self.before = lambda method, path: None  # may raise: the connection breaks, unheard
        self.after = lambda method, path: None   # may raise: it breaks, and the answer is lost

    def __call__(self, method, path, body):
        parts = urllib.parse.urlsplit(path)
        self.asked.append((method, path))
        for pattern, handler in self.routes:
            found = re.fullmatch(pattern, method + " " + parts.path)
            if found:
                self.before(method, path)
                query = dict(urllib.parse.parse_qsl(parts.query))
                answer = handler(self, body, query, *found.groups())
                self.after(method, path)
                return answer
        return None

    def keeper(self, body, query):
        return 200, self.keeper_pk

    def resolve(self, body, query, address):
        address = urllib.parse.unquote(address).lower()
        if not address.endswith("@" + self.domain):
            return 200, json.dumps({"ours": False, "users": []}).encode()
        if address not in self.users:
            return 404, b"{}"
        return 200, json.dumps({"ours": True, "users": [u.hex() for u in self.users[address]]}).encode()

    def begin(self, body, query):
        n = struct.unpack(">H", body[:2])[0]
        lengths = struct.unpack(">%dQ" % n, body[2:])
        ident = os.urandom(16)
        self.uploads[ident.hex()] = (lengths, [bytearray() for _ in lengths], bytearray())
        return 200, ident

    def state(self, body, query, ident):
        if ident not in self.uploads:
            return 404, b"{}"
        _, pieces, form = self.uploads[ident]
        return 200, json.dumps({"pieces": [len(p) for p in pieces], "form": len(form)}).encode()

    def put(self, body, query, ident, what):
        if ident not in self.uploads:
            return 404, b"{}"
        lengths, pieces, form = self.uploads[ident]
        assert 1 <= len(body) <= 262144
        into = form if what == "form" else pieces[int(what[6:])]
        if what == "form" and query["offset"] == "0":
            into.clear()  # begins anew
        if int(query["offset"]) != len(into):
            return 409, b"{}"
        into += body
        return 204, b""

    def drop(self, body, query, ident):
        return (204, b"") if self.uploads.pop(ident, None) else (404, b"{}")

    def send(self, body, query, ident):
        if ident not in self.uploads:
            return 404, b"{}"
        if self.refuse:
            return self.refuse
        if self.stale:
            self.stale -= 1
            return 409, b'{"error": "a key is not the newest"}'
        lengths, pieces, form = self.uploads[ident]
        assert [len(p) for p in pieces] == list(lengths)
        sent = Sent(bytes(form), pieces)
        sent.form.check(bytes.fromhex(ident))
        message = sent.form.envelope["message_id"]
        if message.hex() in self.sent:
            return 409, b'{"error": "sent already"}'
        self.sent[message.hex()] = sent
        del self.uploads[ident]
        return 200, message

    def status(self, body, query, message):
        if message not in self.sent:
            return 404, b"{}"
        rows = [{"address": a, "kind": "relay", "state": "queued", "since_ms": 1, "next_ms": 2, "attempts": 0,
                 "text": "", "expires_ms": 0, "visits": 0, "opened_ms": 0}
                for a in self.sent[message].form.outside]
        rows += [{"address": k["address"], "kind": "link", "state": "sent", "since_ms": 1, "next_ms": 0,
                  "attempts": 1, "text": "", "expires_ms": 1000 * int.from_bytes(k["context"], "big"),
                  "visits": 2, "opened_ms": 5000} for k in self.sent[message].form.links]
        return 200, json.dumps({"sent_ms": 1, "recipients": rows}).encode()

    def copy(self, body, query, message):
        return (200, self.sent[message].form.sent_copy) if message in self.sent else (404, b"{}")

    def message(self, body, query, message):
        """As self.reader has it, else the sender."""
        if message not in self.sent:
            return None
        form = self.sent[message].form
        box = self.sent[message].box_for(self.reader or form.envelope["sender_user_id"])["raw"]
        return 200, b"".join(len(x).to_bytes(4, "big") + x for x in (form.envelope_bytes, box))

    def piece(self, body, query, message, n):
        return (200, self.sent[message].pieces[int(n)]) if message in self.sent else None

    def mailbox(self, body, query):
        """All that was sent, for self.reader."""
        if self.reader is None:
            return None
        rows = [{"seq": i + 1, "id": ident, "received_ms": 1, "bytes": 1, "pieces": len(sent.pieces),
                 "generation": sent.box_for(self.reader)["generation"], "sent": False}
                for i, (ident, sent) in enumerate(self.sent.items())]
        return 200, json.dumps({"messages": [r for r in rows if r["seq"] > int(query["after"])],
                                "more": False}).encode()

    def info(self, body, query):
        """None: the tree's own answer."""
        return self.told and (200, json.dumps(self.told).encode())

    routes = [
        (r"GET /v1/info", info),
        (r"GET /v1/keeper", keeper), (r"GET /v1/resolve/(.+)", resolve), (r"POST /v1/upload", begin),
        (r"GET /v1/upload/([0-9a-f]{32})", state), (r"DELETE /v1/upload/([0-9a-f]{32})", drop),
        (r"PUT /v1/upload/([0-9a-f]{32})/(form|piece/\d+)", put),
        (r"POST /v1/upload/([0-9a-f]{32})/send", send),
        (r"GET /v1/message/([0-9a-f]{32})/status", status), (r"GET /v1/message/([0-9a-f]{32})/sent", copy),
        (r"GET /v1/message/([0-9a-f]{32})", message), (r"GET /v1/message/([0-9a-f]{32})/piece/(\d+)", piece),
        (r"GET /v1/mailbox", mailbox)]
