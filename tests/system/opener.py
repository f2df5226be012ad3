"""Opens sealed mail from FORMAT.md alone, sharing no code with the appliance or its client."""
import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt

from device import b16, hkdf


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        assert n <= len(self.data) - self.at
        self.at += n
        return self.data[self.at - n:self.at]

    def num(self, n):
        return int.from_bytes(self.take(n), "big")

    def counted(self, n):
        return self.take(self.num(n))

    def end(self):
        assert self.at == len(self.data)


def hmac256(key, msg):
    return hmac.new(key, msg, hashlib.sha256).digest()


def open_cake(key, sealed):
    nonce, commitment, at, out, i = sealed[:24], sealed[24:56], 56, b"", 0
    derived = hashlib.sha512(key + nonce).digest()
    assert derived[32:] == commitment
    while True:
        chunk = sealed[at:at + 16400]
        last = len(chunk) < 16400
        iv = (2 * i + last).to_bytes(12, "little")
        out += AESGCM(derived[:32]).decrypt(iv, chunk, None)
        at, i = at + len(chunk), i + 1
        if last:
            assert at == len(sealed)
            return out


def read_envelope(data):
    r = Reader(data)
    assert r.take(4) == b"SPEV" and r.num(1) == 1
    e = {"suite": r.num(1), "flags": r.num(2), "message_id": r.take(16), "ephemeral_pk": r.take(32),
         "sender_user_id": r.counted(2), "sender_sign_pk": r.counted(2), "bcc_commitment": r.take(32)}
    e["lengths"] = [r.num(8) for _ in range(r.num(4))]
    e["manifest"] = r.counted(4)
    r.end()
    return e


def read_box(data):
    r = Reader(data)
    b = {"kind": r.num(1), "recipient_id": r.counted(2), "generation": r.num(4),
         "recipient_pk": r.counted(2), "context": r.counted(2), "sealed": r.counted(2)}
    r.end()
    return b


def digest(e, b):
    return hashlib.sha256(
        b16(b"sealpost/1 recipient-associated digest") + bytes([e["suite"], b["kind"]]) + e["message_id"]
        + b16(e["sender_user_id"]) + b16(e["sender_sign_pk"]) + e["ephemeral_pk"]
        + b16(b["recipient_id"]) + struct.pack(">I", b["generation"]) + b16(b["recipient_pk"])
        + b16(b["context"]) + hashlib.sha256(e["manifest"]).digest() + e["bcc_commitment"]).digest()


def read_manifest(data):
    r = Reader(data)
    assert r.take(4) == b"SPMF" and r.num(1) == 1
    m = {"flags": r.num(1), "time_ms": r.num(8), "pieces": []}
    for _ in range(r.num(4)):
        m["pieces"].append({"kind": r.num(1), "key": r.take(32), "hash": r.take(32), "length": r.num(8),
                            "splice_at": r.num(8), "type": r.counted(2), "name": r.counted(2)})
    m["added"] = r.counted(4)
    r.end()
    return m


def rejoin(m, pieces):
    body, out, at = pieces[0], m["added"], 0
    for info, data in list(zip(m["pieces"], pieces))[1:]:
        out += body[at:info["splice_at"]] + data
        at = info["splice_at"]
    return out + body[at:]


def seeds_of(keys):
    """{generation: seed} out of what `sealpost keys` prints."""
    puks = keys["puks"] if "puks" in keys else keys["puk"]
    return {int(p["generation"]): bytes.fromhex(p["seed"]) for p in puks}


def open_raw(folder, keys):
    """The message, and every secret that was used on the way."""
    e = read_envelope((folder / "envelope.bin").read_bytes())
    b = read_box((folder / "box.bin").read_bytes())
    seed = seeds_of(keys)[b["generation"]]
    sk = hkdf(seed, b"sealpost/1 puk email x25519")
    shared = X25519PrivateKey.from_private_bytes(sk).exchange(
        X25519PublicKey.from_public_bytes(e["ephemeral_pk"]))
    k = hmac256(shared, digest(e, b))
    payload = crypto_aead_xchacha20poly1305_ietf_decrypt(b["sealed"][24:], None, b["sealed"][:24], k)
    m = read_manifest(open_cake(payload[:32], e["manifest"]))
    pieces = []
    for i, info in enumerate(m["pieces"]):
        sealed = (folder / f"piece-{i}.bin").read_bytes()
        assert hashlib.sha256(sealed).digest() == info["hash"] and len(sealed) == e["lengths"][i]
        pieces.append(open_cake(info["key"], sealed))
        assert len(pieces[i]) == info["length"]
    secrets = [seed, sk, shared, k, payload[:32], *(p["key"] for p in m["pieces"])]
    return rejoin(m, pieces), secrets
