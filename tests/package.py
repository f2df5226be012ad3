"""The Debian package, as a newcomer meets it: installed into a bare system, configured with what `sealpostctl
setup` says, started, used, removed, installed again, purged. The system is the folder given; tests/package.sh
makes it, and the namespaces in which all of this runs. What is checked are the installed programs alone: nothing
of the tests is in that system."""
import ctypes
import fcntl
import functools
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import smtplib
import socket
import socketserver
import ssl
import stat
import struct
import subprocess
import sys
import threading
import time

ROOT, DEB = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
HOST, CONF = "mail.example.org", "/etc/sealpost/sealpost.conf"
SOCKET = "/run/sealpost-door/socket"
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8",
       "DEBIAN_FRONTEND": "noninteractive", "SEALPOST_CA": "/etc/sealpost/fullchain.pem"}
SUGGESTED = ("nftables", "apparmor")
CLONE_NEWNET = 0x40000000
# Its folder becomes the root of a mount namespace, not of a process alone: names of open files are then those that
# a real system has (`sealpostctl check` looks at them).
ENTER = ["unshare", "--mount", "sh", "-ec", 'mount --rbind "$0" "$0"; cd "$0"; pivot_root . .; umount -l .; '
         'exec chroot . "$@"', str(ROOT)]
SECRET = "Dear Alice, here is the secret report."


def say(text):
    print(f"  {text}", flush=True)


def at(path):
    return ROOT / str(path).lstrip("/")


def run(*args, status=0, text=True, given="", **env):
    """In the system, as its administrator would. status None: whatever it is."""
    given = given if isinstance(given, bytes) or not text else given.encode()
    done = subprocess.run([*ENTER, *map(str, args)], input=given, capture_output=True,
                          env=ENV | env, timeout=600)
    out, err = done.stdout, done.stderr
    assert status is None or done.returncode == status, \
        f"{args}: {done.returncode}\n{out.decode()}\n{err.decode()}"
    return (out.decode(), err.decode(), done.returncode) if text else (out, err, done.returncode)


def apt(*args):
    """Nobody is there to answer: a question would end it."""
    return run("apt-get", "-y", "-q", "--no-install-recommends", *args)


def processes():
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/comm"):
        try:
            found.append(entry.read_text().strip())
        except OSError:
            pass
    return [name for name in found if "sealpost" in name]


def installed():
    run("dpkg", "--verify", "sealpost")
    assert not processes(), "installing started something"
    wants = [str(p) for p in at("/etc/systemd/system").rglob("*sealpost*")]
    assert not wants, f"installing enabled {wants}"
    inside = subprocess.run(["dpkg-deb", "-I", DEB], capture_output=True, text=True, check=True).stdout
    assert "templates" not in inside and " config " not in inside, "it could ask questions"
    say("installed: nothing asked, nothing started, nothing enabled")


def ids(kind):
    rows = (line.split(":") for line in at("/etc/" + kind).read_text().splitlines())
    return {row[0]: row for row in rows}


def users():
    users, named = ids("passwd"), []
    for line in at("/usr/lib/sysusers.d/sealpost.conf").read_text().splitlines():
        if line.startswith("u "):
            name = line.split()[1]
            uid, home, shell = (users[name][i] for i in (2, 5, 6))
            assert 0 < int(uid) < 1000 and home == "/nonexistent" and shell == "/usr/sbin/nologin", name
            assert name in ids("group")
            named.append(uid)
    assert len(named) == 9 and len(set(named)) == 9
    shadow = ids("shadow")
    assert all(shadow[n][1].startswith(("!", "*")) for n in users if n.startswith("sealpost-"))
    say("9 system users, each of its own, none can log in")


def directories():
    users = ids("passwd")
    for line in at("/usr/lib/tmpfiles.d/sealpost.conf").read_text().splitlines():
        if line.startswith("d ") and not line.split()[1].startswith("/run/"):
            _, path, mode, owner, *_ = line.split()
            found = at(path).stat()
            assert stat.S_ISDIR(found.st_mode) and found.st_mode & 0o7777 == int(mode, 8), path
            assert found.st_uid == int(users[owner][2]), path
    assert at(CONF).stat().st_mode & 0o777 == 0o640
    say("directories, owners, modes as tmpfiles says")


def manuals():
    for page in ("man1/sealpost.1", "man5/sealpost.conf.5", "man8/sealpostd.8", "man8/sealpostctl.8"):
        assert at(f"/usr/share/man/{page}.gz").exists(), page
    for program in ("sealpost", "sealpostctl"):
        out, _, _ = run("bash", "-c", f". /usr/share/bash-completion/completions/{program} && "
                                      f"complete -p {program}")
        assert program in out
    for name in ("examples/nftables.example", "hardening.md"):
        assert any(at("/usr/share/doc/sealpost").glob(name + "*")), name
    assert at("/usr/share/apparmor/extra-profiles/usr.sbin.sealpostd").exists()
    say("man pages, completion, examples, AppArmor profile are there")


