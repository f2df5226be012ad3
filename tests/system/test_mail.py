"""Byte for byte: what goes in by SMTP or LMTP comes out of the client."""
import base64
import os
import random
import subprocess

import pytest

from sealpost import content_of, crlf

ORDINARY = crlf("""From: bob@outside.test
To: alice@example.test
Subject: hello

Hi.
.a leading dot
..two of them
.

bye
""")


def multipart(parts, boundary="BOUND", close=True, subtype="mixed"):
    text = b"".join(b"--" + boundary.encode() + b"\r\n" + p + b"\r\n" for p in parts)
    end = b"--" + boundary.encode() + b"--\r\n" if close else b""
    return (b"From: bob@outside.test\r\nMIME-Version: 1.0\r\nContent-Type: multipart/%s; "
            b"boundary=\"%s\"\r\n\r\npreamble\r\n" % (subtype.encode(), boundary.encode())
            + text + end)


def attachment(data, name="a.bin", kind="application/octet-stream"):
    return (b"Content-Type: %s; name=\"%s\"\r\nContent-Disposition: attachment; filename=\"%s\"\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\n" % (kind.encode(), name.encode(), name.encode())
            + data)


def encoded(n, seed=1):
    data = random.Random(seed).randbytes(n)
    return base64.encodebytes(data).replace(b"\n", b"\r\n")[:-2]


TEXT = b"Content-Type: text/plain\r\n\r\nbody text"

MESSAGES = {
    "ordinary": (ORDINARY, 1),
    "empty": (b"", 1),
    "header alone": (b"Subject: x\r\n", 1),
    "blank line alone": (b"\r\n", 1),
    "text after a blank line": (crlf("Subject: x\n\nlast line\n"), 1),
    "one attachment": (multipart([TEXT, attachment(encoded(1000))]), 2),
    "large attachment": (multipart([TEXT, attachment(encoded(3_000_000))]), 2),
    "attachments at one offset": (multipart([b"Content-Type: image/png\r\n\r\n", TEXT]), 2),
    "empty attachment": (multipart([TEXT, attachment(b"")]), 2),
    "no final boundary": (multipart([TEXT, attachment(encoded(500))], close=False), 2),
    "boundary inside attachment": (multipart([attachment(b"--BOUNDX\r\n --BOUND\r\nx--BOUND--")]), 2),
    "nested": (multipart([TEXT, b"Content-Type: multipart/mixed; boundary=\"IN\"\r\n\r\n--IN\r\n"
                          + attachment(encoded(400)) + b"\r\n--IN--\r\n"]), 2),
    "nested, inner never closed": (multipart([b"Content-Type: multipart/mixed; boundary=IN\r\n\r\n"
                                              b"--IN\r\n" + attachment(b"QQ==")]), 2),
    "message/rfc822 is not looked into": (multipart([b"Content-Type: message/rfc822\r\n\r\n"
                                                     + multipart([attachment(b"QQ==")], "B2")]), 1),
    "8 bit and very long line": (b"Subject: x\r\n\r\n" + bytes(range(128, 256)) * 2000 + b"\r\n", 1),
    "long line over many chunks": (b"Subject: x\r\n\r\n" + b"x" * 100_000 + b"\r\n" * 3, 1),
    "1,000 parts": (multipart([attachment(b"%d" % i, f"f{i}") for i in range(1000)]), None),
    "only dots": (b"\r\n" + b".\r\n..\r\n...\r\n" * 3, 1),
    "exactly a chunk": (b"S: x\r\n\r\n" + b"y" * (16384 - 10) + b"\r\n", 1),
}


def roundtrip(tree, client, message, **how):
    before = len(client.list())
    assert tree.deliver(message, [client.address], **how) == {}
    rows = client.list()
    assert len(rows) == before + 1
    got = client.read(rows[-1]["id"])
    # smtplib ends the last line
    want = message if message.endswith(b"\r\n") else message + b"\r\n"
    assert content_of(got) == want
    return rows[-1]


@pytest.fixture(scope="module")
def alice(tree):
    return tree.user("alice-mail")


@pytest.mark.parametrize("name", MESSAGES)
def test_roundtrip(tree, alice, name):
    message, pieces = MESSAGES[name]
    row = roundtrip(tree, alice, message)
    if pieces is not None:
        assert row["pieces"] == pieces
    else:
        assert 1 < row["pieces"] <= 256


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize("tls", [False, True])
def test_ways_in(tree, alice, lmtp, tls):
    for name in ("ordinary", "one attachment", "large attachment"):
        roundtrip(tree, alice, MESSAGES[name][0], lmtp=lmtp, tls=tls)
    got = alice.read(alice.newest()["id"])
    kind = ("LMTP" if lmtp else "ESMTP") + ("S" if tls else "")
    assert b" with " + kind.encode() + b" id " in got
    assert got.startswith(b"Return-Path: <sender@outside.test>\r\n")


def test_random_multiparts(tree, alice):
    rnd = random.Random(7)
    for _ in range(20):
        parts = [rnd.choice([TEXT, attachment(encoded(rnd.choice([0, 1, 12000, 16384, 50000]),
                                                      rnd.random()), "x")])
                 for _ in range(rnd.randint(1, 6))]
        roundtrip(tree, alice, multipart(parts, close=rnd.random() < 0.7))


def test_huge(tree, alice):
    """200 MB, and the window stays what it is for small mail (P1)."""
    message = multipart([TEXT, attachment(encoded(148_000_000))])
    assert len(message) > 200_000_000
    roundtrip(tree, alice, message)
    sealed = tree.events("message.sealed")[-1]
    assert sealed["bytes"] > 200_000_000
    assert sealed["window_bytes"] <= 128 * 1024
    alice.run("delete", alice.newest()["id"])


