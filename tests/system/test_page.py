"""The link page as the web role serves it: what a rewritten link leaves behind. (tests/browser has the rest.)"""
import ssl
import socket
import urllib.request

import scan

LINK = "F6yeHQOA3mkJBaXRk3ft-g"
SECRET = "MaRk-0123456789abcdef01234567"


def get(tree, path, keep=False):
    context = ssl.create_default_context(cafile=tree.ca)
    raw = socket.create_connection(("127.0.0.1", tree.web_port))
    with context.wrap_socket(raw, server_hostname="127.0.0.1") as s:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: {'keep-alive' if keep else 'close'}\r\n\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer or not answer.endswith(b"</html>\n"):
            answer += s.recv(65536)
    return answer


def test_P6_a_password_that_a_filter_put_into_the_path_is_forgotten(fresh, mode):
    tree = fresh().start()
    page = get(tree, f"/m/{LINK}")
    for mark in ("%23", "%2523"):
        answer = get(tree, f"/m/{LINK}{mark}{SECRET}.{SECRET}")
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.split(b"\r\n\r\n", 1)[1] == page.split(b"\r\n\r\n", 1)[1]
        assert SECRET.encode() not in answer
    for pid in tree.all_pids():
        assert scan.in_memory(pid) == set(), pid
    assert scan.in_files(tree.state, tree.log.parent) == set()
    assert SECRET not in tree.said()


def test_the_page_is_there_and_what_is_no_link_is_a_page_too(tree):
    context = ssl.create_default_context(cafile=tree.ca)
    with urllib.request.urlopen(f"{tree.url}/m/{LINK}", context=context) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        assert b'type="module"' in answer.read()
    assert get(tree, "/m/cut").startswith(b"HTTP/1.1 404")
