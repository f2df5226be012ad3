"""One role of the tree alone, in its real cage, with the test at the other end of its edges. The
descriptors are those of daemon/role.h, the frames those of daemon/messages.h."""
import os
import shutil
import socket
import struct
import subprocess
import tempfile

import place
from doorman import Doorman
from sealpost import BUILD, NOBODY, ROLES

FD_CONTROL, FD_AUDIT, FD_ROOT, FD_EXTRA = 3, 4, 15, 16
CT_CONFIG, CT_STATUS, CT_STOP = 0x0100, 0x0104, 0x0105
CT_READY, CT_STATUS_REPLY = 0x0180, 0x0181


def edge(role):
    return 5 + ROLES.index(role)


def pair():
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(sock, kind, body=b"", frame=0, fd=None):
    data = struct.pack(">HHI", kind, 0, frame) + body
    socket.send_fds(sock, [data], [] if fd is None else [fd])


def receive(sock, seconds=120):
    """type, id, body of the next frame; None at the end."""
    sock.settimeout(seconds)
    data = sock.recv(1 << 18)
    if not data:
        return None
    kind, _, frame = struct.unpack(">HHI", data[:8])
    return kind, frame, data[8:]


def ended(sock):
    """The other side has closed: no more frames, now or ever."""
    try:
        return receive(sock) is None
    except ConnectionResetError:
        return True


class LoneRole:
    """edges: the roles that the test stands for. files: what the supervisor would have opened, from
    FD_EXTRA on (None: it could not), writable ones as (path, flags). Root starts it under its uid; others
    cannot start it alone."""

    def __init__(self, name, config, edges, files=(), wrapper=()):
        self.root = tempfile.mkdtemp(prefix="role-", dir="/var/tmp")
        os.chmod(self.root, 0o555)
        self.control, theirs = pair()
        self.audit, audit = pair()
        self.edges, fds = {}, {FD_CONTROL: theirs.fileno(), FD_AUDIT: audit.fileno()}
        keep = [theirs, audit]
        for role in edges:
            self.edges[role], end = pair()
            keep.append(end)
            fds[edge(role)] = end.fileno()
        self.door = Doorman(name)
        fds |= {to: end.fileno() for to, end in self.door.theirs.items()}
        opened = [os.open(self.root, os.O_RDONLY)]
        fds[FD_ROOT] = opened[0]
        for i, path in enumerate(files):
            if path is not None:
                path, flags = path if isinstance(path, tuple) else (path, os.O_RDONLY)
                opened.append(os.open(path, flags, 0o600))
                fds[FD_EXTRA + i] = opened[-1]

        def lay_out():
            high = {to: os.dup2(fd, 100 + to) for to, fd in fds.items()}
            for to, fd in high.items():
                os.dup2(fd, to)
                os.close(fd)
            for fd in set(range(3, 100)) - set(fds):
                try:
                    os.close(fd)
                except OSError:
                    pass

        self.stderr = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [*wrapper, shutil.which("unshare"), "--pid", "--fork", "--kill-child", BUILD / "test/sealpostd", "--role", name,
             "--uid", str(place.first_uid() + place.LONE)], close_fds=False, preexec_fn=lay_out, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=self.stderr, env={})
        for s in keep:
            s.close()
        self.door.started()
        for fd in opened:
            os.close(fd)
        send(self.control, CT_CONFIG, config.encode())
        try:
            first = receive(self.control)
        except ConnectionResetError:
            first = None
        assert first is not None and first[0] == CT_READY, self.said()

    def tell(self, kind, path):
        """A frame of the supervisor's, with this file."""
        fd = os.open(path, os.O_RDONLY)
        send(self.control, kind, fd=fd)
        os.close(fd)

    def said(self):
        return os.pread(self.stderr.fileno(), 1 << 16, 0).decode()

    def status(self):
        send(self.control, CT_STATUS)
        kind, _, body = receive(self.control)
        assert kind == CT_STATUS_REPLY
        words = []
        while body:
            n = struct.unpack(">H", body[:2])[0]
            words.append(body[2:2 + n].decode())
            body = body[2 + n:]
        return dict(zip(words[::2], words[1::2]))

    def stop(self):
        if self.process.poll() is None:
            send(self.control, CT_STOP)
        status = self.process.wait(60)
        os.rmdir(self.root)
        return status
