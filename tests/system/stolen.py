"""A role that has been taken over: root takes the role's own descriptors out of the running tree, stops the
role, and speaks in its place."""
import ctypes
import os
import signal

from lonerole import edge, receive, send

PIDFD_OPEN, PIDFD_GETFD = 434, 438
libc = ctypes.CDLL(None, use_errno=True)


def syscall(number, *args):
    result = libc.syscall(number, *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Stolen:
    """The role's edge to another, while it is stopped."""

    def __init__(self, tree, role, other):
        import socket
        self.pid = tree.pids()[role]
        os.kill(self.pid, signal.SIGSTOP)
        handle = syscall(PIDFD_OPEN, self.pid, 0)
        try:
            self.sock = socket.socket(fileno=syscall(PIDFD_GETFD, handle, edge(other), 0))
        finally:
            os.close(handle)
        self.frame = 0x7fff0000

    def ask(self, kind, body, seconds=120):
        """The reply's body."""
        self.frame += 1
        self.sock.setblocking(True)
        send(self.sock, kind, body, self.frame)
        while True:
            got = receive(self.sock, seconds)
            assert got is not None, "the other side has closed"
            if got[1] == self.frame and got[0] == kind | 0x80:
                return got[2]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()
        os.kill(self.pid, signal.SIGCONT)
