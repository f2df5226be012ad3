"""`sealpostctl audit verify` as cron and an auditor have it: its exit status, and what it says."""

import json
import os
import resource
import subprocess

import pytest
from sealpost import program
from test_audit_files import deliver, files

HELD = 24  # files that a process may have open


@pytest.fixture
def tree(fresh):
    """Stopped, with one rotated file, and a checkpoint at its end."""
    tree = fresh(settings={"audit": {"checkpoint_seconds": "1h"}}).start()
    deliver(tree, tree.user("alice"), 2)
    tree.ctl("audit", "rotate")
    deliver(tree, tree.user("bob"), 1)
    assert tree.stop() == 0
    return tree


def verify(tree, *args, json_too=False):
    done = tree.ctl(*(["--json"] if json_too else []), "audit", "verify", *args, check=False)
    return done.returncode, (done.stdout if done.returncode == 0 else done.stderr).decode()


def report(tree, *args):
    status, text = verify(tree, *args, json_too=True)
    assert status == 0, text
    return json.loads(text)


def test_P11_the_key_state_is_not_optional(tree):
    """Without it nobody sees that a log was cut back to an older checkpoint."""
    key, names = tree.state / "audit.key", list(map(str, files(tree)))
    assert report(tree)["end_compared"]
    os.rename(key, tree.dir / "away")
    status, text = verify(tree)
    assert status == 1 and f"{key}: No such file" in text and "put it back" in text
    assert verify(tree, json_too=True)[0] == 1
    key.write_bytes(b"short")
    assert verify(tree)[0] == 1
    # An auditor's copy has none: that is said.
    status, text = verify(tree, *names)
    assert status == 0 and "the end is not compared" in text
    assert not report(tree, *names)["end_compared"]
    # What it is for.
    key.unlink()
    os.rename(tree.dir / "away", key)
    assert verify(tree)[0] == 0
    os.rename(names[0], tree.log)
    assert verify(tree, tree.log)[0] == 0
    status, text = verify(tree)
    assert status == 1 and "ends before its newest checkpoint" in text


def test_P11_unfinished_bytes_are_told(tree):
    whole = tree.log.read_bytes()
    tree.log.write_bytes(whole + b'{"seq":')
    status, text = verify(tree)
    assert status == 0 and "the last 7 bytes are no whole line" in text
    assert report(tree)["unfinished"] == 7 and report(tree, *files(tree))["unfinished"] == 7
    tree.log.write_bytes(whole + b'{"seq":\n')
    status, text = verify(tree)
    assert status == 1 and f"audit.log:{whole.count(10) + 1}: is not a line" in text
    tree.log.write_bytes(whole + b'{"seq":')
    tree.start()  # notes them
    assert tree.stop() == 0
    after = report(tree)
    assert after["unfinished"] == 0 and after["torn"] == 1


def test_P11_a_log_without_an_event(tree):
    rotated = files(tree)[0]
    whole = tree.log.read_bytes()
    for left in (b"", whole[:40]):
        tree.log.write_bytes(left)
        status, text = verify(tree)
        assert status == 1 and f"{tree.log}: holds no event" in text
        assert verify(tree, rotated, tree.log)[0] == verify(tree, tree.log)[0] == 1
    rotated.unlink()  # its key has signed one
    assert verify(tree)[0] == 1


def test_a_log_that_was_only_made(fresh):
    """Between the making of the log and its first line, when the key has signed nothing."""
    tree = fresh(settings={"audit": {"checkpoint_seconds": "1h"}}).start()
    first_key = json.loads(tree.log.read_bytes().splitlines()[0])["audit_key"]
    tree.kill()
    assert not tree.events("checkpoint")
    tree.log.write_bytes(b"")
    status, text = verify(tree)
    assert status == 0 and "holds no event yet" in text
    assert report(tree)["events"] == 0
    status, text = verify(tree, "--key", first_key)  # who has noted one has seen an event
    assert status == 1 and "holds no event" in text
    assert verify(tree, tree.log)[0] == 1


