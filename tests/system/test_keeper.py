"""The keeper's files: keys that are made, refused, replaced; file systems that overwrite in place or not."""
import json
import os
import re
import signal
import subprocess
import time
from base64 import b64decode

import pytest

from overlay import overlay
from sealpost import BUILD

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")


def run_to_the_end(tree):
    """A start that must fail; what was said."""
    tree.start(wait=False)
    status = tree.process.wait(20)
    tree.process = None
    assert status == 1
    return tree.said()


def test_the_files_are_the_appliances_alone(fresh):
    tree = fresh().start()
    for name, size in (("keeper.key", 72), ("slots", 4096)):
        path = tree.state / name
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_uid == tree.state.stat().st_uid
        assert path.stat().st_size == size
    key = (tree.state / "keeper.key").read_bytes()
    assert tree.stop() == 0
    tree.start()
    assert (tree.state / "keeper.key").read_bytes() == key


@pytest.mark.parametrize("name", ["keeper.key", "slots"])
def test_a_damaged_file_is_never_replaced(fresh, name):
    tree = fresh().start()
    assert tree.stop() == 0
    path = tree.state / name
    damaged = bytearray(path.read_bytes())
    damaged[3] ^= 1
    path.write_bytes(damaged)
    said = run_to_the_end(tree)
    assert re.search(rf"sealpostd\[keeper\]: {name}: is (damaged|not a whole slots file)", said), said
    assert path.read_bytes() == damaged
    damaged[3] ^= 1
    path.write_bytes(damaged)
    tree.start()


def test_a_missing_key_beside_a_database_is_not_made_anew(fresh):
    tree = fresh().start()
    assert tree.stop() == 0
    path = tree.state / "keeper.key"
    old = path.read_bytes()
    path.unlink()
    said = run_to_the_end(tree)
    assert f"{path}: is not there, but the database is. Put it back from a backup" in said, said
    assert not path.exists()
    path.write_bytes(b"")  # the operator's word
    if tree.mode == "user" and os.geteuid() == 0:
        os.chown(path, tree.state.stat().st_uid, -1)
    tree.start()
    assert f"{path}: is empty, so a new key is made" in tree.said()
    assert len(path.read_bytes()) == len(old) and path.read_bytes() != old
    assert path.stat().st_mode & 0o777 == 0o600


def test_missing_slots_beside_a_database_are_told(fresh):
    tree = fresh().start()
    assert "slots" not in tree.said()
    assert not tree.events("start")[-1]["slots"].endswith(", a new file")
    assert tree.stop() == 0
    (tree.state / "slots").unlink()
    tree.start()
    assert f"{tree.state}/slots: is new beside an older database" in tree.said()
    assert tree.events("start")[-1]["slots"].endswith(", a new file")
    assert tree.stop() == 0
    tree.start()
    assert "slots" not in tree.said()


@root_only
def test_a_file_system_that_does_not_overwrite_in_place(fresh):
    tree = fresh()
    with overlay(tree.dir) as merged:
        try:
            on_overlay(tree, merged / "state")
        finally:
            tree.stop()


def on_overlay(tree, state):
    tree.state = state
    tree.extra = {"storage": {"slots": "in-place"}}
    tree.write_config()
    said = run_to_the_end(tree)
    assert "lies on overlay" in said and "slots = accept-cow" in said, said
    assert not tree.log.exists() or not tree.events("start")
    tree.extra = {"storage": {"slots": "accept-cow"}}
    tree.write_config()
    tree.start()
    assert tree.events("start")[-1]["slots"] == "accept-cow (overlay)"


@root_only
def test_memory_overwrites_in_place(fresh):
    tree = fresh()
    state = tree.dir / "memory"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=777", "tmpfs", state], check=True)
    try:
        tree.state = state / "state"
        tree.extra = {"storage": {"slots": "in-place"}}
        tree.write_config()
        tree.start()
        assert tree.events("start")[-1]["slots"] == "in-place (tmpfs)"
        assert tree.stop() == 0
    finally:
        subprocess.run(["umount", state], check=True)


# --- DKIM ---

