"""Plays the dialogues of tests/dialog/ to a real tree: over plain text, TLS and LMTP, and each with its
bytes in one packet, one at a time, and cut at random places. Replies and what is stored must be the same.

A file holds cases, each a connection of its own:
    == title            a case begins; the greeting is read and checked
    @over plain tls     where it is played (all of plain, tls, lmtp, lmtps if not said); @cuts whole likewise
    C: text             the client says this line; \\r \\n \\0 \\xNN are escapes; "C+ text": without CRLF;
                        {hello} is EHLO or LHLO, {alice} and {bob} are users, {x*99} is 99 times x
    S: pattern          one reply line, as a regular expression
    ~                   the client waits for all replies so far before it says more. It always does before a
                        hello was answered, and after HELO: nothing may be sent ahead then.
    HANGUP              the client closes the connection
    HI                  EHLO or LHLO, whatever the answer offers
    TLS                 a handshake
    X                   the server closes the connection (without it, QUIT is said in the end)
    = text              a message that must have been stored, without our trace header. No other may be."""
import pathlib
import random
import re
import socket
import ssl

import pytest

from conftest import MODES
from sealpost import ROOT, Tree, content_of
from test_mail import TEXT, attachment, encoded, multipart

FILES = sorted((ROOT / "tests" / "dialog").glob("*.txt"))
OVER = ["plain", "tls", "lmtp", "lmtps"]
CUTS = ["whole", "byte", "random"]


@pytest.fixture(scope="module")
def world():
    tree = Tree(MODES[0], settings={"smtp": {"max_message": "64K", "max_recipients": 3, "max_errors": 10,
                                             "max_refused_recipients": 5, "max_transactions": 4}}).start()
    tree.ctl("user", "add", "keyless@example.test")
    yield tree, tree.user("alice"), tree.user("bob")
    assert tree.stop() == 0, tree.said()
    tree.remove()


def unescape(text, names):
    text = re.sub(r"\{(.[^{}]*?)\*(\d+)\}", lambda m: m[1] * int(m[2]), text)
    for name, value in names.items():
        text = text.replace("{%s}" % name, value)
    return re.sub(rb"\\(r|n|0|\\|x..)", lambda m: {b"r": b"\r", b"n": b"\n", b"0": b"\0", b"\\": b"\\"}.get(
        m[1]) or bytes([int(m[1][1:], 16)]), text.encode())


def cases_of(path, over, cut, names):
    """(title, [(kind, value)], messages) of those cases that are played this way."""
    cases, top = [], True
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("== "):
            cases.append({"title": f"{path.name}:{number}: {line[3:]}", "steps": [], "stored": [], "play": True})
        elif line.startswith(("@over ", "@cuts ")):
            cases[-1]["play"] &= (over if line[1] == "o" else cut) in line.split()[1:]
        elif line[:3] in ("C: ", "C+ ") or line == "C:":
            cases[-1]["steps"].append(("C", unescape(line[3:], names) + (b"\r\n" if line[1] == ":" else b"")))
        elif line.startswith("S: "):
            cases[-1]["steps"].append(("S", unescape(line[3:].replace("\\", "\\\\"), names).decode()))
        elif line in ("~", "X", "TLS", "HI", "HANGUP"):
            cases[-1]["steps"].append((line, None))
        elif line.startswith("= ") or line == "=":
            cases[-1]["stored"].append(unescape(line[2:], names))
        else:
            assert line == "" or line.startswith("#"), f"{path.name}:{number}: {line}"
    return [c for c in cases if c["play"]]


