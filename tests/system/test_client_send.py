"""What the client sends, opened by an implementation of its own (sendserver.py), and what it does when
the server or the connection is not what it should be."""
import base64
import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.bindings import crypto_box_seal_open

from device import Device, b16, puk_email_key, raw_public
from opener import digest, hmac256
from sealpost import BUILD
from sendserver import SendServer
from test_client import Liar, User, octets, refused, with_attachment

HELLO = b"To: someone\r\nSubject: a word\r\n\r\nThe quick brown marker.\r\n"


@pytest.fixture
def post(tree, tmp_path):
    """A proxy in front of the tree that answers the routes of sending by itself."""
    proxy = Liar(tree, tmp_path)
    server = SendServer()
    proxy.local = server
    server.proxy = proxy
    yield server
    proxy.shutdown()
    proxy.server_close()


class Sender(User):
    def __init__(self, tree, tmp_path, post):
        super().__init__(tree, tmp_path, liar=post.proxy)
        self.post = post
        self.keys = json.loads(octets(self.run("keys").stdout))
        self.user_id = bytes.fromhex(self.keys["user_id"])
        post.users[self.address] = [self.user_id]

    def send(self, *args, message=HELLO, check=True):
        """The message as the server has it, or the failed process."""
        done = self.run("send", *args, input=message, check=check)
        if done.returncode != 0:
            return done
        ident = octets(done.stdout).decode().strip()
        assert re.fullmatch("[0-9a-f]{32}", ident)
        sent = self.post.sent[ident]
        sent.said, sent.id = octets(done.stderr).decode(), ident
        return sent

    def reload(self):
        self.keys = json.loads(octets(self.run("keys").stdout))


@pytest.fixture
def alice(tree, tmp_path, post):
    return Sender(tree, tmp_path, post)


@pytest.fixture
def bob(tree, tmp_path, post):
    return Sender(tree, tmp_path, post)


def content(message):
    """Header fields as a list, and the body."""
    head, _, body = message.partition(b"\r\n\r\n")
    return re.split(rb"\r\n(?![ \t])", head), body


# What is made

def test_to_a_user(alice, bob):
    message = with_attachment(os.urandom(150_000).hex().encode())
    sent = alice.send(bob.address, message=message)
    for who in (bob, alice):
        text, manifest = sent.open_for(who.keys)
        assert text.endswith(message) and manifest["flags"] == 0 and manifest["added"] == b""
        assert [p["name"] for p in manifest["pieces"]] == [b"", b"a.pdf"]
    assert sent.relay_box() is None and len(sent.form.boxes) == 2
    assert sent.form.mail_from == alice.address
    assert sent.form.envelope["sender_user_id"] == alice.user_id
    assert sent.form.envelope["sender_sign_pk"].hex() == alice.keys["device"]["sign_pk"]
    assert sent.sent_copy(alice.keys) == (bob.address, [(1, []), (1, [bob.address])])
    assert sent.said == ""


def test_fields_are_added_and_only_when_missing(alice, bob):
    head, body = content(sent_to(alice, bob, b"Subject: x\n\nhello\n"))
    assert [re.match(rb"[\w-]+", f)[0] for f in head] == [b"Date", b"From", b"Message-ID", b"Subject"]
    assert re.fullmatch(rb"Date: [A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", head[0])
    assert head[1] == b"From: " + alice.address.encode()
    assert re.fullmatch(rb"Message-ID: <[0-9a-f]{32}@example.test>", head[2])
    whole = b"Message-ID: <x@y>\r\nfrom: A <%s>\r\nDATE : Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nhello\r\n" \
        % alice.address.upper().encode()
    assert sent_to(alice, bob, whole) == whole


def sent_to(sender, reader, message, *args):
    return sender.send(*args, reader.address, message=message).open_for(reader.keys)[0]


@pytest.mark.parametrize("text,wanted", [
    (b"a: b\n\none\ntwo\n", b"one\r\ntwo\r\n"),
    (b"a: b\r\n\r\none\r\ntwo\n", b"one\r\ntwo\r\n"),
    (b"a: b\n\nno end", b"no end\r\n"),
    (b"a: b\n\none\n.\ntwo\n", b"one\r\n"),
    (b"a: b\n\none\r\n.\r\ntwo\n", b"one\r\n"),
    (b"a: b\n\n..\n.x\n. \n", b"..\r\n.x\r\n. \r\n"),
    (b"a: b\n\none\n.", b"one\r\n"),
    (b"no header at all\n\nx\n", b"no header at all\r\n\r\nx\r\n"),
    (b"a: b\nnot a field\nx: y\n", b"not a field\r\nx: y\r\n"),
    (b"From someone Mon Jan  1 00:00:00 2024\na: b\n\nx\n", b"x\r\n"),
    (b"\nbody\n", b"body\r\n"),
    (b"a: b\n", b""),
    (b"a: b\n\n" + b"x" * 200_000 + b"\n\n", b"x" * 200_000 + b"\r\n\r\n"),
], ids=range(13))
def test_lines_are_ended_by_crlf(alice, bob, text, wanted):
    message = sent_to(alice, bob, text)
    assert content(message)[1] == wanted and b"\n" not in message.replace(b"\r\n", b"")


