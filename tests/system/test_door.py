"""The door as a service of its own, as its unit starts it: under its uid, with one capability at most. The tree, and
its supervisor, are then in an empty network: what comes in and goes out is the door's sockets."""
import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import pytest

import place
from lonerole import ended
from outside import wait_for
from relayed import Person, letter, make_tree
from sealpost import ROLES, Tree, lives

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a door of its own is root's to start")

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def own_network():
    """PrivateNetwork=yes."""
    assert libc.unshare(CLONE_NEWNET) == 0


class Door:
    def __init__(self, tree, uid=None, capabilities="+net_bind_service"):
        self.tree = tree
        self.uid = uid or place.first_uid() + ROLES.index("door")
        self.dir = tree.dir / f"door{self.uid}"
        self.path = self.dir / "socket"
        self.stderr = tree.dir / "door.stderr"
        os.chmod(tree.dir, 0o711)
        self.dir.mkdir(exist_ok=True)
        os.chown(self.dir, self.uid, 0)
        os.chmod(self.dir, 0o2750)
        self.bounds = f"-all,{capabilities}"
        self.process = None

    def start(self):
        shutil.copy(self.tree.config, self.dir / "sealpost.conf")  # LoadCredential=
        os.chown(self.dir / "sealpost.conf", self.uid, self.uid)
        self.stderr.write_text("")
        with open(self.stderr, "ab") as err:
            self.process = subprocess.Popen(
                ["setpriv", "--reuid", str(self.uid), "--regid", str(self.uid), "--clear-groups", "--bounding-set",
                 self.bounds, "--inh-caps", self.bounds, "--ambient-caps", self.bounds, "--no-new-privs",
                 self.tree.binary, "--as-door", self.path, "--config", self.dir / "sealpost.conf"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err, cwd="/")
        wait_for(lambda: self.process.poll() is not None or ": ready: " in self.said())
        return self

    def said(self):
        return self.stderr.read_text()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
        return self.process and self.process.wait(30)


@pytest.fixture
def apart():
    """A tree whose door is a process of its own."""
    doors = []

    def make(tree=None, door=None, **options):
        tree = tree or Tree("root", **options)
        doors.append((tree, door or Door(tree)))
        tree.arguments += ["--door", str(doors[-1][1].path)]
        tree.before_exec = own_network
        return doors[-1]
    yield make
    for tree, door in doors:
        tree.remove()
        door.stop()


def rows(tree, *arguments):
    done = tree.ctl(*arguments, "--json", check=False)
    return json.loads(done.stdout)


def network(pid):
    return os.readlink(f"/proc/{pid}/ns/net")


def test_mail_in_and_out(world, apart):
    """No process of the tree is in the host's network, and everything works."""
    tree, door = apart(make_tree("root", world))
    door.start()
    tree.start()
    assert "door" not in tree.pids() and set(tree.pids()) == set(ROLES) - {"door"}
    assert network(door.process.pid) == network("self")
    for pid in tree.all_pids():
        assert network(pid) != network("self"), pid
        devices = pathlib.Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]
        assert [d.split(":")[0].strip() for d in devices] == ["lo"]
    alice = Person(tree, "alice")
    server, domain = world.trick(lambda session, stage, line: None)
    sent = alice.send(letter(alice.address, ["x"]), [f"x@{domain}"])
    wait_for(lambda: alice.tried(sent)["state"] == "sent")
    tree.deliver("Subject: in\r\n\r\nby the door's listener\r\n", alice.address)
    assert len(alice.received()) == 1


