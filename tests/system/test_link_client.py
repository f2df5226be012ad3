"""Links from the sender's client to the reader's, on the real tree: what opens, what is counted, and what
nothing opens any more. P7 and P8 are tried with everything that lies on disk in hand, and the link."""
import json
import os
import re
import shutil
import struct
import time

import pytest

import scan
from device import b64u, request
from opener import (Reader, digest, hmac256, open_cake, read_box, read_envelope, read_manifest, rejoin)
from outside import wait_for
from relayed import make_tree
from conftest import MODES
from sealpost import ROLES, Tree
from test_client import octets, refused, with_attachment
from test_client_send import printed
from test_send import everyone

BODY = b"Subject: a word\n\nThe quick brown marker.\n"


# A name server that does not answer: notifications wait, and their passwords with them.
SILENT = {"resolver": {"server": "127.0.0.1:9"}}


@pytest.fixture(scope="module", params=MODES)
def tree(request):
    t = Tree(request.param, settings=dict(SILENT)).start()
    yield t
    assert t.stop() == 0, t.said()
    t.remove()


class Mail:
    """A mail that went out with links, as its sender has it."""

    def __init__(self, sender, *args, message=BODY, check=True):
        self.sender, self.tree = sender, sender.tree
        done = sender.run("send", "--link", "--print-links", *args, input=message, check=check)
        self.done, self.said = done, octets(done.stderr).decode()
        self.id, self.links = printed(done.stdout)
        self.text = dict(line.split(" ") for line in octets(done.stdout).decode().splitlines()[1:])

    def rows(self):
        answer = json.loads(octets(self.sender.run("status", self.id, "--json").stdout))
        assert answer["signed"]
        return {r["address"]: r for r in answer["recipients"]}

    def row(self, address):
        return self.rows()[address]

    def open(self, address, *args, check=True):
        """By somebody without an account."""
        reader = self.tree.client()
        return reader.run("open", "-", *args, input=self.text[address].encode() + b"\n", check=check)

    def gone(self, address):
        done = self.open(address, check=False)
        refused(done, "expired or revoked")
        link_id, password, _ = self.links[address]
        for gate in (hmac256(password, b"sealpost/1 gate"), os.urandom(32)):
            for what in ("envelope", "piece/0"):
                answer = request(self.tree.url, self.tree.ca, "GET", f"/m/{b64u(link_id)}/{what}",
                                 headers={"Authorization": "Sealpost-Gate " + b64u(gate)})
                assert answer.status == 404, answer.status

    def fetch(self, address):
        """envelope, box: as the server gives them to the link's holder."""
        link_id, password, _ = self.links[address]
        answer = request(self.tree.url, self.tree.ca, "GET", f"/m/{b64u(link_id)}/envelope", headers={
            "Authorization": "Sealpost-Gate " + b64u(hmac256(password, b"sealpost/1 gate"))})
        assert answer.status == 200
        r = Reader(answer.body)
        pair = r.counted(4), r.counted(4)
        r.end()
        return pair

    def events(self, name):
        mine = {i.hex() for i, _, _ in self.links.values()}
        return [e for e in self.tree.events(name) if e.get("link") in mine]


def outside(n=1):
    base = os.urandom(4).hex()
    return [f"reader{i}-{base}@outside.test" for i in range(n)]


def test_a_link_opens_byte_for_byte(tree, tmp_path):
    alice, = everyone(tree, 1)
    eve, = outside()
    for n, size in enumerate((0, 16_384, 300_000)):
        message = b"From: %s\r\nDate: x\r\nMessage-ID: <a@b>\r\n" % alice.address.encode() + \
            with_attachment(os.urandom(size).hex().encode())
        mail = Mail(alice, eve, message=message)
        assert octets(mail.open(eve).stdout) == message
        assert octets(alice.read(mail.id)) == message
        out = tmp_path / str(n)
        done = mail.open(eve, "--out", out)
        assert octets(done.stdout).decode().splitlines() == [str(out / "message.eml"), str(out / "a.pdf")]
        assert (out / "message.eml").read_bytes() == message
        assert b"\r\n\r\n" + (out / "a.pdf").read_bytes() + b"\r\n--" in message
    assert not alice.newest()["end_to_end"]