def test_lone_dot_with_i(alice, bob):
    for flag in ("-i", "-oi"):
        assert content(sent_to(alice, bob, b"a: b\n\none\n.\ntwo\n.\n", flag))[1] == \
            b"one\r\n.\r\ntwo\r\n.\r\n"


@pytest.mark.parametrize("text,line", [(b"a: b\n\none\rtwo\n", 3), (b"a: b\rc\n\n", 1), (b"a: b\n\nx\r", 3),
                                       (b"a: b\n\nx\r\r\n", 3)])
def test_a_bare_cr_is_refused(alice, bob, text, line):
    refused(alice.send(bob.address, message=text, check=False), f"line {line} ", "CR without LF")
    assert alice.post.sent == {}


def test_nothing_on_standard_input(alice, bob):
    refused(alice.send(bob.address, message=b"", check=False), "no message")


# Recipients

def test_t_takes_all_three_and_drops_bcc(alice, bob, tree, tmp_path, post):
    carol, dave = Sender(tree, tmp_path, post), Sender(tree, tmp_path, post)
    message = (f"To: Bob <{bob.address}>\nCc: team: {carol.address};\nBcc: {dave.address},\n"
               f"  Hidden <hidden@out.example>\nbcc: {alice.address}\nSubject: s\n\nbody\n").encode()
    sent = alice.send("-t", message=message)
    for who in (alice, bob, carol, dave):
        text, manifest = sent.open_for(who.keys)
        assert b"bcc" not in text.lower() and dave.address.encode() not in text and b"hidden" not in text
        assert manifest["flags"] == 1
    bcc, listed = sent.sent_copy(alice.keys)
    assert bcc == f"{dave.address},hidden@out.example,{alice.address}"
    assert listed == [(1, [alice.address]), (1, [bob.address]), (1, [carol.address]), (1, [dave.address]),
                      (2, ["hidden@out.example"])]
    assert "not end-to-end encrypted for: hidden@out.example" in sent.said


def test_words_and_header_together(alice, bob):
    message = f"To: {bob.address.upper()}\n\nx\n".encode()
    sent = alice.send("-t", f"<{bob.address}>", "X <a@out.example>, b@out.example", message=message)
    assert sent.form.outside == ["a@out.example", "b@out.example"]
    assert sent.sent_copy(alice.keys)[0] == "a@out.example,b@out.example"
    assert len(sent.form.boxes) == 3


def test_alias_and_self(alice, bob, post):
    post.users["team@example.test"] = [alice.user_id, bob.user_id]
    sent = alice.send("team@example.test", bob.address)
    assert sent.sent_copy(alice.keys)[1] == [(1, ["team@example.test"]), (1, ["team@example.test", bob.address])]
    assert f"team@example.test leads to {alice.address}, {bob.address}" in sent.said
    assert len(alice.send(alice.address).form.boxes) == 1


def test_outside_gets_one_box_that_the_keeper_alone_opens(alice, post):
    sent = alice.send("a@one.example", "b@two.example", "c@one.example")
    box = sent.relay_box()
    assert sent.form.outside == ["a@one.example", "b@two.example", "c@one.example"]
    secret = crypto_box_seal_open(box["secret"], post.keeper_pk, post.keeper_sk)
    assert secret[:6] == b"SPSK\x01\x02" and secret[6:22] == box["recipient_id"] and len(secret) == 54
    text, manifest = sent.open(box, secret[22:])
    assert text.endswith(HELLO) and manifest["flags"] == 1
    assert "not end-to-end encrypted for: a@one.example, b@two.example, c@one.example" in sent.said
    again = alice.send("a@one.example").relay_box()
    assert again["recipient_pk"] != box["recipient_pk"] and again["recipient_id"] != box["recipient_id"]


LINK = re.compile(r"(\S+) (https://\S+)/m/([\w-]{22})#([\w-]{43})\.([\w-]{43})")


def unb64u(text):
    return base64.urlsafe_b64decode(text + "=")


def printed(stdout):
    """id, {address: (link id, password, digest)}"""
    ident, *lines = octets(stdout).decode().splitlines()
    found = [LINK.fullmatch(line) for line in lines]
    return ident, {f[1]: (base64.urlsafe_b64decode(f[3] + "=="), unb64u(f[4]), unb64u(f[5])) for f in found}


