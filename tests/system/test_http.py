"""The web role in the real tree: what is served, what is refused, and what hostile clients get."""
import hashlib
import os
import select
import socket
import ssl
import threading
import time
import urllib.parse

import pytest

from device import Device, b64u, connect, request

EVERY_ANSWER = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def ask(tree, method, path, body=None, headers=None):
    return request(tree.url, tree.ca, method, path, body, headers)


def place(tree):
    parts = urllib.parse.urlsplit(tree.url)
    return parts.hostname, parts.port


def tls_context(tree):
    context = ssl.create_default_context(cafile=tree.ca)
    context.check_hostname = False
    return context


def raw(tree, data, timeout=30, read=True):
    """Sends bytes inside TLS, returns what comes back until the other side closes."""
    with socket.create_connection(place(tree), timeout=timeout) as plain:
        with tls_context(tree).wrap_socket(plain) as s:
            got = b""
            try:
                s.sendall(data)
                while read:
                    block = s.recv(65536)
                    if not block:
                        break
                    got += block
            except (ConnectionError, ssl.SSLError, TimeoutError):
                pass
            return got


def status_of(answer):
    return int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/1.") else None


def alive(tree):
    return ask(tree, "GET", "/healthz").status == 200


@pytest.fixture(scope="module")
def counter():
    return iter(range(1, 1 << 30))


@pytest.fixture
def user(tree, counter):
    """A fresh user, enrolled and logged in."""
    info = ask(tree, "GET", "/v1/info").json
    address = f"http{os.getpid()}-{next(counter)}@{info['domains'][0]}"
    code = tree.ctl("user", "add", address).strip()
    return Device(tree.url, tree.ca, address).enroll(code).login()


# --- what is there ---

def test_healthz(tree):
    answer = ask(tree, "GET", "/healthz")
    assert answer.status == 200 and answer.body == b"ok"
    for name, value in EVERY_ANSWER.items():
        assert answer.headers[name] == value
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "max-age=" in answer.headers["strict-transport-security"]
    assert answer.headers["server"] is None


def test_info(tree):
    info = ask(tree, "GET", "/v1/info").json
    assert set(info) == {"version", "url", "hostname", "domains", "max_expiry"}
    assert info["url"].startswith("https://") and not info["url"].endswith("/")
    assert isinstance(info["domains"], list) and info["domains"]


def test_head(tree):
    answer = ask(tree, "HEAD", "/healthz")
    assert answer.status == 200 and answer.body == b"" and answer.headers["content-length"] == "2"


@pytest.mark.parametrize("path", ["/", "/index.html", "/v1", "/v1/", "/v1/info/", "/healthz/", "//healthz",
                                  "/v1/../healthz", "/%68ealthz", "/v1/message/xyz", "/.git/config"])
def test_not_found(tree, path):
    answer = ask(tree, "GET", path)
    assert answer.status == 404 and answer.json == {"error": "not found"}
    assert answer.headers["content-type"] == "application/json"
    for name, value in EVERY_ANSWER.items():
        assert answer.headers[name] == value


@pytest.mark.parametrize("method,path,allow", [
    ("POST", "/healthz", "GET, HEAD"), ("GET", "/v1/enroll", "POST"), ("PUT", "/v1/session", "POST, DELETE"),
    ("PATCH", "/v1/message/" + "0" * 32, "GET, HEAD, DELETE"), ("BREW", "/v1/info", "GET, HEAD")])
def test_method_not_allowed(tree, method, path, allow):
    answer = ask(tree, method, path)
    assert answer.status == 405 and answer.headers["allow"] == allow


def test_query_is_strict(tree, user):
    for query in ["?after=x", "?after=-1", "?after=1&after=2", "?limit=0", "?other=1", "?"]:
        assert user.call("GET", "/v1/mailbox" + query).status == 400
    assert ask(tree, "GET", "/healthz?x=1").status == 400


# --- who may ask ---

PROTECTED = [("GET", "/v1/mailbox"), ("GET", "/v1/message/" + "0" * 32), ("DELETE", "/v1/message/" + "0" * 32),
             ("GET", "/v1/message/" + "0" * 32 + "/piece/0"), ("GET", "/v1/sigchain/a%40example.org"),
             ("POST", "/v1/sigchain"), ("DELETE", "/v1/session")]


