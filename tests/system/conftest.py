import os

import pytest

from sealpost import Tree

MODES = ["root", "user"] if os.geteuid() == 0 else ["user"]


@pytest.fixture(scope="session", params=MODES)
def tree(request):
    """A tree that the tests of one mode share; each makes users of its own."""
    t = Tree(request.param).start()
    yield t
    assert t.stop() == 0, t.said()
    t.remove()


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture
def fresh(request, mode):
    """Makes trees that one test has for itself."""
    made = []

    def make(**options):
        made.append(Tree(mode, **options))
        return made[-1]

    yield make
    for t in made:
        t.remove()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from schedule import LongestFirst
    return LongestFirst(config, log)


def pytest_sessionfinish(session):
    """Where nothing may be skipped (SEALPOST_NO_SKIP), a test that was is an error."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")  # none in a process that runs some
    if os.environ.get("SEALPOST_NO_SKIP") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.write_line(f"NOT RUN: {len(skipped)} tests; run as root to run all", red=True)
        if os.environ.get("SEALPOST_NO_SKIP"):
            terminalreporter.write_line("skipped, and nothing may be: " + " ".join(r.nodeid for r in skipped), red=True)


@pytest.fixture(scope="session")
def world():
    """Postfix, a name server, hosts of all kinds: what trees of the tests send into. Root's alone."""
    from world import World
    w = World()
    yield w
    w.stop()


@pytest.fixture(scope="session", params=MODES)
def sending(request, world):
    """A tree that sends into the world, shared as `tree` is."""
    from relayed import make_tree
    t = make_tree(request.param, world).start()
    yield t
    assert t.stop() == 0, t.said()
    t.remove()
