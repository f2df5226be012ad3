"""Metrics: what Prometheus scrapes is what happened."""

import re
import socket
import urllib.error
import urllib.request

import pytest
from place import free_ports
from sealpost import crlf


def scrape(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = reply.read().decode()
    for line in text.splitlines():  # the text format, line by line
        assert re.fullmatch(r'# (HELP|TYPE) sealpost_\w+ .+|sealpost_\w+(\{\w+="[^"]*"\})? \d+', line), line
    return dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")


def test_metrics_say_what_happened(fresh):
    port = free_ports(1)[0]
    tree = fresh(settings={"metrics": {"listen": f"127.0.0.1:{port}"}}).start()
    alice = tree.user("alice")
    for i in range(3):
        tree.deliver(crlf(f"Subject: {i}\n\nx\n"), [alice.address])
    seen = scrape(port)
    assert seen["sealpost_messages_sealed_total"] == "3"
    assert seen["sealpost_messages_stored"] == "3"
    assert seen["sealpost_sessions_total"] == "3"
    assert seen["sealpost_users"] == "1"
    assert seen["sealpost_tree_restarts_total"] == "0"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/info")
    assert refused.value.code == 404


def test_metrics_bear_rough_treatment(fresh):
    port = free_ports(1)[0]
    tree = fresh(settings={"metrics": {"listen": f"127.0.0.1:{port}"}}).start()
    sockets = []
    for _ in range(64):  # asked, and gone before the answer
        s = socket.create_connection(("127.0.0.1", port))
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        sockets.append(s)
    for s in sockets:
        s.close()
    for junk in (b"\0" * 100, b"GET /metrics HTTP/1.1\r\n" + b"x: " + b"y" * 100_000, b"POST /metrics HTTP/1.0\r\n"
                 b"Content-Length: 99999\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port)) as s:
            s.sendall(junk)
    assert scrape(port)["sealpost_tree_restarts_total"] == "0"
    with tree.smtp() as session:
        assert session.ehlo()[0] == 250
