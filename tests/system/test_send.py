"""Sending through the real tree: from one user's client to another's, byte for byte, and through
restarts of either side. Mail to the outside is tested with the relay."""
import json
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from sealpost import BUILD
from test_client import octets, with_attachment


def send(client, *args, message):
    done = client.run("send", *args, input=message)
    ident = octets(done.stdout).decode().strip()
    assert re.fullmatch("[0-9a-f]{32}", ident)
    return ident


def everyone(tree, n):
    base = os.urandom(4).hex()
    return [tree.user(f"{base}-{i}") for i in range(n)]


def test_user_to_user_byte_for_byte(tree):
    alice, bob = everyone(tree, 2)
    for size in (0, 1, 16_384, 500_000):
        message = b"From: %s\r\nDate: x\r\nMessage-ID: <a@b>\r\n" % alice.address.encode() + \
            with_attachment(os.urandom(size).hex().encode())
        ident = send(alice, bob.address, message=message)
        for who in (alice, bob):
            assert octets(who.read(ident)) == message
    row = bob.newest()
    assert row["end_to_end"] and row["signed_by"]["address"] == alice.address and not row["sent"]
    assert alice.newest()["sent"]
    events = [e for e in tree.events("message.sent")]
    assert events


def test_a_days_bytes_add_up(fresh):
    """What users sent is counted together, of each for itself, as the log has it."""
    tree = fresh(settings={"web": {"send_bytes_per_day": "1M"}}).start()
    alice, bob = everyone(tree, 2)
    message = b"Subject: x\n\n" + b"\n".join([b"y" * 70] * 5000) + b"\n"
    for _ in range(2):
        send(alice, bob.address, message=message)
    sizes = [e["bytes"] for e in tree.events("message.sent")]
    assert sum(sizes) < 1 << 20 < sum(sizes) + sizes[0]
    done = alice.run("send", bob.address, input=message, check=False)
    assert done.returncode == 1, octets(done.stderr)
    send(alice, bob.address, message=b"Subject: x\n\nshort\n")
    send(bob, alice.address, message=message)
    assert len(tree.events("message.sent")) == 4
    tree.stop()


def test_alias_bcc_and_self(tree):
    alice, bob, carol, dave = everyone(tree, 4)
    team = "team-" + os.urandom(4).hex() + "@example.test"
    tree.ctl("alias", "add", team, bob.address, carol.address)
    message = f"To: {team}\nCc: {alice.address}\nBcc: {dave.address}\nSubject: s\n\nbody\n".encode()
    ident = send(alice, "-t", message=message)
    texts = {octets(who.read(ident)) for who in (alice, bob, carol, dave)}
    assert len(texts) == 1 and dave.address.encode() not in texts.pop()
    status = json.loads(octets(alice.run("status", ident, "--json").stdout))
    assert status["signed"] and status["bcc"] == dave.address
    assert {r["address"] for r in status["recipients"]} == {alice.address, bob.address, carol.address, dave.address}
    assert {r["state"] for r in status["recipients"]} == {"sent"}
    for who in (bob, carol, dave):
        assert who.run("status", ident, check=False).returncode == 1


def test_an_alias_may_send(tree):
    alice, bob = everyone(tree, 2)
    desk = "desk-" + os.urandom(4).hex() + "@example.test"
    tree.ctl("alias", "add", desk, alice.address)
    ident = send(alice, "-f", desk, bob.address, message=b"Subject: x\n\nx\n")
    assert b"From: " + desk.encode() in octets(bob.read(ident))
    done = bob.run("send", "-f", desk, alice.address, input=b"a: b\n\nx\n", check=False)
    assert done.returncode == 1 and b"not yours" in octets(done.stderr)


def test_keys_that_were_rotated(tree):
    alice, bob = everyone(tree, 2)
    send(alice, bob.address, message=b"a: b\n\none\n")
    bob.run("rotate")
    alice.run("rotate")
    ident = send(alice, bob.address, message=b"a: b\n\ntwo\n")
    assert octets(bob.read(ident)).endswith(b"two\r\n") and octets(alice.read(ident)).endswith(b"two\r\n")
    assert [m["generation"] for m in bob.list()] == [1, 2]


def start(client, *args):
    return subprocess.Popen([BUILD / "sealpost", "send", *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=client.env)


def wait_for_upload(client):
    """Until some of the ciphertext is on its way."""
    end = time.monotonic() + 180
    while not list(client.home.glob("outbox/*.letter")):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_client_killed_and_resumed(tree):
    alice, bob = everyone(tree, 2)
    message = with_attachment(os.urandom(8_000_000).hex().encode())
    p = start(alice, bob.address)
    threading.Thread(target=lambda: (p.stdin.write(message), p.stdin.close()), daemon=True).start()
    wait_for_upload(alice)
    p.kill()
    p.wait()
    ident = octets(alice.run("send", "--resume").stdout).decode().strip()
    if ident:  # else it was too late to kill it
        assert octets(bob.read(ident)).endswith(message)
    assert len(bob.list()) == 1 and not list((alice.home / "outbox").iterdir())


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_server_restarted_in_the_middle(fresh, how):
    t = fresh().start()
    alice, bob = everyone(t, 2)
    message = with_attachment(os.urandom(8_000_000).hex().encode())
    p = start(alice, bob.address)
    threading.Thread(target=lambda: (p.stdin.write(message), p.stdin.close()), daemon=True).start()
    wait_for_upload(alice)
    t.stop() if how == "stop" else t.kill()
    t.start()
    assert p.wait(120) == 0, p.stderr.read()
    ident = p.stdout.read().decode().strip()
    assert octets(bob.read(ident)).endswith(message) and len(bob.list()) == 1


def test_200_mb_in_flat_memory(tree, tmp_path):
    alice, bob = everyone(tree, 2)

    def peak(lines):
        source = tmp_path / "message"
        with open(source, "wb") as f:
            f.write(b"Subject: large\n\n")
            for _ in range(lines // 1000):
                f.write(b"0123456789abcdef0123456789abcde\n" * 1000)
        code = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, "
                "stdin=open(%r, 'rb')); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
                % str(source))
        done = subprocess.run([sys.executable, "-c", code, BUILD / "sealpost", "send", bob.address],
                              env=alice.env, capture_output=True, check=True)
        return int(done.stdout.split()[-1]), done.stdout.split()[0].decode()
    (small, _), (large, ident) = peak(1000), peak(6_200_000)
    assert large < small + 1024
    done = subprocess.run([BUILD / "sealpost", "read", ident], env=alice.env, stdout=open(tmp_path / "out", "wb"))
    assert done.returncode == 0
    assert (tmp_path / "out").stat().st_size > 200_000_000
