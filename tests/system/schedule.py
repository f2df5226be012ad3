"""Which process of the tests runs what (pytest-xdist): the tests of one file and one mode together and in
their order, as they share trees; what takes longest first, so that nothing long is left for the end."""
import re

from xdist.scheduler import LoadScopeScheduling

MODE = re.compile(r"^[^[]*\[(root|user)\b")  # that of a shared tree comes first
# From the longest on.
LONG = [f"test_{name}.py" for name in (
    "client_send", "promises", "tls", "relay_kept", "client", "mail", "link_client", "relay", "dialog", "abuse",
    "relay_hostile", "http", "send", "attack", "sender_check", "senders", "check", "link_web", "keeper", "full")]


def group(nodeid):
    """test_mail.py, root"""
    path, _, name = nodeid.partition("::")
    mode = MODE.search(name)
    return f"{path.rsplit('/')[-1]} {mode[1] if mode else ''}"


def weight(group):
    name = group.split()[0]
    return LONG.index(name) if name in LONG else len(LONG)


class LongestFirst(LoadScopeScheduling):
    def _split_scope(self, nodeid):
        return group(nodeid)

    def _assign_work_unit(self, node):
        self.workqueue.move_to_end(min(self.workqueue, key=weight), last=False)
        super()._assign_work_unit(node)
