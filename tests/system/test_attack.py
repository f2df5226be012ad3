"""Attacks on the real tree that must not succeed: one stranger, one user or one process that was taken
over, against everybody else. Named after who attacks."""
import json
import os
import shutil
import signal
import smtplib
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

import scan
from device import Device, b64u, connect
from sealpost import crlf
from test_promises import root_only, shared_test_tree  # noqa: F401 (a fixture)


def device(tree, name):
    address = f"{name}@example.test"
    return Device(tree.url, tree.ca, address).enroll(tree.ctl("user", "add", address))


# --- strangers on the web ---

def flood(tree, method, path, body, n, end=None):
    """Up to n requests on one connection."""
    connection = connect(tree.url, tree.ca)
    for _ in range(n):
        if end is not None and end.is_set():
            break
        connection.request(method, path, body=body)
        connection.getresponse().read()
    connection.close()


@pytest.mark.parametrize("path, body", [("/v1/session", os.urandom(16 + 16 + 32 + 64)),
                                        ("/v1/enroll", b"\0\3a@b" + b"\0\0" + bytes(4))],
                         ids=["login", "enrol"])
def test_strangers_cannot_use_up_the_logins_of_users(tree, path, body):
    alice, end = device(tree, f"flooded-{time.time_ns()}"), threading.Event()
    attackers = [threading.Thread(target=flood, args=(tree, "POST", path, body, 1 << 30, end))
                 for _ in range(8)]
    for a in attackers:
        a.start()
    try:
        time.sleep(0.5)
        for _ in range(10):
            alice.login()
    finally:
        end.set()
        for a in attackers:
            a.join()


def test_strangers_cannot_drive_out_a_challenge(tree):
    alice = device(tree, f"challenged-{time.time_ns()}")
    alice.info()
    flood(tree, "POST", "/v1/challenge", b"", 5000)
    kept = 0
    for _ in range(5):
        challenge = alice.challenge()
        flood(tree, "POST", "/v1/challenge", b"", 2000)
        kept += alice.call("POST", "/v1/session", alice.login_body(challenge)).status == 200
    assert kept >= 4  # a table of fixed size may lose one now and then


# --- users ---

def test_a_user_cannot_drive_out_the_sessions_of_others(tree):
    alice = device(tree, f"victim-{time.time_ns()}").login()
    mallory = device(tree, f"many-{time.time_ns()}")
    first = mallory.login().token
    for _ in range(40):
        while True:
            try:
                mallory.login()
                break
            except Exception as e:
                assert "429" in str(e), e
                time.sleep(0.2)
    assert alice.call("GET", "/v1/mailbox").status == 200
    last, mallory.token = mallory.token, first
    assert mallory.call("GET", "/v1/mailbox").status == 401  # his own oldest gave way
    mallory.token = last
    assert mallory.call("GET", "/v1/mailbox").status == 200


def test_a_user_cannot_keep_the_store_busy_with_his_history(tree):
    """Each link costs the store signatures, a wrong one as well: more than a ration of them are refused, and
    other users are not held up."""
    mallory, alice = device(tree, f"long-{time.time_ns()}").login(), device(tree, f"other-{time.time_ns()}")
    head = {"Authorization": "Sealpost-Session " + b64u(mallory.token)}
    wire, _ = mallory.rotation()
    wrong, seen = wire[:-1] + bytes([wire[-1] ^ 1]), []

    def hammer():
        connection = connect(tree.url, tree.ca)
        for _ in range(5000):
            connection.request("POST", "/v1/sigchain", body=wrong, headers=head)
            answer = connection.getresponse()
            answer.read()
            seen.append(answer.status)
            if seen.count(429) >= 20:
                return

    hammers = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in hammers:
        thread.start()
    alice.login()
    for thread in hammers:
        thread.join()
    assert seen.count(429) >= 20 and 204 not in seen
    alice.login()


def test_mail_is_never_sealed_for_a_key_that_was_replaced(tree):
    """The sender waits with his data until the user has revoked a stolen device: the old key must not be
    the one that the mail can be opened with."""
    alice = device(tree, f"rotates-{time.time_ns()}").login()
    with tree.smtp() as s:
        s.ehlo()
        s.mail("a@outside.test")
        assert s.rcpt(alice.address)[0] == 250
        alice.rotate()
        assert s.data(crlf("Subject: x\n\nsecret\n"))[0] == 451  # and the sender tries again:
        s.sendmail("a@outside.test", [alice.address], crlf("Subject: x\n\nsecret\n"))
    rows = alice.mailbox()["messages"]
    assert [r["generation"] for r in rows] == [2]


# --- senders ---

def test_a_client_that_crashes_a_session_is_held_off(fresh):
    """Sessions are forks of one image: crashing them freely would give away its layout."""
    t = fresh(test_build=True, settings={"smtp": {"hold_off": "8s"}}).start()
    with pytest.raises(smtplib.SMTPServerDisconnected):
        t.smtp().docmd("XPROBE execve")
    wait_for(lambda: t.events("sandbox.violation"))
    with pytest.raises(smtplib.SMTPConnectError) as e:
        t.smtp()
    assert e.value.smtp_code == 421
    wait_for(lambda: t.events("session.refused"))
    assert t.events("session.refused")[-1]["why"] == "held-off"
    other = smtplib.SMTP("127.0.0.1", t.smtp_port, source_address=("127.0.0.2", 0))
    assert other.ehlo()[0] == 250  # somebody else
    wait_for(lambda: can_enter(t))


