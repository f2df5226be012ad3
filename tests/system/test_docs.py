"""What the documents say is there: tests, documents, events and settings are compared with the tree."""
import re

import pytest

from sealpost import ROLES, ROOT

DOCS = sorted((ROOT / "docs").glob("*.md"))
SOURCES = [p for d in ("daemon", "storage", "sandbox") for p in (ROOT / d).rglob("*.c")]


def named_tests():
    """Names of test functions and files."""
    names = set()
    for path in [*(ROOT / "tests/system").glob("*.py"), *(ROOT / "tests/unit").glob("*.c")]:
        names |= {path.name, path.stem}
        names |= set(re.findall(r"^(?:def|static void|void) (test_\w+)\(", path.read_text(), re.M))
    return names


@pytest.mark.parametrize("path", [*DOCS, ROOT / "README.md"], ids=lambda p: p.name)
def test_named_tests_exist(path):
    there = named_tests()
    for name in re.findall(r"\b(test_\w+(?:\*[\w.]*|\.py|\.c)?)", path.read_text()):
        if "*" in name:
            begin, end = name.split("*")
            assert any(t.startswith(begin) and t.endswith(end) for t in there), name
        else:
            assert name in there, name


def test_each_sentence_of_compromise_has_its_test():
    """Each row: what, because of what, and tests; each process of the tree has a section."""
    there = named_tests()
    for path in (ROOT / "tests/unit").glob("*.c"):
        there |= set(re.findall(r"^static void (\w+)\(void \*\*state\)", path.read_text(), re.M))
    sections = (ROOT / "docs/compromise.md").read_text().split("\n## ")[1:]
    assert {s.split()[0] for s in sections} == {*ROLES, "session", "delivery", "supervisor"}
    for section in sections:
        rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
        assert rows, section
        for row in rows:
            tests = re.findall(r"`(\w+)`", row[2])
            assert len(row) == 3 and tests and set(tests) <= there, row


@pytest.mark.parametrize("path", [*DOCS, ROOT / "README.md"], ids=lambda p: p.name)
def test_named_files_exist(path):
    text = path.read_text()
    for link in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", text):
        assert (path.parent / link).exists(), link
    for name in re.findall(r"`((?:daemon|storage|sandbox|envelope|client|tests|fuzz|hardening|bench|page)/[\w./-]+)`",
                           text):
        assert (ROOT / name).exists() or list(ROOT.glob(name + ".*")) or list(ROOT.glob(name + "*")), name


def test_actions_tried_in_cages_are_counted():
    n = len(re.findall(r'^ +\{"[\w-]+",', (ROOT / "sandbox/probe.c").read_text(), re.M))
    for name in ("sandbox.md", "threat-model.md"):
        assert f"{n} actions" in (ROOT / "docs" / name).read_text(), n


def test_each_fuzz_harness_is_explained():
    names = {p.stem.removeprefix("fuzz_") for p in (ROOT / "fuzz").glob("fuzz_*.c")} | {"page.mjs"}
    rows = re.findall(r"^\| ([\w., ]+) \| [^|]+ \|$", (ROOT / "docs/fuzzing.md").read_text(), re.M)
    assert names <= {n for row in rows for n in row.split(", ")}


def test_readme_lists_every_document():
    text = (ROOT / "README.md").read_text()
    assert [p.name for p in DOCS if f"(docs/{p.name})" not in text] == []


def events():
    """{name: (constant, {reporters}, [fields])} of the table that the code is made from."""
    table = (ROOT / "daemon/audit/events.h").read_text().replace("\\\n", "\n")
    found = re.findall(r'E\((AUDIT_\w+),\s*"([^"]+)",(.*?),\s*"([^"]*)"\)', table, re.S)
    assert len(found) == table.count(" E(AUDIT_")
    return {name: (constant, {r.lower() for r in re.findall(r"ROLE_(\w+)", who)},
                   [f.split(":")[0] for f in fields.split()]) for constant, name, who, fields in found}


def rows_of_events(section):
    """The table of one section of docs/audit.md: its cells, row by row."""
    text = (ROOT / "docs/audit.md").read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]


def test_events_are_documented_and_reported():
    documented = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in rows_of_events("Events")}
    assert documented == {name: fields for name, (_, _, fields) in events().items()}
    code = "\n".join(p.read_text() for p in SOURCES)
    for name, (constant, _, _) in events().items():
        its_own = f'\\"event\\":\\"{name}\\"'  # the audit role's
        assert re.search(rf"\b{constant}\b", code) or its_own in code, name


def test_what_events_prove_is_documented():
    """For each one row: its reporters as the code has them, what it proves, what it does not."""
    documented = [(name, set(row[1].split(", "))) for row in rows_of_events("Who says so, and what it proves")
                  for name in re.findall(r"`([a-z.-]+)`", row[0]) if len(row) == 4 and all(row)]
    assert sorted(documented) == sorted((name, who) for name, (_, who, _) in events().items())


def settings():
    """{(section, key): field} of the table that the file is read by."""
    table = (ROOT / "daemon/config_keys.c").read_text()
    found = re.findall(r'\{"(\w+)", "(\w+)", [A-Z]+, AT\((\w+)\)', table)
    assert len(found) == table.count("AT(") - 1
    return {(section, key): field for section, key, field in found}


def test_settings_are_explained_and_used():
    named, section = set(), None
    for line in (ROOT / "hardening/sealpost.conf").read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif setting := re.match(r"#?([a-z_]+) = ", line):
            named.add((section, setting[1]))
    assert named == set(settings())
    code = "\n".join(p.read_text() for p in SOURCES if p.name not in ("config.c", "config_keys.c"))
    for key, field in settings().items():
        assert re.search(rf"(->|\.){field}\b", code), key