def test_links_open_with_what_is_printed_and_with_what_the_keeper_gets(alice, bob, post, tree):
    before = time.time()
    done = alice.run("send", "--link", "--print-links", "--subject", "Gr\u00fc\u00dfe", "a@one.example",
                     bob.address, "b@two.example", input=HELLO)
    ident, links = printed(done.stdout)
    sent = post.sent[ident]
    assert [k["address"] for k in sent.form.links] == ["a@one.example", "b@two.example"] == list(links)
    assert sent.relay_box() is None and sent.form.outside == []
    assert len({k["recipient_id"] for k in sent.form.links}) == len({p for _, p, _ in links.values()}) == 2
    for box in sent.form.links:
        link_id, password, shown = links[box["address"]]
        secret = crypto_box_seal_open(box["secret"], post.keeper_pk, post.keeper_sk)
        assert secret == b"SPSK\x01\x03" + link_id + password and link_id == box["recipient_id"]
        assert box["generation"] == 0 and box["recipient_pk"] == b"" and len(box["context"]) == 8
        assert before + 7 * 86400 - 1 <= int.from_bytes(box["context"], "big") <= time.time() + 7 * 86400
        sent.form.check_order(box, password)
        gate = hmac256(password, b"sealpost/1 gate")
        assert box["gate_sha256"] == hashlib.sha256(gate).digest()
        assert shown == digest(sent.form.envelope, box) and box["subject"] == "Gr\u00fc\u00dfe"
        text, manifest = sent.open(box, password)
        assert text.endswith(HELLO) and manifest["flags"] == 1
    assert sent.open_for(bob.keys)[1]["flags"] == 1
    assert sent.sent_copy(alice.keys) == (f"a@one.example,{bob.address},b@two.example", [
        (1, []), (1, [bob.address]), (3, ["a@one.example"]), (3, ["b@two.example"])])
    said = octets(done.stderr).decode()
    assert re.search(r"not end-to-end encrypted: a link until \d{4}-\d\d-\d\d \d\d:\d\d for: "
                     r"a@one.example, b@two.example", said) and "read its subject" in said
    assert LINK.search(said) is None


def test_links_are_not_printed_unless_asked_for(alice, post):
    sent = alice.send("--link", "--expires", "90s", "a@one.example")
    box, = sent.form.links
    assert "#" not in sent.said and box["subject"] == ""
    assert int.from_bytes(box["context"], "big") <= time.time() + 90
    again, = alice.send("--link", "a@one.example").form.links
    assert again["recipient_id"] != box["recipient_id"] and again["gate_sha256"] != box["gate_sha256"]


def test_links_as_json(alice, bob, post):
    done = json.loads(octets(alice.run("send", "--json", "--link", "--print-links", "--expires", "1h",
                                       "a@one.example", "b@two.example", input=HELLO).stdout))
    boxes = post.sent[done["id"]].form.links
    assert [k["address"] for k in done["links"]] == [b["address"] for b in boxes]
    assert [k["expires"] for k in done["links"]] == [int.from_bytes(b["context"], "big") for b in boxes]
    assert all(re.fullmatch(r"https://\S+#\S+", k["link"]) for k in done["links"])
    done = alice.run("send", "--json", "--link", "--print-links", bob.address, input=HELLO)
    assert json.loads(octets(done.stdout))["links"] == [] and b"nobody gets a link" in octets(done.stderr)
    done = alice.run("send", "--link", "--print-links", bob.address, input=HELLO)
    assert len(octets(done.stdout).splitlines()) == 1


def test_the_servers_longest_expiry(alice, post):
    post.told = {"max_expiry": 3 * 86400}
    refused(alice.send("--link", "--expires", "4d", "a@one.example", check=False), "3 days at most")
    box, = alice.send("--link", "a@one.example").form.links  # not asked for: as long as may be
    assert 3 * 86400 - 60 < int.from_bytes(box["context"], "big") - time.time() <= 3 * 86400
    post.told = {"max_expiry": "long"}
    refused(alice.send("--link", "a@one.example", check=False), "how long links may last")
    post.told = {"max_expiry": 90}
    refused(alice.send("--link", "--expires", "2m", "a@one.example", check=False), "90 seconds at most")
    post.told = {"version": "without it"}
    alice.send("--link", "--expires", "4000d", "a@one.example")


@pytest.mark.parametrize("subject", ["x" * 513, "a\nb", "a\rb", "\x1b[0m", "\udcff"])
def test_what_is_no_subject(alice, post, subject):
    refused(alice.send("--link", "--subject", subject, "a@one.example", check=False), "--subject")
    assert post.sent == {}