def setting(key, value):
    """As an administrator's editor would: the commented line, or the one that is there."""
    text = at(CONF).read_text()
    new, n = re.subn(rf"(?m)^#?{key} = .*$", f"{key} = {value}", text, count=1)
    assert n == 1, key
    at(CONF).write_text(new)


def configure():
    """By what setup says, until nothing but a real certificate and the start is left."""
    at("/etc/hosts").write_text(f"127.0.0.1 localhost {HOST}\n")
    setting("mode", "smarthost")
    setting("smarthost", "127.0.0.1:2525")
    if subprocess.run(["stat", "-f", "-c", "%T", ROOT], capture_output=True, text=True,
                      check=True).stdout.strip() not in ("ext2/ext3", "xfs", "tmpfs"):
        setting("slots", "accept-cow")
    out, err, code = run("sealpostctl", "setup", status=0)
    for made in ("/etc/sealpost/fullchain.pem", "/etc/sealpost/dkim.pem"):
        assert made in err and at(made).exists(), err
    assert "dkim_selector" in err and "self-signed" in err and "users are missing" not in err, err
    for line in re.findall(r"set \[relay\] (dkim_selector) = (\S+) and (dkim_key) = (\S+)", err):
        setting(line[0], line[1])
        setting(line[2], line[3])
    out, err, code = run("sealpostctl", "setup", status=0)
    assert "made" not in err, err
    for record in (f"example.org.  MX  10 {HOST}.", 'TXT  "v=spf1 mx', "_dmarc.example.org.", "v=DMARC1",
                   f"_25._tcp.{HOST}.  TLSA  3 1 1 ", "_mta-sts.example.org.", "mode: testing",
                   "sp1._domainkey.example.org."):
        assert record in out, (record, out)
    before = {p: p.read_bytes() for p in at("/etc/sealpost").iterdir()}
    again, _, _ = run("sealpostctl", "setup", status=0)
    assert again == out, "setup does not say the same again"
    assert before == {p: p.read_bytes() for p in at("/etc/sealpost").iterdir()}, "setup is not idempotent"
    out, _, _ = run("sealpostd", "--check-config")
    assert "no errors" in out
    say("sealpostctl setup: keys made, records printed, what is missing said; a second run changes nothing")


def own_network():
    """Loopback, and nothing else: from here on nothing can come from the outside."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sh22x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up, running


@functools.cache  # a tree may be started when they are removed
def unit_text(name):
    return at(f"/usr/lib/systemd/system/{name}.service").read_text()


def unit(key, name="sealpost"):
    """All that a unit says of a key, as systemd would join it."""
    return " ".join(re.findall(rf"(?m)^{key}=(.*)$", unit_text(name))).split()


# ProtectProc=invisible, ProcSubset=pid: what the unit leaves of /proc.
LESS_PROC = 'mount -t proc -o hidepid=invisible,subset=pid proc /proc && exec "$@"'


def capabilities(name):
    return ",".join(["-all", *(f"+{c.lower().removeprefix('cap_')}" for c in unit("CapabilityBoundingSet", name))])


class Door:
    """The installed door, under its uid, with its one capability and a copy of the configuration."""

    def __init__(self, program):
        uid, caps = ids("passwd")["sealpost-door"][2], capabilities("sealpost-door")
        place = at("/run/sealpost-door")
        place.mkdir(exist_ok=True)
        os.chown(place, int(uid), 0)
        os.chmod(place, 0o2750)
        copy = pathlib.Path(shutil.copy(at(CONF), place / "sealpost.conf"))
        copy.chmod(0o444)
        self.log = open(at("/root/door"), "w+")
        self.process = subprocess.Popen(
            [*ENTER, "sh", "-ec", LESS_PROC, "sh", "setpriv", "--reuid", uid, "--regid", uid, "--clear-groups",
             "--bounding-set", caps, "--inh-caps", caps, "--ambient-caps", caps, "--no-new-privs", program, "--as-door",
             SOCKET, "--config", "/run/sealpost-door/sealpost.conf"], stderr=self.log, env=ENV, umask=0o077)
        for _ in range(200):
            if ": ready: " in at("/root/door").read_text():
                return
            assert self.process.poll() is None, at("/root/door").read_text()
            time.sleep(0.05)
        raise AssertionError("no door")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, at("/root/door").read_text()


class Tree:
    """The installed daemon, with the capabilities, limits and /proc that the unit leaves it, and no network."""

    def __init__(self, program="sealpostd"):
        self.door = Door(program)
        limits = [f"--{name}={self.limit(name)}" for name in ("core", "memlock", "nofile")]
        self.log = open(at("/root/stderr"), "w+")
        at("/run/sealpost").mkdir(mode=0o700, exist_ok=True)
        self.process = subprocess.Popen(
            [*ENTER, "sh", "-ec", LESS_PROC, "sh", "prlimit", *limits, "unshare", "--net", "setpriv", "--bounding-set",
             capabilities("sealpost"), "--inh-caps", "-all", "--no-new-privs", program, "--config", CONF, "--door", SOCKET],
            stderr=self.log, env=ENV, umask=0o077)
        self.wait(lambda: "sealpostd: ready" in self.said())

    @staticmethod
    def limit(name):
        """The unit's; or what this machine allows, where that is less."""
        want = int(unit("Limit" + name.upper())[0].replace("M", "000000"))
        _, most = resource.getrlimit(getattr(resource, "RLIMIT_" + name.upper()))
        return want if most == resource.RLIM_INFINITY else min(want, most)

    def said(self):
        return at("/root/stderr").read_text()

    def wait(self, true, seconds=30):
        for _ in range(seconds * 20):
            if true():
                return
            assert self.process.poll() is None, self.said()
            time.sleep(0.05)
        raise AssertionError(f"in vain: {self.said()}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.said()
        assert "died" not in self.said(), self.said()
        self.door.stop()
        assert not processes()


class Elsewhere(socketserver.StreamRequestHandler):
    """Another mail server, as small as one can be: keeps what it is given."""
    got = []

    def handle(self):
        def answer(text):
            self.wfile.write(text.encode() + b"\r\n")
        answer("220 elsewhere.example")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"DATA":
                answer("354 go on")
                mail = b""
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    mail += line[1:] if line.startswith(b".") else line
                Elsewhere.got.append(mail)
            answer("221 bye" if verb == b"QUIT" else "250 ok")
            if verb == b"QUIT":
                return


def elsewhere():
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 2525), Elsewhere)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()


