"""`sealpost open` against a small HTTPS server that holds the known answers' link mail (tests/vectors):
the client needs no account, and opens nothing that the link was not made for."""
import base64
import http.server
import json
import os
import re
import ssl
import subprocess
import threading

import pytest

from sealpost import BUILD, ROOT

VECTORS = json.loads((ROOT / "tests/vectors/messages.json").read_text())["messages"]


def make_certificate(folder):
    cert, key = folder / "link.pem", folder / "link.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                   check=True, capture_output=True)
    return cert, key


def b32(x):
    return len(x).to_bytes(4, "big") + x


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        link = self.server.link
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        found = re.fullmatch(r"/m/([\w-]+)/(envelope|piece/(\d+))", self.path)
        body, status = b"", 404
        if found and found[1] == link.id and self.headers["Authorization"] == "Sealpost-Gate " + link.gate:
            status = 200
            body = link.answer if found[2] == "envelope" else link.pieces[int(found[3])]
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if start:
            status, body = 206, body[int(start[1]):]
        cut = self.server.cut.pop() if body and "piece" in self.path and self.server.cut else None
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = cut is not None


class Link:
    """A link mail of the known answers."""

    def __init__(self, message):
        self.message = bytes.fromhex(message["message"])
        base, self.id, self.secret, self.digest = re.fullmatch(
            r"(https://.*)/m/([\w-]+)#([\w-]+)\.([\w-]+)", message["link"]).groups()
        self.gate = base64.urlsafe_b64encode(bytes.fromhex(message["gate"])).decode().rstrip("=")
        box = next(b for b in message["boxes"] if b["kind"] == 3)
        self.envelope, self.box = bytes.fromhex(message["envelope"]), bytes.fromhex(box["box"])
        self.answer = b32(self.envelope) + b32(self.box)
        self.others = [bytes.fromhex(b["box"]) for b in message["boxes"] if b["kind"] != 3]
        self.pieces = [bytes.fromhex(p["ciphertext"]) for p in message["pieces"]]

    def text(self, url):
        return f"{url}/m/{self.id}#{self.secret}.{self.digest}"


@pytest.fixture
def server(tmp_path):
    cert, key = make_certificate(tmp_path)
    s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    s.socket = context.wrap_socket(s.socket, server_side=True)
    s.url, s.ca, s.asked, s.cut = f"https://localhost:{s.server_address[1]}", cert, [], []
    s.link = Link(VECTORS[0])
    threading.Thread(target=s.serve_forever, args=(0.05,), daemon=True).start()
    yield s
    s.shutdown()
    s.server_close()


@pytest.fixture
def run(server, tmp_path):
    env = {"PATH": os.environ["PATH"], "SEALPOST_HOME": str(tmp_path / "home"), "SEALPOST_CA": str(server.ca)}

    def run(*args, input=b""):
        return subprocess.run([BUILD / "sealpost", "open", *map(str, args)], input=input,
                              capture_output=True, env=env, timeout=180)
    return run


def refused(done, *words):
    text = done.stderr.decode()
    assert done.returncode == 1 and done.stdout == b"", text
    for word in words:
        assert word in text, text
    assert not re.search("Sanitizer|runtime error", text)


@pytest.mark.parametrize("number", range(len(VECTORS)))
def test_each_known_link_opens(server, run, number):
    server.link = Link(VECTORS[number])
    done = run(server.link.text(server.url))
    assert done.returncode == 0, done.stderr
    assert done.stdout == server.link.message
    signed = not VECTORS[number]["name"].startswith("appliance")
    assert (b"tie to a name" in done.stderr) == signed, done.stderr


def test_the_secret_stays_in_the_client(server, run):
    assert run(server.link.text(server.url)).returncode == 0
    assert server.asked
    for path, gate in server.asked:
        assert server.link.secret not in path and server.link.digest not in path
        assert server.link.secret not in gate


@pytest.mark.parametrize("spoilt", ["%23", "%2523"])
def test_links_that_a_filter_rewrote_are_mended(server, run, spoilt):
    done = run(server.link.text(server.url).replace("#", spoilt))
    assert done.stdout == server.link.message
    assert all(server.link.secret not in path for path, _ in server.asked)


