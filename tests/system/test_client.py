"""The user's client against the real tree, and against a server that lies.

The lying server is a proxy that the client is sent through with https_proxy: it speaks TLS with a
certificate that the client was told to trust, so nothing but the sealed-mail format stands between
it and the user.
"""
import http.client
import json
import os
import re
import socket
import socketserver
import ssl
import stat
import subprocess
import threading
import urllib.parse

import pytest

PLAIN = b"Subject: a word\r\n\r\nThe quick brown marker.\r\n"
BOUNDARY = b"=_border"


def with_attachment(content):
    """A message whose second part is cut out as an attachment."""
    return b"\r\n".join([
        b"Subject: with attachment", b"MIME-Version: 1.0",
        b'Content-Type: multipart/mixed; boundary="%s"' % BOUNDARY, b"",
        b"--" + BOUNDARY, b"Content-Type: text/plain", b"", b"see the file",
        b"--" + BOUNDARY, b"Content-Type: application/pdf",
        b"Content-Disposition: attachment; filename=a.pdf", b"", content,
        b"--" + BOUNDARY + b"--", b""])


class User:
    """An enrolled user with a home of their own."""

    count = 0

    def __init__(self, tree, tmp_path, enroll=True, liar=None, **env):
        User.count += 1
        self.tree, self.home = tree, tmp_path / f"home{User.count}"
        self.address = f"client{User.count}@example.test"
        self.code = octets(tree.ctl("user", "add", self.address)).decode().strip()
        self.client = tree.client(self.home)
        self.client.env.update(env)
        if liar is not None:
            self.client.env.update(https_proxy=liar.url, SEALPOST_CA=str(liar.ca))
        if enroll:
            self.run("enroll", tree.url, self.address, self.code)

    def run(self, *args, check=True, **more):
        done = self.client.run(*args, check=False, **more)
        if check:
            assert done.returncode == 0, octets(done.stderr)
        return done

    def deliver(self, message):
        self.tree.deliver(message, rcpt=[self.address], sender="sender@example.net")

    def list(self):
        return json.loads(octets(self.run("list", "--json").stdout))


def octets(text):
    return text.encode() if isinstance(text, str) else text


@pytest.fixture
def user(tree, tmp_path):
    return User(tree, tmp_path)


def refused(done, *words):
    """Exit 1, one clear error with these words, and not a byte of output."""
    text = octets(done.stderr).decode()
    assert done.returncode == 1, text
    assert octets(done.stdout) == b""
    for word in words:
        assert word in text, text
    assert "Sanitizer" not in text and "runtime error" not in text


# Usage

@pytest.mark.parametrize("args", [
    [], ["frobnicate"], ["read"], ["read", "1", "2"], ["list", "--out", "x"], ["raw", "1"],
    ["--nonsense", "list"], ["keys", "--ca"]])
def test_usage_errors_exit_2(tree, tmp_path, args):
    assert tree.client(tmp_path / "none").run(*args, check=False).returncode == 2


def test_each_command_has_help(tree, tmp_path):
    client = tree.client(tmp_path / "none")
    listing = octets(client.run("--help").stdout).decode()
    names = re.findall(r"^  ([a-z]+) ", listing, re.M)
    assert {"enroll", "list", "read", "sync", "raw", "keys", "rotate", "fingerprint",
            "delete"} <= set(names)
    for name in names:
        assert f"sealpost {name}" in octets(client.run(name, "--help").stdout).decode()


def test_not_enrolled_says_what_to_do(tree, tmp_path):
    refused(tree.client(tmp_path / "none").run("list", check=False), "sealpost enroll")


# Enrolment and state

def test_enrol_leaves_closed_state(user):
    assert stat.S_IMODE(user.home.stat().st_mode) == 0o700
    files = [p for p in user.home.rglob("*") if p.is_file()]
    assert {"account.json", "keys", "lock"} <= {p.name for p in files}
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o600 for p in files)


def test_wrong_code_then_right_code(tree, tmp_path):
    user = User(tree, tmp_path, enroll=False)
    refused(user.run("enroll", tree.url, user.address, "WRONG-CODE", check=False), "code is wrong")
    user.run("enroll", tree.url, user.address, user.code)