def test_names_of_attachments_lead_nowhere(tree, tmp_path):
    alice, = everyone(tree, 1)
    eve, = outside()
    parts = [(b"../../up.txt", b"base64", b"aGVsbG8=", b"hello"), (b"same.txt", b"8bit", b"one", b"one"),
             (b"same.txt", b"quoted-printable", b"t=77=\r\no", b"two"), (b"message.eml", b"7bit", b"x", b"x"),
             (b"", b"base64", b"eHg=", b"xx"), (b".hidden", b"base64", b"eHg=", b"xx")]
    text = b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    for name, encoding, content, _ in parts:
        named = b'; filename="%s"' % name if name else b""
        text += (b"--b\r\nContent-Type: application/x\r\nContent-Disposition: attachment%s\r\n"
                 b"Content-Transfer-Encoding: %s\r\n\r\n%s\r\n" % (named, encoding, content))
    mail = Mail(alice, eve, message=text + b"--b--\r\n")
    out = tmp_path / "out"
    done = mail.open(eve, "--out", out)
    written = octets(done.stdout).decode().splitlines()
    assert written[0] == str(out / "message.eml") and len(written) == 1 + len(parts)
    assert sorted(p.name for p in out.iterdir()) == sorted(w.removeprefix(f"{out}/") for w in written)
    assert [open(w, "rb").read() for w in written[1:]] == [content for *_, content in parts]
    assert not list(tmp_path.glob("*.txt"))


def test_users_outsiders_and_the_senders_copy(tree):
    alice, bob, carol = everyone(tree, 3)
    eve, dan = outside(2)
    message = f"To: {bob.address}, {eve}\nCc: {dan}\nBcc: {carol.address}\nSubject: s\n\nbody\n".encode()
    mail = Mail(alice, "-t", "--expires", "1h", message=message)
    assert set(mail.links) == {eve, dan} and f"for: {eve}, {dan}" in mail.said
    texts = {octets(who.read(mail.id)) for who in (alice, bob, carol)}
    texts |= {octets(mail.open(who).stdout) for who in (eve, dan)}
    assert len(texts) == 1 and carol.address.encode() not in texts.pop()
    rows = mail.rows()
    assert {a: r["kind"] for a, r in rows.items()} == {
        bob.address: "user", carol.address: "user", eve: "link", dan: "link", **(
            {alice.address: "user"} if alice.address in rows else {})}
    assert rows[eve]["visits"] == rows[dan]["visits"] == 1 and rows[bob.address]["visits"] == 0
    assert abs(rows[eve]["expires_ms"] / 1000 - time.time() - 3600) < 300
    for who in (alice, bob, carol):  # the appliance has been given a key
        assert b"not end-to-end encrypted" in octets(who.run("read", mail.id).stderr)
        assert not who.newest()["end_to_end"]


def test_visits_are_counted_and_told_apart_from_looks_at_the_page(tree):
    alice, = everyone(tree, 1)
    eve, = outside()
    mail = Mail(alice, eve)
    link_id, password, _ = mail.links[eve]
    page = f"/m/{b64u(link_id)}"
    for method in ("GET", "HEAD", "GET"):
        assert request(tree.url, tree.ca, method, page).status == 200
    wrong = request(tree.url, tree.ca, "GET", page + "/envelope",
                    headers={"Authorization": "Sealpost-Gate " + b64u(os.urandom(32))})
    assert wrong.status in (401, 403)
    assert (mail.row(eve)["visits"], mail.row(eve)["opened_ms"]) == (0, 0)
    for n in (1, 2, 3):
        mail.open(eve)
        assert mail.row(eve)["visits"] == n
    row = mail.row(eve)
    assert abs(row["opened_ms"] / 1000 - time.time()) < 300
    table = octets(alice.run("status", mail.id).stdout).decode()
    assert re.search(r"ends 20\S+ \S+, 3 visits, opened 20\S+ ", table)
    assert len(mail.events("link.page")) == 3
    opened = [(e["what"], e["got"]) for e in mail.events("link.opened")]
    assert opened[0] == ("envelope", "wrong gate")
    assert opened[1:] == [("envelope", "ok"), ("piece 0", "ok")] * 3
    log = tree.log.read_bytes()
    assert b64u(password).encode() not in log and password.hex().encode() not in log


def test_revoking_one_and_all(tree):
    alice, bob = everyone(tree, 2)
    eve, dan = outside(2)
    mail = Mail(alice, eve, dan, bob.address)
    mail.open(eve)
    assert b"1 recipient" in octets(alice.run("revoke", mail.id, eve).stdout)
    mail.gone(eve)
    mail.open(dan)
    rows = mail.rows()
    assert rows[eve]["state"] == "revoked" and rows[eve]["visits"] == 1 and rows[dan]["state"] != "revoked"
    refused(alice.run("revoke", mail.id, eve, check=False), "nothing to revoke")
    refused(alice.run("revoke", mail.id, "nobody@outside.test", check=False), "nothing to revoke")
    refused(bob.run("revoke", mail.id, check=False), "you sent none")
    alice.run("revoke", mail.id)
    mail.gone(dan)
    assert mail.row(dan)["state"] == "revoked"
    assert octets(bob.read(mail.id)).endswith(b"marker.\r\n")  # a user's mail is the user's
    assert octets(alice.read(mail.id)).endswith(b"marker.\r\n")
    assert len(mail.events("link.revoked")) == 2


