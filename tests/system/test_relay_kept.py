"""P4, P6, P7 and P9 for mail that is sent: nothing is lost and hardly anything sent twice when processes are
killed; once it is out, no key and no word of it is left."""
import json
import os
import random
import shutil
import signal
import threading
import time
from http.client import HTTPException

import pytest

import scan
from device import Refused
from outside import wait_for
from relayed import Person, check_arrived, letter, make_tree

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the world needs root")


def marked_letter(person, to, size, seed):
    return letter(person.address, [to], body=scan.marked_message(size, seed).partition(b"\r\n\r\n")[2])


class Persistent(Person):
    """Sends until it is acknowledged, as a client does that meets a tree in the middle of a restart."""

    def insist(self, text, to, seconds=300):
        end, mail, upload = time.monotonic() + seconds, None, None
        while True:
            try:
                if mail is None:
                    mail = self.seal(text, [to])
                if upload is None:
                    upload = self.upload(mail)
                answer = self.device.call("POST", f"/v1/upload/{upload}/send", b"")
                if answer.status in (200, 409):
                    return mail
                upload = None
            except (OSError, HTTPException, Refused, ValueError):
                upload = None
            assert time.monotonic() < end
            try:
                time.sleep(0.05)
                self.device.login()
            except (OSError, HTTPException, Refused):
                pass


@pytest.mark.parametrize("victim", ["relay", "keeper", "store", "resolver", "all"])
def test_P9_kill(world, victim):
    """None is lost; sent twice is at most what was under way when something was killed."""
    tree = make_tree("root", world).start()
    try:
        alice = Persistent(tree, "alice")
        tag, chance = os.urandom(4).hex(), random.Random(victim)
        mails, kills, ended = {}, 0, threading.Event()

        def send_all():  # until it was hard
            try:
                while len(mails) < 40 or kills < 6:
                    to = f"k{len(mails)}-{tag}@outside.test"
                    text = letter(alice.address, [to], body=b"line of it\r\n" * chance.randrange(1, 20000))
                    alice.insist(text, to)
                    mails[to] = text
            finally:
                ended.set()

        worker = threading.Thread(target=send_all)
        worker.start()
        while not ended.wait(chance.uniform(0.2, 1.2)):
            if victim == "all":
                tree.kill()
                tree.start()
            else:
                ready = tree.said().count("sealpostd: ready")
                os.kill(tree.pids()[victim], signal.SIGKILL)
                tree.wait_ready(ready + 1)
            kills += 1
        worker.join(600)
        assert len(mails) >= 40 and kills >= 6

        def all_there():
            there = {m[0] for m in world.postfix.mails() if tag in m[0]}
            if there == set(mails):
                return True
            tree.ctl("queue", "retry", "all", check=False)
            time.sleep(0.5)
            return False

        wait_for(all_there, 300)
        got = [m for m in world.postfix.mails() if tag in m[0]]
        for to, _, content, _ in got:
            check_arrived(world, content, mails[to])
        assert len(got) - len(mails) <= kills * 10, "more was sent twice than can have been under way"
    finally:
        tree.stop()
        tree.remove()


def slot_keys(tree):
    """The keys in the slots file (storage/slots.h)."""
    path, = tree.state.rglob("slots")
    data = path.read_bytes()[4096:]
    return [k for k in (data[i:i + 32] for i in range(0, len(data), 32)) if any(k)]


def secrets_of(mail):
    return {f"secret {i}": s for i, s in enumerate(mail.secrets())}


def test_P4_P7_sent_and_gone(world):
    """While it waits only the keeper can open it; once it is sent, no process and no file has a key or a
    word of it left. The slot's key, under which the store kept the relay key, is gone as well."""
    server, domain = world.trick(lambda session, stage, line: b"450 4.2.1 not yet\r\n"
                                 if stage == "rcpt" and server.shut else None)
    server.shut = True
    tree = make_tree("root", world, test_build=True).start()
    try:
        alice = Person(tree, "alice")
        to = f"gone-{os.urandom(4).hex()}@{domain}"
        text = marked_letter(alice, to, 600000, 77)
        assert not slot_keys(tree)
        mail = alice.send(text, [to])
        assert alice.tried(mail)["state"] == "deferred"
        slot_key, = slot_keys(tree)
        server.shut = False
        tree.ctl("queue", "retry", "all")
        assert alice.settled(mail)["state"] == "sent"
        check_arrived(world, server.mails[0][2], text)
        wait_for(lambda: tree.events("secret.erased"))
        erased = tree.events("secret.erased")[-1]
        received = tree.events("secret.received")[-1]
        assert erased["residency_ms"] >= 0 and received["seq"] < erased["seq"]
        needles = secrets_of(mail) | {"the slot's key": slot_key}
        assert not slot_keys(tree)
        for pid in tree.all_pids():
            assert not scan.in_memory(pid), tree.proc_status(pid)["Name"]
            assert not scan.needles_in_memory(pid, needles), tree.proc_status(pid)["Name"]
        assert scan.in_locked_memory(tree.dir / "control.sock") == 0
        for secret in needles.values():
            assert scan.in_locked_memory(tree.dir / "control.sock", secret) == 0
        assert not scan.in_files(tree.state, tree.log.parent)
        assert not scan.needles_in_files(needles, tree.state, tree.log.parent)
    finally:
        tree.stop()
        tree.remove()