@pytest.mark.parametrize("method,path", PROTECTED)
def test_unauthenticated(tree, method, path):
    for header in [None, "Bearer x", "Sealpost-Session", "Sealpost-Session " + b64u(bytes(31)),
                   "Sealpost-Session " + b64u(bytes(32)) + "="]:
        answer = ask(tree, method, path, headers={"Authorization": header} if header else {})
        assert answer.status == 401 and answer.headers["www-authenticate"] == "Sealpost-Session"


@pytest.mark.parametrize("method,path", [p for p in PROTECTED if p[1] not in ("/v1/sigchain", "/v1/session")])
def test_unknown_token(tree, method, path):
    answer = ask(tree, method, path, headers={"Authorization": "Sealpost-Session " + b64u(os.urandom(32))})
    assert answer.status == 401


def test_login_and_out(tree, user):
    assert user.mailbox() == {"messages": [], "more": False}
    user.logout()
    assert user.call("GET", "/v1/mailbox").status == 401


def test_replayed_challenge(tree, user):
    body = user.login_body(user.challenge())
    assert user.call("POST", "/v1/session", body).status == 200
    assert user.call("POST", "/v1/session", body).status == 403


def test_login_is_checked(tree, user):
    challenge = user.challenge()
    assert user.call("POST", "/v1/session", user.login_body(os.urandom(32))).status == 403
    assert user.call("POST", "/v1/session", user.login_body(challenge, "https://other.example")).status == 403
    body = bytearray(user.login_body(user.challenge()))
    body[-1] ^= 1
    assert user.call("POST", "/v1/session", bytes(body)).status == 403
    assert user.call("POST", "/v1/session", bytes(body[:-1])).status == 400
    assert user.call("POST", "/v1/session", bytes(body) + b"x").status == 413


def test_enrolment(tree, counter):
    domain = ask(tree, "GET", "/v1/info").json["domains"][0]
    address = f"enrol{os.getpid()}-{next(counter)}@{domain}"
    code = tree.ctl("user", "add", address).strip()
    device = Device(tree.url, tree.ca, address)
    assert device.try_enroll("AAAA-AAAA-AAAA-AAAA-AAAA-AAAA").status == 403
    stranger = Device(tree.url, tree.ca, "nobody-at-all@" + domain)
    assert stranger.try_enroll(code).status == 403  # nobody learns which addresses there are
    bad = bytearray(device.root())
    bad[-1] ^= 1
    assert device.try_enroll(code, bytes(bad)).status == 422
    assert device.try_enroll(code, Device(tree.url, tree.ca, "other@" + domain).root()).status == 422
    device.enroll(code).login()
    assert device.try_enroll(code).status == 409
    assert device.call("POST", "/v1/enroll", b"\0\1").status == 400


def test_sigchain(tree, user):
    user_id, wires = user.sigchain()
    assert user_id == user.user_id and len(wires) == 1
    assert hashlib.sha256(wires[0]).digest() == user.head
    stale, _ = user.rotation()
    user.rotate()
    assert user.call("POST", "/v1/sigchain", stale).status in (409, 422)
    forged = bytearray(user.rotation()[0])
    forged[-1] ^= 1
    assert user.call("POST", "/v1/sigchain", bytes(forged)).status == 422
    assert len(user.sigchain()[1]) == 2 and len(user.sigchain(after=1)[1]) == 1
    assert user.sigchain(after=2)[1] == []
    path = "/v1/sigchain/" + urllib.parse.quote("nobody@example.net", safe="")
    assert user.call("GET", path).status == 404
    assert user.call("GET", "/v1/sigchain/" + "x" * 255).status == 404
    assert user.call("GET", "/v1/sigchain/" + "x" * 256).status == 404
    assert user.mailbox()["messages"] == []  # the tree is still the one that knows this session


def test_no_such_message(tree, user):
    for path in ["/v1/message/" + "0" * 32, "/v1/message/" + "0" * 32 + "/piece/0",
                 "/v1/message/" + "0" * 32 + "/piece/65535"]:
        assert user.call("GET", path).status == 404
    assert user.delete("0" * 32).status == 404


# --- hostile clients ---

