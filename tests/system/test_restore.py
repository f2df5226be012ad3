"""A restored backup, as docs/operations.md says it is done: nobody's mail is hidden by numbers that are given out
again, who changed keys since is mended by their own device, and who enrolled since is invited again."""

import json
import os
import shutil
import stat
import time

from sealpost import crlf


def restore(tree, copy):
    """Stop, put both files back, delete lock.mdb, start."""
    tree.stop()
    for name in ("data/data.mdb", "keeper.key"):
        owner = os.stat(tree.state / name)
        shutil.copy(copy / name, tree.state / name)
        os.chown(tree.state / name, owner.st_uid, owner.st_gid)
    (tree.state / "data" / "lock.mdb").unlink()
    tree.start()


def subjects(folder):
    return sorted(line[9:].decode() for p in (folder / "new").iterdir()
                  for line in p.read_bytes().split(b"\r\n\r\n")[0].splitlines() if line.startswith(b"Subject: "))


def mail(tree, user, subject):
    tree.deliver(crlf(f"Subject: {subject}\n\nx\n"), [user.address])


def backup(tree, name="copy"):
    tree.ctl("backup", tree.dir / name)
    return tree.dir / name


def refused(done, *words):
    said = done.stderr.decode()
    assert done.returncode == 1 and all(w in said for w in words), said


def test_the_copy_is_closed(fresh):
    tree = fresh().start()
    copy = backup(tree)
    assert stat.S_IMODE(os.stat(copy / "data" / "data.mdb").st_mode) == 0o600
    assert stat.S_IMODE(os.stat(copy / "keeper.key").st_mode) == 0o600
    assert [p.name for p in (copy / "data").iterdir()] == ["data.mdb"]


def test_sync_skips_no_mail_after_a_restore(fresh):
    tree = fresh().start()
    alice, empty = tree.user("alice"), tree.user("empty")
    box, other = tree.dir / "alice-mail", tree.dir / "empty-mail"
    mail(tree, alice, "before")
    alice.run("sync", box)
    copy = backup(tree)
    for i in range(5):
        mail(tree, alice, f"lost {i}")
        mail(tree, empty, f"lost {i}")
    assert b"5 new" in alice.run("sync", box).stdout
    assert b"5 new" in empty.run("sync", other).stdout
    for again in range(3):  # the same backup, thrice
        restore(tree, copy)
        for i in range(3):
            mail(tree, alice, f"after {again} {i}")
        mail(tree, empty, f"after {again}")
        assert b"3 new" in alice.run("sync", box).stdout
        assert b"1 new" in empty.run("sync", other).stdout
        assert b"0 new" in alice.run("sync", box).stdout
    numbers = [m["seq"] for m in alice.list()]
    assert numbers == sorted(set(numbers))
    tree.kill()  # what was restored once goes on, and is not restored again
    (tree.state / "data" / "lock.mdb").unlink()
    tree.start()
    mail(tree, alice, "the last")
    assert alice.list()[-1]["seq"] == numbers[-1] + 1
    assert b"the last" in alice.read(str(numbers[-1] + 1))
    assert b"1 new" in alice.run("sync", box).stdout
    assert subjects(box) == sorted(["before", "the last", *(f"lost {i}" for i in range(5)),
                                    *(f"after {a} {i}" for a in range(3) for i in range(3))])


def test_who_rotated_since_is_mended_by_the_own_device(fresh):
    tree = fresh().start()
    alice, bob = tree.user("alice"), tree.user("bob")
    alice.run("rotate")
    copy = backup(tree)
    alice.run("rotate")
    alice.run("rotate")
    fingerprint = alice.run("fingerprint").stdout
    assert bob.run("fingerprint", alice.address, "--track").stdout == fingerprint
    mail(tree, alice, "sealed for a key that the backup does not know")
    restore(tree, copy)
    mail(tree, alice, "sealed for the older key")

    letter = crlf(f"From: {bob.address}\nTo: {alice.address}\nSubject: hello\n\nx\n")
    refused(bob.run("send", alice.address, input=letter, check=False), "went backwards", "sealpost list")
    done = alice.run("list", "--json")
    assert done.stderr.decode().splitlines() == [
        "sealpost: your sigchain: the server had lost its newest 2 links (it was restored from a backup?); "
        "this device has given them back"]
    assert all(m["readable"] for m in json.loads(done.stdout))
    assert b"given" not in alice.run("list").stderr
    assert alice.run("fingerprint").stdout == fingerprint
    bob.run("send", alice.address, input=letter)
    assert b"Subject: hello" in alice.read(alice.newest()["id"])
    assert alice.newest()["generation"] == 4
    restore(tree, copy)  # and with the command that made them
    done = alice.run("rotate")
    assert b"newest 2 links" in done.stderr and b"generation 5" in done.stdout
    assert bob.run("fingerprint", alice.address).returncode == 0