class Talk:
    """One connection, played step by step."""

    def __init__(self, tree, over, cut, rnd):
        port = tree.lmtp_port if over.startswith("lmtp") else tree.smtp_port
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.cut, self.rnd, self.waiting, self.expected = cut, rnd, b"", []
        self.replies = self.sock.makefile("rb")
        self.hello = b"LHLO" if over.startswith("lmtp") else b"EHLO"
        self.ahead = False  # PIPELINING was offered
        self.context = ssl.create_default_context(cafile=tree.ca)
        self.greeting = self.line()
        if over in ("tls", "lmtps"):
            self.start_tls()

    def start_tls(self):
        for said in (self.hello + b" x\r\n", b"STARTTLS\r\n"):
            self.sock.sendall(said)
            while self.line()[3] == "-":
                pass
        self.handshake()

    def handshake(self):
        self.replies.close()
        self.sock = self.context.wrap_socket(self.sock, server_hostname="127.0.0.1")
        self.replies, self.ahead = self.sock.makefile("rb"), False

    def line(self):
        line = self.replies.readline()
        assert line == b"" or line.endswith(b"\r\n"), line
        return line.decode().rstrip("\r\n")

    def send(self):
        data, at = self.waiting, 0
        self.waiting = b""
        while at < len(data):
            n = {"whole": len(data), "byte": 1, "random": self.rnd.choice([1, 2, 3, 10, 100, 1000])}[self.cut]
            try:
                self.sock.sendall(data[at:at + n])
            except OSError:
                return  # it was closed, which an X says
            at += n

    def settle(self):
        self.send()
        for want in self.expected:
            got = self.line()
            assert re.fullmatch(want, got), f"wanted {want!r}, got {got!r}"
        self.expected = []

    def play(self, steps):
        said, closed = b"", False
        for kind, value in steps:
            if kind == "C":
                if not self.ahead:
                    self.settle()
                self.waiting += value
                said = value[:4].upper()
            elif kind == "S":
                self.expected.append(value)
                if said in (b"EHLO", b"LHLO") and value.startswith("250 "):
                    self.settle()
                    self.ahead = True
            elif kind == "~":
                self.settle()
            elif kind == "HI":
                self.settle()
                self.waiting = self.hello + b" client.test\r\n"
                self.send()
                while self.line().startswith("250-"):
                    pass
                self.ahead = True
            elif kind == "TLS":
                self.settle()
                self.handshake()
            elif kind == "HANGUP":
                self.settle()
                closed = True
            else:
                self.settle()
                assert self.line() == ""
                closed = True
        if not closed:
            self.settle()
            self.waiting, self.expected = b"QUIT\r\n", [r"221 2\.0\.0 .*"]
            self.settle()
            assert self.line() == ""
        self.replies.close()
        self.sock.close()


def new_mail(client):
    """What came for a user since the last look, in no order."""
    folder = client.home / "Maildir"
    client.run("sync", folder)
    files = list(folder.glob("new/*"))
    mail = [content_of(f.read_bytes()) for f in files]
    for f in files:
        f.unlink()
    return mail


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("over", OVER)
@pytest.mark.parametrize("path", FILES, ids=[f.stem for f in FILES])
def test_dialog(world, path, over, cut):
    tree, alice, bob = world
    names = {"alice": alice.address, "bob": bob.address, "hello": "LHLO" if over.startswith("lmtp") else "EHLO"}
    stored = []
    for i, case in enumerate(cases_of(path, over, cut, names)):
        talk = Talk(tree, over, cut, random.Random(i))
        assert re.fullmatch(r"220 mail\.example\.test E?[SL]MTP .*", talk.greeting)
        try:
            talk.play(case["steps"])
        except AssertionError as e:
            raise AssertionError(f"{case['title']} ({over}, {cut}): {e}") from None
        stored += case["stored"]
    assert sorted(new_mail(alice)) == sorted(stored)


@pytest.mark.parametrize("over", OVER)
def test_chunks_of_any_size(world, over):
    """A message with attachments in chunks that are cut anywhere, in packets that are cut elsewhere."""
    tree, alice, _ = world
    rnd = random.Random(3)
    for _ in range(10):
        parts = [rnd.choice([TEXT, attachment(encoded(rnd.choice([0, 100, 5000, 16384]), rnd.random()))])
                 for _ in range(rnd.randint(1, 4))]
        message = multipart(parts, close=rnd.random() < 0.7)[:65536]
        said, at = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<%s>\r\n" % alice.address.encode(), 0
        talk = Talk(tree, over, "random", rnd)
        steps, replies = [("HI", None)], 2
        while at < len(message):
            n = rnd.choice([1, 2, 7, 100, 5000, 20000])
            piece = message[at:at + n]
            said += b"BDAT %d%s\r\n" % (len(piece), b" LAST" if at + n >= len(message) else b"") + piece
            at, replies = at + n, replies + 1
        talk.play([*steps, ("C", said), *[("S", "250 .*")] * replies])
        assert new_mail(alice) == [message]
