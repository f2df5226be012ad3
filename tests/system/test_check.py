"""`sealpostctl check`: a sound tree has no finding of its own, and each layer that is left out is found."""

import contextlib
import ctypes
import datetime
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from outside import wait_for
from overlay import overlay
from relayed import Person, letter, make_tree
from sealpost import ROLES, Tree, program

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can look into other processes")


def rows(tree, *options):
    done = tree.ctl("check", "--json", *options, check=False)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout), done.returncode


@pytest.fixture
def broken():
    trees = []

    def make(step, mode="root", settings=None):
        tree = Tree(mode, test_build=True, settings=settings, arguments=["--break", step] if step else [])
        trees.append(tree)
        return tree.start()
    yield make
    for tree in trees:
        tree.remove()


def test_an_ordinary_user_is_told(broken):
    table, status = rows(broken(None, "user"))
    own = [row for row in table if row["where"] != "host"]
    assert status == 1 and [row["what to do"] for row in own] == ["run it as root"], own


def test_a_sound_tree(broken):
    tree = broken(None)
    with tree.smtp() as session:
        session.ehlo()  # a session to be looked at as well
        table, _ = rows(tree, "--all")
    own = [row for row in table if row["where"] != "host"]
    assert [row for row in own if row["result"] != "ok"] == []
    of_supervisor = {row["layer"] for row in own if row["where"] == "supervisor"}
    assert {"groups and uid", "capabilities", "no_new_privs", "dumpable", "descriptors", "memory", "program",
            "system call filter"} <= of_supervisor
    for role in [*ROLES, "session"]:
        layers = {row["layer"] for row in own if row["where"] == role}
        assert {"capabilities", "no_new_privs", "namespaces", "root directory", "descriptors", "memory",
                "system call filter"} <= layers, (role, layers)
        if role in ("sealer", "keeper", "audit", "session"):
            assert "locked memory" in layers, role
        assert [row for row in own if row["where"] == role and f"as built for {role}" in row["found"]], role


def test_a_delivery_and_a_session_with_mail(world):
    checked = threading.Event()
    server, domain = world.trick(lambda session, stage, line: checked.wait(60) and None)
    tree = make_tree("root", world).start()
    try:
        alice = Person(tree, "alice")
        alice.send(letter(alice.address, [f"bob@{domain}"]), [f"bob@{domain}"])
        wait_for(lambda: server.connections)
        with contextlib.closing(tree.smtp(tls=True)) as session:
            session.ehlo(), session.mail("carol@outside.test"), session.rcpt(alice.address)
            assert session.docmd("DATA")[0] == 354  # it has a slot of the sealer's
            table, _ = rows(tree, "--all")
    finally:
        checked.set()
        tree.remove()
    own = [row for row in table if row["where"] in ("delivery", "session", "relay")]
    assert [row for row in own if row["result"] != "ok"] == []
    kind = {row["where"]: row["found"] for row in own
            if row["layer"] == "locked memory" and "may lock" not in row["found"]}
    assert set(kind) == {"delivery", "session"} and all(found.startswith("memfd") for found in kind.values()), kind
    assert any("as built for delivery" in row["found"] for row in own)


def outer_filters():
    """Two filters that allow everything, as systemd puts more than one on what it starts."""
    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
    allow = Program(1, struct.pack("=HBBI", 0x06, 0, 0, 0x7fff0000))  # BPF_RET, SECCOMP_RET_ALLOW
    libc = ctypes.CDLL(None)
    for _ in range(2):
        if libc.prctl(22, 2, ctypes.byref(allow)) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
            os._exit(1)


def test_filters_of_the_service_manager_are_no_finding():
    tree = Tree("root")
    tree.before_exec = outer_filters
    try:
        tree.start()
        table, _ = rows(tree, "--all")
    finally:
        tree.remove()
    filters = [row for row in table if row["layer"] == "system call filter"]
    assert [row for row in filters if row["result"] != "ok"] == []
    assert sum("as built for" in row["found"] for row in filters) == 2 * len(ROLES) + 1


