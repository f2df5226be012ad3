"""When the relay may start: what must be verified needs somebody to believe."""
import pytest

from sealpost import Tree

NOWHERE = "/nonexistent/ca.crt"


def start(run_as, ca=None, **relay):
    """What a tree said that could not start; None if it did. ca: what its file holds."""
    tree = Tree(run_as, settings={"relay": {"ca": NOWHERE, **relay}})
    if ca is not None:
        path = tree.dir / "ca.crt"
        path.write_text(ca)
        path.chmod(0o644)
        tree.extra["relay"]["ca"] = path
        tree.write_config()
    try:
        tree.start()
        return None
    except AssertionError as refused:
        return str(refused)
    finally:
        tree.stop()
        tree.remove()


@pytest.mark.parametrize("mode", ["root", "user"])
def test_without_certificates(mode, tmp_path):
    password = tmp_path / "smarthost.auth"
    password.write_text("user:password\n")
    password.chmod(0o600)
    assert start(mode) is None
    assert start(mode, mode="off", tls="require") is None
    said = start(mode, tls="require")
    assert NOWHERE in said and "[relay] tls = require cannot be met without it" in said
    said = start(mode, mode="smarthost", smarthost="192.0.2.1:587", smarthost_auth=password)
    assert NOWHERE in said and "[relay] smarthost_auth cannot be used without it" in said


@pytest.mark.parametrize("mode", ["root", "user"])
def test_certificates_that_are_none(mode):
    said = start(mode, "not a certificate\n")
    assert "the certificates of [relay] ca cannot be used" in said
