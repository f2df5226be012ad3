"""What the relay signs, verified by another implementation (python3-dkim)."""
import base64
import ctypes
import pathlib
import random
import subprocess

import dkim
import nacl.signing
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ["daemon/relay/canon.c", "daemon/relay/octets.c", "daemon/relay/dkim.c",
           "daemon/relay/dkim_field.c", "daemon/relay/from.c",
           "envelope/utf8.c", "envelope/error.c", "sandbox/lockmem.c"]
RSA, ED25519 = 1, 2


class Key(ctypes.Structure):
    _fields_ = [("algorithm", ctypes.c_int), ("selector", ctypes.c_char_p), ("domain", ctypes.c_char_p),
                ("time_s", ctypes.c_uint64)]


class Signer:
    """The relay's own code, and the keeper's part done here."""

    def __init__(self, library):
        self.code = ctypes.CDLL(library)
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ed = nacl.signing.SigningKey.generate()
        public = self.rsa.public_key().public_bytes(serialization.Encoding.DER,
                                                    serialization.PublicFormat.SubjectPublicKeyInfo)
        self.dns = {b"r1._domainkey.example.org.": b"v=DKIM1; k=rsa; p=" + base64.b64encode(public),
                    b"e1._domainkey.example.org.": b"v=DKIM1; k=ed25519; p="
                                                   + base64.b64encode(bytes(self.ed.verify_key))}

    def make(self, algorithm, digest):
        if algorithm == ED25519:
            return self.ed.sign(digest).signature
        return self.rsa.sign(digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))

    def sign(self, message, algorithm, seed=0):
        """The DKIM-Signature field; the message goes in cut at random."""
        state = ctypes.create_string_buffer(1 << 17)
        key = Key(algorithm, b"r1" if algorithm == RSA else b"e1", b"example.org", 1750000000)
        digest, field = ctypes.create_string_buffer(32), ctypes.create_string_buffer(4096)
        length, dice = ctypes.c_size_t(), random.Random(seed)
        assert self.code.dkim_begin(state) == 0
        at = 0
        while at < len(message):
            n = dice.choice([1, 2, 3, 17, 1000, 16384])
            part = message[at:at + n]
            assert self.code.dkim_push(state, part, ctypes.c_size_t(len(part))) == 0
            at += n
        assert self.code.dkim_end(state) == 0
        assert self.code.dkim_hash(state, ctypes.byref(key), digest) == 0
        signature = self.make(algorithm, digest.raw)
        assert self.code.dkim_field(state, ctypes.byref(key), signature, ctypes.c_size_t(len(signature)), field,
                                    ctypes.c_size_t(4096), ctypes.byref(length)) == 0
        self.code.dkim_free(state)
        return field.raw[:length.value]

    def verifies(self, message):
        return dkim.verify(message, dnsfunc=lambda name, timeout=5: self.dns.get(name))


@pytest.fixture(scope="module")
def signer(tmp_path_factory):
    library = tmp_path_factory.mktemp("dkim") / "dkim.so"
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-fPIC", "-shared", "-I.", "-o", library, *SOURCES,
                    "-lcrypto"], cwd=ROOT, check=True)
    return Signer(str(library))


HEAD = b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: a\r\n\tfolded  subject \r\n"
BODIES = [b"", b"\r\n", b"\r\n\r\n\r\n", b"hello\r\n", b"hello", b" \t\r\n", b"a \t b  \r\n\r\n \r\n\r\n", b"\r\n\r\na\r\n",
          b".dot\r\n..\r\n", b"8 bit: \xff\xfe\r\n" * 3, b"x" * 5000 + b"\r\n", b"\r\n" * 3000 + b"end\r\n" + b"\r\n" * 500]


@pytest.mark.parametrize("algorithm", [RSA, ED25519])
@pytest.mark.parametrize("body", range(len(BODIES)))
def test_signature_verifies(signer, algorithm, body):
    message = HEAD + b"\r\n" + BODIES[body]
    assert signer.verifies(signer.sign(message, algorithm, body) + message)


@pytest.mark.parametrize("algorithm", [RSA, ED25519])
def test_many_fields(signer, algorithm):
    head = (b"Received: by a\r\n\tfor b\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nMESSAGE-ID: <1@example.org>\r\n"
            b"References: <1@x>\r\n <2@x>\r\nIn-Reply-To:<2@x>\r\nList-Unsubscribe: <https://example.org/u>\r\n"
            b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nReply-To: a@example.org\r\nCc: c@example.net\r\n"
            b"Cc: d@example.net\r\nCc: \r\nMIME-Version: 1.0\r\nContent-Type: text/plain;\r\n charset=utf-8\r\n"
            b"Content-Transfer-Encoding: 8bit\r\nX-Not-Signed: yes\r\n" + HEAD)
    message = head + b"\r\n" + "grüße\r\n".encode() * 10
    field = signer.sign(message, algorithm)
    assert max(map(len, field.split(b"\r\n"))) <= 78
    assert signer.verifies(field + message)
    # Trace fields and fields that are not signed may be added on the way.
    assert signer.verifies(b"Received: by z\r\n" + field + b"X-Spam: no\r\n" + message)
    # Two signatures beside each other.
    other = signer.sign(message, RSA if algorithm == ED25519 else ED25519)
    assert dkim.DKIM(field + other + message).verify(0, dnsfunc=lambda n, timeout=5: signer.dns.get(n))
    assert dkim.DKIM(field + other + message).verify(1, dnsfunc=lambda n, timeout=5: signer.dns.get(n))


@pytest.mark.parametrize("algorithm", [RSA, ED25519])
def test_changes_are_found(signer, algorithm):
    message = HEAD + b"\r\nhello\r\n"
    field = signer.sign(message, algorithm)
    assert signer.verifies(field + message)
    for changed in (message.replace(b"hello", b"hallo"), message + b"more\r\n", message.replace(b"bob@", b"eve@"),
                    message.replace(b"Alice", b"Mallory"), b"From: eve@example.org\r\n" + message,
                    message.replace(b"\r\n\r\n", b"\r\nFrom: eve@example.org\r\n\r\n", 1),
                    message.replace(b"folded", b"fold ed")):
        assert not signer.verifies(field + changed)
