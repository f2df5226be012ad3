"""Keys that the service manager keeps: `credential:NAME` instead of a path."""
import os
import shutil
import signal

import pytest

from sealpost import Tree
from test_attack import served_certificate, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="user mode makes its own certificate")


@pytest.fixture
def kept(monkeypatch):
    """A tree whose key is a credential, in the folder that systemd would have made; its path."""
    tree = Tree("root", settings={"tls": {"key": "credential:tls.key"}})
    place = tree.dir / "credentials"
    place.mkdir(0o500)
    shutil.move(tree.dir / "key.pem", place / "tls.key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(place))
    yield tree, place / "tls.key"
    tree.remove()


def test_it_is_used(kept):
    tree, key = kept
    tree.start()
    before = served_certificate(tree)
    tree.make_certificate()
    shutil.move(tree.dir / "key.pem", key)
    os.kill(tree.process.pid, signal.SIGHUP)
    wait_for(lambda: "certificates reloaded" in tree.said())
    assert served_certificate(tree) != before


def test_what_to_do_when_it_is_not_there(kept, monkeypatch):
    tree, key = kept
    key.unlink()
    for words in ("add LoadCredential=NAME:PATH", "$CREDENTIALS_DIRECTORY is not set"):
        tree.start(wait=False)
        assert tree.process.wait(60) == 1
        assert words in tree.said(), tree.said()
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
