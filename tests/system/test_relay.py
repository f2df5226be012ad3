"""Mail to the outside, into a real Postfix: what arrives, for whom, and what the sender learns."""
import base64
import os
import time

import pytest

from outside import wait_for
from relayed import Person, added_fields, check_arrived, letter, make_tree, no_crash

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix needs root")

TRICKY = (b".\r\n..\r\n.leading dots\r\n\r\nFrom the start of a line\r\n" + b"long " * 180 + b"\r\n"
          b"trailing blanks   \t\r\n\tand a tab\r\n" + "grüße\r\n".encode() + b"\r\n\r\n\r\n.\r\n")


@pytest.fixture
def alice(sending):
    return Person(sending, f"alice-{os.urandom(4).hex()}")


def arrived(postfix, address):
    """The one mail for this address."""
    found = wait_for(lambda: postfix.for_recipient(address))
    assert len(found) == 1
    return found[0]


def fresh_address(domain):
    return f"friend-{os.urandom(6).hex()}@{domain}"


def test_what_arrives_is_what_was_sent(sending, world, alice):
    to = fresh_address("outside.test")
    text = letter(alice.address, [to], body=TRICKY)
    mail = alice.send(text, [to])
    row = alice.settled(mail)
    assert row["state"] == "sent" and row["attempts"] == 1 and "queued as" in row["text"]
    _, envelope_from, content, trace = arrived(world.postfix, to)
    assert envelope_from == alice.address
    check_arrived(world, content, text)
    assert "using TLSv1.3" in trace and "mail.example.test" in trace
    no_crash(sending)


def test_received_names_nobody_and_no_client(sending, world, alice):
    """The trace says when and who we are; neither the client's address nor the recipient."""
    to = fresh_address("outside.test")
    text = letter(alice.address, ["somebody else <else@outside.test>"])
    alice.send(text, [to])
    content = arrived(world.postfix, to)[2]
    front = content[:-len(text)].decode()
    assert "by mail.example.test" in front and "127.0.0.1" not in front and to not in front