def test_more_links_than_a_mail_may_have(alice, post):
    many = [f"a{i}@one.example" for i in range(101)]
    refused(alice.send("--link", *many, check=False), "100 recipients at most")
    assert len(alice.send("--link", *many[:100]).form.links) == 100


def test_links_of_a_resumed_send(alice, post):
    """The passwords are in the outbox, sealed; they and the links are the same afterwards."""
    post.refuse = (503, b"{}")
    alice.send("--link", "a@one.example", check=False)
    letter = next(alice.home.glob("outbox/*.letter")).read_bytes()
    assert b"one.example" not in letter
    post.refuse = None
    ident, links = printed(alice.run("send", "--resume", "--print-links").stdout)
    sent = post.sent[ident]
    assert sent.open(sent.form.links[0], links["a@one.example"][1])[0].endswith(HELLO)
    assert links["a@one.example"][2] == digest(sent.form.envelope, sent.form.links[0])


def test_links_that_expired_unsent_begin_anew(alice, post):
    post.refuse = (503, b"{}")
    alice.send("--link", "--expires", "1s", "a@one.example", check=False)
    time.sleep(2)
    post.refuse, asked = None, time.time()
    done = alice.run("send", "--resume", "--print-links")
    ident, links = printed(done.stdout)
    box, = post.sent[ident].form.links
    assert b"its links work until" in octets(done.stderr)
    assert int.from_bytes(box["context"], "big") >= int(asked) + 1
    assert links["a@one.example"][2] == digest(post.sent[ident].form.envelope, box)
    assert post.sent[ident].sent_copy(alice.keys)[1][1] == (3, ["a@one.example"])


def test_a_refused_link_names_the_clock(alice, post):
    post.refuse = (422, b'{"error": "the form is refused"}')
    refused(alice.send("--link", "a@one.example", check=False), "clock", "was not sent to anybody")


def test_status_of_links(alice, post):
    sent = alice.send("--link", "a@one.example")
    table = octets(alice.run("status", sent.id).stdout).decode()
    assert re.search(r"a@one.example +link +sent", table) and re.search(r"ends 20\S+ \S+, 2 visits, opened 1970", table)
    row, = json.loads(octets(alice.run("status", sent.id, "--json").stdout))["recipients"]
    assert (row["visits"], row["opened_ms"], row["kind"]) == (2, 5000, "link") and row["expires_ms"] > 0
    sent.form.links[0]["address"] = "mallory@one.example"
    assert b"mallory@one.example is not on the list" in octets(alice.run("status", sent.id).stderr)


@pytest.mark.parametrize("word", ["bob", "a@b@c", "a b@c", "<a@x", ""])
def test_what_is_no_address(alice, word):
    refused(alice.send(word, check=False), "user@example.org")


def test_all_that_is_wrong_with_recipients_is_said(alice, bob):
    done = alice.send("nobody1@example.test", bob.address, "nobody2@example.test", check=False)
    refused(done, "nobody1@example.test: there is nobody", "nobody2@example.test: there is nobody")
    assert alice.post.uploads == {} and list((alice.home / "outbox").iterdir()) == []


def test_users_without_keys(alice, post):
    post.users["invited@example.test"] = [b"\x01" * 16]
    refused(alice.send("invited@example.test", check=False), "has no keys")


# The sender

def test_from_has_to_be_ones_own(alice, bob, post):
    for field in (f"From: {bob.address}", f"From: {alice.address}, {bob.address}", "From: x@out.example",
                  f"From: {alice.address}\nFrom: {alice.address}", "From: nonsense", "From:",
                  f'From: "{alice.address}" <{bob.address}>'):
        refused(alice.send(bob.address, message=field.encode() + b"\n\nx\n", check=False), "From")
    refused(alice.send("-f", bob.address, bob.address, check=False), "not yours")
    refused(alice.send("-f", "<>", bob.address, check=False), "no address")
    assert post.sent == {}


def test_an_alias_of_ones_own_may_send(alice, bob, post):
    post.users["desk@example.test"] = [alice.user_id]
    sent = alice.send("-f", "desk@example.test", bob.address, message=b"a: b\n\nx\n")
    assert sent.form.mail_from == "desk@example.test"
    assert b"\r\nFrom: desk@example.test\r\n" in sent.open_for(bob.keys)[0]
    sent = alice.send(bob.address, message=b"From: Desk <desk@example.test>\n\nx\n")
    assert sent.form.mail_from == "desk@example.test"


def test_flags_of_sendmail(alice, bob):
    for flags in (["-oi", "-oem", "-bm", "-F", "A Name", "-N", "never", "-R", "hdrs", "-V", "x"],
                  ["-i", "-f", alice.address, "--"], ["-r", alice.address], ["-v", "-B", "8BITMIME"], ["-i", "-m", "-em", "-O", "x=y"]):
        alice.send(*flags, bob.address)
    sent = alice.send("-oi", "-t", "--", message=b"To: %s\n\nx\n" % bob.address.encode())
    assert len(sent.form.boxes) == 2