def test_a_program_that_is_not_the_one_on_disk():
    """Roles are started from the supervisor's open file: only a restart of all brings the new one."""
    tree = Tree("root")
    installed, aside = tree.dir / "sealpostd", tree.dir / "sealpostd.old"
    shutil.copy(tree.binary, installed)
    tree.binary = installed

    def old():
        return {row["where"]: (row["found"], row["what to do"]) for row in rows(tree)[0] if row["layer"] == "program"}
    try:
        tree.start()
        assert old() == {}
        os.rename(installed, aside)
        shutil.copy(aside, installed)
        assert set(old()) == {"supervisor", *ROLES}
        assert old()["store"][0] == f"{aside}, not {installed}" and "restart the appliance" in old()["store"][1], old()
        os.kill(tree.pids()["store"], signal.SIGKILL)
        tree.wait_ready(2)
        assert set(old()) == {"supervisor", *ROLES}
        os.remove(aside)
        assert {found for found, _ in old().values()} == {f"{aside} (deleted)"}
        tree.stop()
        tree.start()
        assert old() == {}
    finally:
        tree.remove()


# What is left out, and the layer that must name it. (no_new_privs cannot be left out: roles inherit it.)
LAYERS = {"descriptors": "descriptors", "namespaces": "namespaces", "root directory": "root directory",
          "resource limits": "resource limits", "capabilities": "capabilities", "dumpable": "dumpable",
          "memory-deny-write-execute": "memory-deny-write-execute", "Landlock": "Landlock",
          "system call filter": "system call filter", "groups and uid": "groups and uid",
          "process namespace": "namespaces"}


@pytest.mark.parametrize("step", LAYERS)
def test_a_layer_left_out_is_found(broken, step):
    table, status = rows(broken(step))
    assert status == 1
    found = {row["where"] for row in table if row["layer"] == LAYERS[step] and row["result"] == "FINDING"}
    exempt = {"store"} if step in ("root directory", "groups and uid") else set()  # it would not get to its data
    assert set(ROLES) - exempt <= found, (step, found)
    assert all(row["what to do"] for row in table)


@pytest.mark.parametrize("step", ["capabilities", "no_new_privs", "dumpable", "system call filter"])
def test_a_layer_that_the_supervisor_leaves_out_is_found(broken, step):
    table, status = rows(broken(f"supervisor {step}"))
    found = {row["layer"] for row in table if row["where"] == "supervisor" and row["result"] == "FINDING"}
    assert status == 1 and found == {step}


def test_descriptors_are_told_apart(broken):
    table, _ = rows(broken("descriptors"))
    found = {}
    for row in table:
        if row["layer"] == "descriptors" and row["result"] == "FINDING":
            found.setdefault(row["where"], []).append(row["found"])
    for role in ROLES:
        said = "\n".join(found[role])
        assert "/etc/passwd" in said and "descriptor 2 is /etc/passwd, not the supervisor's" in said, said
        assert ("a socket (UDP)" in said) == (role not in ("resolver", "door")), (role, said)


def test_a_filter_that_cannot_be_compared_is_a_note(broken):
    tree = broken(None)
    done = subprocess.run([program("sealpostctl", "root"), "--config", tree.config, "check", "--json"],
                          capture_output=True, preexec_fn=outer_filters)  # such a process is shown no filter
    table = [row for row in json.loads(done.stdout) if row["layer"] == "system call filter"]
    assert {row["result"] for row in table} == {"note"}
    assert {row["where"] for row in table} == {"supervisor", *ROLES}
    assert all("CAP_SYS_ADMIN" in row["what to do"] for row in table)


def locked(table):
    return {row["where"]: row["found"] for row in table
            if row["layer"] == "locked memory" and row["result"] == "FINDING"}


def test_memory_that_is_not_locked_is_found(broken):
    tree = broken("locked memory", settings={"memory": {"lock": "mlock"}})
    assert set(locked(rows(tree)[0]).values()) == {"memfd that is not locked"}
    assert set(locked(rows(tree)[0])) == {"sealer", "keeper", "audit"}


def test_weaker_memory_than_demanded_is_found(broken):
    tree = broken(None, settings={"memory": {"lock": "mlock"}})
    assert locked(rows(tree)[0]) == {}
    tree.extra = {"memory": {"lock": "secretmem"}}
    tree.write_config()
    assert set(locked(rows(tree)[0])) == {"sealer", "keeper", "audit"}


def test_too_little_memory_to_lock_is_found():
    tree = Tree("root")
    tree.before_exec = lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 20, 1 << 20))
    try:
        tree.start()
        found = locked(rows(tree)[0])
    finally:
        tree.remove()
    assert set(found) == {"smtp", "relay"} and "may lock 1048576 bytes alone" in found["smtp"]


