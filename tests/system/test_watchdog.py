"""The service manager's watchdog is fed when every role answers, and only then; whoever else asks them."""

import contextlib
import http.client
import json
import os
import signal
import socket
import struct
import threading

import pytest

import scan
from place import free_ports
from sealpost import ROLES


def silent(listener, seconds):
    listener.settimeout(seconds)
    try:
        return listener.recv(4096) is None
    except TimeoutError:
        return True


@pytest.fixture
def watched(fresh, monkeypatch):
    """A tree, started, and what the service manager hears of it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        def make(every="400000", **options):
            tree = fresh(**options)
            path = tree.dir / "notify"
            listener.bind(str(path))
            os.chmod(path, 0o777)
            monkeypatch.setenv("NOTIFY_SOCKET", str(path))
            monkeypatch.setenv("WATCHDOG_USEC", every)
            tree.start()
            listener.settimeout(120)
            return tree, listener
        yield make


def quiet(listener):
    for _ in range(20):
        if silent(listener, 0.5):  # answers that were under way have come
            break
    listener.settimeout(120)


def test_watchdog(watched):
    tree, listener = watched()
    said = [listener.recv(4096)]
    while said.count(b"WATCHDOG=1") < 3:
        said.append(listener.recv(4096))
    assert said[0] == b"READY=1"
    stuck = tree.pids()["audit" if tree.mode == "root" else "web"]
    os.kill(stuck, signal.SIGSTOP)
    quiet(listener)
    assert silent(listener, 3)
    os.kill(stuck, signal.SIGCONT)
    listener.settimeout(120)
    while listener.recv(4096) != b"WATCHDOG=1":
        pass


def test_a_role_that_dies_has_not_answered(watched):
    """All others have; nothing is fed until the fresh tree is there."""
    tree, listener = watched()
    stuck = tree.pids()["resolver"]
    os.kill(stuck, signal.SIGSTOP)
    quiet(listener)
    os.kill(stuck, signal.SIGKILL)
    assert listener.recv(4096) == b"READY=1"


@contextlib.contextmanager
def scrapers(port, n):
    """So many clients that ask for /metrics, again and again."""
    enough, trouble, answered = threading.Event(), [], [0] * n

    def scrape(i):
        try:
            while not enough.is_set():
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
                connection.request("GET", "/metrics")
                reply = connection.getresponse()
                assert reply.status == 200 and b"sealpost_users 0" in reply.read()
                connection.close()
                answered[i] += 1
        except Exception as e:
            trouble.append(e)

    threads = [threading.Thread(target=scrape, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    assert not trouble and all(answered)


def test_scrapes_keep_nobody_waiting(watched):
    """Each question of an operator's is answered, and the watchdog is fed, however often web asks."""
    port, = free_ports(1)
    tree, listener = watched(settings={"metrics": {"listen": f"127.0.0.1:{port}"}})
    with scrapers(port, 4):
        for _ in range(20):
            rows = json.loads(tree.ctl("status", "--json"))
            assert {"supervisor", *ROLES} <= {row["role"] for row in rows}
            while listener.recv(4096) != b"WATCHDOG=1":
                pass


def test_whoever_asks_feeds_it(watched):
    """All have answered: a turn of the watchdog's own would find out no more."""
    port, = free_ports(1)
    tree, listener = watched(every="7200000000", settings={"metrics": {"listen": f"127.0.0.1:{port}"}})
    assert listener.recv(4096) == b"READY=1"
    with scrapers(port, 1):
        assert listener.recv(4096) == b"WATCHDOG=1"
    quiet(listener)
    tree.ctl("status")
    assert listener.recv(4096) == b"WATCHDOG=1"


def test_operators_who_ask_at_once_are_all_answered(watched):
    tree, _ = watched()
    answers = [None] * 8

    def ask(i):
        answers[i] = tree.ctl("status", "--json", check=False)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(answers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [a.returncode for a in answers] == [0] * len(answers)


def test_a_role_that_closes_its_channel_is_ended(watched):
    """It could be told nothing any more, not even to stop."""
    tree, listener = watched(test_build=True)
    pid = tree.pids()["relay"]
    scan.ask(tree.dir / "control.sock", scan.CC_PROBE, struct.pack(">BH", ROLES.index("relay"), 4) + b"deaf")
    tree.wait_ready(2)
    assert "role relay has closed its channel" in tree.said() and tree.pids()["relay"] != pid
    assert tree.events("role.crashed")[-1]["role"] == "relay"
    assert tree.stop() == 0