@pytest.mark.parametrize("args", [[], ["-bs", "x@y.z"], ["-x", "x@y.z"], ["--expires", "7d", "x@y.z"],
                                  ["--link", "--expires", "7", "x@y.z"], ["--resume", "-t"], ["--drop"],
                                  ["--link", "--expires", "0d", "x@y.z"], ["--subject", "x", "x@y.z"],
                                  ["--print-links", "x@y.z"], ["--resume", "--link"], ["--link", "--expires", "7w", "x@y.z"],
                                  ["--drop", "--print-links", "1"], ["--resume", "--subject", "x"],
                                  ["--resume", "--drop", "1"]])
def test_usage(alice, args):
    done = alice.run("send", *args, check=False, input=HELLO)
    assert done.returncode == 2 and b"usage: sealpost send" in octets(done.stderr)


def test_a_lifetime_that_is_none_is_named(alice):
    done = alice.run("send", "--link", "--expires", "banana", "x@y.z", check=False, input=HELLO)
    assert done.returncode == 2 and b"--expires banana" in octets(done.stderr)


def test_as_a_link_by_the_name_of_sendmail(alice, bob, tmp_path):
    link = tmp_path / "sendmail"
    link.symlink_to(BUILD / "sealpost")
    done = subprocess.run([link, "-oi", bob.address], input=HELLO, env=alice.client.env, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert alice.post.sent[done.stdout.decode().strip()].open_for(bob.keys)


# Keys that change

def test_new_keys_of_a_recipient_are_used(alice, bob):
    alice.send(bob.address)
    bob.run("rotate")
    bob.reload()
    sent = alice.send(bob.address)
    assert sent.box_for(bob.user_id)["generation"] == 2 and sent.open_for(bob.keys)


def test_keys_that_change_while_we_send(alice, bob, post):
    """The answer 409: boxes are made anew, pieces are not sent again unless the server says so."""
    done = []

    def rotate(method, path):
        if path.endswith("/send") and not done:
            done.append(bob.run("rotate"))
            post.stale = 1
    post.before = rotate
    sent = alice.send(bob.address)
    bob.reload()
    assert sent.box_for(bob.user_id)["generation"] == 2
    assert sent.open_for(bob.keys)[0].endswith(HELLO) and sent.sent_copy(alice.keys)


def test_a_server_that_always_says_stale_is_given_up(alice, bob, post):
    post.stale = 99
    refused(alice.send(bob.address, check=False), "though it shows no others", "--resume")
    assert post.stale > 90


def test_tracked_contact(alice, bob):
    shown = octets(alice.run("fingerprint", bob.address, "--track").stdout)
    assert shown == octets(bob.run("fingerprint").stdout)
    alice.send(bob.address)
    bob.run("rotate")
    refused(alice.send(bob.address, check=False), "changed since you compared it",
            octets(bob.run("fingerprint").stdout).decode().strip(), "--track")
    assert b"changed" in octets(alice.run("fingerprint", bob.address).stderr)
    alice.run("fingerprint", bob.address, "--track")
    alice.send(bob.address)
    bob.run("rotate")
    alice.run("fingerprint", bob.address, "--untrack")
    alice.send(bob.address)


# A server that lies

def test_an_address_that_leads_to_somebody_else(alice, bob, tree, tmp_path, post):
    mallory = Sender(tree, tmp_path, post)
    alice.send(bob.address)
    post.users[bob.address] = [mallory.user_id]
    refused(alice.send(bob.address, check=False), "was a user's own address")
    del post.users[bob.address]
    post.domain = "elsewhere.test"  # or to the outside, where the server could read it
    refused(alice.send(bob.address, check=False), "was a user's own address", "the outside")
    post.domain = "example.test"
    post.users[bob.address] = [mallory.user_id]
    assert b"forgot" in octets(alice.run("fingerprint", bob.address, "--forget").stdout)
    assert f"{bob.address} leads to {mallory.address}, as the server says" in alice.send(bob.address).said


@pytest.mark.parametrize("change,words", [
    (lambda b: b[:16], "backwards"), (lambda b: b[:-1] + bytes([b[-1] ^ 1]), "forks"),
    (lambda b: bytes([b[0] ^ 1]) + b[1:], "somebody else"), (lambda b: b[:-1], "sigchain")])
def test_a_recipients_chain_that_is_not_what_it_was(alice, bob, post, change, words):
    alice.send(bob.address)
    post.proxy.lie = lambda method, path, status, body: (
        status, change(body) if bob.user_id.hex() in path else body)
    refused(alice.send(bob.address, check=False), words)
    assert len(post.sent) == 1


def test_another_keeper_key_is_refused(alice, bob, post):
    alice.send("a@out.example")
    account = json.loads((alice.home / "account.json").read_text())
    assert account["keeper"] == post.keeper_pk.hex()
    post.keeper_pk = os.urandom(32)
    refused(alice.send("a@out.example", check=False), "keeper key", "postmaster")
    alice.send(bob.address)  # nothing to do with it
    del account["keeper"]
    (alice.home / "account.json").write_text(json.dumps(account))
    assert "is remembered from now on" in alice.send("a@out.example").said


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"ours": true, "users": []}', b'{"ours": 1, "users": []}',
                                    b'{"ours": true, "users": ["../../x"]}', b'{"ours": false, "users": ["%s"]}'
                                    % (b"0" * 32), pytest.param(b"[" * 100_000, id="deep")])
