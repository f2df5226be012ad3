"""The web role as any host of the Internet may treat it: framing that two readers take for two things, targets in
disguise, ranges, methods, clients that dawdle. Each is answered rightly, or ended, and the tree goes on."""
import socket
import ssl
import threading
import time

import pytest

from device import b64u
from test_http import alive, ask, place, raw, status_of, tls_context

SMUGGLED = b"GET /v1/info HTTP/1.1\r\nHost: x\r\n\r\n"


def post(*fields, body=b"", version=b"HTTP/1.1", host=b"Host: x\r\n"):
    return b"POST /v1/challenge " + version + b"\r\n" + host + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + body


CHUNKS = b"0\r\n\r\n" + SMUGGLED
# Each with its status; whatever it is, what stands behind must not be run as a request of its own.
FRAMINGS = {
    "CL and TE": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=CHUNKS), 400),
    "TE and CL": (post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=CHUNKS), 400),
    "two lengths": (post(b"Content-Length: 0", b"Content-Length: 35", body=SMUGGLED), 400),
    "two lengths that agree": (post(b"Content-Length: 0", b"Content-Length: 0", body=SMUGGLED), 400),
    "a list of lengths": (post(b"Content-Length: 0, 35", body=SMUGGLED), 400),
    "a length with a sign": (post(b"Content-Length: +0", body=SMUGGLED), 400),
    "a length in hex": (post(b"Content-Length: 0x0", body=SMUGGLED), 400),
    "an empty length": (post(b"Content-Length: ", body=SMUGGLED), 400),
    "a length that overflows": (post(b"Content-Length: 18446744073709551616", body=SMUGGLED), None),
    "a space before the colon": (post(b"Content-Length : 35", body=SMUGGLED), 400),
    "a tab before the colon": (post(b"Transfer-Encoding\t: chunked", body=CHUNKS), 400),
    "a folded coding": (post(b"Transfer-Encoding:", b" chunked", body=CHUNKS), 411),
    "chunked": (post(b"Transfer-Encoding: chunked", body=CHUNKS), 411),
    "a chunk size with a sign": (post(b"Transfer-Encoding: chunked", body=b"+0\r\n\r\n" + SMUGGLED), 411),
    "a chunk size in disguise": (post(b"Transfer-Encoding: chunked", body=b"0x0\r\n\r\n" + SMUGGLED), 411),
    "a chunk without an end": (post(b"Transfer-Encoding: chunked", body=b"0\r\nX: y" + SMUGGLED), 411),
    "xchunked": (post(b"Transfer-Encoding: xchunked", body=CHUNKS), 411),
    "identity": (post(b"Transfer-Encoding: identity", body=SMUGGLED), 411),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked", body=CHUNKS), 411),
    "chunked, identity": (post(b"Transfer-Encoding: chunked, identity", body=CHUNKS), None),
    "two codings": (post(b"Transfer-Encoding: x", b"Transfer-Encoding: chunked", body=CHUNKS), 400),
    "a vertical tab": (post(b"Transfer-Encoding: \x0bchunked", body=CHUNKS), 411),
    "chunked in HTTP/1.0": (post(b"Transfer-Encoding: chunked", body=CHUNKS, version=b"HTTP/1.0"), 411),
    "no name": (post(b": x", b"Content-Length: 0", body=SMUGGLED), 400),
    "no colon": (post(b"Content-Length 0", body=SMUGGLED), None),
    "a bare CR": (post(b"X: a\rContent-Length: 35", body=SMUGGLED), None),
    "a NUL": (post(b"X\0: a", b"Content-Length: 35", body=SMUGGLED), None),
    "no host": (post(host=b"", body=SMUGGLED), 400),
    "two hosts": (post(b"Host: y", body=SMUGGLED), 400),
    "a host with a path": (post(host=b"Host: x/y\r\n", body=SMUGGLED), 400),
    "a host with a name": (post(host=b"Host: a@b\r\n", body=SMUGGLED), 400),
    "an empty host": (post(host=b"Host:\r\n", body=SMUGGLED), 400),
}