def test_files_and_certificate(broken):
    tree = broken(None)
    os.chmod(tree.dir / "key.pem", 0o644)
    os.chmod(tree.state / "empty", 0o777)
    subprocess.run(["openssl", "req", "-x509", "-key", tree.dir / "key.pem", "-out", tree.dir / "cert.pem",
                    "-days", "3", "-subj", "/CN=other.test"], check=True, capture_output=True)
    table, status = rows(tree)
    said = "\n".join(row["found"] for row in table if row["result"] == "FINDING")
    assert status == 1
    assert "key.pem is 644" in said and "empty is 777" in said
    assert ("good for 2 days" in said or "good for 3 days" in said) and "is not for mail.example.test" in said


def test_logs_of_before_and_the_locks_of_the_database(broken):
    tree = broken(None)
    rotated = [tree.ctl("audit", "rotate") for _ in range(2)]
    quiet = [row["found"] for row in rows(tree, "--all")[0] if row["layer"] == "files"]
    for path in (*rotated, tree.state / "data" / "lock.mdb", tree.state / "data" / "owner.lock"):
        assert [found for found in quiet if found.startswith(f"{path} is 600")], (path, quiet)
    os.chmod(rotated[0], 0o640)
    os.chown(rotated[1], 4242, 0)
    os.chmod(tree.state / "data" / "lock.mdb", 0o666)
    os.chown(tree.state / "data" / "owner.lock", 4242, 0)
    table, status = rows(tree)
    said = sorted(row["found"] for row in table if row["layer"] == "files" and row["result"] == "FINDING")
    assert status == 1 and len(said) == 4, said
    assert any(s.startswith(f"{rotated[0]} is 640") for s in said), said
    assert f"{rotated[1]} is uid 4242's, not 0's" in said, said
    assert "lock.mdb is 666" in "".join(said) and "owner.lock is uid 4242's, not" in "".join(said), said


def test_owners_and_what_links_point_to(broken):
    tree = broken(None)
    os.chown(tree.dir / "key.pem", 4242, 0)
    os.chown(tree.state / "data" / "data.mdb", 0, 0)
    os.rename(tree.dir / "cert.pem", tree.dir / "real.pem")
    os.symlink("real.pem", tree.dir / "cert.pem")
    os.chmod(tree.dir / "real.pem", 0o666)
    os.rename(tree.config, tree.dir / "real.conf")
    os.symlink("real.conf", tree.config)
    os.lchown(tree.config, 4242, 0)
    table, status = rows(tree)
    said = "\n".join(row["found"] for row in table if row["layer"] == "files" and row["result"] == "FINDING")
    assert status == 1
    assert "key.pem is uid 4242's, not 0's" in said and "data.mdb is uid 0's, not " in said, said
    assert "cert.pem is 666" in said and "sealpost.conf is a link of uid 4242's, not 0's" in said, said
    assert len(said.splitlines()) == 4, said


def test_folders_on_the_way(broken):
    """Who writes into a folder replaces what is in it, and who owns the folder lets himself."""
    tree = broken(None)
    folders = lambda: [row["found"] for row in rows(tree, "--all")[0] if row["layer"] == "folders"]
    assert len(folders()) == 1, folders()
    deep = tree.dir / "keys" / "of" / "ours"
    deep.mkdir(parents=True)
    os.rename(tree.dir / "key.pem", deep / "key.pem")
    os.symlink("keys/of/ours/key.pem", tree.dir / "key.pem")
    os.chown(deep, 4242, 0)
    os.chmod(deep.parent, 0o1777)
    os.chown(deep.parent, 0, 4242)
    os.chmod(deep.parent.parent, 0o777)
    assert sorted(folders())[:2] == [f"{tree.dir}/keys is 777", f"{tree.dir}/keys/of/ours is uid 4242's, not 0's"]
    os.chmod(deep.parent.parent, 0o775)
    os.chown(deep.parent.parent, 0, 4242)
    os.chown(deep, 0, 0)
    assert f"{tree.dir}/keys is 775" in folders() and len(folders()) == 2
    os.chown(deep.parent.parent, 0, 0)
    assert len(folders()) == 1


