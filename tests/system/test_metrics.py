"""Metrics: what Prometheus scrapes is well formed, and each value moves when it should."""
import math
import os
import re
import signal
import socket
import struct
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

import nameserver
import scan
from conftest import MODES
from outside import wait_for
from place import free_ports
from relayed import Person, letter, make_tree
from sealpost import ROLES, ROOT, crlf
from test_link_client import SILENT, Mail, outside
from test_send import everyone

SAMPLE = re.compile(r'(sealpost_[a-z_]+)(\{[a-z]+="[^"]*"(,le="[^"]*")?\})? [0-9][0-9.e+-]*')


def fetch(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=120) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return reply.read().decode()


def check_histogram(samples):
    """One series of a histogram: limits rise, counts never fall, the last is all of them."""
    buckets = [(float(s.labels["le"]), s.value) for s in samples if s.name.endswith("_bucket")]
    total, = (s.value for s in samples if s.name.endswith("_count"))
    size, = (s.value for s in samples if s.name.endswith("_sum"))
    assert buckets == sorted(buckets) and len({limit for limit, _ in buckets}) == len(buckets)
    assert all(a[1] <= b[1] for a, b in zip(buckets, buckets[1:]))
    assert buckets[-1] == (math.inf, total) and (size > 0) <= (total > 0)


def scrape(port):
    """{name and labels: value}, once the text is what the format demands: each family named once, its
    samples together, none twice, histograms whole."""
    text = fetch(port)
    assert text.endswith("\n")
    for line in text.splitlines():
        assert SAMPLE.fullmatch(line.replace('{le=', '{x="",le=')) or re.fullmatch(
            r"# (HELP sealpost_[a-z_]+ [^\\]+|TYPE sealpost_[a-z_]+ (counter|gauge|histogram))", line), line
    families = list(text_string_to_metric_families(text))
    heads = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(heads) == len(set(heads)) == text.count("# HELP")
    seen = {}
    for family in families:
        assert family.samples and family.type in ("counter", "gauge", "histogram")
        series = {}
        for s in family.samples:
            assert s.name.startswith(family.name)
            key = s.name.removeprefix("sealpost_") + "".join(f" {v}" for v in s.labels.values())
            assert key not in seen, key
            seen[key] = s.value
            series.setdefault(tuple(v for k, v in s.labels.items() if k != "le"), []).append(s)
        if family.type == "histogram":
            for samples in series.values():
                check_histogram(samples)
    return seen


@pytest.fixture
def measured(fresh):
    def make(settings=None, **options):
        port = free_ports(1)[0]
        return fresh(settings={"metrics": {"listen": f"127.0.0.1:{port}"}} | (settings or {}),
                     **options).start(), port
    return make


def test_receiving_is_counted(measured):
    tree, port = measured()
    before = scrape(port)
    assert before["messages_sealed_total"] == before["plaintext_residency_seconds_count"] == 0
    alice = tree.user("alice")
    text = crlf("Subject: x\n\n" + "y" * 70 + "\n") * 1000
    for i in range(3):
        tree.deliver(text, [alice.address])
    with tree.smtp() as session:
        session.ehlo()
        now = scrape(port)
    assert now["users"] == 1
    assert now["messages_sealed_total"] == now["messages_stored"] == 3
    assert 3 * len(text) <= now["sealed_bytes_total"] <= 3 * (len(text) + 4096)
    assert now["stored_bytes"] > 3 * len(text)
    assert 0 < now["plaintext_window_bytes_most"] <= 128 * 1024
    assert now["plaintext_residency_seconds_count"] == 3
    assert 0 < now["plaintext_residency_seconds_sum"] < 60
    assert now["commit_seconds_count"] > before["commit_seconds_count"]
    assert now["commit_group_size_count"] >= 3 and now["commit_group_size_bucket 1"] >= 1
    assert now["sessions_total"] == 4 and now["sessions"] >= 1
    assert now["audit_events_total"] > before["audit_events_total"]
    assert now["map_used_bytes"] <= now["map_size_bytes"] == 4 << 30
    assert now["tree_restarts_total"] == 0
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/info")
    assert refused.value.code == 404


def test_refusals_are_counted_by_reason(measured):
    tree, port = measured({"smtp": {"max_message": "64K", "max_sessions_per_client": 1, "max_recipients": 2}})
    alice = tree.user("alice")
    with tree.smtp() as s:
        s.ehlo()
        s.mail("a@outside.test")
        assert s.rcpt("nobody@example.test")[0] == 550
        assert s.rcpt("somebody@elsewhere.test")[0] == s.rcpt("a%b@example.test")[0] == 550
        s.rcpt(alice.address)
        s.rcpt(alice.address)
        assert s.rcpt(alice.address)[0] == 452
        assert s.data(b"x" * 70 + b"\r\n" + b"y" * 100_000)[0] == 552
        s.mail("a@outside.test")
        s.rcpt(alice.address)
        s.docmd("DATA")
        s.sock.sendall(b"bare\rcr\r\n.\r\n")
        assert s.getreply()[0] == 550
        assert s.docmd("MAIL FROM:<a@outside.test> SIZE=100000")[0] == 552
        with socket.create_connection(("127.0.0.1", tree.smtp_port)) as second:
            assert second.recv(100).startswith(b"421")
    wait_for(lambda: not tree.children(tree.pids()["smtp"]))  # there is room for one more
    with socket.create_connection(("127.0.0.1", tree.smtp_port)) as http:
        http.recv(200)
        http.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while http.recv(200):
            pass
    now = wait_for(lambda: (seen := scrape(port))["sessions_cut_total speaks_http"] and seen)
    assert now["recipients_refused_total unknown"] == 1
    assert now["recipients_refused_total not_ours"] == 2
    assert now["recipients_refused_total limit"] == 1
    assert now["messages_refused_total size"] == 2  # as it came, and as it was announced
    assert now["messages_refused_total bare_cr"] == 1
    assert now["messages_refused_total loop"] == 0
    assert now["sessions_refused_total too_many_sessions_of_client"] == 1
    assert now["sessions_refused_total held_off"] == 0
    assert now["messages_sealed_total"] == 0