def test_resolve_is_read_strictly(alice, bob, post, answer):
    post.proxy.lie = lambda method, path, status, body: (
        (200, answer) if "/v1/resolve/" in path else (status, body))
    refused(alice.send(bob.address, check=False), "address leads to")


# Connections that break

class Broken(Exception):
    pass


@pytest.mark.parametrize("when", ["before", "after"])
def test_every_answer_may_be_lost(alice, bob, post, when):
    broken = {}

    def twice(method, path):  # libcurl itself tries a kept connection once more
        step = (method, re.sub(r"[0-9a-f]{32}|offset=\d+", "", path))
        if broken.setdefault(step, 0) < 2 and "upload" in path:
            broken[step] += 1
            raise Broken
    setattr(post, when, twice)
    message = with_attachment(os.urandom(300_000).hex().encode())
    sent = alice.send(bob.address, message=message)
    assert sent.open_for(bob.keys)[0].endswith(message) and len(post.sent) == 1
    assert len(broken) >= 5 and "trying again" in sent.said


def test_an_upload_that_the_server_forgot(alice, bob, post):
    forgot = []

    def forget(method, path):
        if method == "PUT" and len(forgot) < 2:
            forgot.append(post.uploads.clear())
            raise Broken
    post.after = forget
    assert alice.send(bob.address).open_for(bob.keys)[0].endswith(HELLO)


def test_a_server_that_was_restarted_before_it_sent(alice, bob, post):
    """Forms are in its memory alone: a refusal because of that is no refusal."""
    lost = []

    def lose(method, path):
        if path.endswith("/send") and not lost:
            lost.append([u[2].clear() for u in post.uploads.values()])
            post.refuse = (422, b"{}")
        elif method == "PUT":
            post.refuse = None
    post.before = lose
    assert alice.send(bob.address).open_for(bob.keys)[0].endswith(HELLO)


class Stop:
    """Holds the uploads at a request, until told."""

    def __init__(self, post, pattern):
        self.reached, self.go = threading.Event(), threading.Event()
        self.pattern = pattern
        post.before = self

    def __call__(self, method, path):
        if re.search(self.pattern, method + " " + path):
            self.reached.set()
            if not self.go.wait(60):
                raise Broken


def start_send(sender, *args, message):
    p = subprocess.Popen([BUILD / "sealpost", "send", *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, env=sender.client.env)
    threading.Thread(target=lambda: (p.stdin.write(message), p.stdin.close()), daemon=True).start()
    return p


def test_killed_in_the_middle_and_resumed(alice, bob, post):
    message = with_attachment(os.urandom(900_000).hex().encode())
    stop = Stop(post, r"PUT .*/piece/1\?offset=[1-9]")
    p = start_send(alice, bob.address, message=message)
    assert stop.reached.wait(30)
    files = [f for f in (alice.home / "outbox").iterdir()]
    assert {f.suffix for f in files} == {".body", ".parts", ".letter"}
    everything = b"".join(f.read_bytes() for f in files)
    assert message[-40_000:-39_000] not in everything and bob.address.encode() not in everything
    assert all(f.stat().st_mode & 0o777 == 0o600 for f in files)
    other = octets(alice.run("list", "--json").stdout)  # the state is free meanwhile
    assert json.loads(other) == []
    p.kill()
    p.wait()
    stop.go.set()
    listed = json.loads(octets(alice.run("outbox", "--json").stdout))
    assert [r["recipients"] for r in listed] == [[bob.address]]
    before = len([1 for a in post.asked if a[0] == "PUT"])
    done = alice.run("send", "--resume")
    ident = octets(done.stdout).decode().strip()
    assert ident == listed[0]["id"]
    assert post.sent[ident].open_for(bob.keys)[0].endswith(message)
    assert len([1 for a in post.asked if a[0] == "PUT"]) - before < 9  # not all of it again
    assert list((alice.home / "outbox").iterdir()) == []
    assert octets(alice.run("send", "--resume").stdout) == b""


def test_killed_while_reading_leaves_nothing_to_send(alice, bob, post):
    p = subprocess.Popen([BUILD / "sealpost", "send", bob.address], stdin=subprocess.PIPE, env=alice.client.env)
    p.stdin.write(HELLO * 20_000)
    p.stdin.flush()
    end = time.monotonic() + 120
    while time.monotonic() < end and not list(alice.home.glob("outbox/*.body")):
        time.sleep(0.02)
    p.kill()
    p.wait()
    assert list(alice.home.glob("outbox/*.body"))
    assert json.loads(octets(alice.run("outbox", "--json").stdout)) == []
    alice.send(bob.address)
    assert list((alice.home / "outbox").iterdir()) == []


def test_changed_letter_is_refused_and_can_be_dropped(alice, bob, post):
    post.refuse = (503, b"{}")
    done = alice.send(bob.address, check=False)
    refused(done, "503", "is not sent, and kept")
    letter = next(alice.home.glob("outbox/*.letter"))
    good = letter.read_bytes()
    for at in (0, 10, 40, len(good) // 2, len(good) - 1):
        letter.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1:])
        refused(alice.run("send", "--resume", check=False), "unfinished message")
    letter.write_bytes(good)
    assert b"dropped" in octets(alice.run("send", "--drop", letter.stem).stdout)
    assert post.uploads == {} and list((alice.home / "outbox").iterdir()) == []


