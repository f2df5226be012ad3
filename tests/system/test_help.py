"""What --help says, completion offers and the manual pages explain."""
import re
import subprocess

import pytest

from sealpost import BUILD, ROOT

OPTION = r"(?<![\w-])--?[a-zA-Z][a-z-]*"


def help_of(program, *args):
    done = subprocess.run([BUILD / program, *args, "--help"], capture_output=True, timeout=20)
    assert done.returncode == 0
    return done.stdout.decode()


def options(text):
    """Those of the usage line, and those that have a line of their own."""
    found = set(re.findall(OPTION, text.splitlines()[0]))
    for line in text.splitlines()[1:]:
        if head := re.match(rf" +({OPTION}(, )?)+", line):
            found |= set(re.findall(OPTION, head[0]))
    return found


def offered(program, *words):
    """What bash completes the last of these words to."""
    script = f'source {ROOT}/hardening/sealpostctl.completion; COMP_WORDS=("$@"); ' \
        f'COMP_CWORD=$(($# - 1)); _{program}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", script, "bash", program, *words], capture_output=True, check=True)
    assert not done.stderr, done.stderr
    return set(done.stdout.decode().split())


def manual(name):
    """Text without markup."""
    text = (ROOT / "hardening/man" / name).read_text().replace("\\-", "-")
    return re.sub(r"\\f[A-Z]", "", text)


def explained(text, word):
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text)


COMMANDS = re.findall(r"^  ([a-z]+) ", help_of("sealpost"), re.M)


def test_sealpost_commands():
    page = manual("sealpost.1")
    assert len(COMMANDS) > 10
    assert set(COMMANDS) | options(help_of("sealpost")) <= offered("sealpost", "")
    for word in [*COMMANDS, *options(help_of("sealpost"))]:
        assert explained(page, word), word


@pytest.mark.parametrize("command", COMMANDS)
def test_sealpost_options(command):
    there = options(help_of("sealpost", command))
    assert offered("sealpost", command, "-") - {"--help"} == there - {"--help"}
    page = manual("sealpost.1")
    for option in there:
        assert explained(page, option), option


SECOND = {"add", "list", "remove", "retry", "drop", "revoke", "verify", "rotate"}


def ctl_verbs():
    """{("user", "add"): options, ("check",): options, ...}, as --help has them."""
    verbs = {}
    for line in help_of("sealpostctl").splitlines():
        if re.match(r"  [a-z]", line):
            first, *rest = re.split(r" {2,}", line.strip())[0].split()
            verb = (first, rest[0]) if rest and rest[0] in SECOND else (first,)
            verbs.setdefault(verb, set()).update(re.findall(OPTION, line))
    return verbs


def test_sealpostctl():
    page, verbs = manual("sealpostctl.8"), ctl_verbs()
    assert ("user", "add") in verbs and ("check",) in verbs and len(verbs) > 15
    first = {verb[0] for verb in verbs}
    assert first | {"--config", "--json", "--help"} <= offered("sealpostctl", "")
    for verb, has in verbs.items():
        if len(verb) == 2:
            assert verb[1] in offered("sealpostctl", verb[0], ""), verb
        assert has <= offered("sealpostctl", *verb, "-"), verb
        assert all(explained(page, word) for word in [*verb, *has]), verb
    assert verbs["check",] == {"--all"} and verbs["dkim",] == {"--new"} and verbs["audit", "verify"] == {"--key"}
    for option in options(help_of("sealpostctl")):
        assert explained(page, option), option


def test_completion_of_values(tmp_path):
    (tmp_path / "some.file").write_text("")
    assert offered("sealpostctl", "audit", "verify", "--key", str(tmp_path)[:4]) == set()
    assert offered("sealpostctl", "audit", "verify", str(tmp_path / "so")) == {str(tmp_path / "some.file")}
    assert offered("sealpostctl", "--config", str(tmp_path / "so")) == {str(tmp_path / "some.file")}
    assert offered("sealpostctl", "--config", "user", "us") == {"user"}
    assert offered("sealpost", "send", "--expires", "") == set()
    assert offered("sealpost", "--ca", "x", "op") == {"open"}


def test_sealpostd():
    there = options(help_of("sealpostd"))
    assert {"--config", "--check-config", "--user-mode", "--print-sandbox", "--version"} <= there
    page = manual("sealpostd.8")
    for option in there:
        assert explained(page, option), option