def test_what_it_keeps(apart):
    """Its cage, seen from outside; `sealpostctl check` says the same."""
    tree, door = apart()
    door.start()
    tree.start()
    pid = door.process.pid
    st = tree.proc_status(pid)
    for caps in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(st[caps], 16) == 0, caps
    assert st["NoNewPrivs"] == "1" and st["Seccomp"] == "2" and set(st["Uid"].split()) == {str(door.uid)}
    assert os.stat(f"/proc/{pid}/mem").st_uid == 0  # not dumpable
    status = rows(tree, "status")
    assert [r["value"] for r in status if (r["role"], r["name"]) == ("door", "pid")] == [str(pid)]
    found = [r for r in rows(tree, "check", "--all") if r["where"] in ("door", "supervisor")]
    assert [r for r in found if r["result"] != "ok"] == []
    assert {"groups and uid", "capabilities", "no_new_privs", "dumpable", "Landlock", "system call filter",
            "namespaces", "descriptors", "memory"} <= {r["layer"] for r in found}
    assert any("as built for door-unit" in r["found"] for r in found)
    assert any("net namespace of its own" in r["found"] for r in found)


def test_a_supervisor_in_the_open_is_found(apart):
    tree, door = apart()
    tree.before_exec = None
    door.start()
    tree.start()
    found = [r for r in rows(tree, "check") if r["where"] == "supervisor"]
    assert [r["found"] for r in found] == ["in the door's network"]


@pytest.mark.parametrize("step", ["Landlock", "no_new_privs", "dumpable", "memory-deny-write-execute",
                                  "system call filter", "no way back to root", "resource limits"])
def test_a_layer_left_out_is_found(apart, step):
    tree, door = apart(test_build=True)
    run = subprocess.Popen

    def broken(args, **how):
        return run([*args, "--break", step] if "--as-door" in args else args, **how)
    subprocess.Popen = broken
    try:
        door.bounds = "-all,+net_bind_service"
        door.start()
    finally:
        subprocess.Popen = run
    tree.start()
    found = {r["layer"] for r in rows(tree, "check") if r["where"] == "door" and r["result"] == "FINDING"}
    if step == "no_new_privs":  # who started it has set it before
        assert found == set()
    else:
        assert {"no way back to root": "capabilities"}.get(step, step) in found, found


def test_a_fresh_tree_gets_channels_of_its_own(apart):
    """A role dies; the door is the same, what it hands on is new, of the old nothing is left open."""
    tree, door = apart()
    door.start()
    tree.start()
    fds = len(os.listdir(f"/proc/{door.process.pid}/fd"))
    for n in (2, 3, 4):
        os.kill(tree.pids()["resolver"], signal.SIGKILL)
        tree.wait_ready(n)
    wait_for(lambda: len(os.listdir(f"/proc/{door.process.pid}/fd")) <= fds)
    alice = tree.user("alice")
    tree.deliver("Subject: again\r\n\r\nx\r\n", alice.address)
    assert len(alice.list()) == 1


def test_the_door_dies(apart):
    """The supervisor ends in order, and says so by its exit status: the service manager starts both anew."""
    tree, door = apart()
    door.start()
    tree.start()
    pids = tree.all_pids()
    door.process.kill()
    assert tree.process.wait(60) == 1
    assert "the door is gone; ending" in tree.said()
    assert tree.events("stop")[-1]["why"] == "the door is gone"
    tree.wait_gone(pids)
    door.process.wait()
    door.start()
    tree.start()
    assert tree.user("alice")


def test_the_door_ends_with_nobody_there(apart):
    tree, door = apart()
    door.start()
    tree.start()
    assert tree.stop() == 0
    assert lives(door.process.pid)
    assert door.stop() == 0


def refused(tree, words):
    tree.start(wait=False)
    assert tree.process.wait(60) == 1
    assert words in tree.said(), tree.said()
    assert "sealpostd: ready" not in tree.said()


def test_without_a_door(apart):
    refused(apart()[0], "does not open; is sealpost-door.service running?")


def test_another_users_door(apart):
    tree = Tree("root")
    _, door = apart(tree, Door(tree, uid=place.first_uid() + place.LONE))
    door.start()
    refused(tree, "does not run as sealpost-door: it is not believed")