def test_second_enrolment_is_refused(user):
    before = (user.home / "keys").read_bytes()
    done = user.run("enroll", user.tree.url, user.address, user.code, check=False)
    refused(done, "enrolled already")
    assert (user.home / "keys").read_bytes() == before


def test_passphrase_file(tree, tmp_path):
    phrase = tmp_path / "phrase"
    phrase.write_text("correct horse\n")
    user = User(tree, tmp_path, SEALPOST_PASSPHRASE_FILE=str(phrase))
    user.run("fingerprint")
    phrase.write_text("wrong horse\n")
    refused(user.run("fingerprint", check=False), "wrong passphrase")
    del user.client.env["SEALPOST_PASSPHRASE_FILE"]
    refused(user.run("fingerprint", check=False), "SEALPOST_PASSPHRASE_FILE")


def test_changed_key_file_is_refused(user):
    keys = user.home / "keys"
    data = bytearray(keys.read_bytes())
    data[-1] ^= 1
    keys.write_bytes(data)
    refused(user.run("list", check=False), "key file")


def test_certificate_is_verified(user, tmp_path):
    other = make_certificate(tmp_path, "localhost")[0]
    refused(user.run("list", "--ca", str(other), check=False), "certificate")


# Mail

def test_read_is_byte_for_byte(user):
    for message in (PLAIN, with_attachment(os.urandom(100_000).hex().encode())):
        user.deliver(message)
    first, second = user.list()
    assert octets(user.run("read", first["id"]).stdout).endswith(PLAIN)
    assert octets(user.run("read", str(second["seq"])).stdout).endswith(message)
    assert second["pieces"] == 2


def test_ids_may_be_shortened(user):
    user.deliver(PLAIN)
    full = user.list()[0]["id"]
    assert octets(user.run("read", full[:20]).stdout).endswith(PLAIN)
    refused(user.run("read", full[:5], check=False))
    refused(user.run("read", "f" * 32, check=False), "none in your mailbox")


def test_ambiguous_prefix_is_refused(user):
    user.deliver(PLAIN)
    user.deliver(PLAIN)
    ids = [m["id"] for m in user.list()]
    common = os.path.commonprefix(ids)
    if len(common) >= 6:
        refused(user.run("read", common, check=False), "2 messages")


def test_sync_does_not_repeat(user, tmp_path):
    maildir = tmp_path / "Maildir"
    for i in range(3):
        user.deliver(b"Subject: %d\r\n\r\ntext\r\n" % i)
    assert b"3 new" in octets(user.run("sync", str(maildir)).stdout)
    files = sorted((maildir / "new").iterdir())
    assert len(files) == 3 and not list((maildir / "tmp").iterdir())
    files[0].rename(maildir / "cur" / (files[0].name + ":2,S"))
    files[1].unlink()
    user.deliver(PLAIN)
    assert b"1 new" in octets(user.run("sync", str(maildir)).stdout)
    assert len(list((maildir / "new").iterdir())) == 2
    (user.home / "sync.json").unlink()  # names in the Maildir still tell what is there
    assert b"1 new" in octets(user.run("sync", str(maildir)).stdout)


def test_delete(user):
    user.deliver(PLAIN)
    number = str(user.list()[0]["seq"])
    user.run("delete", number)
    assert user.list() == []
    refused(user.run("delete", number, check=False), "no message")


def test_raw_writes_what_the_server_holds(user, tmp_path):
    user.deliver(with_attachment(b"QUJD" * 1000))
    out = tmp_path / "raw"
    user.run("raw", str(user.list()[0]["seq"]), "--out", str(out))
    assert {p.name for p in out.iterdir()} == {"envelope.bin", "box.bin", "piece-0.bin",
                                               "piece-1.bin"}
    assert (out / "envelope.bin").read_bytes()[:4] == b"SPEV"
    assert not any(b"QUJDQUJD" in p.read_bytes() for p in out.iterdir())


def test_nothing_of_the_plaintext_stays_in_the_home(user):
    user.deliver(PLAIN)
    user.run("read", user.list()[0]["id"])
    assert not any(b"quick brown" in p.read_bytes() for p in user.home.rglob("*") if p.is_file())


