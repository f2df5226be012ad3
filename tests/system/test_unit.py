"""The systemd units: they mean what they say, they are no weaker than docs/hardening.md says, which explains what remains."""

import json
import re
import subprocess

import pytest

from sealpost import ROOT

UNITS = {"sealpost": ("says", 19), "sealpost-door": ("sealpost-door.service`", 15)}  # words before the score; tenths at most
TEXT = (ROOT / "docs" / "hardening.md").read_text()


def analyze(unit, *args):
    return subprocess.run(["systemd-analyze", *args, ROOT / "hardening" / f"{unit}.service"], capture_output=True, text=True)


@pytest.mark.parametrize("unit", UNITS)
def test_no_weaker_than_it_was(unit):
    words, most = UNITS[unit]
    done = analyze(unit, "security", "--offline=true", "--no-pager", f"--threshold={most}")
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.search(rf"{words} \*\*(\d\.\d)", TEXT)[1]
    assert f"{unit}.service: {said} " in done.stdout, f"docs/hardening.md says {said}"


@pytest.mark.parametrize("unit", UNITS)
def test_what_remains_is_explained(unit):
    """In the table of this unit, with what it costs; and nothing that does not remain."""
    of = re.split(r"\nOf (sealpost[\w-]*)\.service:\n", TEXT)
    table = of[of.index(unit) + 1].strip().split("\n\n")[0].replace("\\|", "|")
    rows = json.loads(analyze(unit, "security", "--offline=true", "--no-pager", "--json=short").stdout)
    marked = {row["name"] for row in rows if row["exposure"] and float(row["exposure"]) > 0}
    explained = {name for row in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])}
    assert marked and marked == explained


@pytest.mark.parametrize("unit", UNITS)
def test_it_is_understood(unit):
    done = analyze(unit, "verify", "--man=no")
    # It is not installed here: that alone may be complained of.
    said = [line for line in done.stderr.splitlines() if "sealpost" in line and "is not executable" not in line]
    assert not said, done.stderr
