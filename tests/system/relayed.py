"""What tests of sending share: a tree that lives in the world, users who are Python devices, and ways to
look at what came of a mail."""
import email
import os
import re
import shutil

import dkim

from device import Device, hkdf
from opener import (X25519PrivateKey, X25519PublicKey, crypto_aead_xchacha20poly1305_ietf_decrypt, digest,
                    hmac256, open_cake, read_box, read_envelope, read_manifest, rejoin)
from outside import wait_for
from sealpost import NOBODY, Tree
from sender import Sender

DONE = {"sent", "failed"}


def make_tree(mode, world, test_build=False, **relay):
    """A tree in the world, not yet started; relay: settings of [relay] that differ."""
    settings = world.settings
    settings["relay"].update(relay)
    tree = Tree(mode, test_build=test_build, settings=settings)
    key = tree.dir / "dkim.pem"
    shutil.copy(world.dkim_key, key)
    key.chmod(0o600)
    if mode == "user" and os.geteuid() == 0:
        os.chown(key, NOBODY, NOBODY)
    settings["relay"]["dkim_key"] = key
    tree.write_config()
    return tree


class Person(Sender):
    """An enrolled user, and what their mailbox holds."""

    def __init__(self, tree, name):
        self.tree, self.name, self.address = tree, name, f"{name}@example.test"
        code = tree.ctl("user", "add", self.address)
        super().__init__(Device(tree.url, tree.ca, self.address).enroll(code).login())

    def mailbox(self):
        return self.device.mailbox(limit=499)["messages"]

    def received(self):
        return [m for m in self.mailbox() if not m["sent"]]

    def open(self, message_id):
        """envelope, manifest, the message."""
        e, b = (f(x) for f, x in zip((read_envelope, read_box), self.device.message(message_id)))
        sk = hkdf(self.device.seeds[b["generation"]], b"sealpost/1 puk email x25519")
        shared = X25519PrivateKey.from_private_bytes(sk).exchange(
            X25519PublicKey.from_public_bytes(e["ephemeral_pk"]))
        k = hmac256(shared, digest(e, b))
        payload = crypto_aead_xchacha20poly1305_ietf_decrypt(b["sealed"][24:], None, b["sealed"][:24], k)
        m = read_manifest(open_cake(payload[:32], e["manifest"]))
        pieces = [open_cake(info["key"], self.device.piece(message_id, i).body)
                  for i, info in enumerate(m["pieces"])]
        return e, m, rejoin(m, pieces)

    def state(self, mail, address=None):
        """That of the one recipient, or of this one."""
        rows = self.status(mail)
        return rows[address] if address else next(r for r in rows.values() if r["kind"] == "relay")

    def settled(self, mail, address=None, seconds=180):
        """Its row once it is sent or failed."""
        def look():
            row = self.state(mail, address)
            return row if row["state"] in DONE else None
        return wait_for(look, seconds)

    def tried(self, mail, address=None, seconds=180):
        """Its row once there was an attempt, whatever came of it."""
        def look():
            row = self.state(mail, address)
            return row if row["state"] != "queued" else None
        return wait_for(look, seconds)

    def report(self, seconds=180):
        """The newest report of a failure, opened and parsed."""
        entry = wait_for(lambda: self.received() or None, seconds)[-1]
        e, m, message = self.open(entry["id"])
        assert e["sender_user_id"] == b"" and m["flags"] & 1, "sealed by the appliance, and said so"
        return Report(message)


class Report:
    """RFC 3464, picked apart."""

    def __init__(self, message):
        self.bytes = message
        self.mail = email.message_from_bytes(message)
        assert self.mail.get_content_type() == "multipart/report"
        assert self.mail.get_param("report-type") == "delivery-status"
        assert self.mail["Auto-Submitted"] and self.mail["Date"] and self.mail["Message-ID"]
        text, status, *header = self.mail.get_payload()
        assert text.get_content_type() == "text/plain"
        assert status.get_content_type() == "message/delivery-status"
        assert [h.get_content_type() for h in header] in ([], ["text/rfc822-headers"])
        self.text = text.get_payload(decode=True).decode()
        self.message_fields, *self.recipients = status.get_payload()
        assert self.message_fields["Reporting-MTA"] == "dns; mail.example.test"
        self.header = header[0].get_payload(decode=True) if header else None  # None: nothing could be opened

    def of(self, address):
        return next(r for r in self.recipients if r["Final-Recipient"] == f"rfc822; {address}")


def letter(sender, to, subject="a letter", body=b"Dear friend,\r\n\r\nall is well.\r\n", more=b""):
    """An RFC 5322 message as a client would hand it over."""
    return (f"From: {sender}\r\nTo: {', '.join(to)}\r\nSubject: {subject}\r\n"
            "Date: Mon, 02 Mar 2026 12:00:00 +0000\r\n"
            f"Message-ID: <{os.urandom(8).hex()}@example.test>\r\nMIME-Version: 1.0\r\n").encode() \
        + more + b"\r\n" + body


def added_fields(arrived, sent):
    """Names of the fields in front of what was sent, which must be all that is different."""
    assert arrived.endswith(sent), (arrived[:2000], sent[:500])
    front = arrived[:len(arrived) - len(sent)]
    assert front.endswith(b"\r\n")
    fields = re.sub(rb"\r\n[ \t]", b" ", front).split(b"\r\n")[:-1]
    return [f.split(b":")[0].decode().lower() for f in fields]


def check_arrived(world, arrived, sent):
    """Byte for byte what was sent, with a trace and a signature in front that verifies."""
    assert sorted(added_fields(arrived, sent)) == ["dkim-signature", "received"]
    assert dkim.verify(arrived, dnsfunc=world.dkim_txt)


def no_crash(tree):
    ends = ("session.crashed", "delivery.crashed", "sandbox.violation", "role.crashed")
    bad = [e for e in tree.events() if e["event"] in ends]
    assert not bad, bad