def test_attachments_are_put_back(sending, world, alice):
    to = fresh_address("outside.test")
    big = base64.encodebytes(os.urandom(3 << 20)).replace(b"\n", b"\r\n").rstrip(b"\r\n")
    small = base64.b64encode(os.urandom(30))
    head = letter(alice.address, [to], more=b'Content-Type: multipart/mixed; boundary="b"\r\n', body=b"")
    parts = [b"--b\r\n\r\nsee below\r\n--b\r\nContent-Type: image/png\r\n"
             b"Content-Transfer-Encoding: base64\r\n\r\n", b"\r\n--b\r\nContent-Type: a/b\r\n\r\n",
             b"\r\n--b--\r\n"]
    body = head + b"".join(parts)
    first = len(head) + len(parts[0])
    mail = alice.send(body, [to], attachments=[(first, big), (first + len(parts[1]), small)])
    assert alice.settled(mail)["state"] == "sent"
    whole = head + parts[0] + big + parts[1] + small + parts[2]
    check_arrived(world, arrived(world.postfix, to)[2], whole)


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 65536, 1000000])
def test_bodies_of_all_sizes(sending, world, alice, size):
    to = fresh_address("outside.test")
    line = b"0123456789abcdef" * 4 + b"\r\n"
    text = letter(alice.address, [to], body=(line * (size // 66 + 1))[:size // 66 * 66])
    alice.send(text, [to])
    check_arrived(world, arrived(world.postfix, to)[2], text)


def test_a_body_without_a_last_line_end(sending, world, alice):
    """SMTP ends every line (RFC 5321 4.1.1.4); nothing else is added."""
    to = fresh_address("outside.test")
    text = letter(alice.address, [to], body=b"no end")
    alice.send(text, [to])
    check_arrived(world, arrived(world.postfix, to)[2], text + b"\r\n")


@pytest.mark.parametrize("domain", ["direct.test", "fallback.test", "sealed.test", "plain.test"])
def test_ways_to_a_host(sending, world, alice, domain):
    """No MX but an address; a first exchanger that is dead; a signed zone; a server without TLS."""
    to = fresh_address(domain)
    text = letter(alice.address, [to])
    mail = alice.send(text, [to])
    assert alice.settled(mail)["state"] == "sent"
    _, _, content, trace = arrived(world.plain if domain == "plain.test" else world.postfix, to)
    check_arrived(world, content, text)
    assert ("using TLS" in trace) == (domain != "plain.test")


def test_users_and_outsiders_in_one_mail(sending, world, alice):
    """Each gets it once, the same bytes; the user end to end in form, and told that it was not secret."""
    bob = Person(sending, f"bob-{os.urandom(4).hex()}")
    friends = [fresh_address("outside.test"), fresh_address("outside.test"), fresh_address("plain.test")]
    text = letter(alice.address, [bob.address, *friends], subject="for all")
    mail = alice.send(text, [bob.address, *friends])
    for friend in friends:
        assert alice.settled(mail, friend)["state"] == "sent"
        check_arrived(world, arrived(world.plain if "plain" in friend else world.postfix, friend)[2], text)
    [entry] = bob.received()
    e, m, message = bob.open(entry["id"])
    assert message == text and e["message_id"] == mail.id and m["flags"] == 1
    assert e["sender_user_id"] == alice.device.user_id
    [mine] = alice.mailbox()
    assert mine["sent"] and alice.open(mine["id"])[2] == text


def test_users_alone_need_no_relay(sending, world, alice):
    bob = Person(sending, f"bob-{os.urandom(4).hex()}")
    text = letter(alice.address, [bob.address])
    mail = alice.send(text, [bob.address])
    e, m, message = bob.open(bob.received()[0]["id"])
    assert message == text and m["flags"] == 0
    assert not [r for r in alice.status(mail).values() if r["kind"] == "relay"]


def test_bcc_is_seen_by_the_sender_alone(sending, world, alice):
    bob, hidden = (Person(sending, f"{n}-{os.urandom(4).hex()}") for n in ("bob", "hidden"))
    seen, unseen = fresh_address("outside.test"), fresh_address("outside.test")
    text = letter(alice.address, [bob.address, seen])
    mail = alice.send(text, [bob.address, seen], bcc=[hidden.address, unseen])
    for address in (seen, unseen):
        content = arrived(world.postfix, address)[2]
        check_arrived(world, content, text)
        assert hidden.address.encode() not in content and unseen.encode() not in content
    for person in (bob, hidden):
        assert person.open(person.received()[0]["id"])[2] == text
        assert person.device.call("GET", f"/v1/message/{mail.id.hex()}/sent").status == 404
        assert person.device.call("GET", f"/v1/message/{mail.id.hex()}/status").status == 404
    for octets in bob.device.message(mail.id.hex()):
        assert unseen.encode() not in octets and hidden.device.user_id not in octets
    bcc, addresses = alice.open_sent(mail)
    assert bcc == f"{hidden.address}, {unseen}" and set(addresses) == {seen, unseen}


# --- failures: RFC 3464, sealed into the sender's mailbox ---

@pytest.mark.parametrize("to,status", [
    ("nobody@outside.test", "5.1.1"),   # 550 at RCPT
    ("x@null.test", "5.1.10"),          # RFC 7505: the domain takes no mail
    ("x@no-such-domain.test", "5.1.2"),  # NXDOMAIN
    ("x@empty.test", "5."),             # neither MX nor address
])
def test_failures_come_back(sending, world, alice, to, status):
    marker = os.urandom(12).hex()
    text = letter(alice.address, [to], subject=f"about {marker}", body=b"the secret body\r\n")
    mail = alice.send(text, [to])
    row = alice.settled(mail)
    assert row["state"] == "failed" and row["attempts"] == 1
    report = alice.report()
    fields = report.of(to)
    assert fields["Action"] == "failed" and fields["Status"].startswith(status)
    assert to in report.text
    assert marker.encode() in report.header and b"the secret body" not in report.bytes
    no_crash(sending)


def test_one_fails_and_the_others_get_it(sending, world, alice):
    good = fresh_address("outside.test")
    text = letter(alice.address, [good])
    mail = alice.send(text, [good, "nobody@outside.test"])
    assert alice.settled(mail, good)["state"] == "sent"
    assert alice.settled(mail, "nobody@outside.test")["state"] == "failed"
    check_arrived(world, arrived(world.postfix, good)[2], text)
    report = alice.report()
    assert len(report.recipients) == 1 and report.of("nobody@outside.test")


@pytest.mark.parametrize("to", ["later@outside.test", "x@forged.test", "x@broken.test", "x@dead.test"])
def test_what_may_pass_is_tried_again(sending, alice, to):
    """450; DNS that does not validate, or fails; nobody who listens."""
    mail = alice.send(letter(alice.address, [to]), [to])
    row = alice.tried(mail)
    assert row["state"] == "deferred" and row["attempts"] == 1 and row["text"]
    assert row["next_ms"] > time.time() * 1000
    assert mail.id.hex() in sending.ctl("queue", "list")
    sending.ctl("queue", "retry", mail.id.hex())
    wait_for(lambda: alice.state(mail)["attempts"] == 2)
    assert not alice.received()
    sending.ctl("queue", "drop", mail.id.hex())
    assert alice.settled(mail)["state"] == "failed"
    wait_for(lambda: mail.id.hex() not in sending.ctl("queue", "list"))
    assert alice.report().of(to)["Action"] == "failed"


def test_a_delay_that_lasts_too_long_is_a_failure(mode, world):
    """retry_for is over: the sender is told, and what was to be sent can be opened no more."""
    tree = make_tree(mode, world, retry_for="60s").start()
    try:
        alice = Person(tree, "alice")
        mail = alice.send(letter(alice.address, ["x@dead.test"]), ["x@dead.test"])
        assert alice.tried(mail)["state"] == "deferred"
        alice.device.login()
        row = alice.settled(mail, seconds=300)
        assert row["state"] == "failed" and row["attempts"] >= 2
        assert alice.report().of("x@dead.test")["Status"].startswith(("4.4", "5.4"))
        wait_for(lambda: [e for e in tree.events("secret.erased")])
    finally:
        tree.stop()
        tree.remove()


# --- what the appliance refuses ---

def test_no_relay_of_anothers_name(sending, world, alice):
    """mail_from must be the user's; and a From: that is not is found before a byte goes out."""
    to = fresh_address("outside.test")
    mail = alice.seal(letter(alice.address, [to]), [to], mail_from="boss@example.test")
    assert alice.try_send(mail).status == 403
    mail = alice.send(letter("boss@example.test", [to]), [to])
    row = alice.settled(mail)
    assert row["state"] == "failed" and "From" in row["text"]
    assert alice.report().of(to)["Status"] == "5.7.1"
    assert not world.postfix.for_recipient(to)


def test_a_mail_is_sent_once(sending, world, alice):
    to = fresh_address("outside.test")
    mail = alice.send(letter(alice.address, [to]), [to])
    assert alice.try_send(mail).status == 409
    alice.settled(mail)
    assert len(world.postfix.arrived(to)) == 1