@pytest.mark.parametrize("status", [403, 413, 422])
def test_a_clear_no_is_final(alice, bob, post, status):
    post.refuse = (status, b'{"error": "because"}')
    refused(alice.send(bob.address, check=False), str(status), "because", "was not sent to anybody")
    assert post.uploads == {} and list((alice.home / "outbox").iterdir()) == []


def test_two_at_once(alice, bob, post):
    stop = Stop(post, r"POST .*/send")
    p = start_send(alice, bob.address, message=HELLO)
    assert stop.reached.wait(30)
    busy = next(alice.home.glob("outbox/*.letter")).stem
    refused(alice.run("send", "--resume", busy, check=False), "another sealpost is sending it")
    post.before = lambda method, path: None
    alice.send(bob.address)
    stop.go.set()
    assert p.wait(30) == 0 and len(post.sent) == 2


def test_memory_does_not_grow_with_the_message(alice, bob, post, tmp_path):
    def peak(lines):
        source = tmp_path / "message"
        source.write_bytes(with_attachment(b"0123456789abcde\n" * lines))
        code = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, "
                "stdin=open(%r, 'rb'), stdout=subprocess.DEVNULL); "
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)" % str(source))
        done = subprocess.run([sys.executable, "-c", code, BUILD / "sealpost", "send", bob.address],
                              env=alice.client.env, capture_output=True, check=True)
        return int(done.stdout)
    small, large = peak(1000), peak(2_000_000)
    assert large < small + 1024, (small, large)
    assert len(post.sent) == 2


# Reading what users sent

def test_mail_between_users_is_read_and_shown_as_such(alice, bob, post, tmp_path):
    message = with_attachment(os.urandom(50_000).hex().encode())
    sent = alice.send(bob.address, message=message)
    outside = alice.send(bob.address, "a@out.example")
    post.reader = bob.user_id
    done = bob.run("read", sent.id)  # alice is a stranger until now
    assert octets(done.stdout).endswith(message)
    fingerprint = octets(alice.run("fingerprint").stdout).decode().strip()
    assert f"end-to-end encrypted; signed by {alice.address}, fingerprint {fingerprint}" in \
        octets(done.stderr).decode()
    assert b"WARNING" not in octets(done.stderr)
    first, second = bob.list()
    assert first["end_to_end"] and first["verified"] and not first["sent"]
    assert first["signed_by"] == {"address": alice.address, "fingerprint": fingerprint, "revoked": False,
                                  "gone": False, "changed": False}
    assert not second["end_to_end"] and second["signed_by"]["address"] == alice.address
    table = octets(bob.run("list").stdout).decode()
    assert f"  end-to-end, from {alice.address}, {fingerprint}\n" in table
    assert f"  not end-to-end, from {alice.address}, {fingerprint}\n" in table
    assert b"given a key for recipients outside" in octets(bob.run("read", outside.id).stderr)
    assert b"2 new" in octets(bob.run("sync", str(tmp_path / "Maildir")).stdout)
    post.reader = alice.user_id
    assert [m["sent"] for m in alice.list()] == [True, True]
    assert b"signed by you" in octets(alice.run("read", sent.id).stderr)


