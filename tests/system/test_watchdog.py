"""The service manager's watchdog is fed when every role answers, and only then."""

import os
import signal
import socket


def silent(listener, seconds):
    listener.settimeout(seconds)
    try:
        return listener.recv(4096) is None
    except TimeoutError:
        return True


def test_watchdog(fresh, monkeypatch):
    tree = fresh()
    path = tree.dir / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        os.chmod(path, 0o777)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        tree.start()
        listener.settimeout(120)
        said = [listener.recv(4096)]
        while said.count(b"WATCHDOG=1") < 3:
            said.append(listener.recv(4096))
        assert said[0] == b"READY=1"
        stuck = tree.pids()["audit" if tree.mode == "root" else "web"]
        os.kill(stuck, signal.SIGSTOP)
        for _ in range(20):
            if silent(listener, 0.5):  # answers that were under way have come
                break
        assert silent(listener, 3)
        os.kill(stuck, signal.SIGCONT)
        listener.settimeout(120)
        while listener.recv(4096) != b"WATCHDOG=1":
            pass