def sealpost(who, *args, **more):
    return run("sealpost", *args, SEALPOST_HOME=f"/root/{who}", **more)


def enrol(who):
    code, _, _ = run("sealpostctl", "user", "add", f"{who}@example.org")
    sealpost(who, "enroll", f"https://{HOST}", f"{who}@example.org", code.strip())


def receive():
    body = os.urandom(200000).hex()
    mail = (f"Subject: the report\r\nFrom: bob@outside.example\r\nTo: alice@example.org\r\n\r\n{SECRET}\r\n"
            + "".join(body[i:i + 70] + "\r\n" for i in range(0, len(body), 70)))
    with smtplib.SMTP(HOST, 25) as smtp:
        context = ssl.create_default_context(cafile=at("/etc/sealpost/fullchain.pem"))
        smtp.starttls(context=context)
        smtp.sendmail("bob@outside.example", ["alice@example.org"], mail)
    rows = json.loads(sealpost("alice", "list", "--json")[0])
    rows = rows if isinstance(rows, list) else rows["messages"]
    assert len(rows) == 1
    got, _, _ = sealpost("alice", "read", rows[0]["id"], text=False)
    assert got.endswith(mail.encode()), "what is read is not what was sent"
    for folder in ("/var/lib/sealpost", "/var/log/sealpost"):
        for path in at(folder).rglob("*"):
            assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    say(f"mail over STARTTLS: {len(got)} bytes read back as sent, in no file as plaintext")
    return rows[0]["id"], got


def send(tree):
    sealpost("alice", "send", "bob@example.org", given="Subject: lunch\n\nAt noon, Bob?\n")
    assert "At noon, Bob?" in sealpost("bob", "read", "1")[0]
    sealpost("alice", "send", "carol@elsewhere.example", given="Subject: an offer\n\nDear Carol.\n")
    tree.wait(lambda: len(Elsewhere.got) == 1)
    assert b"DKIM-Signature:" in Elsewhere.got[0] and b"Dear Carol." in Elsewhere.got[0]
    sealpost("alice", "send", "--link", "--expires", "1h", "dave@elsewhere.example",
             given="Subject: the contract\n\nFor your eyes only.\n")
    tree.wait(lambda: len(Elsewhere.got) == 2)
    link = re.search(rf"https://{HOST}/m/\S+", Elsewhere.got[1].decode())[0]
    assert "For your eyes only." in run("sealpost", "open", link)[0]
    say("to a user, to the outside with DKIM, by a link that opens")