def with_dkim(tree, *selectors):
    """Configures these selectors, with keys that sealpostctl made."""
    for i, (name, kind) in enumerate(selectors):
        path = tree.dir / f"{name}.pem"
        if not path.exists():
            tree.ctl("dkim", "--new", kind, path)
    text = tree.config.read_text() + "[relay]\n"
    for name, _ in selectors:
        text += f"dkim_selector = {name}\ndkim_key = {tree.dir / name}.pem\n"
    tree.config.write_text(text)


def check_config(tree):
    args = ["--user-mode"] if tree.mode == "user" else []
    return subprocess.run([BUILD / "sealpostd", "--config", tree.config, "--check-config", *args],
                          capture_output=True, text=True, timeout=60)


def test_dkim_keys_and_their_records(fresh):
    tree = fresh()
    with_dkim(tree, ("sp1", "rsa"), ("sp2", "ed25519"))
    assert (tree.dir / "sp1.pem").stat().st_mode & 0o777 == 0o600
    again = tree.ctl("dkim", "--new", "rsa", tree.dir / "sp1.pem", check=False)
    assert again.returncode == 1 and b"File exists" in again.stderr  # never over another
    assert tree.ctl("dkim", "--new", "dsa", tree.dir / "sp3.pem", check=False).returncode == 1
    assert not (tree.dir / "sp3.pem").exists()
    rows = json.loads(tree.ctl("--json", "dkim"))
    assert [r["name"] for r in rows] == ["sp1._domainkey.example.test", "sp2._domainkey.example.test"]
    for row, file in zip(rows, ("sp1.pem", "sp2.pem")):
        public = subprocess.run(["openssl", "pkey", "-in", tree.dir / file, "-pubout", "-outform", "DER"],
                                check=True, capture_output=True).stdout
        tags = dict(t.strip().split("=", 1) for t in row["value"].split(";"))
        assert tags["v"] == "DKIM1"
        raw = b64decode(tags["p"], validate=True)
        assert raw == (public if tags["k"] == "rsa" else public[-32:])
    text = tree.ctl("dkim")
    assert all(len(s) <= 255 for s in re.findall(r'"([^"]*)"', text))
    assert "".join(re.findall(r'"([^"]*)"', text.splitlines()[1])) == rows[0]["value"]
    assert check_config(tree).returncode == 0
    tree.start()


def test_check_config_looks_into_the_relays_files(fresh):
    tree = fresh()
    with_dkim(tree, ("sp1", "ed25519"))
    key = tree.dir / "sp1.pem"
    small = subprocess.run(["openssl", "genrsa", "1024"], check=True, capture_output=True).stdout
    auth = tree.dir / "auth"
    auth.write_text("no colon here\n")
    with open(tree.config, "a") as f:
        f.write(f"mode = smarthost\nsmarthost = 127.0.0.1:587\nsmarthost_auth = {auth}\n")
    for content, words in ((small, "of 2048 to 4096 bits"), (b"hello", "not a private key in PEM"), (None, "No such file")):
        key.unlink(missing_ok=True)
        if content is not None:
            key.write_bytes(content)
        done = check_config(tree)
        assert done.returncode == 1
        assert f"{key}: " in done.stderr and words in done.stderr, done.stderr
        assert f"{auth}: is not one line, user:password" in done.stderr
    assert "sp1.pem" in run_to_the_end(tree)


def test_a_broken_dkim_key_leaves_the_old_one_in_use(fresh):
    tree = fresh()
    with_dkim(tree, ("sp1", "rsa"))
    if tree.mode == "user" and os.geteuid() == 0:
        os.chown(tree.dir / "sp1.pem", 65534, 65534)
    tree.start()
    key = (tree.dir / "sp1.pem").read_bytes()
    (tree.dir / "sp1.pem").write_bytes(b"half of a ke")
    tree.process.send_signal(signal.SIGHUP)
    wait_for(tree, "DKIM keys and credentials not reloaded")
    (tree.dir / "sp1.pem").write_bytes(key)
    tree.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 120
    while tree.said().count("certificates reloaded") < 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert tree.said().count("not reloaded") == 1, tree.said()
    assert tree.said().count("sealpostd: ready") == 1


def wait_for(tree, words):
    end = time.monotonic() + 120
    while words not in tree.said():
        assert time.monotonic() < end, tree.said()
        time.sleep(0.02)
