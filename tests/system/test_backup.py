"""A hot backup: taken while mail comes in, it opens; and it holds nothing of what was deleted."""

import json
import os
import shutil
import threading

from sealpost import crlf


def test_a_backup_taken_under_load_opens(fresh):
    tree = fresh().start()
    alice = tree.user("alice")
    for i in range(20):
        tree.deliver(crlf(f"Subject: before {i}\n\n{i}\n"), [alice.address])
    end, acked = threading.Event(), []

    def send():
        while not end.is_set():
            tree.deliver(crlf(f"Subject: during {len(acked)}\n\nx\n") + os.urandom(2000).hex().encode() + b"\r\n",
                         [alice.address])
            acked.append(1)
    sender = threading.Thread(target=send)
    sender.start()
    copies = [tree.dir / f"backup-{i}" for i in range(3)]
    try:
        for copy in copies:
            tree.ctl("backup", copy)
    finally:
        end.set()
        sender.join()
    assert acked
    assert tree.ctl("backup", copies[0], check=False).returncode == 1  # it writes over nothing
    assert oct(os.stat(copies[0]).st_mode)[-3:] == "700"
    assert sorted(p.name for p in copies[2].iterdir()) == ["data", "keeper.key"]
    tree.stop()

    owner = os.stat(tree.state / "data" / "data.mdb")
    shutil.copy(copies[2] / "data" / "data.mdb", tree.state / "data" / "data.mdb")
    os.chown(tree.state / "data" / "data.mdb", owner.st_uid, owner.st_gid)
    (tree.state / "data" / "lock.mdb").unlink()
    tree.start()
    there = alice.list()
    assert 20 <= len(there) <= 20 + len(acked)
    for mail in there:
        assert b"Subject: " in alice.read(mail["id"])
    tree.deliver(crlf("Subject: after\n\nx\n"), [alice.address])
    assert len(alice.list()) == len(there) + 1


def test_what_was_deleted_is_not_in_it(fresh):
    tree = fresh().start()
    alice = tree.user("alice")
    tree.deliver(crlf("Subject: x\n\nx\n"), [alice.address])
    kept = alice.newest()["id"]
    tree.deliver(crlf("Subject: y\n\n") + b"y" * 300_000 + b"\r\n", [alice.address])
    doomed = alice.newest()["id"]
    out = tree.dir / "raw"
    alice.run("raw", doomed, "--out", out)
    piece = (out / "piece-0.bin").read_bytes()[100_000:100_064]
    alice.run("delete", doomed)
    tree.ctl("backup", tree.dir / "copy")
    data = (tree.dir / "copy" / "data" / "data.mdb").read_bytes()
    assert piece not in data and bytes.fromhex(doomed) not in data and bytes.fromhex(kept) in data
    assert json.loads(alice.run("list", "--json").stdout)


def test_a_restore_where_nothing_was_before(fresh):
    """A new machine has neither slots nor audit key; the keeper's key comes with the backup."""
    tree = fresh().start()
    alice = tree.user("alice")
    tree.deliver(crlf("Subject: kept\n\nx\n"), [alice.address])
    tree.ctl("backup", tree.dir / "copy")
    tree.stop()
    owners = {name: os.stat(tree.state / name) for name in ("data", "keeper.key")}
    tree.state.rename(tree.dir / "lost")
    tree.log.parent.rename(tree.dir / "lost-log")
    shutil.copytree(tree.dir / "copy", tree.state)
    for path, whose in ((tree.state, "keeper.key"), (tree.state / "data", "data"), (tree.state / "keeper.key", "keeper.key"),
                        (tree.state / "data" / "data.mdb", "data")):
        os.chown(path, owners[whose].st_uid, owners[whose].st_gid)
    if tree.mode == "user":  # what the client knows the appliance by, there
        for name in ("self-signed.pem", "self-signed.key"):
            shutil.move(tree.dir / "lost" / name, tree.state / name)
    tree.start()
    assert "slots: is new beside an older database" in tree.said() and "keeper.key" not in tree.said()
    assert b"Subject: kept" in alice.read(alice.newest()["id"])
