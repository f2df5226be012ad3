"""The service manager's watchdog is fed when every role answers, and only then."""

import os
import signal
import socket
import time


def heard(listener, seconds, until=None):
    got, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        listener.settimeout(max(0.01, end - time.monotonic()))
        try:
            got.append(listener.recv(4096).decode())
        except TimeoutError:
            break
        if got[-1] == until:
            break
    return got


def test_watchdog(fresh, monkeypatch):
    tree = fresh()
    path = tree.dir / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        os.chmod(path, 0o777)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        tree.start()
        said = heard(listener, 2)
        assert said[0] == "READY=1" and said.count("WATCHDOG=1") >= 3
        stuck = tree.pids()["audit" if tree.mode == "root" else "web"]
        os.kill(stuck, signal.SIGSTOP)
        heard(listener, 0.5)  # answers that were under way
        assert heard(listener, 2) == []
        os.kill(stuck, signal.SIGCONT)
        assert "WATCHDOG=1" in heard(listener, 10, until="WATCHDOG=1")
