"""Relaying: two servers that drain a filled queue into one sink. Postfix is set up to do well and to do what
Sealpost does: one next hop, no DNS, no TLS (the sink has none). Sealpost also signs, with RSA and with Ed25519."""
import concurrent.futures
import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time

from servers import BUILD, DOMAIN, Sealpost, Server, Unavailable, free_port, run

OUTSIDE = "someone@outside.example"
AT_ONCE = 20  # connections to the next hop


class Sink:
    """Postfix's smtp-sink: takes all and keeps nothing; here it counts."""

    def __init__(self):
        self.port, self.messages, self.process = free_port(), 0, None

    def start(self):
        if not shutil.which("smtp-sink", path=os.environ["PATH"] + ":/usr/sbin"):
            raise Unavailable("install Debian's postfix for its smtp-sink")
        self.messages = 0
        self.process = subprocess.Popen(
            ["/usr/sbin/smtp-sink", "-u", "nobody", "-c", f"127.0.0.1:{self.port}", "256"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        threading.Thread(target=self.count, args=(self.process.stdout,), daemon=True).start()

    def count(self, pipe):
        rest = b""
        while data := os.read(pipe.fileno(), 65536):
            *counts, rest = (rest + data).split(b"\r")
            if counts:  # "sess=1 quit=0 mesg=1"
                self.messages = int(counts[-1].rpartition(b"=")[2])

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None


def letter(size, number=0):
    """A mail with CRLF of about this many bytes."""
    head = (f"From: user{number}@{DOMAIN}\r\nTo: {OUTSIDE}\r\nSubject: a letter\r\n"
            "Date: Mon, 02 Mar 2026 12:00:00 +0000\r\nMessage-ID: <%d@bench.example>\r\n\r\n")
    line = "All work and no play makes a mail of a certain size, line by line.\r\n"
    text = head % time.monotonic_ns()
    return (text + line * max(1, (size - len(text)) // len(line))).encode()


MASTER = """\
{port} inet n - n - 200 smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
"""

MAIN = """\
compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
maillog_file = {dir}/log
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.bench.example
mydestination =
local_recipient_maps =
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{sink}
disable_dns_lookups = yes
smtp_tls_security_level = none
smtpd_tls_security_level = none
smtpd_client_restrictions = check_client_access static:hold
message_size_limit = 0
in_flow_delay = 0
smtpd_client_connection_count_limit = 0
initial_destination_concurrency = {at_once}
default_destination_concurrency_limit = {at_once}
"""


class Postfix(Server):
    name = "postfix"

    def __init__(self, directory, sink):
        super().__init__(directory, 0)
        self.sink, self.config = sink, self.dir / "conf"

    def start(self):
        if os.geteuid() != 0 or not os.path.exists("/usr/sbin/postfix"):
            raise Unavailable("Postfix needs root, and Debian's postfix installed")
        for place in ("conf", "queue", "data"):
            (self.dir / place).mkdir()
        shutil.chown(self.dir / "data", "postfix", "postfix")
        settings = {"dir": self.dir, "sink": self.sink.port, "at_once": AT_ONCE, "port": self.port}
        (self.config / "main.cf").write_text(MAIN.format(**settings))
        (self.config / "master.cf").write_text(MASTER.format(**settings))
        run("/usr/sbin/postfix", "-c", self.config, "check")
        self.launch("/usr/sbin/postfix", "-c", self.config, "start-fg")

    def stop(self):
        """Its master is not the process that was launched, and asking it to end may wait for its log for ever."""
        pid = self.dir / "queue/pid/master.pid"
        if pid.exists():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(pid.read_text()), signal.SIGKILL)
        super().stop()

    def fill(self, count, size):
        """On hold: nothing is tried while it comes in."""
        run("/usr/sbin/smtp-source", "-s", "10", "-m", count, "-l", size, "-f", f"user0@{DOMAIN}",
            "-t", OUTSIDE, f"127.0.0.1:{self.port}")

    def release(self):
        run("/usr/sbin/postsuper", "-c", self.config, "-H", "ALL")
        run("/usr/sbin/postqueue", "-c", self.config, "-f")

    def waiting(self):
        return sum(path.is_file() for place in ("incoming", "active", "deferred", "hold")
                   for path in (self.dir / "queue" / place).rglob("*"))


class RelayingSealpost(Sealpost):
    """Its users' clients fill the queue while the sink is down: after the first failures the store leaves
    the destination alone."""

    def __init__(self, directory, sink, slots):
        super().__init__(directory, 4, slots)
        self.relay = (f"mode = smarthost\nsmarthost = 127.0.0.1:{sink.port}\ndeliveries = 50\n"
                      f"per_destination = {AT_ONCE}")
        self.limits = "send_messages_per_day = 1000000\nsend_bytes_per_day = 1T"

    def control(self, *command):
        return run(BUILD / "sealpostctl", "--config", self.config, *command)

    def queue(self):
        return json.loads(self.control("--json", "queue", "list"))

    def fill(self, count, size):
        def send_all(user):  # a client's state is for one at a time
            for _ in range(user, count, self.users):
                self.client(user, "send", "-i", OUTSIDE, input=letter(size, user).decode())

        with concurrent.futures.ThreadPoolExecutor(self.users) as pool:
            list(pool.map(send_all, range(self.users)))
        time.sleep(2)  # what is being tried fails

    def release(self):
        self.control("queue", "retry", "all")

    def waiting(self):
        return len(self.queue())


class SigningSealpost(RelayingSealpost):
    """The same with DKIM: each mail is hashed as a verifier would, and signed with RSA-2048."""
    name = "signing-rsa"
    key = ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")

    def start(self):
        key = self.dir / "dkim.pem"
        run("openssl", "genpkey", *self.key, "-out", key)
        self.relay += f"\ndkim_selector = bench\ndkim_key = {key}"
        super().start()


class SigningEd25519(SigningSealpost):
    """With an Ed25519 key (RFC 8463)."""
    name = "signing-ed25519"
    key = ("-algorithm", "ED25519")


def drain(server, sink, count, size):
    """Fills the queue, opens the sink, and measures until the sink has all of it. Processor time is
    that until the queue is empty, too."""
    server.fill(count, size)
    if server.waiting() != count:
        raise Unavailable(f"{server.name}: {server.waiting()} of {count} mails are in its queue")
    os.sync()
    sink.start()
    try:
        before, began = server.cpu_seconds(), time.monotonic()
        server.release()
        while sink.messages < count and time.monotonic() < began + 600:
            time.sleep(0.005)
        seconds = time.monotonic() - began
        while server.waiting() > 0 and time.monotonic() < began + 600:
            time.sleep(0.2)
        after = server.cpu_seconds()
        if sink.messages != count or server.waiting() > 0:
            raise Unavailable(f"{server.name}: {sink.messages} of {count} mails came out")
    finally:
        sink.stop()
    return {"messages": count, "seconds": seconds, "messages_per_second": count / seconds,
            "mb_per_second": count * size / 1e6 / seconds,
            "server_cpu_seconds": sum(after.values()) - sum(before.values()),
            "server_cpu_by_process": {kind: round(spent - before.get(kind, 0), 3)
                                      for kind, spent in after.items()}}
