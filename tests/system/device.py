"""A user's device, written from FORMAT.md and docs/api.md alone: enrolment, login, and the calls of the
clients' interface. It shares no code with the appliance or its client, so that a mistake in both would
not go unseen."""
import base64
import hashlib
import hmac
import http.client
import json
import os
import ssl
import struct
import time
import urllib.parse

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


def b16(x):
    return struct.pack(">H", len(x)) + x


def b32(x):
    return struct.pack(">I", len(x)) + x


def b64u(x):
    return base64.urlsafe_b64encode(x).rstrip(b"=").decode()


def raw_public(key):
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def raw_private(key):
    return key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def hkdf(seed, info):
    """HKDF-SHA-256, empty salt, 32 bytes: extract, then the first block of expand (RFC 5869)."""
    prk = hmac.new(bytes(32), seed, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()


def puk_email_key(seed):
    return X25519PrivateKey.from_private_bytes(hkdf(seed, b"sealpost/1 puk email x25519"))


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


def connect(url, ca, timeout=120):
    """An HTTPS connection to the appliance. The name in its certificate need not be the address that the
    tests use; that it is the appliance's own certificate is checked by ca."""
    parts = urllib.parse.urlsplit(url)
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    return http.client.HTTPSConnection(parts.hostname, parts.port, context=context, timeout=timeout)


def request(url, ca, method, path, body=None, headers=None):
    """One request on a connection of its own."""
    connection = connect(url, ca)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


class Refused(Exception):
    def __init__(self, answer):
        super().__init__(f"{answer.status}: {answer.body[:200]!r}")
        self.answer = answer


class Device:
    """Keys and sigchain state of one user with one device."""

    def __init__(self, url, ca, address):
        self.url, self.ca, self.address = url, ca, address
        self.server_url = None  # what the appliance calls itself: signed at login
        self.user_id, self.device_id = os.urandom(16), os.urandom(16)
        self.sign, self.box = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
        self.seeds = {1: os.urandom(32)}  # PUK generation -> seed
        self.seq, self.head, self.token = 0, bytes(32), None

    # --- HTTP ---

    def call(self, method, path, body=None, expect=None, headers=None):
        h = dict(headers or {})
        if self.token is not None:
            h["Authorization"] = "Sealpost-Session " + b64u(self.token)
        answer = request(self.url, self.ca, method, path, body, h)
        if expect is not None and answer.status != expect:
            raise Refused(answer)
        return answer

    def info(self):
        return self.call("GET", "/v1/info", expect=200).json

    # --- sigchain (FORMAT.md section 8) ---

    def make_link(self, kind, body, now_ms=None):
        link = b"SPSC" + struct.pack(">BB", 1, kind) + self.user_id + struct.pack(">I", self.seq + 1)
        link += self.head + struct.pack(">Q", now_ms or int(time.time() * 1000)) + self.device_id + body
        return b32(link) + self.sign.sign(b16(b"sealpost/1 sigchain link") + link)

    def accepted(self, wire):
        self.seq, self.head = self.seq + 1, hashlib.sha256(wire).digest()

    def root(self):
        return self.make_link(1, raw_public(self.sign) + raw_public(self.box) + struct.pack(">I", 1)
                              + raw_public(puk_email_key(self.seeds[1])) + b16(self.address.encode()))

    def rotation(self):
        """A rotate link, and the seed that it announces."""
        seed = os.urandom(32)
        generation = max(self.seeds) + 1
        return self.make_link(4, struct.pack(">I", generation) + raw_public(puk_email_key(seed))), seed

    def fingerprint(self):
        text = base64.b32encode(self.head[:20]).decode()
        return " ".join(text[i:i + 4] for i in range(0, 32, 4))

    # --- the clients' interface (docs/api.md) ---

    def try_enroll(self, code, wire=None):
        body = b16(self.address.encode()) + b16(code.encode()) + b32(self.root() if wire is None else wire)
        return self.call("POST", "/v1/enroll", body)

    def enroll(self, code):
        wire = self.root()
        answer = self.try_enroll(code, wire)
        if answer.status != 200 or answer.body != self.user_id:
            raise Refused(answer)
        self.accepted(wire)
        return self

    def challenge(self):
        return self.call("POST", "/v1/challenge", b"", expect=200).body

    def login_body(self, challenge, url=None):
        if self.server_url is None:
            self.server_url = self.info()["url"]
        text = b16(b"sealpost/1 session") + b16((url or self.server_url).encode())
        text += challenge + self.user_id + self.device_id
        return self.user_id + self.device_id + challenge + self.sign.sign(text)

    def login(self):
        self.token = None
        answer = self.call("POST", "/v1/session", self.login_body(self.challenge()), expect=200)
        self.token, seconds = answer.body[:32], struct.unpack(">I", answer.body[32:])[0]
        assert len(answer.body) == 36 and 0 < seconds <= 86400
        return self

    def logout(self):
        self.call("DELETE", "/v1/session", expect=204)

    def rotate(self):
        wire, seed = self.rotation()
        self.call("POST", "/v1/sigchain", wire, expect=204)
        self.accepted(wire)
        self.seeds[max(self.seeds) + 1] = seed

    def sigchain(self, address=None, after=0):
        """user_id and the list of wires."""
        path = "/v1/sigchain/" + urllib.parse.quote(address or self.address, safe="")
        body = self.call("GET", f"{path}?after={after}", expect=200).body
        user_id, rest, wires = body[:16], body[16:], []
        while rest:
            n = 4 + struct.unpack(">I", rest[:4])[0] + 64
            assert n <= len(rest)
            wires.append(rest[:n])
            rest = rest[n:]
        return user_id, wires

    def mailbox(self, after=0, limit=100):
        return self.call("GET", f"/v1/mailbox?after={after}&limit={limit}", expect=200).json

    def message(self, message_id):
        """envelope and box, as octets."""
        body = self.call("GET", f"/v1/message/{message_id}", expect=200).body
        n = struct.unpack(">I", body[:4])[0]
        envelope, rest = body[4:4 + n], body[4 + n:]
        assert len(rest) == 4 + struct.unpack(">I", rest[:4])[0]
        return envelope, rest[4:]

    def piece(self, message_id, n, headers=None):
        return self.call("GET", f"/v1/message/{message_id}/piece/{n}", headers=headers)

    def delete(self, message_id):
        return self.call("DELETE", f"/v1/message/{message_id}")
