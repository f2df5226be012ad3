"""A hot backup: taken while mail comes in, it opens; it holds nothing of what was deleted; it is the way back."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading

import pytest

from sealpost import Tree, crlf, program


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


def readers(command):
    """The cage of those of this command's processes that have a database open: uid, inode of the root directory,
    network, session, descriptors."""
    found = set()
    family = pathlib.Path(f"/proc/{command.pid}/task/{command.pid}/children")
    with contextlib.suppress(OSError):
        for pid in (str(command.pid), *family.read_text().split()):
            proc = pathlib.Path(f"/proc/{pid}")
            if "/data.mdb" in (proc / "maps").read_text():
                uid = re.search(r"^Uid:\s+(\d+)", (proc / "status").read_text(), re.M)[1]
                files = frozenset(os.readlink(fd).split(":")[0] for fd in (proc / "fd").iterdir())
                found.add((int(uid), os.stat(proc / "root").st_ino, os.readlink(proc / "ns/net"), os.getsid(int(pid)), files))
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look into another's process")
def test_root_does_not_read_what_the_store_has_written():
    """LMDB believes its files: who reads one may have been taken over, and is then no more than the store was. Of
    root's terminal, above all, it has nothing."""
    tree = Tree("root").start()
    alice = tree.user("alice")
    for _ in range(10):
        tree.deliver(crlf(f"Subject: x\n\n{os.urandom(2_000_000).hex()}\n"), [alice.address])
    data = os.stat(tree.state / "data")
    ours, terminal = os.openpty()
    seen, roots = set(), {data.st_ino}
    for i in range(20):
        copy = tree.dir / f"copy-{i}"
        backup = subprocess.Popen([program("sealpostctl", tree.mode), "--config", tree.config, "backup", copy],
                                  stdin=terminal, stdout=terminal, stderr=terminal)
        while backup.poll() is None:
            seen |= readers(backup)
        assert backup.returncode == 0
        roots.add(os.stat(copy / "data").st_ino)
        if seen:
            break
    os.close(ours)
    os.close(terminal)
    assert seen
    allowed = {"/dev/null", "pipe", "/data.mdb", "/lock.mdb", f"{copy}/data/data.mdb", f"{tree.state}/data/data.mdb",
               f"{tree.state}/data/lock.mdb"}
    for uid, root, network, session, files in seen:
        assert uid == data.st_uid != 0 and root in roots and network != os.readlink("/proc/self/ns/net")
        assert session != os.getsid(0) and files <= allowed, files
    tree.remove()


def test_a_damaged_database_is_no_copy(fresh):
    tree = fresh().start()
    tree.deliver(crlf("Subject: x\n\nx\n"), [tree.user("alice").address])
    tree.stop()
    path = tree.state / "data" / "data.mdb"
    data = bytearray(path.read_bytes())
    data[2 * 4096:] = os.urandom(len(data) - 2 * 4096)
    path.write_bytes(data)
    done = tree.ctl("backup", tree.dir / "copy", check=False)
    assert done.returncode == 1 and done.stderr, done.stderr
    assert not (tree.dir / "copy").exists()  # nothing that looks like a copy, and the name is free


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


def test_a_database_of_a_newer_version_is_refused(fresh):
    """Who goes back to an older program needs the backup that he made before."""
    tree = fresh().start()
    alice = tree.user("alice")
    tree.deliver(crlf("Subject: before\n\nx\n"), [alice.address])
    tree.ctl("backup", tree.dir / "copy")
    tree.stop()
    data = tree.state / "data" / "data.mdb"
    found = re.search(rb"schema\0{7}(.)", data.read_bytes(), re.S)
    with open(data, "r+b") as f:  # the number of the layout, in each page that has it
        newer = re.sub(rb"schema\0{7}(.)", lambda m: m[0][:-1] + bytes([found[1][0] + 1]), f.read(), flags=re.S)
        f.seek(0)
        f.write(newer)
    tree.start(wait=False)
    assert tree.process.wait(60) != 0
    assert "sealpostd: ready" not in tree.said() and "or restore a backup" in tree.said(), tree.said()
    assert data.read_bytes() == newer
    owner = os.stat(data)
    shutil.copy(tree.dir / "copy" / "data" / "data.mdb", data)
    os.chown(data, owner.st_uid, owner.st_gid)
    (tree.state / "data" / "lock.mdb").unlink()
    tree.start()
    assert b"Subject: before" in alice.read(1)
