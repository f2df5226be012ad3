"""The two servers of the benchmark of receiving. Each lives in a directory of its own, on loopback, and has
nothing to do with what is installed or running on the system; each answers only for mail that is on
disk."""
import base64
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

import procfs

BUILD = pathlib.Path(os.environ.get("B", "build")).resolve()
DOMAIN = "bench.example"


class Unavailable(Exception):
    """This server cannot run here; the text says why."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(*command, **more):
    """Runs a program to its end; what it printed. Its failure is ours."""
    done = subprocess.run([str(word) for word in command], text=True, timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, **more)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout}")
    return done.stdout


class Server:
    """A process tree under one master, from start() to stop()."""

    protocol = "lmtp"

    def __init__(self, directory, users):
        self.dir, self.users = pathlib.Path(directory), users
        self.dir.mkdir(parents=True)
        self.dir.chmod(0o755)
        self.port = self.lmtp = free_port()
        self.master = None

    def address(self, number):
        return f"user{number}@{DOMAIN}"

    def launch(self, *command, **more):
        log = open(self.dir / "stderr", "ab")
        self.master = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, **more)
        log.close()
        self.await_port(self.port)

    def await_port(self, port, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.master.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        tail = (self.dir / "stderr").read_text(errors="replace")[-600:]
        raise Unavailable(f"{self.name} did not start: {tail}")

    def stop(self):
        if self.master and self.master.poll() is None:
            self.master.send_signal(signal.SIGTERM)
            try:
                self.master.wait(20)
            except subprocess.TimeoutExpired:
                self.master.kill()
                self.master.wait()

    def pids(self):
        return procfs.tree(self.master.pid)

    def session_pids(self, before):
        """The processes of the sessions that were opened since self.pids() was before."""
        return [pid for pid in self.pids() if pid not in before]

    def cpu_seconds(self):
        return procfs.cpu_seconds(self.master.pid)


DOVECOT_CONF = """\
# Written by bench/run. LMTP into Maildir through mail_crypt, nothing else.
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/log
protocols = lmtp
ssl = no
listen = 127.0.0.1
default_internal_user = dovecot
default_login_user = dovenull
first_valid_uid = 1
mail_location = {format}:~/mail
mail_fsync = always
mail_plugins = {plugins}
mail_attribute_dict = file:%h/attributes
lmtp_save_to_detail_mailbox = no
postmaster_address = postmaster@bench.example
hostname = bench.example
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {dir}/users
}}
service lmtp {{
{waiting}  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
service stats {{
  process_limit = 1
}}
plugin {{
  mail_crypt_save_version = 2
{plugin}
}}
"""


class Dovecot(Server):
    """Dovecot LMTP. keys says how mail_crypt is used: "user", a public EC key of each user from the
    user database (the way its documentation recommends; as in Sealpost, no private key is at hand);
    "folder", keys made by Dovecot for each user and folder; "none", no encryption, to compare."""
    name = "dovecot"

    def __init__(self, directory, users, keys="user", mailbox="sdbox", prepared=True):
        super().__init__(directory, users)
        self.keys, self.mailbox, self.prepared = keys, mailbox, prepared

    def require(self):
        missing = not (os.path.exists("/usr/sbin/dovecot")
                       and os.path.exists("/usr/lib/dovecot/lmtp"))
        if os.geteuid() != 0:
            raise Unavailable("Dovecot's processes change their uid: run this as root")
        if missing and shutil.which("apt-get"):
            self.install()
        elif missing:
            raise Unavailable("install Debian's dovecot-core and dovecot-lmtpd")

    @staticmethod
    def install():
        """The packages alone: the system's own Dovecot, which they bring along, is not to run."""
        systemd = os.path.isdir("/run/systemd/system")  # it is what runs here: sd_booted(3)
        if systemd:
            run("systemctl", "mask", "--runtime", "dovecot.service")
        run("apt-get", "install", "-qq", "-y", "--no-install-recommends", "dovecot-core",
            "dovecot-lmtpd", env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"))
        if systemd:
            run("systemctl", "disable", "dovecot.service")
            run("systemctl", "unmask", "--runtime", "dovecot.service")

    def user_line(self, number):
        home = self.dir / "home" / f"user{number}"
        extra = ""
        if self.keys == "user":
            private = run("openssl", "genpkey", "-algorithm", "EC",
                          "-pkeyopt", "ec_paramgen_curve:prime256v1",
                          "-pkeyopt", "ec_param_enc:named_curve")
            public = run("openssl", "pkey", "-pubout", input=private)
            extra = ("userdb_mail_crypt_global_public_key="
                     + base64.b64encode(public.encode()).decode())
        return f"user{number}::59290:59290::{home}::{extra}\n"

    def start(self):
        self.require()
        for place in ("home", "run", "state"):
            (self.dir / place).mkdir()
        os.chown(self.dir / "home", 59290, 59290)
        (self.dir / "users").write_text("".join(self.user_line(n) for n in range(self.users)))
        shutil.chown(self.dir / "users", "dovecot")
        # Prepared: processes wait before they are needed and are used again, one session at a time.
        waiting = "  process_min_avail = 20\n  process_limit = 200\n" if self.prepared else ""
        settings = {"dir": self.dir, "port": self.port, "format": self.mailbox, "waiting": waiting,
                    "plugins": "" if self.keys == "none" else "mail_crypt",
                    "plugin": "  mail_crypt_curve = prime256v1" if self.keys == "folder" else ""}
        config = self.dir / "dovecot.conf"
        config.write_text(DOVECOT_CONF.format(**settings))
        self.launch("/usr/sbin/dovecot", "-F", "-c", config)

    def sealed(self):
        """That what was delivered is encrypted indeed: the magic bytes are in the newest mail."""
        mails = [path for path in (self.dir / "home").rglob("*")
                 if path.is_file() and (path.name.startswith("u.") or "/new/" in str(path))]
        return bool(mails) and b"CRYPTED\x03\x07" in mails[-1].read_bytes()[:2048]

    def session_pids(self, before):
        del before  # its sessions are served by processes that were there already
        return [pid for pid in self.pids() if procfs.name(pid) == "lmtp"]


SEALPOST_CONF = """\
# Written by bench/run.
[appliance]
hostname = mail.bench.example
domain = bench.example
state = {dir}/state
audit_log = {dir}/log/audit.log
control = {dir}/run/control.sock
{uid_base}
[tls]
certificate = {dir}/tls/cert.pem
key = {dir}/tls/key.pem
[smtp]
listen = 127.0.0.1:{port}
listen_lmtp = 127.0.0.1:{lmtp}
tls = may
max_message = 300M
max_sessions = 1000
max_sessions_per_client = 1000
max_connections_per_minute = 0
[web]
listen = 127.0.0.1:{web}
url = https://localhost:{web}
{limits}
[relay]
{relay}
[storage]
map_size = 64G
slots = {slots}
"""


class Sealpost(Server):
    """This tree's sealpostd, with its users enrolled by its own client."""
    name = "sealpost"
    relay, limits = "mode = off", ""

    def __init__(self, directory, users, slots="in-place", protocol="lmtp"):
        super().__init__(directory, users)
        self.slots, self.protocol = slots, protocol
        self.lmtp, self.web = free_port(), free_port()
        self.config = self.dir / "sealpost.conf"

    def certificate(self):
        (self.dir / "tls").mkdir(mode=0o700)
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "30", "-subj", "/CN=localhost", "-addext",
            "subjectAltName=DNS:localhost,DNS:mail.bench.example", "-keyout",
            self.dir / "tls/key.pem", "-out", self.dir / "tls/cert.pem")

    def start(self):
        if not os.access(BUILD / "sealpostd", os.X_OK):
            raise Unavailable(f"{BUILD}/sealpostd is not built")
        for place in ("state", "log", "run"):
            (self.dir / place).mkdir(mode=0o700)
        self.certificate()
        known = run("getent", "passwd", "sealpost-smtp") if self.has_users() else ""
        self.config.write_text(SEALPOST_CONF.format(
            dir=self.dir, port=self.port, lmtp=self.lmtp, web=self.web,
            uid_base="" if known else "uid_base = 59300",
            slots=self.slots, relay=self.relay, limits=self.limits))
        mode = [] if os.geteuid() == 0 else ["--user-mode"]
        self.launch(BUILD / "sealpostd", *mode, "--config", self.config)
        self.await_port(self.web)
        self.await_ready()
        self.enroll()

    def await_ready(self, seconds=30):
        """A listener takes connections before the tree is up."""
        end = time.monotonic() + seconds
        while "sealpostd: ready" not in (self.dir / "stderr").read_text(errors="replace"):
            if time.monotonic() > end or self.master.poll() is not None:
                raise Unavailable(f"{self.name} did not become ready")
            time.sleep(0.02)

    @staticmethod
    def has_users():
        return subprocess.run(["getent", "passwd", "sealpost-smtp"], check=False,
                              stdout=subprocess.DEVNULL).returncode == 0

    def enroll(self):
        (self.dir / "empty").write_text("")
        for number in range(self.users):
            code = run(BUILD / "sealpostctl", "--config", self.config,
                       "user", "add", self.address(number)).strip()
            self.client(number, "enroll", f"https://localhost:{self.web}",
                        self.address(number), code)

    def client(self, number, *command, **more):
        """What the client of a user prints."""
        env = dict(os.environ, SEALPOST_HOME=str(self.dir / "clients" / str(number)),
                   SEALPOST_CA=str(self.dir / "tls/cert.pem"),
                   SEALPOST_PASSPHRASE_FILE=str(self.dir / "empty"))
        (self.dir / "clients" / str(number)).mkdir(parents=True, exist_ok=True)
        return run(BUILD / "sealpost", *command, env=env, **more)
