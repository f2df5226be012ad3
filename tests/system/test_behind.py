"""Behind Postfix, as docs/operations.md says: the lines there are the ones that run here."""
import contextlib
import os
import re
import smtplib

import pytest

from outside import Postfix, wait_for
from place import free_port
from sealpost import ROOT, content_of, crlf

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix needs root")
FRONT = "127.0.0.4"
SERVICES = "lmtp unix - - n - - lmtp\nverify unix - - n - 1 verify\n"


def documented(tree):
    text = (ROOT / "docs/operations.md").read_text()
    lines = re.search(r"^## Behind another mail server\n.*?```\n(.*?)```", text, re.M | re.S)[1]
    assert "example.org" in lines and "127.0.0.1:24" in lines
    return lines.replace("example.org", "example.test").replace("127.0.0.1:24", f"127.0.0.1:{tree.lmtp_port}")


def test_behind_postfix(fresh):
    tree = fresh().start()
    alice = tree.user("alice")
    front = Postfix(FRONT, free_port(), "front.example.test",
                    more=documented(tree) + "mynetworks = 127.0.0.99/32\n")  # the test is a stranger
    with open(front.config / "master.cf", "a") as master:
        master.write(SERVICES)
    front.start()
    try:
        message = crlf("From: bob@outside.test\nTo: alice@example.test\nSubject: through the front\n\nhello\n")

        def send():
            with contextlib.closing(smtplib.SMTP(FRONT, front.port, timeout=60)) as s:
                return s.sendmail("bob@outside.test", [alice.address], message)

        assert send() == {}
        wait_for(lambda: alice.list())
        assert content_of(alice.read(1)).endswith(message)
        with contextlib.closing(smtplib.SMTP(FRONT, front.port, timeout=60)) as s:
            s.ehlo()
            s.mail("bob@outside.test")  # asked for behind the front: no report to somebody who never wrote
            code = wait_for(lambda: (c := s.rcpt("nobody@example.test")[0]) != 450 and c)
            assert code == 550, front.log()
    finally:
        front.stop()