def test_deleting_the_mail_ends_its_links(tree):
    """The sender's mail, its links and their ciphertext are gone; what a user got is that user's, and the status
    says what became of the links."""
    alice, bob = everyone(tree, 2)
    eve, dan = outside(2)
    mail, other = Mail(alice, eve, dan, bob.address), Mail(alice, eve)
    mail.open(eve)
    bob.run("delete", mail.id)  # a recipient's copy alone
    mail.open(dan)
    alice.run("delete", mail.id)
    mail.gone(eve)
    mail.gone(dan)
    assert octets(other.open(eve).stdout).endswith(b"marker.\r\n")
    status = json.loads(octets(alice.run("status", mail.id, "--json").stdout))
    rows = {r["address"]: r for r in status["recipients"]}
    assert {rows[a]["state"] for a in (eve, dan)} == {"revoked"}
    assert rows[eve]["visits"] == rows[dan]["visits"] == 1
    assert len(mail.events("link.revoked")) == 2
    erased = wait_for(lambda: [e for e in tree.events("secret.erased") if e["why"] == "deleted"][3:] or None, 30)
    assert erased[0]["kind"] in ("box", "password")


def until(expires_ms):
    while time.time() * 1000 <= expires_ms:
        time.sleep(0.05)


def test_a_link_expires(tree):
    alice, bob = everyone(tree, 2)
    eve, = outside()
    mail = Mail(alice, "--expires", "5s", eve, bob.address)
    expires_ms = mail.row(eve)["expires_ms"]
    assert octets(mail.open(eve).stdout).endswith(b"marker.\r\n")
    until(expires_ms)
    mail.gone(eve)
    wait_for(lambda: mail.row(eve)["state"] == "expired")
    assert mail.row(eve)["visits"] == 1 and octets(bob.read(mail.id))
    wait_for(lambda: mail.events("link.expired"))


def test_times_that_the_server_refuses(fresh):
    t = fresh(settings={**SILENT, "web": {"max_expiry": "1d"}}).start()
    alice, = everyone(t, 1)
    eve, = outside()
    refused(alice.run("send", "--link", "--expires", "25h", eve, input=BODY, check=False), "1 day at most")
    mail = Mail(alice, eve)  # the 7 days that are asked for by nobody
    assert mail.row(eve)["expires_ms"] / 1000 - time.time() < 86400 + 300
    assert Mail(alice, "--expires", "1d", eve).open(eve)


def test_sending_again_makes_a_link_of_its_own(tree):
    alice, = everyone(tree, 1)
    eve, = outside()
    first, second = Mail(alice, eve), Mail(alice, eve)
    for mine, other in zip(first.links[eve], second.links[eve]):
        assert mine != other
    alice.run("revoke", first.id)
    first.gone(eve)
    second.open(eve)


def test_two_links_of_a_mail_are_each_others_strangers(tree):
    """One recipient's password opens neither the other's link nor its box."""
    alice, = everyone(tree, 1)
    eve, dan = outside(2)
    mail = Mail(alice, eve, dan)
    (eve_id, eve_password, eve_digest), (dan_id, dan_password, _) = mail.links[eve], mail.links[dan]
    crossed = f"{tree.url}/m/{b64u(dan_id)}#{b64u(eve_password)}.{b64u(eve_digest)}"
    refused(tree.client().run("open", crossed, check=False), "403")
    envelope, box = (f(x) for f, x in zip((read_envelope, read_box), mail.fetch(dan)))
    for password in (eve_password, dan_password):
        try:
            open_cake(hmac256(password, digest(envelope, box)), box["sealed"])
            assert password == dan_password
        except AssertionError:
            assert password == eve_password


def test_without_a_relay_there_are_no_links(fresh):
    t = fresh(settings={"relay": {"mode": "off"}}).start()
    alice, bob = everyone(t, 2)
    done = alice.run("send", "--link", *outside(), input=BODY, check=False)
    refused(done, "outside")
    alice.run("send", "--link", bob.address, input=BODY)


# P7, P8: with everything that is on disk

def everything(tree):
    return [tree.state, tree.log.parent]


def needles(mail, address):
    link_id, password, _ = mail.links[address]
    return {"password": password, "as text": b64u(password).encode(), "as hex": password.hex().encode(),
            "gate": hmac256(password, b"sealpost/1 gate")}


def test_P7_a_password_is_nowhere_once_its_link_is_sent(mode, world):
    t = make_tree(mode, world, test_build=True)
    try:
        password_is_gone(t.start())
    finally:
        t.remove()