def test_refused_senders_are_counted(measured):
    zones = nameserver.resolver_zones()
    zones["takesnone.test"] = "@ IN MX 0 .\n"
    names = nameserver.NameServer(zones).start()
    try:
        tree, port = measured({"smtp": {"check_sender": "yes"}, "resolver": names.settings})
        alice = tree.user("alice")
        assert scrape(port)["senders_refused_total null_mx"] == 0
        with tree.smtp() as s:
            s.ehlo()
            s.mail("bob@takesnone.test")
            assert s.rcpt(alice.address)[0] == 550
        assert scrape(port)["senders_refused_total null_mx"] == 1
    finally:
        names.stop()


def test_links_are_counted(measured):
    """Their notifications wait for a name server that is silent; the sender has them already."""
    tree, port = measured(dict(SILENT))
    alice, = everyone(tree, 1)
    eve, dan = outside(2)
    mail = Mail(alice, eve, dan)
    now = scrape(port)
    assert now["links"] == 2 and now["link_events_total created"] == 2 and now["queue_length"] >= 1
    assert now["link_visits_total opened"] == 0 and now["secrets"] == 4
    mail.open(eve)
    now = scrape(port)
    assert now["link_visits_total opened"] >= 1 and now["link_events_total revoked"] == 0
    alice.run("revoke", mail.id)
    now = wait_for(lambda: (seen := scrape(port))["secret_residency_seconds_count password"] == 2 and seen)
    assert now["link_events_total revoked"] == 2 and now["secrets"] == 0
    assert now["secret_residency_seconds_count relay"] == 0
    assert 0 < now["secret_residency_seconds_sum password"] < 300


@pytest.mark.skipif(os.geteuid() != 0, reason="Postfix needs root")
@pytest.mark.parametrize("mode", MODES)
def test_deliveries_are_counted(world, mode):
    port = free_ports(1)[0]
    tree = make_tree(mode, world)
    tree.extra["metrics"] = {"listen": f"127.0.0.1:{port}"}
    tree.write_config()
    tree.start()
    try:
        alice = Person(tree, "alice")
        for domain in ("outside.test", "null.test", "dead.test"):
            alice.tried(alice.send(letter(alice.address, [f"b@{domain}"]), [f"b@{domain}"]))
        now = wait_for(lambda: (seen := scrape(port))["deliveries_total deferred"] and seen)
        assert now["deliveries_total sent"] == 1 and now["deliveries_total failed"] == 1
        assert now["secret_residency_seconds_count relay"] == 2 and now["queue_length"] == 1
        assert now["deliveries_total crashed"] == 0 and now["dns_questions_total"] > 0
    finally:
        tree.stop()
        tree.remove()


def test_crashes_and_violations_are_counted(measured):
    tree, port = measured(test_build=True)
    os.kill(tree.pids()["sealer"], signal.SIGKILL)
    tree.wait_ready(2)
    now = scrape(port)
    assert now["tree_restarts_total"] == now["role_crashes_total sealer"] == 1
    assert now["role_crashes_total store"] == now["sandbox_violations_total role"] == 0
    with tree.smtp() as s:
        s.ehlo()
        session, = tree.children(tree.pids()["smtp"])
        os.kill(session, signal.SIGSYS)  # what its filter would do
        now = wait_for(lambda: (seen := scrape(port))["sandbox_violations_total session"] and seen)
    assert now["sessions_crashed_total"] == 1
    scan.ask(tree.dir / "control.sock", scan.CC_PROBE, struct.pack(">BH", ROLES.index("web"), 6) + b"execve")
    tree.wait_ready(3)
    now = scrape(port)
    assert now["tree_restarts_total"] == 2 and now["role_crashes_total web"] == 1
    assert now["sandbox_violations_total role"] == 1


def test_every_metric_is_documented(measured):
    tree, port = measured()
    served = set(re.findall(r"^# TYPE sealpost_(\w+) ", fetch(port), re.M))
    documented = set(re.findall(r"^\| `sealpost_(\w+)", (ROOT / "docs/metrics.md").read_text(), re.M))
    assert served == documented


def test_metrics_bear_rough_treatment(measured):
    tree, port = measured()
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
    assert scrape(port)["tree_restarts_total"] == 0
    with tree.smtp() as session:
        assert session.ehlo()[0] == 250
