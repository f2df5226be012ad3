"""What one process of the tests has to itself, as several run at a time (pytest-xdist): TCP and UDP ports,
and uids for the roles. All below the range that the kernel takes ports of outgoing connections from, so
that a port stays free until its server is there, and while that is started again."""
import os
import random
import socket

PORTS_EACH, UIDS_EACH = 1100, 40


def worker():
    """0, 1, ...: which of the processes this is."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 20


def first_uid():
    """The roles' uids count from here; LONE is that of a role which a test starts alone."""
    return 59300 + UIDS_EACH * worker()


LONE = 30
given = set()


def is_free(port):
    """For TCP and UDP alike."""
    with socket.socket() as t, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
        t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            t.bind(("", port))
            u.bind(("", port))
        except OSError:
            return False
        return True


def free_port():
    """One that was not given before. Tests of another checkout may run, too: they begin elsewhere."""
    first = 10000 + PORTS_EACH * worker()
    while True:
        if len(given) == PORTS_EACH // 2:
            given.clear()
        port = first + random.randrange(PORTS_EACH)
        if port not in given and is_free(port):
            given.add(port)
            return port


def free_ports(n):
    return [free_port() for _ in range(n)]