def test_P4_waiting_mail_lies_sealed(world):
    """Mail that waits: no key of it, in the clear, on disk or in any process but the keeper's hands."""
    tree = make_tree("root", world, test_build=True).start()
    try:
        alice = Person(tree, "alice")
        text = marked_letter(alice, "x@dead.test", 200000, 78)
        mail = alice.send(text, ["x@dead.test"])
        assert alice.tried(mail)["state"] == "deferred"
        for pid in tree.all_pids():
            assert not scan.needles_in_memory(pid, secrets_of(mail)), tree.proc_status(pid)["Name"]
            assert not scan.in_memory(pid)
        assert not scan.needles_in_files(secrets_of(mail), tree.state, tree.log.parent)
        assert not scan.in_files(tree.state, tree.log.parent)
    finally:
        tree.stop()
        tree.remove()


@pytest.mark.parametrize("end", ["drop", "sent"])
def test_P4_an_old_database_opens_nothing(world, end):
    """The database as it was while the mail waited (a backup, free pages), with everything else of the disk
    as it is now, the keeper's key included: the mail cannot be opened any more."""
    server, domain = world.trick(lambda session, stage, line: b"450 4.2.1 not yet\r\n"
                                 if stage == "rcpt" and server.shut else None)
    server.shut = True
    tree = make_tree("root", world).start()
    try:
        alice = Person(tree, "alice")
        mail = alice.send(letter(alice.address, [f"x@{domain}"]), [f"x@{domain}"])
        assert alice.tried(mail)["state"] == "deferred"
        tree.stop()
        shutil.copytree(tree.state / "data", tree.dir / "old", copy_function=shutil.copy2)
        server.shut = end != "sent"
        tree.start()
        alice.device.login()
        tree.ctl("queue", "retry" if end == "sent" else "drop", mail.id.hex())
        assert alice.settled(mail)["state"] == ("sent" if end == "sent" else "failed")
        wait_for(lambda: tree.events("secret.erased"))
        tree.stop()
        count = len(server.mails)
        server.shut = False
        for path in (tree.dir / "old").iterdir():
            (tree.state / "data" / path.name).write_bytes(path.read_bytes())
        tree.start()
        alice.device.login()

        def given_up():
            tree.ctl("queue", "retry", "all", check=False)
            return alice.state(mail)["state"] == "failed"

        wait_for(given_up)
        assert len(server.mails) == count
    finally:
        tree.stop()
        tree.remove()


def test_P7_revoked_while_it_waits(world):
    """`sealpost revoke` takes back relay mail that is still queued: it is never sent, whatever the server says
    later, and its key is erased at once. What another recipient's server has taken stays sent."""
    server, domain = world.trick(lambda session, stage, line: b"450 4.2.1 not yet\r\n"
                                 if stage == "rcpt" and server.shut else None)
    server.shut = True
    tree = make_tree("root", world).start()
    try:
        alice = tree.user("alice")
        there = f"revoked-{os.urandom(4).hex()}@outside.test"
        ident = alice.run("send", f"x@{domain}", f"y@{domain}", there,
                          input=letter(alice.address, ["x"])).stdout.decode().split()[0]

        def states(*want):
            rows = json.loads(alice.run("status", ident, "--json").stdout)["recipients"]
            return {r["address"]: r["state"] for r in rows} == dict(zip((f"x@{domain}", f"y@{domain}", there), want))

        wait_for(lambda: states("deferred", "deferred", "sent"))
        assert not tree.events("secret.erased")
        assert b"1 recipient" in alice.run("revoke", ident, f"x@{domain}").stdout
        assert states("revoked", "deferred", "sent")
        assert b"1 recipient" in alice.run("revoke", ident).stdout
        assert states("revoked", "revoked", "sent")
        wait_for(lambda: tree.events("secret.erased"))
        assert tree.events("secret.erased")[-1]["why"] == "revoked"
        assert alice.run("revoke", ident, check=False).returncode == 1
        server.shut = False
        tree.ctl("queue", "retry", "all", check=False)
        other = alice.run("send", f"z@{domain}", input=letter(alice.address, ["z"])).stdout.decode().split()[0]
        wait_for(lambda: server.mails)
        assert [m[1] for m in server.mails] == [[f"z@{domain}"]] and other != ident
        assert len(world.postfix.arrived(there)) == 1
    finally:
        tree.stop()
        tree.remove()
