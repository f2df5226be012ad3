"""Links as anybody asks for them, by an independent device: every request is in the audit log with what it
got (P12), and what they brought along is nowhere afterwards."""
import json
import os
import pathlib
import struct
import subprocess
import time

import pytest

import scan
from conftest import MODES
from device import b64u, request
from outside import wait_for
from relayed import Person, letter, make_tree
from sender import Link

OURS = ("127.0.0.1",)


@pytest.fixture(scope="module", params=MODES)
def tree(request, world):
    t = make_tree(request.param, world, test_build=True).start()
    yield t
    assert t.stop() == 0, t.said()
    t.remove()


@pytest.fixture(scope="module")
def alice(tree):
    return Person(tree, "alice")


class Asked:
    """Requests for one link, and what the log must say of them."""

    def __init__(self, tree, link):
        self.tree, self.link, self.expected = tree, link, []

    def ask(self, path, status, event, got="ok", method="GET", headers=None, what=None):
        answer = request(self.tree.url, self.tree.ca, method, self.link.path + path, headers=headers)
        assert answer.status == status, (path, answer.status, answer.body[:200])
        assert answer.headers["Cache-Control"] == "no-store"
        if event:
            self.expected.append((event, what, got))
        return answer

    def logged(self):
        mine = [e for e in self.tree.events() if e.get("link") == self.link.id.hex()
                and e["event"] in ("link.page", "link.opened", "link.exposed")]
        assert all(e["client"] in OURS for e in mine)
        return [(e["event"], e.get("what"), e["got"]) for e in mine]

    def check(self):
        """An answer does not wait for its line to be in the file: at most a turn of the audit role."""
        wait_for(lambda: len(self.logged()) >= len(self.expected), 20)
        assert self.logged() == self.expected


