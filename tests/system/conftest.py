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
