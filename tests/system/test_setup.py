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
    assert first.returncode == 0 and b"self-signed: get one" in first.stderr
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


def test_what_it_cannot_make_is_a_failure(tree):
    tree.extra["tls"] = {"certificate": tree.dir / "no" / "cert.pem", "key": tree.dir / "no" / "key.pem"}
    tree.write_config()
    done = tree.ctl("setup", check=False)
    assert done.returncode == 1 and b"failed   a certificate cannot be made" in done.stderr, done.stderr
    assert (tree.dir / "dkim.pem").exists()  # it goes on


def test_credentials_are_not_taken_for_missing(tree, monkeypatch):
    """Outside of the service there are none: what can be done is done, and nothing is made in their place."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    tree.ctl("setup")
    place = "/run/credentials/sealpost.service"
    tree.extra["tls"]["key"] = "credential:sealpost-test.key"
    tree.write_config()
    with open(tree.config, "a") as f:
        f.write("[relay]\ndkim_selector = sp0\ndkim_key = credential:sealpost-test-dkim.pem\n")
    told = "only the service manager gives those"
    done = tree.ctl("setup", check=False)
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert f"unseen   the certificate's key: {place}/sealpost-test.key ($CREDENTIALS" in said and told in said
    assert "is missing" not in said and "cannot be made" not in said and "made " not in said
    assert f"{place}/sealpost-test-dkim.pem: No such file or directory ($CREDENTIALS" in said
    assert "a DKIM key is a credential" in said
    records = tree.ctl("dkim", check=False)
    assert records.returncode == 1 and told in records.stderr.decode()
    for out in (done.stdout, records.stdout):
        assert b"sp1._domainkey" in out and b"sp0._domainkey" not in out
    tree.extra["tls"]["certificate"] = "credential:sealpost-test.pem"
    tree.write_config()
    done = tree.ctl("setup", check=False)
    assert done.returncode == 0 and f"unseen   the certificate: {place}/sealpost-test.pem" in done.stderr.decode()


def test_what_is_left_of_the_example_is_said(tree):
    """The configuration as the package brings it: its names are nobody's."""
    text = tree.config.read_text()
    tree.config.write_text(text.replace("example.test", "example.org"))
    said = tree.ctl("setup", check=False).stderr
    assert b"hostname is an example's: mail.example.org" in said
    assert b"domain is an example's: example.org" in said
    tree.config.write_text(text.replace("example.test", "notexample.org"))
    assert b"example's" not in tree.ctl("setup", check=False).stderr
