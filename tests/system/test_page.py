"""The link page as the web role serves it: what a rewritten link leaves behind. (tests/browser has the rest.)"""
import ssl
import socket

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
        assert answer.startswith(b"HTTP/1.1 404")  # no such link: the same page for all that is not there
        assert answer.split(b"\r\n\r\n", 1)[1] == page.split(b"\r\n\r\n", 1)[1]
        assert SECRET.encode() not in answer
    for pid in tree.all_pids():
        assert scan.in_memory(pid) == set(), pid
    assert scan.in_files(tree.state, tree.log.parent) == set()
    assert SECRET not in tree.said()


def test_what_is_no_link_has_a_page_for_people_too(tree):
    gone = get(tree, f"/m/{LINK}")
    for path in ("/m/cut", f"/m/{LINK}?utm_source=x", f"/m/{LINK}%23x", f"/m/{LINK}A"):
        answer = get(tree, path)
        assert answer.startswith(b"HTTP/1.1 404") and b"Cache-Control: no-store" in answer
        assert answer.split(b"\r\n\r\n", 1)[1] == gone.split(b"\r\n\r\n", 1)[1]