def test_mail_under_another_name_is_a_loud_warning(alice, bob, tree, tmp_path, post):
    mallory = Sender(tree, tmp_path, post)
    post.users[alice.address] = [mallory.user_id]  # so that Mallory's client lets it pass
    sent = mallory.send(bob.address, message=b"From: %s\n\npay me\n" % alice.address.encode())
    post.reader = bob.user_id
    warning = f"WARNING: message {sent.id}: its From field is not {mallory.address}, who signed it"
    assert warning in octets(bob.run("read", sent.id).stderr).decode()
    assert warning in octets(bob.run("sync", str(tmp_path / "Maildir")).stderr).decode()


def test_tracked_sender_who_changed(alice, bob, post):
    sent = alice.send(bob.address)
    post.reader = bob.user_id
    bob.run("fingerprint", alice.address, "--track")
    alice.run("rotate")
    assert b"fingerprint of %s changed since" % alice.address.encode() in octets(bob.run("read", sent.id).stderr)
    assert bob.list()[0]["signed_by"]["changed"]


def test_a_device_that_was_revoked_since(alice, bob, post):
    """Another device of Alice's is added to her chain, and revokes the one that has signed."""
    sent = alice.send(bob.address)
    first = Device(alice.tree.url, alice.tree.ca, alice.address)
    first.user_id, first.device_id = alice.user_id, bytes.fromhex(alice.keys["device"]["id"])
    first.sign = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(alice.keys["device"]["sign_sk"])[:32])
    first.login()
    first.accepted(first.sigchain()[1][0])
    second = Device(first.url, first.ca, first.address)
    second.user_id = first.user_id
    proof = second.sign.sign(b16(b"sealpost/1 device proof") + first.user_id + second.device_id + first.head)
    wire = first.make_link(2, second.device_id + raw_public(second.sign) + raw_public(second.box) + proof)
    first.call("POST", "/v1/sigchain", wire, expect=204)
    first.accepted(wire)
    second.seq, second.head = first.seq, first.head
    second.login()
    wire = second.make_link(3, first.device_id + struct.pack(">I", 2) + raw_public(puk_email_key(os.urandom(32))))
    second.call("POST", "/v1/sigchain", wire, expect=204)
    second.accepted(wire)
    post.reader = bob.user_id
    assert f"WARNING: message {sent.id}: signed by a device of {alice.address} that is revoked by now" in \
        octets(bob.run("read", sent.id).stderr).decode()
    row, = bob.list()
    assert row["verified"] and row["signed_by"]["revoked"] and not row["signed_by"]["changed"]
    assert f"from {alice.address}, {second.fingerprint()} (device revoked since)\n" in \
        octets(bob.run("list").stdout).decode()
    refused(alice.run("list", check=False), "login refused")


def test_a_signature_that_is_not_its_senders(alice, bob, tree, tmp_path, post):
    """The server shows another's chain for the sender's id, or none."""
    mallory = Sender(tree, tmp_path, post)
    sent = alice.send(bob.address)
    post.reader = bob.user_id
    post.proxy.lie = lambda method, path, status, body: (
        (200, mallory.user_id + body[16:]) if alice.user_id.hex() in path else (status, body))
    refused(bob.run("read", sent.id, check=False), "somebody else")
    post.proxy.lie = lambda method, path, status, body: (
        (404, b"{}") if alice.user_id.hex() in path else (status, body))
    refused(bob.run("read", sent.id, check=False), "step 2", "cannot be checked")
    post.proxy.lie = lambda method, path, status, body: (status, body)
    bob.run("read", sent.id)
    post.proxy.lie = lambda method, path, status, body: (
        (404, b"{}") if alice.user_id.hex() in path else (status, body))
    assert b"no user %s any more" % alice.address.encode() in octets(bob.run("read", sent.id).stderr)


# Looking back

def test_status_shows_what_was_signed(alice, bob, post):
    sent = alice.send("-t", "hidden@out.example", message=b"To: %s, a@out.example\n\nx\n" % bob.address.encode())
    status = json.loads(octets(alice.run("status", sent.id, "--json").stdout))
    assert [r["address"] for r in status["recipients"]] == ["a@out.example", "hidden@out.example"] or \
        [r["address"] for r in status["recipients"]] == ["hidden@out.example", "a@out.example"]
    assert status["bcc"] == "hidden@out.example" and status["signed"]
    table = octets(alice.run("status", sent.id).stdout).decode()
    assert "a@out.example" in table and "queued" in table and "bcc: hidden@out.example" in table
    sent.form.outside.append("mallory@out.example")
    assert b"mallory@out.example is not on the list" in octets(alice.run("status", sent.id).stderr)
    copy = sent.form.sent_copy
    sent.form.sent_copy = copy[:-1] + bytes([copy[-1] ^ 1])
    refused(alice.run("status", sent.id, check=False), "list of recipients")
    refused(alice.run("status", "f" * 32, check=False), "you sent none")