def test_a_rotation_between_its_renamings(tree):
    os.rename(tree.log, f"{tree.log}.new")
    assert report(tree)["files"] == 2
    os.unlink(f"{tree.log}.new")
    status, text = verify(tree)
    assert status == 1 and "No such file" in text


@pytest.mark.parametrize("rotations", [0, 2])
def test_P11_no_false_alarm_while_it_is_written(tree, rotations):
    """Checkpoints and rotations come while the log is read: the oldest file is a pipe, which is filled after them."""
    oldest = files(tree)[0]
    whole, owner = oldest.read_bytes(), os.stat(oldest)
    oldest.unlink()
    os.mkfifo(oldest, 0o600)
    os.chown(oldest, owner.st_uid, owner.st_gid)
    tree.start()
    before = len(tree.events("checkpoint"))
    running = subprocess.Popen([program("sealpostctl", tree.mode), "--config", tree.config, "audit", "verify"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, **tree.owner())
    with open(oldest, "wb") as pipe:  # it has read the key state, and is here
        for _ in range(rotations):
            tree.ctl("audit", "rotate")
        assert tree.stop() == 0  # with a checkpoint
        assert rotations or len(tree.events("checkpoint")) > before
        pipe.write(whole)
    said, wrong = running.communicate(timeout=300)
    assert running.returncode == 0, wrong
    assert b", in 2 files" in said


def test_more_files_than_may_be_open(fresh):
    tree = fresh().start()
    for _ in range(HELD):
        tree.ctl("audit", "rotate")
    assert tree.stop() == 0
    names = files(tree)
    assert len(names) == HELD + 1
    for args in ([], names):
        subprocess.run([program("sealpostctl", tree.mode), "--config", tree.config, "audit", "verify", *args],
                       check=True, stdout=subprocess.DEVNULL, **tree.owner(),
                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (HELD, HELD)))
    assert verify(tree, *names[:1] * 600)[1].startswith(f"sealpostctl: {names[0]}:1: does not follow")


def test_P11_the_key_that_was_noted(tree):
    first_key = json.loads(files(tree)[0].read_bytes().splitlines()[0])["audit_key"]
    assert verify(tree, "--key", first_key)[0] == verify(tree, "--key", first_key.upper())[0] == 0
    for wrong in (first_key[:-1], first_key + "0", "", "g" + first_key[1:], " " + first_key[1:]):
        status, text = verify(tree, "--key", wrong)
        assert status == 2 and "64 hex digits" in text, wrong
    status, text = verify(tree, "--key", first_key[::-1])
    assert status == 1 and "another key than the one noted" in text


def test_what_cannot_be_read_is_said(tree):
    assert verify(tree, tree.log.parent) == (1, f"sealpostctl: {tree.log.parent}: Is a directory\n")
    assert verify(tree, "/nowhere") == (1, "sealpostctl: /nowhere: No such file or directory\n")


@pytest.mark.parametrize("name", ['a "quoted\\ name', "lo[g]*?"])
def test_the_files_are_found_whatever_their_folder_is_called(tree, name):
    folder = tree.dir / name
    tree.log.parent.rename(folder)
    tree.config.write_text(tree.config.read_text().replace(str(tree.log), str(folder / tree.log.name)))
    tree.log = folder / tree.log.name
    assert report(tree)["files"] == 2
    assert report(tree)["file"] == str(tree.log)


def test_the_report_is_json_whatever_the_path(tree):
    """A path may be bytes that JSON has not."""
    name = os.fsdecode(b"\xff\n\t\"")
    log = tree.log.parent / name
    files(tree)[0].rename(log)
    assert report(tree, log)["file"] == str(tree.log.parent) + "/?\n\t\""


def test_an_auditors_machine_needs_no_configuration(tree):
    names = list(map(str, files(tree)))
    command = [program("sealpostctl", tree.mode), "--config", tree.dir / "none", "audit", "verify"]
    done = subprocess.run([*command, *names], capture_output=True, text=True, **tree.owner())
    assert done.returncode == 0 and "each linked to the one before it" in done.stdout, done.stderr
    done = subprocess.run(command, capture_output=True, text=True, **tree.owner())
    assert done.returncode == 1 and "none" in done.stderr