def send(alice, expires_in=3600, size=200_000, **more):
    link = Link(f"eve-{os.urandom(4).hex()}@outside.test", int(time.time()) + expires_in, **more)
    text = letter(alice.address, [link.address], body=os.urandom(size // 2).hex().encode() + b"\r\n")
    mail = alice.send(text, links=[link])
    return link, mail


def gone_for_everybody(asked):
    for path in ("", "?x=y"):
        asked.ask(path, 404, "link.page", "gone")
    asked.ask("%23" + asked.link.fragment, 404, "link.exposed", "gone")
    for headers in (asked.link.authorization, None, {"Authorization": "Sealpost-Gate " + b64u(bytes(32))}):
        asked.ask("/envelope", 404, "link.opened", "gone", headers=headers, what="envelope")
        asked.ask("/piece/0", 404, "link.opened", "gone", headers=headers, what="piece 0")


SERVED = pathlib.Path(__file__).parents[2] / "page" / "served.sh"


def test_status_the_audit_log_and_what_is_served_name_one_page(tree, alice):
    """Computed from what GET gives, with sha256sum alone (page/served.sh), as anybody can."""
    link, _ = send(alice, size=100)
    served = subprocess.run(["sh", SERVED, tree.url + link.path], check=True, capture_output=True, text=True,
                            env=os.environ | {"CURL": f"curl --cacert {tree.ca}"}).stdout
    hashes = dict(line.split() for line in served.splitlines())
    assert set(hashes) == {"page_sha256", "page_files_sha256"} and all(len(h) == 64 for h in hashes.values())
    start = tree.events("start")[-1]
    assert {name: start[name] for name in hashes} == hashes
    status = {row["name"]: row["value"] for row in json.loads(tree.ctl("status", "--json")) if row["role"] == "web"}
    assert {name: status.get(name) for name in hashes} == hashes


def test_P12_every_request_is_in_the_log_with_what_it_got(tree, alice):
    link, mail = send(alice)
    asked, gate = Asked(tree, link), link.authorization
    page = asked.ask("", 200, "link.page", headers={"User-Agent": "Scanner/1.0 \\ \t" + "x" * 600}).body
    agent = next(e for e in tree.events("link.page") if e["link"] == link.id.hex())["agent"]
    assert agent.startswith(r"Scanner/1.0 \x5c \x09xxx") and len(agent) == 48
    assert asked.ask("", 200, "link.page", method="HEAD").body == b""
    assert asked.ask("?utm_source=news&utm_x=y", 200, "link.page").body == page
    for path in ("%23" + link.fragment, "%2523" + link.fragment, "?utm=x%23" + link.fragment):
        assert asked.ask(path, 200, "link.exposed").body == page
    for path, what in (("/envelope", "envelope"), ("/piece/0", "piece 0")):
        refused = asked.ask(path, 401, "link.opened", "wrong gate", what=what)
        assert refused.headers["WWW-Authenticate"] == "Sealpost-Gate"
        for other in (os.urandom(32), bytes(32), link.password):
            asked.ask(path, 403, "link.opened", "wrong gate", what=what,
                      headers={"Authorization": "Sealpost-Gate " + b64u(other)})
    row = alice.state(mail, link.address)
    assert (row["visits"], row["opened_ms"]) == (0, 0), "who holds no link opens nothing"

    opened = asked.ask("/envelope", 200, "link.opened", headers=gate, what="envelope")
    assert opened.headers["Sealpost-Sender"] == alice.address
    assert opened.headers["Sealpost-Expires"] == str(link.expires)
    envelope = mail.envelope_bytes()
    assert opened.body[:4 + len(envelope)] == struct.pack(">I", len(envelope)) + envelope
    whole = asked.ask("/piece/0", 200, "link.opened", headers=gate, what="piece 0")
    assert whole.body == mail.pieces[0] and len(whole.body) > 3 * 65536, "one event for all its blocks"
    part = asked.ask("/piece/0", 206, "link.opened", headers=gate | {"Range": "bytes=1000-150000"},
                     what="piece 0")
    assert part.body == mail.pieces[0][1000:150001]
    asked.ask("/piece/0", 416, "link.opened", headers=gate | {"Range": "bytes=9999999-"}, what="piece 0")
    assert asked.ask("/piece/0", 200, "link.opened", method="HEAD", headers=gate, what="piece 0").body == b""
    asked.ask("/piece/1", 404, "link.opened", "gone", headers=gate, what="piece 1")
    row = alice.state(mail, link.address)
    assert row["visits"] == 1 and row["opened_ms"] > 0

    # Refused before anything is looked up, and nothing of it happens.
    asked.ask("", 405, None, method="POST")
    asked.ask("/envelope", 405, None, method="DELETE", headers=gate)
    asked.check()
    alice.device.call("POST", f"/v1/message/{mail.id.hex()}/revoke", b"\0\0", expect=200)
    gone_for_everybody(asked)
    asked.check()


def test_P12_an_expired_and_an_unknown_link_are_in_the_log_too(tree, alice):
    link, _ = send(alice, expires_in=3, size=100)
    visits = []
    while 404 not in visits and len(visits) < 600:
        visits.append(request(tree.url, tree.ca, "GET", link.path).status)
        time.sleep(0.1)
    for one, before in ((link, visits), (Link("nobody@outside.test", 0), [])):
        one.digest = one.digest or bytes(32)
        asked = Asked(tree, one)
        asked.expected = [("link.page", None, {200: "ok", 404: "gone"}[status]) for status in before]
        gone_for_everybody(asked)
        asked.check()


def test_neither_gate_nor_fragment_is_anywhere_once_a_link_was_sent_and_opened(tree, alice):
    link, mail = send(alice)
    wait_for(lambda: alice.state(mail, link.address)["state"] == "sent")
    asked = Asked(tree, link)
    for path in ("", "%23" + link.fragment, "%2523" + link.fragment, "?utm=x%23" + link.fragment):
        asked.ask(path, 200, None)
    for path in ("/envelope", "/piece/0"):
        asked.ask(path, 200, None, headers=link.authorization)
        asked.ask(path, 200, None, method="HEAD", headers=link.authorization)
    needles = link.secrets()
    names = {pid: role for role, pid in tree.pids().items()}
    found = {names.get(pid, pid): scan.needles_in_memory(pid, needles) for pid in tree.all_pids()}
    assert not any(found.values()), found
    for needle in needles.values():
        assert scan.in_locked_memory(tree.dir / "control.sock", needle[:32]) == 0
    assert scan.needles_in_files(needles, tree.state, tree.log.parent) == set()
    assert not any(n.decode("latin1") in tree.said() for n in needles.values())
    with open(tree.dir / "proof", "wb") as proof:  # that a scan would have found them
        proof.write(b"".join(needles.values()))
    assert scan.needles_in_files(needles, tree.dir) == set(needles)