def test_a_door_with_other_listeners(apart):
    """The configuration has changed, and the door was not started again."""
    for change in ({"smtp": {"listen": "127.0.0.1:{}"}}, {"metrics": {"listen": "127.0.0.1:{}"}}):
        tree, door = apart()
        door.start()
        for section, keys in change.items():
            tree.extra[section] = {k: v.format(place.free_port()) for k, v in keys.items()}
        tree.write_config()
        refused(tree, "has other listeners than the configuration: restart it, too")
        door.stop()
        door.start()
        tree.start()


def test_others_get_nothing(apart):
    """Who is not root is not let in by the directory; who comes past that is refused by his uid."""
    tree, door = apart()
    door.start()

    def knock(uid):
        code = ("import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.settimeout(20)\n"
                "try:\n    s.connect(sys.argv[1])\n    print(socket.recv_fds(s, 100, 9)[:2])\n"
                "except OSError as e:\n    print(type(e).__name__)\n")
        return subprocess.run(["/usr/bin/python3", "-c", code, door.path], capture_output=True, text=True, user=uid, group=uid,
                              extra_groups=[], cwd="/").stdout.strip()
    stranger = place.first_uid() + place.LONE
    assert knock(stranger) == "PermissionError"
    os.chmod(door.dir, 0o755)
    os.chmod(door.path, 0o666)
    assert knock(stranger) in ("(b'', [])", "ConnectionResetError")
    assert "a connection is refused: its uid is not root's" in door.said()
    tree.start()


def test_it_listens_to_nobody(apart):
    """A supervisor that speaks is at its end; others go on."""
    tree, door = apart()
    door.start()
    tree.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.settimeout(20)
        other.connect(str(door.path))
        heard = [other.recv(2000)]
        while heard[-1][:2] != b"\x0f\x02":
            heard.append(other.recv(2000))
        assert [h[1] for h in heard] == [0] * 3 + [1] * 6 + [2]
        other.send(b"please")
        assert ended(other)
    assert lives(door.process.pid)
    alice = tree.user("alice")
    tree.deliver("Subject: x\r\n\r\nx\r\n", alice.address)
    assert len(alice.list()) == 1


def test_it_refuses_to_be_root(apart):
    tree, door = apart()
    done = subprocess.run([tree.binary, "--as-door", door.path, "--config", tree.config], capture_output=True, text=True)
    assert done.returncode == 1 and "refuses to be root" in done.stderr


def test_notification_and_watchdog(apart, monkeypatch):
    tree, door = apart()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tree.dir / "notify"))
        os.chmod(tree.dir / "notify", 0o777)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tree.dir / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        door.start()
        listener.settimeout(60)
        said = [listener.recv(4096) for _ in range(4)]
    assert said == [b"READY=1"] + [b"WATCHDOG=1"] * 3


def test_a_low_port(apart):
    """Ports below 1024 take the one capability; without it the door does not start, and says which port."""
    tree = Tree("root", settings={"smtp": {"listen": "127.0.0.1:1"}})
    door = Door(tree, capabilities="-net_bind_service")
    door.start()
    assert door.process.wait(30) == 1 and "127.0.0.1:1: Permission denied" in door.said()
    tree.remove()


def test_a_role_that_is_stuck_is_ended(fresh):
    """Without CAP_KILL: the supervisor becomes the role's uid for that moment, in its real uid alone."""
    tree = fresh()
    tree.start()
    supervisor = tree.proc_status(tree.process.pid)
    if tree.mode == "root":
        assert int(supervisor["CapEff"], 16) >> 5 & 1 == 0 and int(supervisor["CapBnd"], 16) >> 5 & 1 == 0
    for role in ROLES:
        os.kill(tree.pids()[role], signal.SIGSTOP)
    pids = tree.all_pids()
    tree.process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    assert tree.process.wait(60) == 0
    assert time.monotonic() - begun < 30
    tree.wait_gone(pids, 10)
    assert "cannot end a role" not in tree.said() and "cannot become" not in tree.said()
    tree.process = None