def test_hundred_recipients(tree):
    users = [tree.user(f"many{i}") for i in range(3)]
    aliases = [f"team{i}@example.test" for i in range(97)]
    for a in aliases:
        tree.ctl("alias", "add", a, users[0].address)
    everyone = [u.address for u in users] + aliases
    assert tree.deliver(ORDINARY, everyone) == {}
    for u in users:
        assert len(u.list()) == 1  # each user once, however many aliases
        assert content_of(u.read(u.newest()["id"])) == ORDINARY
    assert tree.events("message.sealed")[-1]["recipients"] == 3


def test_swaks(tree, alice):
    before = len(alice.list())
    for extra in ([], ["--tls"], ["--protocol", "LMTP", "--port", str(tree.lmtp_port)]):
        port = [] if "--port" in extra else ["--port", str(tree.smtp_port)]
        done = subprocess.run(["swaks", "--server", "127.0.0.1", "--to", alice.address, "--from",
                               "bob@outside.test", "--body", "from swaks", "--attach-type",
                               "application/x-test", "--attach", "@/etc/hostname", *port, *extra],
                              capture_output=True, timeout=180)
        assert done.returncode == 0, done.stdout.decode()
    assert len(alice.list()) == before + 3
    assert b"from swaks" in alice.read(alice.newest()["id"])


def test_smtp_source(tree, alice):
    before = len(alice.list())
    subprocess.run(["/usr/sbin/smtp-source", "-c", "-s", "5", "-m", "50", "-l", "5000", "-f",
                    "bob@outside.test", "-t", alice.address, f"inet:127.0.0.1:{tree.smtp_port}"],
                   check=True, capture_output=True, timeout=180)
    assert len(alice.list()) == before + 50


def test_as_many_connections_as_allowed(fresh):
    """A sender that stays within the limit is not refused, however fast it goes from one session to the
    next (Postfix sends 20 at once)."""
    t = fresh(settings={"smtp": {"max_sessions_per_client": 20}}).start()
    alice = t.user("alice")
    subprocess.run(["/usr/sbin/smtp-source", "-s", "15", "-m", "600", "-l", "1000", "-f",
                    "bob@outside.test", "-t", alice.address, f"inet:127.0.0.1:{t.smtp_port}"],
                   check=True, capture_output=True, timeout=180)
    assert t.events("session.refused") == []


def test_addresses(tree):
    users = [tree.user("first"), tree.user("second")]
    tree.ctl("alias", "add", "both@example.test", users[0].address, users[1].address)
    cases = [("First@Example.TEST", [1, 0]), ("first+tag@example.test", [1, 0]),
             ("both@example.test", [1, 1]), ("second@example.test", [0, 1])]
    want = [0, 0]
    for rcpt, add in cases:
        assert tree.deliver(ORDINARY, [rcpt]) == {}
        want = [a + b for a, b in zip(want, add)]
        assert [len(u.list()) for u in users] == want


def test_postmaster(fresh):
    t = fresh().start()
    first = t.user("first")
    for rcpt in ("Postmaster", "postmaster@example.test", "PostMaster@mail.example.test"):
        with t.smtp() as s:
            s.ehlo()
            s.mail("a@outside.test")
            assert s.docmd(f"RCPT TO:<{rcpt}>")[0] == 250
            assert s.data(ORDINARY)[0] == 250
        with t.smtp() as s:
            s.ehlo()
            s.mail("a@outside.test")
            assert s.docmd("RCPT TO:<first@mail.example.test>")[0] == 550  # a name without users
    assert len(first.list()) == 3


def test_refusals(tree):
    tree.ctl("user", "add", "keyless@example.test")
    with tree.smtp() as s:
        s.ehlo()
        s.mail("a@outside.test")
        for rcpt, code in [("nobody@example.test", b"550 5.1.1"), ("keyless@example.test", b"450 4.2.1"),
                           ("x@elsewhere.test", b"550 5.7.1"), ("a%b@example.test", b"550 5.7.1"),
                           ("\"a@b\"@example.test", b"550 5.7.1"), ("b!a@example.test", b"550 5.7.1")]:
            got = s.docmd(f"RCPT TO:<{rcpt}>")
            assert b"%d %s" % (got[0], got[1][:5]) == code[:9], (rcpt, got)
        s.quit()


def test_deletion_drops_shared_pieces_with_the_last(tree):
    a, b = tree.user("drop-a"), tree.user("drop-b")
    message = multipart([TEXT, attachment(encoded(200_000))])
    tree.deliver(message, [a.address, b.address])
    a.run("delete", a.newest()["id"])
    assert a.list() == []
    assert content_of(b.read(b.newest()["id"])) == message
    b.run("delete", b.newest()["id"])
    assert b.list() == []


def test_rotation_keeps_old_mail_readable(tree):
    u = tree.user("rotating")
    for generation in (1, 2, 3):
        tree.deliver(ORDINARY, [u.address])
        assert u.newest()["generation"] == generation
        u.run("rotate")
    for row in u.list():
        assert content_of(u.read(row["id"])) == ORDINARY


def test_os_random_bytes_as_message(tree, alice):
    data = os.urandom(70_000).replace(b"\r", b"x").replace(b"\n", b"y").replace(b"\0", b"z")
    roundtrip(tree, alice, b"\r\n".join(data[i:i + 900] for i in range(0, len(data), 900)) + b"\r\n")
