"""The audit log over several files: rotation keeps the chain, whenever it is cut off, and `audit verify`
reads all of them."""

import hashlib
import json
import os
import signal
import time

import pytest
from outside import wait_for
from sealpost import crlf


def deliver(tree, user, n):
    for i in range(n):
        tree.deliver(crlf(f"Subject: {i}\n\nx\n"), [user.address])


def files(tree):
    return sorted(tree.log.parent.glob("audit.log*"), key=lambda p: (p.name == "audit.log", p.name))


def chain(tree):
    """All lines of all files; they must follow one another."""
    events = [json.loads(line) for path in files(tree) for line in path.read_bytes().splitlines()]
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert all(b["prev"] == a["hash"] for a, b in zip(events, events[1:]))
    return events


@pytest.fixture
def tree(fresh):
    return fresh(settings={"audit": {"checkpoint_events": 10}}).start()


def test_P11_rotation_keeps_the_chain(tree):
    alice = tree.user("alice")
    first_key = json.loads(tree.log.read_bytes().splitlines()[0])["audit_key"]
    for _ in range(3):
        deliver(tree, alice, 4)
        old = tree.ctl("audit", "rotate")
        assert json.loads(open(old, "rb").read().splitlines()[-1])["event"] == "checkpoint"
        assert oct(os.stat(tree.log).st_mode)[-3:] == "600"
    deliver(tree, alice, 4)
    tree.stop()
    assert len(files(tree)) == 4
    assert sum(e["event"] == "log.rotated" for e in chain(tree)) == 3
    report = json.loads(tree.ctl("--json", "audit", "verify", "--key", first_key))
    assert report["files"] == 4 and report["first"] == 1 and report["events"] == len(chain(tree))
    tree.start()  # it goes on where it was
    deliver(tree, alice, 1)
    tree.stop()
    tree.ctl("audit", "verify", "--key", first_key)

    # Older files archived elsewhere: what is here is verified, and said to begin where it does.
    newest = [str(p) for p in files(tree)[2:]]
    part = json.loads(tree.ctl("--json", "audit", "verify", *newest))
    assert part["first"] > 1 and part["first_key"] != first_key
    assert tree.ctl("audit", "verify", *newest, "--key", first_key, check=False).returncode == 1
    # One in the middle missing, in the wrong order, or with a line less: found.
    names = [str(p) for p in files(tree)]
    assert tree.ctl("audit", "verify", names[0], *names[2:], check=False).returncode == 1
    assert tree.ctl("audit", "verify", names[1], names[0], *names[2:], check=False).returncode == 1
    lines = files(tree)[1].read_bytes().splitlines(keepends=True)
    files(tree)[1].write_bytes(b"".join(lines[:-1]))
    done = tree.ctl("audit", "verify", check=False)
    assert done.returncode == 1 and files(tree)[2].name.encode() in done.stderr


def test_P11_rotates_by_itself(fresh):
    tree = fresh(settings={"audit": {"rotate_size": "20K", "checkpoint_seconds": "1h"}}).start()
    alice = tree.user("alice")
    for _ in range(12):
        deliver(tree, alice, 15)
    tree.stop()
    assert len(files(tree)) > 3
    chain(tree)
    tree.ctl("audit", "verify")


def test_P11_a_checkpoint_is_due_by_time(fresh):
    """Where few events come: what was reported is covered a second later; where none came, nothing is written."""
    tree = fresh(settings={"audit": {"checkpoint_seconds": "1s"}}).start()
    wait_for(lambda: len(tree.events("checkpoint")) == 1)
    alice = tree.user("alice")
    deliver(tree, alice, 1)
    wait_for(lambda: tree.events()[-1]["event"] == "checkpoint" and tree.events("message.sealed"))
    before = tree.log.read_bytes()
    time.sleep(2.5)
    assert tree.log.read_bytes() == before
    tree.ctl("audit", "verify")
    tree.stop()


@pytest.mark.parametrize("point", ["empty", "begun", "half", "renamed"])
def test_P11_rotation_cut_off(tree, point):
    """A crash of the machine at each step: the next start finishes it or forgets it."""
    alice = tree.user("alice")
    deliver(tree, alice, 5)
    fresh_file = tree.log.parent / "audit.log.new"
    if point in ("begun", "renamed"):  # as they are between the new file's first line and the renaming
        old = tree.log.parent / tree.ctl("audit", "rotate").rsplit("/", 1)[1]
        tree.kill()
        first = tree.log.read_bytes().splitlines(keepends=True)[0]
        os.rename(tree.log, fresh_file)
        fresh_file.write_bytes(first)
        if point == "begun":
            os.rename(old, tree.log)
    else:
        os.kill(tree.process.pid, signal.SIGKILL)
        tree.process.wait()
        fresh_file.write_bytes(b"" if point == "empty" else b'{"seq":77,"time":"2026-')
        os.chmod(fresh_file, 0o600)
        if os.geteuid() == 0 and tree.mode == "user":
            os.chown(fresh_file, *[os.stat(tree.log).st_uid] * 2)
    tree.start()
    deliver(tree, alice, 2)
    tree.stop()
    assert not fresh_file.exists()
    assert len(files(tree)) == (2 if point in ("begun", "renamed") else 1)
    chain(tree)
    tree.ctl("audit", "verify")


def test_the_configuration_is_named_by_its_hash(fresh):
    tree = fresh().start()
    for n in (1, 2):
        wait_for(lambda: len(tree.events("config")) == n)
        event = tree.events("config")[-1]
        assert event["file"] == str(tree.config)
        assert event["sha256"] == hashlib.sha256(tree.config.read_bytes()).hexdigest()
        tree.stop()
        tree.config.write_text(tree.config.read_text() + "# a change\n")
        tree.start()
    wait_for(lambda: len({e["sha256"] for e in tree.events("config")}) == 3)