def password_is_gone(t):
    alice, = everyone(t, 1)
    eve = f"eve-{os.urandom(4).hex()}@outside.test"
    mail = Mail(alice, eve)
    wait_for(lambda: mail.row(eve)["state"] == "sent")
    created, = wait_for(lambda: mail.events("link.created"))
    assert created["id"] == mail.id and created["destination"] == "outside.test"
    assert created["expires"] == mail.row(eve)["expires_ms"] // 1000
    sent, = wait_for(lambda: mail.events("link.sent"))
    assert sent["id"] == mail.id and sent["tls"] in ("encrypted", "verified") and sent["host"]
    erased, = wait_for(lambda: [e for e in t.events("secret.erased") if e["why"] == "sent"] or None)
    assert erased["residency_ms"] < 60_000
    looked_for = needles(mail, eve)
    # The notification itself has the link, and is in the other server's mailbox.
    for pid in t.all_pids():
        assert scan.needles_in_memory(pid, looked_for) == set(), pid
    for needle in looked_for.values():
        assert scan.in_locked_memory(t.dir / "control.sock", needle[:32]) == 0
    assert scan.needles_in_files(looked_for, *everything(t)) == set()
    assert octets(mail.open(eve).stdout).endswith(b"marker.\r\n")


@pytest.mark.parametrize("how", ["expired", "revoked"])
def test_P8_nothing_brings_a_link_back(fresh, how):
    """Neither a copy of the database and of the keeper's key taken while it lived, with the link, nor all of
    the state directory afterwards."""
    t = fresh(settings=dict(SILENT)).start()
    alice, bob = everyone(t, 2)
    eve, = outside()
    body = b"Subject: x\n\n" + b"".join(b"%08x" % i + os.urandom(28).hex().encode() + b"\n" for i in range(4000))
    mail = Mail(alice, "--expires", "30s" if how == "expired" else "1h", eve, message=body)
    envelope, box = mail.fetch(eve)
    expires_ms = mail.row(eve)["expires_ms"]
    t.ctl("backup", t.dir / "backup")
    if how == "expired":
        until(expires_ms)
    else:
        alice.run("revoke", mail.id)
    mail.gone(eve)
    wait_for(lambda: mail.row(eve)["state"] == how and mail.events("link." + how))
    alice.run("delete", mail.id)  # the sender's own copy, whose ciphertext is the same
    assert t.stop() == 0
    sealed = read_box(box)["sealed"]
    everywhere = everything(t) + [t.dir / "backup"]
    # The box was stored under a slot's key alone: no byte of it lies anywhere, not even in the backup.
    assert scan.needles_in_files({"box": sealed[:32], "its end": sealed[-32:]}, *everywhere) == set()
    assert scan.needles_in_files(needles(mail, eve), *everywhere) == set()

    owner = os.stat(t.state / "data" / "data.mdb")
    shutil.copy(t.dir / "backup" / "data" / "data.mdb", t.state / "data" / "data.mdb")
    os.chown(t.state / "data" / "data.mdb", owner.st_uid, owner.st_gid)
    (t.state / "data" / "lock.mdb").unlink()
    t.start()
    assert octets(alice.read(mail.id)).endswith(body.split(b"\n")[-2] + b"\r\n")  # the backup is in place
    mail.gone(eve)
    t.stop()
    assert scan.needles_in_files({"box": sealed[:32], "its end": sealed[-32:]}, *everywhere) == set()


def set_clock(tree, seconds):
    """What the store takes for the time of day, from the real one; until it is started again."""
    text = b"clock %d" % seconds
    body = struct.pack(">BH", ROLES.index("store"), len(text)) + text
    rows = scan.table(scan.ask(tree.dir / "control.sock", scan.CC_PROBE, body))
    assert [value for _, name, value in rows if name == "result"] == ["0"]


def test_P8_the_clock_forward_and_back(fresh):
    """Forward: what is over is gone at once. Back: it stays so, what has time left goes on, and no link can be made
    whose end has been seen already. A new start has the real time, and what was noted of the other."""
    t = fresh(test_build=True, settings=dict(SILENT)).start()
    alice, = everyone(t, 1)
    eve, dan = outside(2)
    soon, later = Mail(alice, "--expires", "1h", eve), Mail(alice, "--expires", "3h", dan)
    set_clock(t, -7200)
    soon.open(eve)
    set_clock(t, 7200)
    soon.gone(eve)
    wait_for(lambda: soon.row(eve)["state"] == "expired")
    for seconds in (7200, 0, -7200):
        set_clock(t, seconds)
        soon.gone(eve)
        later.open(dan)
    refused(alice.run("send", "--link", "--expires", "1h", eve, input=BODY, check=False), "")
    t.stop()
    t.start()
    soon.gone(eve)
    assert soon.row(eve)["state"] == "expired"
    later.open(dan)
    set_clock(t, 14400)
    later.gone(dan)
    wait_for(lambda: later.row(dan)["state"] == "expired")
    set_clock(t, 0)
    later.gone(dan)
