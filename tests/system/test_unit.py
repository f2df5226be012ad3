"""The systemd unit: it means what it says, it is no weaker than docs/hardening.md says, which explains what remains."""

import json
import re
import subprocess

from sealpost import ROOT

UNIT = ROOT / "hardening" / "sealpost.service"
MOST = 32  # tenths


def analyze(*args):
    return subprocess.run(["systemd-analyze", *args, UNIT], capture_output=True, text=True)


def test_no_weaker_than_it_was():
    done = analyze("security", "--offline=true", "--no-pager", f"--threshold={MOST}")
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.search(r"says \*\*(\d\.\d)", (ROOT / "docs" / "hardening.md").read_text())[1]
    assert f"sealpost.service: {said} " in done.stdout, f"docs/hardening.md says {said}"


def test_what_remains_is_explained():
    text = (ROOT / "docs" / "hardening.md").read_text().replace("\\|", "|")
    rows = json.loads(analyze("security", "--offline=true", "--no-pager", "--json=short").stdout)
    marked = [row["name"] for row in rows if row["exposure"] and float(row["exposure"]) > 0]
    assert marked and [name for name in marked if f"`{name}`" not in text] == []


def test_it_is_understood():
    done = analyze("verify", "--man=no")
    # It is not installed here: that alone may be complained of.
    said = [line for line in done.stderr.splitlines() if "sealpost" in line and "is not executable" not in line]
    assert not said, done.stderr