def test_keys_that_lie_elsewhere_while_it_runs(broken):
    """A restart would lose what the processes alone have; what the finding says brings it back."""
    tree = broken(None)
    before = (tree.state / "keeper.key").read_bytes()
    quiet = {row["found"] for row in rows(tree)[0]}
    (tree.state / "keeper.key").unlink()
    os.rename(tree.state / "slots", tree.dir / "aside")
    table, status = rows(tree)
    said = {row["found"]: row["what to do"] for row in table if row["found"] not in quiet}
    assert status == 1 and len(said) == 2, said
    for found, advice in said.items():
        assert "is not there, or not the one in use: that is" in found and "a restart now loses it" in advice, said
        subprocess.run(advice.split("first ")[1].split(",")[0].split(), check=True)
    assert (tree.state / "keeper.key").read_bytes() == before
    assert (tree.state / "slots").read_bytes() == (tree.dir / "aside").read_bytes()
    still = {row["found"] for row in rows(tree)[0]} - quiet  # a copy is not what is written to
    assert len(still) == 2, still
    assert tree.stop() == 0
    tree.start()
    assert {row["found"] for row in rows(tree)[0]} <= quiet
    assert (tree.state / "keeper.key").read_bytes() == before


def test_where_erased_keys_may_stay():
    tree = Tree("root", settings={"storage": {"slots": "accept-cow"}})
    try:
        with overlay(tree.dir) as merged:
            tree.state = merged / "state"
            tree.write_config()
            try:
                tree.start()
                accepted = [row for row in rows(tree)[0] if row["layer"] == "erasing"]
                tree.extra = {"storage": {"slots": "in-place"}}
                tree.write_config()
                table, status = rows(tree)
            finally:
                tree.stop()
    finally:
        tree.remove()
    assert [row["result"] for row in accepted] == ["note"] and "lies on overlay" in accepted[0]["found"]
    assert status == 1 and [row["result"] for row in table if row["layer"] == "erasing"] == ["FINDING"]
    assert all(row["what to do"] for row in table)


def test_an_expired_certificate(broken):
    tree = broken(None)
    key = serialization.load_pem_private_key((tree.dir / "key.pem").read_bytes(), None)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail.example.test")])
    today = datetime.datetime.now(datetime.timezone.utc)
    cert = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(),
                                   today - datetime.timedelta(days=30), today - datetime.timedelta(days=3))
    (tree.dir / "cert.pem").write_bytes(cert.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    table, status = rows(tree)
    said = [row for row in table if row["layer"] == "certificate" and row["result"] == "FINDING"]
    assert status == 1 and [row["found"] for row in said][0] == "expired 3 days ago", said


def certificates(tree, *options):
    return {(row["where"], row["found"]): row for row in rows(tree, *options)[0] if row["layer"] == "certificate"}


def test_the_certificate_that_is_served(broken):
    """On disk is a new pair, then half of another; what is served is still the first."""
    tree = broken(None)
    served = {(role, f"serves {tree.dir}/cert.pem, it says") for role in ("smtp", "web")}
    assert served | {("host", "fits its key")} <= set(certificates(tree, "--all"))
    assert not certificates(tree)
    tree.make_certificate()
    found = certificates(tree)
    assert set(found) == {(role, f"serves another than {tree.dir}/cert.pem, it says") for role in ("smtp", "web")}
    assert all(row["what to do"].startswith("systemctl reload sealpost") for row in found.values())
    os.kill(tree.process.pid, signal.SIGHUP)
    wait_for(lambda: "certificates reloaded" in tree.said())
    assert not certificates(tree)
    certificate = (tree.dir / "cert.pem").read_bytes()
    tree.make_certificate()
    (tree.dir / "cert.pem").write_bytes(certificate)
    assert set(certificates(tree)) == {("host", f"{tree.dir}/key.pem is not the key of {tree.dir}/cert.pem")}
    (tree.dir / "key.pem").write_text("nothing\n")
    assert set(certificates(tree)) == {("host", f"{tree.dir}/key.pem cannot be read")}


def test_a_dead_role_is_a_finding(broken):
    tree = broken(None)
    os.kill(tree.pids()["web"], signal.SIGSTOP)  # it answers nothing any more
    table, status = rows(tree)
    assert status == 1
    assert [row for row in table if row["where"] == "web" and row["layer"] == "process"]
    os.kill(tree.pids()["web"], signal.SIGCONT)