def inspect():
    """Every layer of every process that runs is as the policy says; the host's own settings are not the
    package's matter."""
    out, err, _ = run("sealpostctl", "check", "--all", "--json", status=None)
    ours = [row for row in json.loads(out) if row["where"] != "host"]
    bad = [row for row in ours if row["result"] != "ok"]
    assert len(ours) > 100 and not bad, bad or err
    say(f"sealpostctl check: {len(ours)} layers looked at, every role in its cage")
    files = [row for row in json.loads(out) if row["where"] == "host" and row["layer"] in ("files", "certificate")]
    bad = [row for row in files if row["result"] != "ok"]
    assert files and not bad, bad
    out, _, _ = run("sealpostctl", "audit", "verify")
    say(f"audit log: {out.strip().splitlines()[-1]}")


def refuses(tree, *args):
    """What takes the package away does not, while something that it cannot end runs with the state."""
    before = at("/var/lib/sealpost/slots").read_bytes()
    _, err, status = run(*args, status=None)
    assert status != 0 and "end it, then" in err, err
    assert before.strip(b"\0") and at("/var/lib/sealpost/slots").read_bytes() == before
    assert tree.process.poll() is None and at("/var/lib/sealpost/data/data.mdb").exists(), tree.said()


def not_under_a_running_one():
    tree = Tree()
    refuses(tree, "apt-get", "-y", "-q", "remove", "sealpost")
    refuses(tree, "apt-get", "-y", "-q", "purge", "sealpost")
    run("dpkg", "--verify", "sealpost")
    assert sealpost("alice", "list")[0]
    tree.stop()
    say("neither removed nor purged under a tree that was started by hand")


def removed_and_back(message, mail):
    before = {p: p.stat().st_size for p in at("/var/lib/sealpost").rglob("*") if p.is_file()}
    apt("remove", "sealpost")
    assert not at("/usr/sbin/sealpostd").exists() and at(CONF).exists()
    assert before == {p: p.stat().st_size for p in at("/var/lib/sealpost").rglob("*") if p.is_file()}
    assert (at("/var/log/sealpost/audit.log")).exists()
    shutil.copy(DEB, at("/tmp/sealpost.deb"))
    apt("install", "/tmp/sealpost.deb")
    tree = Tree()
    assert sealpost("alice", "read", message, text=False)[0] == mail
    out, _, _ = run("sealpostctl", "audit", "verify")
    tree.stop()
    say("removed: state stays; installed again: the mail opens")


def purged():
    own = "/usr/local/sbin/sealpostd"
    shutil.copy2(at("/usr/sbin/sealpostd"), at(own))
    apt("remove", "sealpost")
    tree = Tree(own)
    refuses(tree, "dpkg", "--purge", "sealpost")
    tree.stop()
    at(own).unlink()
    slots = os.open(at("/var/lib/sealpost/slots"), os.O_RDONLY)
    size = os.fstat(slots).st_size
    assert size > 0
    os.lseek(slots, 0, os.SEEK_SET)
    apt("purge", "sealpost")
    assert os.fstat(slots).st_nlink == 0 and os.fstat(slots).st_size == size
    assert os.pread(slots, size, 0) == bytes(size), "the slots were not erased"
    ours = ("/var/lib/dpkg", "/var/lib/systemd", "/var/cache", "/tmp", "/root", "/proc")
    named = subprocess.run(["find", ROOT, "-xdev", "-name", "*sealpost*", "-print0"], capture_output=True, check=True)
    left = [p for p in named.stdout.decode().split("\0")
            if p and not any(pathlib.Path(p).is_relative_to(at(o)) for o in ours)]
    assert not left, left
    assert "sealpost-store" in ids("passwd")  # Debian Policy 9.2: a uid must not be given to another
    say(f"purged: {size} bytes of slots zeroed first, nothing left but the locked users")


def suggested():
    """What only those have who want it: the firewall's and AppArmor's parsers take what we suggest."""
    apt("install", *SUGGESTED)
    run("sh", "-ec", "set -- /usr/share/doc/sealpost/examples/nftables.example*; "
                     "case $1 in *.gz) zcat $1;; *) cat $1;; esac | nft -c -f -")
    run("apparmor_parser", "-QTK", "/usr/share/apparmor/extra-profiles/usr.sbin.sealpostd")
    say("the firewall's example and the AppArmor profile are understood")


def main():
    shutil.copy(DEB, at("/tmp/sealpost.deb"))
    apt("install", "/tmp/sealpost.deb")
    installed()
    users()
    directories()
    manuals()
    apt("install", "--download-only", *SUGGESTED)  # before there is no network
    own_network()
    configure()
    # The resolver of this process reads /etc/hosts of another system.
    resolve = socket.getaddrinfo
    socket.getaddrinfo = lambda host, *a, **k: resolve("127.0.0.1" if host == HOST else host, *a, **k)
    elsewhere()
    tree = Tree()
    enrol("alice")
    enrol("bob")
    message, mail = receive()
    send(tree)
    inspect()
    tree.stop()
    say("ended cleanly")
    suggested()
    not_under_a_running_one()
    removed_and_back(message, mail)
    purged()


main()
