"""SMTP servers of the outside world: Postfix with a configuration of its own, and one that is scripted to
misbehave. All listen on one port, each on its own address of the loopback."""
import contextlib
import email.utils
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time

NOBODY = 65534

MASTER = """\
{address}:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""

MAIN = """\
compatibility_level = 3.6
queue_directory = {dir}/queue
data_directory = {dir}/data
maillog_file = {dir}/log
mail_owner = postfix
setgid_group = postdrop
myhostname = {name}
mydestination =
local_recipient_maps =
alias_maps =
inet_interfaces = 127.0.0.1
mynetworks = 127.0.0.0/8
local_header_rewrite_clients =
virtual_mailbox_domains = regexp:{dir}/domains
virtual_mailbox_base = {dir}/mail
virtual_mailbox_maps = static:inbox/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_mailbox_limit = 0
message_size_limit = 0
line_length_limit = 1000000
in_flow_delay = 0
smtpd_recipient_restrictions = check_recipient_access regexp:{dir}/recipients, reject_unauth_destination
smtpd_client_connection_count_limit = 0
smtpd_tls_loglevel = 1
smtpd_tls_received_header = yes
{tls}
"""



def without_repetition(text):
    """main.cf with the last of each setting alone. Of the others each process of Postfix logs a warning, postlogd
    too, and to itself: when many start at once, that can fill its queue before it reads, and all wait for ever."""
    found = dict(re.findall(r"^(\w+)( *=.*\n(?:[ \t].*\n)*)", text, re.M))
    return "".join(name + rest for name, rest in found.items())


RECIPIENTS = """\
/^nobody.*@/ 550 5.1.1 there is no such user
/^later.*@/ 450 4.2.1 come back another time
"""


class Postfix:
    """Takes mail for every domain; nobody*@ is refused for good, later*@ for now. certificate: None, or
    (chain, key) files. more: lines of main.cf."""

    def __init__(self, address, port, name, certificate=None, more=""):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="postfix-", dir="/var/tmp"))
        self.dir.chmod(0o755)
        self.address, self.port = address, port
        tls = "smtpd_tls_security_level = none"
        if certificate:
            tls = f"smtpd_tls_security_level = may\nsmtpd_tls_chain_files = {certificate[1]}, {certificate[0]}"
        self.config = self.dir / "conf"
        for folder in ("conf", "queue", "data", "mail"):
            (self.dir / folder).mkdir()
        shutil.chown(self.dir / "data", "postfix", "postfix")
        os.chown(self.dir / "mail", NOBODY, NOBODY)
        main = MAIN.format(dir=self.dir, address=address, name=name, tls=tls) + more
        (self.config / "main.cf").write_text(without_repetition(main))
        (self.config / "master.cf").write_text(MASTER.format(address=address, port=port))
        (self.dir / "domains").write_text("/./ here\n")
        (self.dir / "recipients").write_text(RECIPIENTS)

    def start(self):
        done = subprocess.run(["postfix", "-c", self.config, "start"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr + done.stdout + self.log()
        return self

    def log(self):
        path = self.dir / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def stop(self):
        # Not "postfix abort", which logs before it does anything, and waits for ever if postlogd is slow to come.
        pid = int((self.dir / "queue/pid/master.pid").read_text())
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        shutil.rmtree(self.dir, ignore_errors=True)

    def mails(self):
        """[(recipient, envelope sender, bytes as they were sent, Postfix's own header fields)], oldest
        first."""
        found = []
        folder = self.dir / "mail/inbox/new"
        for path in sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns) if folder.exists() else []:
            found.append(split_delivered(path.read_bytes()))
        return found

    def for_recipient(self, address):
        return [m for m in self.mails() if m[0] == address]

    def arrived(self, address):
        """The mails of a recipient who has got one, or is about to: it was taken, and goes through the queue."""
        return wait_for(lambda: self.for_recipient(address))


class Submission(Postfix):
    """Takes mail from one user alone, by their password (Cyrus SASL), over TLS alone. mechanisms: "PLAIN LOGIN"."""

    def __init__(self, address, port, name, certificate, user, password, mechanisms):
        super().__init__(address, port, name, certificate, "".join(f"{line}\n" for line in (
            "smtpd_sasl_auth_enable = yes", "smtpd_sasl_path = smtpd", f"smtpd_sasl_local_domain = {name}",
            "smtpd_tls_auth_only = yes", "smtpd_relay_restrictions =",
            "smtpd_sasl_authenticated_header = yes", "smtpd_delay_reject = yes",
            "smtpd_client_restrictions = permit_sasl_authenticated, reject")))
        sasl = self.config / "sasl"  # where Debian's Postfix looks first
        sasl.mkdir()
        (sasl / "smtpd.conf").write_text("pwcheck_method: auxprop\nauxprop_plugin: sasldb\n"
                                         f"sasldb_path: {sasl}/db\nmech_list: {mechanisms}\n")
        subprocess.run(["saslpasswd2", "-c", "-p", "-f", sasl / "db", "-u", name, user], input=password.encode(),
                       check=True, capture_output=True)
        shutil.chown(sasl / "db", "postfix", "postfix")


def split_delivered(data):
    """What virtual(8) and cleanup(8) put in front of a mail, and the mail with CRLF."""
    trace = re.match(rb"Return-Path: <(.*)>\nX-Original-To: (.*)\nDelivered-To: .*\n"
                     rb"Received: .*\n(?:[ \t].*\n)*", data)
    assert trace, data[:500]
    mail = data[trace.end():].replace(b"\n", b"\r\n")
    return trace[2].decode(), trace[1].decode(), mail, trace[0].decode()


class Drop(Exception):
    """The connection is cut, here."""


class Scripted:
    """An SMTP server that does as `trick(session, stage, line)` says at each stage: "connect", "ehlo",
    "starttls", "mail", "rcpt", "data" (before the 354), "body" (a line of content), "dot" (after it),
    "quit", "rset", "noop". The trick returns None for what a decent server would do, or the very bytes
    that it sends instead; it may raise Drop, sleep, or speak on session.sock itself. What was accepted is
    in mails: (sender, recipients, content)."""

    def __init__(self, address, port, trick=None, context=None, extensions=()):
        self.address, self.trick, self.context = address, trick, context
        self.extensions = extensions
        self.mails, self.commands, self.connections = [], [], 0
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen(100)
        self.ended = False
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while not self.ended:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            Session(self, sock).run()
        except (Drop, OSError, ssl.SSLError):
            pass
        finally:
            sock.close()

    def stop(self):
        self.ended = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Session:
    def __init__(self, server, sock):
        self.server, self.sock, self.buffer = server, sock, b""
        self.sender, self.recipients, self.tls = None, [], False

    def line(self):
        while b"\n" not in self.buffer:
            got = self.sock.recv(65536)
            if not got:
                raise Drop
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r")

    def take(self, n):
        while len(self.buffer) < n:
            got = self.sock.recv(65536)
            if not got:
                raise Drop
            self.buffer += got
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def answer(self, stage, line, usual):
        """What is said at this stage; True if it was the usual thing."""
        trick = self.server.trick
        said = trick(self, stage, line) if trick else None
        self.sock.sendall(usual if said is None else said)
        return said is None

    def run(self):
        self.answer("connect", b"", b"220 trick.test ESMTP\r\n")
        while True:
            line = self.line()
            self.server.commands.append(line)
            verb = line.split(b" ")[0].upper()
            handler = getattr(self, "do_" + verb.decode("ascii", "replace").lower(), None)
            if handler is None:
                self.sock.sendall(b"502 5.5.1 not here\r\n")
            elif handler(line):
                return

    def do_ehlo(self, line):
        words = [b"trick.test", *self.server.extensions]
        if self.server.context and not self.tls:
            words.append(b"STARTTLS")
        reply = b"".join(b"250-%s\r\n" % w for w in words[:-1]) + b"250 %s\r\n" % words[-1]
        self.answer("ehlo", line, reply)

    def do_helo(self, line):
        self.answer("helo", line, b"250 trick.test\r\n")

    def do_starttls(self, line):
        if self.answer("starttls", line, b"220 2.0.0 go ahead\r\n"):
            self.sock = self.server.context.wrap_socket(self.sock, server_side=True)
            self.tls, self.buffer = True, b""

    def do_mail(self, line):
        if self.answer("mail", line, b"250 2.1.0 ok\r\n"):
            self.sender, self.recipients = path_of(line), []

    def do_rcpt(self, line):
        if self.answer("rcpt", line, b"250 2.1.5 ok\r\n"):
            self.recipients.append(path_of(line))

    def do_rset(self, line):
        self.answer("rset", line, b"250 2.0.0 ok\r\n")

    def do_noop(self, line):
        self.answer("noop", line, b"250 2.0.0 ok\r\n")

    def do_quit(self, line):
        self.answer("quit", line, b"221 2.0.0 bye\r\n")
        return True

    def do_data(self, line):
        if not self.answer("data", line, b"354 go on\r\n"):
            return
        content = []
        while (got := self.line()) != b".":
            if self.server.trick:
                self.server.trick(self, "body", got)
            content.append(got[1:] if got.startswith(b".") else got)
        self.finish(b"".join(c + b"\r\n" for c in content))

    def do_bdat(self, line):
        words = line.split()
        self.chunks = getattr(self, "chunks", b"") + self.take(int(words[1]))
        if len(words) > 2 and words[2].upper() == b"LAST":
            content, self.chunks = self.chunks, b""
            self.finish(content)
        else:
            self.answer("bdat", line, b"250 2.0.0 ok\r\n")

    def finish(self, content):
        if self.answer("dot", b"", b"250 2.0.0 kept\r\n"):
            self.keep(content)

    def keep(self, content):
        self.server.mails.append((self.sender, list(self.recipients), content))


def path_of(line):
    return line[line.index(b"<") + 1:line.index(b">")].decode()


def make_authority(folder):
    """A CA of the tests' own: ca.pem, ca.key."""
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
        "30", "-subj", "/CN=Test Authority", "-keyout", folder / "ca.key", "-out", folder / "ca.pem")
    return folder / "ca.pem"


def make_certificate(folder, *names):
    """(chain, key) files for these names, by the authority in the folder."""
    chain, key = folder / f"{names[0]}.pem", folder / f"{names[0]}.key"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
        "30", "-subj", f"/CN={names[0]}", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-addext",
        "subjectAltName=" + ",".join(f"DNS:{n}" for n in names), "-addext", "basicConstraints=CA:FALSE",
        "-keyout", key, "-out", chain)
    return chain, key


def server_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


def wait_for(what, seconds=180):
    """What it returns, as soon as that is true."""
    end = time.monotonic() + seconds
    while not (got := what()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)
    return got


def date():
    return email.utils.formatdate()