def test_a_mail_server_in_front_of_us_is_not_held_off(fresh):
    """A mail that crashes a session, and that it tries again, does not keep all others back. Whoever else comes
    from its address is held off for what he did himself alone."""
    t = fresh(test_build=True, settings={"smtp": {"hold_off": "1h"}}).start()
    alice = t.user("alice")
    for i in range(3):
        with pytest.raises(smtplib.SMTPServerDisconnected):
            t.smtp(lmtp=True).docmd("XPROBE execve")
        wait_for(lambda: len(t.events("sandbox.violation")) == i + 1)
    assert can_enter(t)
    with pytest.raises(smtplib.SMTPServerDisconnected):
        t.smtp().docmd("XPROBE execve")
    wait_for(lambda: not can_enter(t))
    t.deliver(crlf("Subject: x\n\nthe next mail\n"), [alice.address], lmtp=True)
    status = json.loads(t.ctl("status", "--json"))
    assert {"4"} == {row["value"] for row in status if (row["role"], row["name"]) == ("smtp", "violations_session")}


def can_enter(t):
    try:
        t.smtp().close()
        return True
    except smtplib.SMTPConnectError:
        return False


def wait_for(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_session_that_crashes_for_no_fault_of_the_client_is_forgiven(fresh):
    t = fresh(settings={"smtp": {"hold_off": "1h"}}).start()
    s = t.smtp()
    s.ehlo()
    for pid in t.children(t.pids()["smtp"]):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: t.events("session.crashed"))
    assert can_enter(t)


def closed_within(sock, seconds, drip):
    """Feeds bytes one by one until the other side closes."""
    end = time.monotonic() + seconds
    for byte in drip:
        try:
            sock.sendall(bytes([byte]))
            sock.settimeout(0.5)
            while sock.recv(4096):
                pass
            return True
        except TimeoutError:
            if time.monotonic() > end:
                return False
        except OSError:
            return True
    return False


def test_a_sender_cannot_stretch_a_deadline_inside_a_tls_record(fresh):
    t = fresh(settings={"smtp": {"deadline": "10s"}}).start()
    alice = t.user("alice")
    plain = socket.create_connection(("127.0.0.1", t.smtp_port))
    plain.recv(1000)
    for line in (b"EHLO x\r\n", b"STARTTLS\r\n"):
        plain.sendall(line)
        plain.recv(4096)
    to_us, from_us = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context(cafile=t.ca)
    tls = context.wrap_bio(to_us, from_us, server_hostname="127.0.0.1")
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            plain.sendall(from_us.read())
            to_us.write(plain.recv(65536))
    for lines in (b"EHLO x\r\n", b"MAIL FROM:<a@b.test>\r\nRCPT TO:<%s>\r\nDATA\r\n" % alice.address.encode()):
        tls.write(lines)
        plain.sendall(from_us.read())
        time.sleep(0.5)
    tls.write(b"x" * 16000)
    assert closed_within(plain, 120, from_us.read())
    wait_for(lambda: t.children(t.pids()["smtp"]) == [])


def test_a_sender_cannot_hold_a_place_by_doing_nothing(fresh):
    t = fresh(settings={"smtp": {"deadline": "10s"}}).start()
    s = socket.create_connection(("127.0.0.1", t.smtp_port))
    assert closed_within(s, 120, b"NOOP\r\n" * 1000)
    wait_for(lambda: t.children(t.pids()["smtp"]) == [])


# --- operators' accidents ---

def served_certificate(tree):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", tree.smtp_port) as s:
        s.starttls(context=context)
        return s.sock.getpeercert(binary_form=True)


@root_only
@pytest.mark.parametrize("accident", ["key alone", "certificate alone", "key is empty", "key is garbage"])
@pytest.mark.parametrize("mode", ["root"])  # user mode makes its own certificate
def test_half_a_renewal_does_not_end_tls(fresh, accident):
    """SIGHUP, or the crash of a role, when only one of the two files is new."""
    t = fresh().start()
    before = served_certificate(t)
    old = {name: (t.dir / name).read_bytes() for name in ("cert.pem", "key.pem")}
    t.make_certificate()
    new = {name: (t.dir / name).read_bytes() for name in ("cert.pem", "key.pem")}
    kept = "cert.pem" if "key" in accident else "key.pem"
    (t.dir / kept).write_bytes(old[kept])
    if accident == "key is empty":
        (t.dir / "key.pem").write_bytes(b"")
    if accident == "key is garbage":
        (t.dir / "key.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    os.kill(t.process.pid, signal.SIGHUP)
    wait_for(lambda: "certificates not reloaded" in t.said())
    assert served_certificate(t) == before
    os.kill(t.pids()["keeper"], signal.SIGKILL)
    time.sleep(1)
    for name, pem in new.items():
        (t.dir / name).write_bytes(pem)
    t.wait_ready(2)
    after = served_certificate(t)
    assert after != before and after == ssl.PEM_cert_to_DER_cert(new["cert.pem"].decode())


# --- strangers on the web, once more ---

def test_one_stranger_cannot_take_all_connections(fresh):
    t = fresh(settings={"web": {"max_connections_per_client": 20}}).start()
    silent = [socket.create_connection(("127.0.0.1", t.web_port)) for _ in range(60)]
    time.sleep(0.5)
    kept = 0
    for s in silent:
        s.setblocking(False)
        try:
            s.recv(1)
        except BlockingIOError:
            kept += 1
        except ConnectionError:
            pass
    assert kept == 20
    context = ssl.create_default_context(cafile=t.ca)

    def is_served(source):
        conn = socket.create_connection(("127.0.0.1", t.web_port), source_address=(source, 0))
        try:
            # Whose connection it is is asked one turn of the loop after it came: its handshake may pass.
            with context.wrap_socket(conn, server_hostname="127.0.0.1") as s:
                s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                return s.recv(4096).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    assert not is_served("127.0.0.1")
    assert is_served("127.0.0.3")
    for s in silent:
        s.close()