# Keys

def test_rotation_keeps_old_mail_readable(user):
    user.deliver(PLAIN)
    before = octets(user.run("fingerprint").stdout)
    user.run("rotate")
    user.deliver(PLAIN)
    user.run("rotate")
    user.deliver(PLAIN)
    assert octets(user.run("fingerprint").stdout) != before
    mails = user.list()
    assert [m["generation"] for m in mails] == [1, 2, 3]
    assert all(m["readable"] for m in mails)
    for m in mails:
        assert octets(user.run("read", m["id"]).stdout).endswith(PLAIN)


def test_keys_prints_all_generations(user):
    user.run("rotate")
    keys = json.loads(octets(user.run("keys").stdout))
    assert [k["generation"] for k in keys["puk"]] == [1, 2]
    assert keys["address"] == user.address and len(keys["device"]["sign_sk"]) == 128


def test_fingerprints_agree(tree, tmp_path, user):
    other = User(tree, tmp_path)
    shown = octets(user.run("fingerprint", other.address).stdout).decode().strip()
    assert re.fullmatch(r"([A-Z2-7]{4} ){7}[A-Z2-7]{4}", shown)
    assert octets(other.run("fingerprint").stdout).decode().strip() == shown
    refused(user.run("fingerprint", "nobody@example.test", check=False), "knows no user")


# A server that lies

def make_certificate(folder, name):
    cert, key = folder / "proxy.pem", folder / "proxy.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                    "-subj", "/CN=lying proxy", "-addext",
                    f"subjectAltName=DNS:{name},DNS:localhost,IP:127.0.0.1"],
                   check=True, capture_output=True)
    return cert, key


