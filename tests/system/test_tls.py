"""TLS as a scanner sees it (testssl.sh), and certificates that change while sessions last."""
import contextlib
import datetime
import json
import os
import signal
import smtplib
import ssl
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from sealpost import BUILD, crlf
from test_attack import served_certificate, wait_for
from test_promises import root_only

ORDINARY = crlf("Subject: x\n\ntext\n")
# The test's certificate, which nobody vouches for; and the scanner's own OpenSSL.
NOT_OURS = ("cert", "DNS_CAArecord", "OCSP", "engine_problem")


@pytest.mark.parametrize("mode", ["root"] if os.geteuid() == 0 else ["user"])
def test_scanner_finds_nothing(fresh):
    """SMTP and HTTPS, at the same time since it takes its time; LMTP has the code of SMTP."""
    t = fresh().start()
    scans = {out: subprocess.Popen(
        ["testssl", "--quiet", "--color", "0", "--ip", "one", "--warnings", "off", "--nodns", "min",
         "--openssl-timeout", "10", "-p", "-s", "-f", "-P", "-U", "-S", "--jsonfile", t.dir / out, *how],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for out, how in [("smtp.json", ["-t", "smtp", f"127.0.0.1:{t.smtp_port}"]),
                         ("https.json", [f"127.0.0.1:{t.web_port}"])]}
    for out, scan in scans.items():
        scan.wait(1800)
        found = json.loads((t.dir / out).read_text())
        assert len(found) > 60, found
        said = {f["id"]: f["finding"] for f in found}
        for protocol in ("SSLv2", "SSLv3", "TLS1", "TLS1_1"):
            assert said[protocol].startswith("not offered"), protocol
        for protocol in ("TLS1_2", "TLS1_3"):
            assert said[protocol].startswith("offered"), protocol
        assert [f for f in found if f["severity"] not in ("OK", "INFO", "LOW")
                and not f["id"].startswith(NOT_OURS)] == []


def renewed(tree, old):
    try:
        return served_certificate(tree) != old
    except (smtplib.SMTPResponseException, ssl.SSLError):
        return False  # asked at the very moment when the keeper has the new key and smtp the old certificate


@root_only
@pytest.mark.parametrize("mode", ["root"])  # user mode makes its own certificate
def test_a_new_certificate_ends_no_session(fresh):
    t = fresh().start()
    alice, old = t.user("alice"), served_certificate(t)
    before = [t.smtp(tls=True), t.smtp(lmtp=True, tls=True), t.smtp()]  # the last one has no TLS yet
    for s in before[:2]:
        s.ehlo()
        s.mail("a@b.test")
        s.rcpt(alice.address)
    t.make_certificate()
    os.kill(t.process.pid, signal.SIGHUP)
    wait_for(lambda: renewed(t, old))
    for s in before[:2]:
        assert s.data(ORDINARY)[0] == 250
    # Its process has a certificate that nobody has the key of any more: not now, and no broken handshake.
    before[2].ehlo()
    assert before[2].docmd("STARTTLS") == (454, b"4.7.0 TLS is not available; try again later")
    assert before[2].sendmail("a@b.test", [alice.address], ORDINARY) == {}
    for s in before:
        with contextlib.suppress(smtplib.SMTPException):
            s.quit()
    assert t.deliver(ORDINARY, [alice.address], tls=True) == {}
    assert len(alice.list()) == 4
    assert t.events("session.crashed") == []


def make_bad_certificate(tree, days, name):
    """For the key that is there, beginning and ending so many days from now."""
    key = serialization.load_pem_private_key((tree.dir / "key.pem").read_bytes(), None)
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    first, last = [datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=d, hours=1) for d in days]
    cert = x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number(), first, last)
    (tree.dir / "cert.pem").write_bytes(cert.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


@root_only
@pytest.mark.parametrize("mode", ["root"])  # user mode makes its own certificate
@pytest.mark.parametrize("days, name, words", [
    ((-30, -4), "mail.example.test", ["expired 3 days ago"]),
    ((3, 30), "mail.example.test", ["is not good yet, for another 3 days"]),
    ((-30, 30), "other.test", ["is not for mail.example.test"]),
    ((-30, -4), "other.test", ["expired 3 days ago", "is not for mail.example.test"]),
    ((-30, 30), "mail.example.test", [])])
def test_a_certificate_that_others_refuse_is_used_with_a_warning(fresh, days, name, words):
    t = fresh().start()
    assert "warning" not in t.said()
    old = served_certificate(t)
    make_bad_certificate(t, days, name)
    checked = subprocess.run([BUILD / "sealpostd", "--config", t.config, "--check-config"], capture_output=True, text=True)
    os.kill(t.process.pid, signal.SIGHUP)
    wait_for(lambda: renewed(t, old))
    setup = t.ctl("setup", check=False).stderr.decode()
    assert checked.returncode == 0 and "no errors" in checked.stdout
    for said in (checked.stderr, t.said()):
        assert said.count(f"sealpostd: warning: {t.dir}/cert.pem: ") == len(words), said
        assert all(f"sealpostd: warning: {t.dir}/cert.pem: {w}" in said for w in words), said
    assert all(f"to do    the certificate {w}" in setup for w in words), setup
    assert t.stop() == 0
    t.start()
    assert t.said().count("sealpostd: warning: ") == len(words)
