"""Drives a real tree for the tests: own directory, own ports on loopback, real programs."""
import atexit
import contextlib
import json
import os
import pathlib
import shutil
import signal
import smtplib
import ssl
import subprocess
import tempfile
import time

import place
from place import free_ports

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("B", "build"))
BUILD = BUILD if BUILD.is_absolute() else ROOT / BUILD
NOBODY = 65534
ROLES = ["smtp", "sealer", "store", "keeper", "web", "audit", "relay", "resolver", "door"]


def program(name, mode):
    """A program's path. In user mode an ordinary user runs it, who may not reach a checkout that lies in
    root's home: a copy."""
    path = BUILD / name
    if mode == "root" or os.geteuid() != 0:
        return path
    if not copies:
        copies.append(tempfile.mkdtemp(prefix="sealpost-bin-", dir="/var/tmp"))
        os.chmod(copies[0], 0o755)
        atexit.register(shutil.rmtree, copies[0], ignore_errors=True)
    copy = pathlib.Path(copies[0]) / name.replace("/", "-")
    if not copy.exists():
        shutil.copy(path, copy)
        copy.chmod(0o755)
    return copy


copies = []


def crlf(text):
    if isinstance(text, str):
        text = text.encode()
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def lives(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Client:
    """One user's sealpost, with a home of its own."""

    def __init__(self, tree, address, home):
        self.tree, self.address, self.home = tree, address, pathlib.Path(home)
        self.env = {"PATH": os.environ["PATH"], "SEALPOST_HOME": str(home),
                    "SEALPOST_CA": str(tree.ca), "HOME": str(home)}

    def run(self, *args, input=None, check=True):
        done = subprocess.run([BUILD / "sealpost", *map(str, args)], input=input or b"",
                              capture_output=True, env=self.env, timeout=300)
        if check and done.returncode != 0:
            raise AssertionError(f"sealpost {args}: {done.returncode}: {done.stderr.decode()}")
        return done

    def list(self):
        rows = json.loads(self.run("list", "--json").stdout)
        return rows if isinstance(rows, list) else rows["messages"]

    def read(self, number_or_id):
        return self.run("read", number_or_id).stdout

    def newest(self):
        return self.list()[-1]


def slots_setting(directory):
    """Where the tests run in a container its root may be an overlay, which does not overwrite in place."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", directory], check=True, capture_output=True)
    return "in-place" if kind.stdout.decode().strip() in ("ext2/ext3", "xfs", "tmpfs") else "accept-cow"


class Tree:
    """A running sealpostd. mode: "root" (each role its own uid) or "user" (an ordinary user)."""

    def __init__(self, mode, test_build=False, settings=None, arguments=()):
        self.mode = mode
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="sealpost-", dir="/var/tmp"))
        self.binary = program("test/sealpostd" if test_build else "sealpostd", mode)
        self.smtp_port, self.lmtp_port, self.web_port = free_ports(3)
        self.url = f"https://127.0.0.1:{self.web_port}"
        self.state, self.log = self.dir / "state", self.dir / "log" / "audit.log"
        self.config = self.dir / "sealpost.conf"
        self.process, self.stderr = None, self.dir / "stderr"
        self.extra = settings or {}
        self.arguments = list(arguments)
        self.before_exec = None  # runs in the child, as what starts a service would
        self.clients = 0
        self.write_config()
        if mode == "user" and os.geteuid() == 0:
            os.chown(self.dir, NOBODY, NOBODY)

    @property
    def ca(self):
        return self.state / "self-signed.pem" if self.mode == "user" else self.dir / "cert.pem"

    def write_config(self):
        sections = {
            "appliance": {"hostname": "mail.example.test", "domain": "example.test",
                          "state": self.state, "audit_log": self.log,
                          "control": self.dir / "control.sock", "shutdown_grace": "2s"},
            "smtp": {"listen": f"127.0.0.1:{self.smtp_port}",
                     "listen_lmtp": f"127.0.0.1:{self.lmtp_port}", "max_message": "300M",
                     "max_sessions_per_client": 1000, "hold_off": "0s",
                     "max_connections_per_minute": 0},
            "web": {"listen": f"127.0.0.1:{self.web_port}", "url": self.url,
                    "max_connections_per_client": 1000},
            "storage": {"map_size": "4G", "slots": slots_setting(self.dir)},
        }
        if self.mode == "root":
            sections["appliance"]["uid_base"] = place.first_uid()
            self.make_certificate()
            sections["tls"] = {"certificate": self.dir / "cert.pem", "key": self.dir / "key.pem"}
        for section, keys in self.extra.items():
            sections.setdefault(section, {}).update(keys)
        lines = []
        for section, keys in sections.items():
            lines.append(f"[{section}]")
            lines += [f"{k} = {v}" for k, v in keys.items()]
        self.config.write_text("\n".join(lines) + "\n")

    def make_certificate(self):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", self.dir / "key.pem", "-out", self.dir / "cert.pem", "-days", "30",
             "-subj", "/CN=mail.example.test", "-addext",
             "subjectAltName=DNS:mail.example.test,IP:127.0.0.1"], check=True, capture_output=True)

    # --- life ---

    def start(self, wait=True):
        args = [self.binary, "--config", self.config, *self.arguments]
        who = {}
        if self.mode == "user":
            args.append("--user-mode")
            if os.geteuid() == 0:
                who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        if self.before_exec:
            who["preexec_fn"] = self.before_exec
        with open(self.stderr, "ab") as err:
            self.mark = err.tell()
            self.process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=err,
                                            stdin=subprocess.DEVNULL, cwd="/", **who)
        if wait:
            self.wait_ready()
        return self

    def said(self):
        return self.stderr.read_bytes()[self.mark:].decode(errors="replace")

    def wait_ready(self, count=1, seconds=120):
        end = time.monotonic() + seconds
        while self.said().count("sealpostd: ready") < count:
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"the tree does not start:\n{self.said()}")
            time.sleep(0.02)

    def stop(self):
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(60)
        finally:
            self.process.poll() is None and self.kill()
        self.process = None
        return status

    def kill(self):
        """The supervisor, and by that all others: until the last is gone, what they hold is not free."""
        pids = self.all_pids()
        self.process.kill()
        self.process.wait()
        self.wait_gone(pids)

    @staticmethod
    def wait_gone(pids, seconds=120):
        end = time.monotonic() + seconds
        while any(lives(pid) for pid in pids):
            assert time.monotonic() < end, "killed, and still there"
            time.sleep(0.02)

    def remove(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    # --- processes ---

    def pids(self):
        """{role: pid}, as the kernel sees the children."""
        found = {}
        for child in self.children(self.process.pid):
            cmd = pathlib.Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if b"--role" in cmd:
                found[cmd[cmd.index(b"--role") + 1].decode()] = child
        return found

    @staticmethod
    def children(pid):
        try:
            return [int(p) for p in
                    pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except FileNotFoundError:
            return []

    def all_pids(self):
        """The supervisor, the roles, the sessions."""
        todo, seen = [self.process.pid], []
        while todo:
            pid = todo.pop()
            seen.append(pid)
            todo += self.children(pid)
        return seen

    def proc_status(self, pid):
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)

    # --- operators and users ---

    def ctl(self, *args, check=True):
        done = subprocess.run([program("sealpostctl", self.mode), "--config", self.config, *map(str, args)],
                              capture_output=True, timeout=300, **self.owner())
        if check and done.returncode != 0:
            raise AssertionError(f"sealpostctl {args}: {done.stderr.decode()}")
        return done.stdout.decode().strip() if check else done

    def owner(self):
        if self.mode == "user" and os.geteuid() == 0:
            return {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        return {}

    def client(self, home=None, address=""):
        self.clients += 1
        home = home or self.dir / f"home-{self.clients}"
        return Client(self, address, home)

    def user(self, name):
        """A new enrolled user NAME@example.test."""
        address = name if "@" in name else f"{name}@example.test"
        code = self.ctl("user", "add", address)
        client = self.client(address=address)
        client.run("enroll", self.url, address, code)
        return client

    # --- mail ---

    def smtp(self, lmtp=False, tls=False):
        cls = smtplib.LMTP if lmtp else smtplib.SMTP
        s = cls("127.0.0.1", self.lmtp_port if lmtp else self.smtp_port, timeout=300)
        if tls:
            context = ssl.create_default_context(cafile=self.ca)
            s.starttls(context=context)
        return s

    def deliver(self, message, rcpt, sender="sender@outside.test", lmtp=False, tls=False):
        with contextlib.closing(self.smtp(lmtp, tls)) as s:
            refused = s.sendmail(sender, rcpt, message)
            s.quit()
        return refused

    def events(self, name=None):
        """Those in the log once it has come to rest: a role reports to the audit role, and does not wait for it."""
        size = None
        for _ in range(20):
            size, before = self.log.stat().st_size, size
            if size == before:
                break
            time.sleep(0.05)
        whole = self.log.read_bytes().rpartition(b"\n")[0]  # the last line may be half written
        lines = [json.loads(l) for l in whole.decode().splitlines()]
        return [l for l in lines if name in (None, l["event"])]


def content_of(read):
    """What the sender sent: without the trace header in front (Return-Path and one Received)."""
    at = read.index(b"Received: from ")
    while True:
        at = read.index(b"\r\n", at) + 2
        if read[at:at + 1] not in (b" ", b"\t"):
            return read[at:]
