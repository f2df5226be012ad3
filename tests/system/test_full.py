"""A full map: refused for now, nothing lost, and room again after deleting."""
import smtplib

import pytest

from sealpost import content_of
from test_mail import TEXT, attachment, encoded, multipart


def test_full_map(fresh):
    t = fresh(settings={"storage": {"map_size": "160M"}}).start()
    alice = t.user("alice")
    message = multipart([TEXT, attachment(encoded(2_000_000))])
    sent = 0
    with pytest.raises((smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError)) as refused:
        while sent < 200:
            t.deliver(message, [alice.address])
            sent += 1
    error = refused.value
    code = error.smtp_code if isinstance(error, smtplib.SMTPDataError) else \
        next(iter(error.recipients.values()))[0]
    assert code == 452, error
    assert sent > 5
    rows = alice.list()
    assert len(rows) == sent  # what was acknowledged is there, and nothing else
    assert content_of(alice.read(rows[-1]["id"])) == message
    for row in rows[:sent // 2]:
        alice.run("delete", row["id"])
    for _ in range(3):
        t.deliver(message, [alice.address])
    assert len(alice.list()) == sent - sent // 2 + 3
    assert content_of(alice.read(alice.newest()["id"])) == message