@pytest.mark.parametrize("name", FRAMINGS)
def test_framing(tree, name):
    request, status = FRAMINGS[name]
    answer = raw(tree, request, timeout=30)
    assert b'"domains"' not in answer, "what was smuggled was answered"
    assert answer.count(b"HTTP/1.") <= 1
    if status is None:  # libevent's parser ends it
        assert status_of(answer) in (400, 411, 413, None)
    else:
        assert status_of(answer) == status and b"Connection: close\r\n" in answer


LINK = b"/m/F6yeHQOA3mkJBaXRk3ft-g"


@pytest.mark.parametrize("target,status", [
    (b"//m/x", 404), (b"/m//x", 404), (b"/m/../v1/info", 404), (b"/m/%2e%2e/v1/info", 404), (b"/%76%31/info", 404),
    (b"/v1/info/.", 404), (b"/v1/./info", 404), (b"/v1%2finfo", 404), (b"/v1/info%00", 404), (b"/v1/info%20", 404),
    (b"/v1\\info", 404), (b"/V1/info", 404), (b"/v1/info;x", 404), (b"/v1/info?", 400), (b"/healthz%3f", 404),
    (b"http://127.0.0.1/v1/info", 400), (b"https://x@127.0.0.1/v1/info", 400), (b"//127.0.0.1/v1/info", 404),
    (b"v1/info", 400), (b"*", 400), (b"127.0.0.1:443", 400), (b"/v1/info#x", 400), (b"/v1/in\xc3\xa4fo", 400),
    (b"/v1/info\x00", None), (b"/v1/info\x7f", 400), (b"/page/x/../../etc/passwd", 404), (b"/page/x/%2e%2e", 404),
    (b"/page/" + b"a" * 20 + b"/sealed.js", 404), (b"/m/%00", 404), (LINK + b"/envelope%23x", 404),
    (LINK + b"/../" + LINK[3:], 404), (LINK + b"%23", 404), (LINK + b"%23%00%0d%0aX:y", 404), (LINK + b"%2523/../..", 404),
    (b"/m/" + b"%23" * 600, 404), (b"/" + b"a" * 2047, 404), (b"/" + b"a" * 2048, 414)])