def test_link_on_standard_input(server, run):
    assert run("-", input=server.link.text(server.url).encode() + b"\n").stdout == server.link.message


def test_out_writes_a_file_once(server, run, tmp_path):
    out = tmp_path / "deep" / "out"
    done = run(server.link.text(server.url), "--out", out)
    assert done.returncode == 0 and done.stdout.decode().strip() == str(out / "message.eml")
    assert (out / "message.eml").read_bytes() == server.link.message
    refused(run(server.link.text(server.url), "--out", out), "message.eml")
    assert (out / "message.eml").read_bytes() == server.link.message


def test_out_writes_attachments_beside_it(server, run, tmp_path):
    server.link = Link(VECTORS[1])
    out = tmp_path / "out"
    out.mkdir()
    elsewhere = tmp_path / "elsewhere"
    (out / "a.pdf").symlink_to(elsewhere)
    done = run(server.link.text(server.url), "--out", out)
    assert done.stdout.decode().splitlines() == [str(out / "message.eml"), str(out / "2-a.pdf")], done.stderr
    assert (out / "message.eml").read_bytes() == server.link.message
    assert (out / "2-a.pdf").read_bytes() == b"Hello world" and not elsewhere.exists()
    assert all(p.lstat().st_mode & 0o777 == 0o600 for p in out.iterdir() if not p.is_symlink())


def test_out_that_cannot_be_written(server, run, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    refused(run(server.link.text(server.url), "--out", tmp_path / "file"), "file")
    refused(run(server.link.text(server.url), "--out", tmp_path / "file" / "x"), "file")


def test_interrupted_piece_resumes(server, run):
    server.cut = [40, 60]
    assert run(server.link.text(server.url)).stdout == server.link.message


@pytest.mark.parametrize("text", ["https://localhost/m/x", "nonsense", "http://localhost/m/{id}#{s}.{d}",
                                  "https://localhost/m/{id}#{s}", "https://localhost/m/{id}#{s}.{d}x"])
def test_what_is_no_link(server, run, text):
    refused(run(text.format(id=server.link.id, s=server.link.secret, d=server.link.digest)), "link")
    assert server.asked == []


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def box_start(link):
    return len(link.envelope) + 8


LIES = {
    "another box": (lambda k: b32(k.envelope) + b32(k.others[0]), "digest differs"),
    "message id": (lambda k: flip(k.answer, 4 + 8), "digest differs"),
    "ephemeral key": (lambda k: flip(k.answer, 4 + 24), "digest differs"),
    "manifest": (lambda k: flip(k.answer, 4 + len(k.envelope) - 1), "digest differs"),
    "expiry": (lambda k: flip(k.answer, box_start(k) + 1 + 2 + 16 + 4 + 2 + 2 + 7), "digest differs"),
    "piece length": (lambda k: flip(k.answer, 4 + 24 + 32 + 4 + 32 + 4 + 7), "step"),
    "sealed": (lambda k: flip(k.answer, len(k.answer) - 1), "step 3"),
    "magic": (lambda k: flip(k.answer, 4), "step 1"),
    "cut short": (lambda k: k.answer[:-1], "step 1"),
    "more": (lambda k: k.answer + b"x", "step 1"),
    "nothing": (lambda k: b"", "step 1"),
}


@pytest.mark.parametrize("name", LIES)
def test_lie_is_refused(server, run, name):
    change, words = LIES[name]
    server.link.answer = change(server.link)
    refused(run(server.link.text(server.url)), words)


@pytest.mark.parametrize("change", [lambda p: flip(p, 0), lambda p: flip(p, 40), lambda p: flip(p, len(p) - 1),
                                    lambda p: p + b"x", lambda p: p[:-1]])
def test_changed_piece_is_refused(server, run, change):
    server.link.pieces[0] = change(server.link.pieces[0])
    refused(run(server.link.text(server.url)), "step 5")


def test_expired_link_says_so(server, run):
    text = server.link.text(server.url)
    server.link.id = "x"
    refused(run(text), "expired or revoked")


def test_certificate_is_verified(server, run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    refused(run(server.link.text(server.url), "--ca", make_certificate(other)[0]), "certificate")