def test_a_new_machine(fresh):
    """With the configuration and the backup alone: no slots, no audit log, no key of it."""
    tree = fresh().start()
    alice, bob = tree.user("alice"), tree.user("bob")
    mail(tree, alice, "before")
    copy = backup(tree)
    alice.run("rotate")
    tree.stop()
    tree.state.rename(tree.dir / "old-state")
    tree.log.parent.rename(tree.dir / "old-log")
    tree.start()
    restore(tree, copy)
    assert b"Subject: before" in alice.read(alice.newest()["id"])
    letter = crlf(f"From: {bob.address}\nTo: {alice.address}\nSubject: hello\n\nx\n")
    bob.run("send", alice.address, input=letter)
    assert b"Subject: hello" in alice.read(alice.newest()["id"])
    assert alice.newest()["generation"] == 2
    tree.ctl("audit", "verify")


def test_the_audit_log_moves_with_its_key(fresh):
    tree = fresh().start()
    alice, first = tree.user("alice"), tree.events()[0]["audit_key"]
    copy = backup(tree)
    tree.stop()
    tree.state.rename(tree.dir / "old-state")
    tree.log.parent.rename(tree.dir / "old-log")
    tree.start()
    tree.stop()
    shutil.rmtree(tree.log.parent)
    (tree.dir / "old-log").rename(tree.log.parent)
    shutil.move(tree.dir / "old-state" / "audit.key", tree.state / "audit.key")
    tree.start()
    restore(tree, copy)
    mail(tree, alice, "after")
    assert len(alice.list()) == 1
    tree.ctl("audit", "verify", "--key", first)
    assert tree.events()[0]["audit_key"] == first


def test_many_lost_links_are_given_back(fresh):
    """One after the other; where the ration of signatures is used up on the way: test_client_server."""
    tree = fresh().start()
    alice = tree.user("alice")
    copy = backup(tree)
    for _ in range(20):
        while b"429" in (done := alice.run("rotate", check=False)).stderr:
            time.sleep(0.2)  # its logins are rationed as well
        assert done.returncode == 0, done.stderr
    restore(tree, copy)
    assert b"newest 20 links" in alice.run("list").stderr


def test_who_enrolled_since_enrols_again_with_the_same_keys(fresh):
    tree = fresh().start()
    alice = tree.user("alice")
    copy = backup(tree)
    carol = tree.user("carol")
    box = tree.dir / "carol-mail"
    for i in range(4):
        mail(tree, carol, f"lost {i}")
    carol.run("sync", box)
    carol.run("rotate")
    fingerprint = carol.run("fingerprint").stdout
    assert alice.run("fingerprint", carol.address).stdout == fingerprint
    restore(tree, copy)

    refused(carol.run("list", check=False), "login refused", "backup", f"sealpost enroll {tree.url} {carol.address}")
    refused(alice.run("fingerprint", carol.address, check=False), "enrol again")
    code = tree.ctl("user", "add", carol.address)
    keys = (carol.home / "keys").read_bytes()
    refused(carol.run("enroll", tree.url, carol.address, "WRONG", check=False), "code is wrong")
    assert (carol.home / "keys").read_bytes() == keys
    done = carol.run("enroll", tree.url, carol.address, code)
    assert b"newest 1 link " in done.stderr and fingerprint.strip() in done.stdout
    assert alice.run("fingerprint", carol.address).stdout == fingerprint
    mail(tree, carol, "after")
    assert b"1 new" in carol.run("sync", box).stdout
    assert subjects(box) == ["after", *(f"lost {i}" for i in range(4))]
    letter = crlf(f"From: {alice.address}\nTo: {carol.address}\nSubject: hello\n\nx\n")
    alice.run("send", carol.address, input=letter)
    assert b"Subject: hello" in carol.read(carol.newest()["id"])
    refused(carol.run("enroll", tree.url, carol.address, code, check=False), "enrolled already")


def test_who_was_removed_and_invited_again_misses_no_mail(fresh):
    tree = fresh().start()
    carol = tree.user("carol")
    box = tree.dir / "carol-mail"
    for i in range(3):
        mail(tree, carol, f"before {i}")
    assert b"3 new" in carol.run("sync", box).stdout
    tree.ctl("user", "remove", carol.address)
    carol.run("enroll", tree.url, carol.address, tree.ctl("user", "add", carol.address))
    mail(tree, carol, "after")
    assert b"1 new" in carol.run("sync", box).stdout
    assert len(subjects(box)) == 4


def test_a_device_that_has_lost_its_chain_goes_on_and_others_compare(fresh):
    tree = fresh().start()
    alice, bob = tree.user("alice"), tree.user("bob")
    copy = backup(tree)
    alice.run("rotate")
    bob.run("fingerprint", alice.address)
    mail(tree, alice, "for the key of the lost link")
    box = tree.dir / "alice-mail"
    alice.run("sync", box)
    restore(tree, copy)
    shutil.rmtree(alice.home / "chains")
    assert b"lost" not in alice.run("rotate").stderr
    mail(tree, alice, "for the key of another second link")
    assert alice.newest()["readable"] and b"1 new" in alice.run("sync", box).stdout
    refused(bob.run("fingerprint", alice.address, check=False), "forks", f"fingerprint {alice.address} --forget")
    bob.run("fingerprint", alice.address, "--forget")
    assert bob.run("fingerprint", alice.address).stdout == alice.run("fingerprint").stdout