def test_targets_are_taken_as_they_stand(tree, target, status):
    answer = raw(tree, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b'"domains"' not in answer and b"X:y" not in answer and answer.count(b"HTTP/1.") <= 1
    assert status_of(answer) in ((400, 404, None) if status is None else (status,))


@pytest.mark.parametrize("method,status,allow", [
    (b"OPTIONS", 405, b"GET, HEAD"), (b"TRACE", 405, b"GET, HEAD"), (b"PUT", 405, b"GET, HEAD"), (b"DELETE", 405, b"GET, HEAD"),
    (b"PROPFIND", 405, b"GET, HEAD"), (b"get", None, None), (b"PRI", None, None), (b"A" * 3000, None, None)])
def test_methods(tree, method, status, allow):
    request = method + b" /v1/info HTTP/1.1\r\nHost: x\r\nX-Secret: mirror\r\nConnection: close\r\n\r\n"
    answer = raw(tree, request)
    assert b"mirror" not in answer and b'"domains"' not in answer
    if status is None:  # what RFC 9110 does not know may be 400, 405, 501
        assert status_of(answer) in (400, 405, 414, 501, None)
    else:
        assert status_of(answer) == status and b"Allow: " + allow + b"\r\n" in answer


def test_versions(tree):
    old = raw(tree, b"GET /healthz HTTP/1.0\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n")
    assert status_of(old) == 200 and old.count(b"HTTP/1.") == 1 and b"chunked" not in old, "one, and the connection ends"
    for line in (b"GET /healthz", b"GET /healthz HTTP/0.9", b"GET /healthz HTTP/3.0", b"GET /healthz HTTP/1.1x",
                 b"GET /healthz http/1.1", b"GET  /healthz HTTP/1.1", b"GET\t/healthz\tHTTP/1.1", b"PRI * HTTP/2.0"):
        answer = raw(tree, line + b"\r\nHost: x\r\nConnection: close\r\n\r\n", timeout=30)
        assert answer.count(b"HTTP/1.") <= 1 and b"Server:" not in answer


def test_head_is_get_without_a_body(tree):
    for path in (b"/healthz", b"/v1/info", LINK, LINK + b"/envelope", LINK + b"/piece/0"):
        heads = [raw(tree, method + b" " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").partition(b"\r\n\r\n")
                 for method in (b"GET", b"HEAD")]
        names = [sorted(line for line in head.split(b"\r\n") if not line.startswith(b"Date:")) for head, _, _ in heads]
        assert names[0] == names[1] and heads[1][2] == b""


def test_expect(tree):
    head = b"POST /v1/challenge HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    with socket.create_connection(place(tree), timeout=30) as plain:
        with tls_context(tree).wrap_socket(plain) as s:
            s.sendall(head + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            assert s.recv(65536).startswith(b"HTTP/1.1 100 ")
            s.sendall(b"abc")
            assert s.recv(65536).startswith(b"HTTP/1.1 413 ")
    too_much = raw(tree, head + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
    assert status_of(too_much) in (413, 417) and b"100 Continue" not in too_much
    other = raw(tree, head + b"Expect: miracles\r\nContent-Length: 0\r\n\r\n")
    assert status_of(other) in (200, 417) and other.count(b"HTTP/1.") == 1


def test_many_ranges(tree):
    """Of what is not there, and of what is never in parts: none costs more than its answer."""
    token = b"Authorization: Sealpost-Gate " + b64u(bytes(32)).encode() + b"\r\n"
    many = b"bytes=" + b",".join(b"%d-%d" % (i, i) for i in range(900))
    for ranges in (many, b"bytes=0-0," * 500 + b"1-1", b"bytes=0-99999999999999999999999", b"bytes=-0", b"bytes=" + b"9" * 4000):
        for path in (LINK + b"/piece/0", b"/healthz", LINK):
            answer = raw(tree, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: " + ranges + b"\r\n" + token + b"\r\n")
            assert status_of(answer) == (200 if path == b"/healthz" else 404) and len(answer) < 8192


class Slow(threading.Thread):
    """A client that sends `first` at once, then `rest` a byte at a time; `ended`: the server hung up on it."""

    def __init__(self, tree, first, rest, tls=True):
        super().__init__(daemon=True)
        self.tree, self.first, self.rest, self.tls, self.ended = tree, first, rest, tls, False

    def run(self):
        s = socket.create_connection(place(self.tree), timeout=70)
        try:
            if self.tls:
                s = tls_context(self.tree).wrap_socket(s)
            s.sendall(self.first)
            s.settimeout(0.5)
            for i in range(140):
                if self.rest:
                    s.sendall(self.rest[i % len(self.rest):][:1])
                try:
                    if s.recv(65536) == b"":
                        self.ended = True
                        return
                except TimeoutError:
                    pass
        except (ConnectionError, ssl.SSLError):
            self.ended = True
        finally:
            s.close()


def test_whoever_dawdles_is_ended(tree):
    """In the handshake, in a header, in a body, between requests, and with an answer that is not taken: each ends
    by a deadline of the whole, while others are served."""
    slow = [Slow(tree, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0", tls=False), Slow(tree, b"", b"", tls=False),
            Slow(tree, b"GET /healthz HTTP/1.1\r\nX: ", b"y"), Slow(tree, b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"X:y\r\n"),
            Slow(tree, b"POST /v1/enroll HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n", b"z"), Slow(tree, b"", b""),
            Slow(tree, b"POST /v1/enroll HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nz\r\n"),
            Slow(tree, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"")]
    for one in slow:
        one.start()
    for _ in range(5):
        assert alive(tree)
        time.sleep(0.2)
    for i, one in enumerate(slow):
        one.join(90)
        assert one.ended, i
    assert alive(tree)


def test_requests_without_end_whose_answers_nobody_reads(tree):
    """Pipelined for ever: it is not read from while an answer waits, so that the sender stands still."""
    with socket.create_connection(place(tree), timeout=5) as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with tls_context(tree).wrap_socket(plain) as s:
            page = b"GET " + LINK + b" HTTP/1.1\r\nHost: x\r\n\r\n"
            sent = 0
            s.settimeout(3)
            try:
                while sent < 64 << 20:
                    sent += s.send(page * 200)
            except (TimeoutError, ssl.SSLError, ConnectionError):
                pass
            assert sent < 64 << 20, "it took them all"
            assert alive(tree)
    assert ask(tree, "GET", "/v1/info").status == 200
