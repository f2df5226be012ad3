"""`sealpostctl setup` makes what is missing, overwrites nothing, and what it prints is true."""

import base64
import hashlib
import os
import re
import subprocess

from sealpost import Tree
import pytest


@pytest.fixture
def tree():
    t = Tree("root" if os.geteuid() == 0 else "user",
             settings={"tls": {}, "relay": {"dkim_selector": "sp1"}})
    t.extra["tls"] = {"certificate": t.dir / "new-cert.pem", "key": t.dir / "new-key.pem"}
    t.extra["relay"]["dkim_key"] = t.dir / "dkim.pem"
    t.write_config()
    yield t
    t.remove()


def test_setup(tree):
    first = tree.ctl("setup", check=False)
    assert first.returncode == 1 and b"self-signed: get one" in first.stderr
    for name, mode in (("new-cert.pem", 0o644), ("new-key.pem", 0o600), ("dkim.pem", 0o600)):
        assert (tree.dir / name).stat().st_mode & 0o777 == mode
    made = {p.name: p.read_bytes() for p in tree.dir.glob("*.pem")}
    said = first.stdout.decode()
    key = subprocess.run(["openssl", "x509", "-in", tree.dir / "new-cert.pem", "-noout", "-pubkey"],
                         capture_output=True, check=True).stdout
    der = base64.b64decode(b"".join(key.splitlines()[1:-1]))
    assert f"_25._tcp.mail.example.test.  TLSA  3 1 1 {hashlib.sha256(der).hexdigest()}" in said
    assert "example.test.  MX  10 mail.example.test." in said
    public = subprocess.run(["openssl", "pkey", "-in", tree.dir / "dkim.pem", "-pubout"],
                            capture_output=True, check=True).stdout
    record = "".join(re.findall(r'"([^"]*)"', said[said.index("sp1._domainkey"):]))
    assert "p=" + b"".join(public.splitlines()[1:-1]).decode() in record
    again = tree.ctl("setup", check=False)
    assert b"made" not in again.stderr and again.stdout == first.stdout
    # Of a certificate that nobody can verify no sender may be told to insist on it.
    assert "mode: testing" in said and "mode: enforce\n" not in said
    assert made == {p.name: p.read_bytes() for p in tree.dir.glob("*.pem")}
    tree.start()  # with what was made
    assert b"to do    start it" not in tree.ctl("setup", check=False).stderr


def test_what_is_left_of_the_example_is_said(tree):
    """The configuration as the package brings it: its names are nobody's."""
    text = tree.config.read_text()
    tree.config.write_text(text.replace("example.test", "example.org"))
    said = tree.ctl("setup", check=False).stderr
    assert b"hostname is an example's: mail.example.org" in said
    assert b"domain is an example's: example.org" in said
    tree.config.write_text(text.replace("example.test", "notexample.org"))
    assert b"example's" not in tree.ctl("setup", check=False).stderr