class Liar(socketserver.ThreadingTCPServer):
    """CONNECT is answered by itself; each request goes to the tree, each answer through `lie`."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, tree, folder):
        self.target = urllib.parse.urlsplit(tree.url)
        self.upstream = ssl.create_default_context(cafile=str(tree.ca))
        cert, key = make_certificate(folder, self.target.hostname)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(cert, key)
        self.ca = cert
        self.lie = lambda method, path, status, body: (status, body)
        self.local = lambda method, path, body: None  # or (status, body): the tree is not asked
        self.cut = None  # (path pattern, bytes, times): close the connection after so many
        self.ranges = []
        super().__init__(("127.0.0.1", 0), LiarHandler)
        self.url = "http://127.0.0.1:%d" % self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # a client that hangs up on a lie is what is wanted


class LiarHandler(socketserver.StreamRequestHandler):
    def handle(self):
        self.read_head(self.rfile)  # CONNECT
        self.wfile.write(b"HTTP/1.1 200 go on\r\n\r\n")
        tls = self.server.tls.wrap_socket(self.request, server_side=True)
        stream = tls.makefile("rb")
        while (head := self.read_head(stream)) is not None:
            if not self.answer(tls, stream, *head):
                tls.close()
                return

    @staticmethod
    def read_head(stream):
        line = stream.readline().decode("latin1").split()
        if len(line) < 2:
            return None
        return line[0], line[1], http.client.parse_headers(stream)

    def answer(self, tls, stream, method, path, headers):
        server = self.server
        body = stream.read(int(headers.get("Content-Length") or 0))
        if headers.get("Range"):
            server.ranges.append(headers["Range"])
        status, out = server.local(method, path, body) or self.ask(method, path, headers, body)
        status, out = server.lie(method, path, status, out)
        length = b"" if status == 204 else b"Content-Length: %d\r\n" % len(out)
        tls.sendall(b"HTTP/1.1 %d x\r\n%s\r\n" % (status, length))
        cut = server.cut
        if cut and cut[2] > 0 and re.search(cut[0], path):
            server.cut = (cut[0], cut[1], cut[2] - 1)
            tls.sendall(out[:cut[1]])
            self.request.shutdown(socket.SHUT_RDWR)
            return False
        tls.sendall(out)
        return True

    def ask(self, method, path, headers, body):
        server = self.server
        upstream = http.client.HTTPSConnection(server.target.hostname, server.target.port,
                                               context=server.upstream)
        upstream.request(method, path, body, {k: v for k, v in headers.items() if k in (
            "Authorization", "Range", "Content-Type")})
        got = upstream.getresponse()
        return got.status, got.read()


@pytest.fixture
def liar(tree, tmp_path):
    server = Liar(tree, tmp_path)
    yield server
    server.shutdown()
    server.server_close()


def flip(data, at, bit=1):
    return data[:at] + bytes([data[at] ^ bit]) + data[at + 1:]


def lie_about(pattern, change, method="GET"):
    def lie(got_method, path, status, body):
        if got_method == method and re.search(pattern, path) and status in (200, 206):
            return status, change(body)
        return status, body
    return lie


MESSAGE = r"/v1/message/[0-9a-f]+$"
CHAIN = r"/v1/sigchain/"


def box_at(body):
    return 4 + int.from_bytes(body[:4], "big") + 4


LIES = {
    "envelope magic": (MESSAGE, lambda b: flip(b, 4), "step 1"),
    "envelope message id": (MESSAGE, lambda b: flip(b, 4 + 8), "step 1"),
    "envelope ephemeral key": (MESSAGE, lambda b: flip(b, 4 + 24), "step 3"),
    "envelope bcc commitment": (MESSAGE, lambda b: flip(b, 4 + 24 + 32 + 4), "step 3"),
    "envelope piece length": (MESSAGE, lambda b: flip(b, 4 + 24 + 32 + 4 + 32 + 4 + 7), "step 4"),
    "manifest": (MESSAGE, lambda b: flip(b, box_at(b) - 8), "step 3"),
    "envelope cut short": (MESSAGE, lambda b: b[:50], "step 1"),
    "bytes behind the box": (MESSAGE, lambda b: b + b"x", "step 1"),
    "box kind": (MESSAGE, lambda b: flip(b, box_at(b)), "step"),
    "box recipient": (MESSAGE, lambda b: flip(b, box_at(b) + 4), "step 3"),
    "box generation": (MESSAGE, lambda b: flip(b, box_at(b) + 1 + 2 + 16 + 3, 2), "step 3"),
    "box key": (MESSAGE, lambda b: flip(b, box_at(b) + 1 + 2 + 16 + 4 + 2), "step 3"),
    "box sealed": (MESSAGE, lambda b: flip(b, len(b) - 1), "step 3"),
    "nothing at all": (MESSAGE, lambda b: b"", "step 1"),
    "body nonce": (r"/piece/0$", lambda b: flip(b, 0), "step 5", "piece 0"),
    "body commitment": (r"/piece/0$", lambda b: flip(b, 30), "step 5", "piece 0"),
    "body tag": (r"/piece/0$", lambda b: flip(b, len(b) - 1), "step 5", "piece 0"),
    "attachment's middle": (r"/piece/1$", lambda b: flip(b, 20_000), "step 5", "piece 1"),
    "attachment cut short": (r"/piece/1$", lambda b: b[:-20], "step 5", "piece 1"),
    "attachment too long": (r"/piece/1$", lambda b: b + b"x", "step 5", "piece 1"),
    "chain cut off": (CHAIN, lambda b: b[:-5], "sigchain of"),
    "chain signature": (CHAIN, lambda b: flip(b, len(b) - 1), "sigchain of", "fork"),
    "chain gone backwards": (CHAIN, lambda b: b[:16], "sigchain of", "backwards"),
    "chain of another user": (CHAIN, lambda b: flip(b, 0), "sigchain of", "somebody else"),
}


@pytest.mark.parametrize("name", LIES)
def test_lie_is_refused(tree, tmp_path, liar, name):
    pattern, change, *words = LIES[name]
    user = User(tree, tmp_path, enroll=False, liar=liar)
    user.run("enroll", tree.url, user.address, user.code)
    user.deliver(with_attachment(b"The quick brown marker.\r\n" * 2000))
    honest = user.run("list", "--json")
    number = str(json.loads(octets(honest.stdout))[0]["id"])
    liar.lie = lie_about(pattern, change)
    done = user.run("read", number, check=False)
    refused(done, *words)
    assert len(octets(done.stderr).splitlines()) == 1
    maildir = tmp_path / "Maildir"
    assert user.run("sync", str(maildir), check=False).returncode == 1
    assert not any(p.is_file() for p in maildir.rglob("*"))
    liar.lie = lie_about("^never$", change)
    assert b"quick" in octets(user.run("read", number).stdout)
    user.run("sync", str(maildir))
    assert len(list((maildir / "new").iterdir())) == 1


def test_another_message_of_the_same_user_is_refused(tree, tmp_path, liar):
    user = User(tree, tmp_path, enroll=False, liar=liar)
    user.run("enroll", tree.url, user.address, user.code)
    user.deliver(PLAIN)
    user.deliver(PLAIN)
    first, second = json.loads(octets(user.run("list", "--json").stdout))
    kept = {}

    def swap(method, path, status, body):
        kept.setdefault(path, body)
        return status, kept.get("/v1/message/" + first["id"], body) if second["id"] in path else body
    liar.lie = swap
    user.run("read", first["id"])
    refused(user.run("read", second["id"], check=False), "another message")


def test_interrupted_download_resumes(tree, tmp_path, liar):
    user = User(tree, tmp_path, enroll=False, liar=liar)
    user.run("enroll", tree.url, user.address, user.code)
    message = with_attachment(b"0123456789abcdef" * 20_000)
    user.deliver(message)
    liar.cut = (r"/piece/1$", 100_000, 2)
    ident = json.loads(octets(user.run("list", "--json").stdout))[0]["id"]
    done = user.run("read", ident)
    assert octets(done.stdout).endswith(message)
    assert len(liar.ranges) == 2 and all(re.fullmatch(r"bytes=\d+-", r) for r in liar.ranges)
    liar.cut = (r"/piece/1$", 1000, 99)
    refused(user.run("read", ident, check=False), "step 5", "piece 1", "cut short")


def test_lost_answer_to_enrolment_loses_nothing(tree, tmp_path, liar):
    user = User(tree, tmp_path, enroll=False, liar=liar)
    liar.cut = (r"/v1/enroll$", 0, 1)
    args = ["enroll", tree.url, user.address, user.code]
    refused(user.run(*args, check=False), "run the same command again")
    refused(user.run("list", check=False), "got no answer")
    user.run(*args)
    user.deliver(PLAIN)
    assert len(json.loads(octets(user.run("list", "--json").stdout))) == 1


def test_lost_answer_to_rotation_loses_nothing(tree, tmp_path, liar):
    user = User(tree, tmp_path, enroll=False, liar=liar)
    user.run("enroll", tree.url, user.address, user.code)
    liar.lie = lambda method, path, status, body: (
        (500, b"") if (method, path) == ("POST", "/v1/sigchain") else (status, body))
    refused(user.run("rotate", check=False), "sigchain")
    liar.lie = lambda method, path, status, body: (status, body)
    user.deliver(PLAIN)
    mails = json.loads(octets(user.run("list", "--json").stdout))
    assert mails[0]["generation"] == 2 and mails[0]["readable"]
    assert octets(user.run("read", mails[0]["id"]).stdout).endswith(PLAIN)


def test_enrolment_of_somebody_else_is_refused(tree, tmp_path, liar):
    user = User(tree, tmp_path, enroll=False, liar=liar)
    liar.lie = lie_about(r"/v1/enroll$", lambda b: flip(b, 0), "POST")
    refused(user.run("enroll", tree.url, user.address, user.code,
                     check=False), "somebody else")


def test_server_by_another_name_is_refused(tree, tmp_path):
    user = User(tree, tmp_path, enroll=False)
    other = tree.url.replace("localhost", "127.0.0.1") if "localhost" in tree.url else \
        tree.url.replace("127.0.0.1", "localhost")
    done = user.run("enroll", other, user.address, user.code, check=False)
    assert done.returncode == 1 and not (user.home / "keys").exists()


@pytest.mark.parametrize("address", ["no-at", "al ice@example.test", "a@b@example.test", "a%b@example.test",
                                     "\"q\"@example.test", "x@elsewhere.test", "@example.test"])
def test_an_address_that_could_not_get_mail_is_no_user(tree, address):
    done = tree.ctl("user", "add", address, check=False)
    assert done.returncode == 1 and done.stdout == b"" and done.stderr