def test_oversize_headers(tree):
    assert status_of(raw(tree, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20000 + b"\r\n\r\n")) in (400, 413, None)
    assert status_of(raw(tree, b"GET /" + b"y" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")) in (400, 413, 414, None)
    assert status_of(raw(tree, b"GET /" + b"y" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")) == 414
    many = b"".join(b"X-%d: 1\r\n" % i for i in range(5000))
    assert status_of(raw(tree, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + many + b"\r\n")) in (400, 413, None)
    assert alive(tree)


def test_oversize_body(tree):
    assert ask(tree, "POST", "/v1/challenge", b"x").status == 413
    assert ask(tree, "POST", "/v1/enroll", bytes(5000)).status == 413
    head = b"POST /v1/enroll HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n"
    assert status_of(raw(tree, head)) == 413
    chunks = b"POST /v1/enroll HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + bytes(4096) + b"\r\n"
    assert status_of(raw(tree, chunks + (b"1000\r\n" + bytes(4096) + b"\r\n") * 8)) in (413, None)
    assert alive(tree)


def test_ambiguous_framing(tree):
    for extra in [b"Content-Length: 0\r\nContent-Length: 1\r\n", b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
                  b"Host: y\r\n", b"Content-Length: -1\r\n", b"Content-Length: 1x\r\n"]:
        answer = raw(tree, b"POST /v1/challenge HTTP/1.1\r\nHost: x\r\n" + extra + b"\r\n0\r\n\r\n")
        assert status_of(answer) in (400, 413)
        assert answer.count(b"HTTP/1.") == 1  # what followed was not run as a request


def test_other_forms(tree):
    for line in [b"GET http://other/healthz HTTP/1.1", b"OPTIONS * HTTP/1.1", b"CONNECT other:25 HTTP/1.1",
                 b"GET /healthz#x HTTP/1.1", b"GET healthz HTTP/1.1", b"GET /healthz HTTP/2.0", b"\x00\x01\x02"]:
        answer = raw(tree, line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert status_of(answer) in (400, 404, 405, None)


def test_garbage_tls(tree):
    for i in range(60):
        with socket.create_connection(place(tree), timeout=60) as s:
            s.sendall([os.urandom(512), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b""][i % 4])
    assert alive(tree)


def test_tls_versions(tree):
    for version, works in [(ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True),
                           (ssl.TLSVersion.TLSv1_1, False)]:
        context = tls_context(tree)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version
        context.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection(place(tree), timeout=60) as plain:
            try:
                with context.wrap_socket(plain) as s:
                    assert works and s.selected_alpn_protocol() == "http/1.1"
                    assert "GCM" in s.cipher()[0] or "CHACHA20" in s.cipher()[0]
                    assert version != ssl.TLSVersion.TLSv1_2 or s.cipher()[0].startswith("ECDHE-")
            except (ssl.SSLError, ConnectionError):
                assert not works


def test_keep_alive_and_pipeline(tree):
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /v1/info HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = raw(tree, one * 20 + last)
    assert answer.count(b"HTTP/1.1 200 ") == 21
    connection = connect(tree.url, tree.ca)
    for _ in range(5):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok"
    connection.close()


def test_slow_client_dropped(tree):
    """Whoever drips its request away, byte by byte, is cut off by the deadline of the whole request."""
    started = time.monotonic()
    with socket.create_connection(place(tree), timeout=60) as plain:
        with tls_context(tree).wrap_socket(plain) as s:
            s.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
            dropped = False
            while not dropped and time.monotonic() - started < 200:
                try:
                    s.sendall(b"y")
                    if select.select([s], [], [], 1)[0]:
                        dropped = s.recv(1) == b""
                except (ConnectionError, ssl.SSLError):
                    dropped = True
            assert dropped
    assert alive(tree)


def test_many_connections(tree):
    """Hundreds of idle connections, and the next client is served."""
    idle = [socket.create_connection(place(tree), timeout=60) for _ in range(400)]
    try:
        assert alive(tree)
        failures = []

        def client():
            for _ in range(5):
                if not alive(tree):
                    failures.append(1)
        threads = [threading.Thread(target=client) for _ in range(16)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not failures
    finally:
        for s in idle:
            s.close()


def test_too_many_connections(tree):
    """More than it takes: the rest waits, and is served once the idle ones are dropped."""
    idle = []
    try:
        for _ in range(1050):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(place(tree))
            idle.append(s)
        assert ask(tree, "GET", "/healthz").status == 200
    finally:
        for s in idle:
            s.close()
    assert alive(tree)


def test_vanishing_clients(tree, user):
    """Clients that are gone while the store works for them."""
    token = b"Authorization: Sealpost-Session " + b64u(user.token).encode() + b"\r\n"
    for i in range(100):
        path = [b"/v1/mailbox", b"/v1/message/" + b"0" * 32, b"/v1/info"][i % 3]
        raw(tree, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + token + b"\r\n", read=False)
    assert user.mailbox()["messages"] == []
