"""The door's part towards one role that a test starts alone: its channels, kept full of sockets."""
import selectors
import socket
import threading

AT = 18  # DOOR_AT of daemon/door/door.h
V4, V6 = socket.AF_INET, socket.AF_INET6
KINDS = {"relay": [(V4, socket.SOCK_STREAM), (V6, socket.SOCK_STREAM)],
         "resolver": [(V4, socket.SOCK_DGRAM), (V6, socket.SOCK_DGRAM), (V4, socket.SOCK_STREAM), (V6, socket.SOCK_STREAM)]}


class Doorman:
    def __init__(self, role):
        self.ends, self.theirs, self.handed = {}, {}, 0
        self.selector = selectors.DefaultSelector()
        for i, kind in enumerate(KINDS.get(role, [])):
            ours, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 6144)
            ours.setblocking(False)
            self.selector.register(ours, selectors.EVENT_WRITE, kind)
            self.theirs[AT + i] = end
        if self.theirs:
            threading.Thread(target=self.run, daemon=True).start()

    def started(self):
        for end in self.theirs.values():
            end.close()

    def run(self):
        while self.selector.get_map():
            for key, _ in self.selector.select():
                with socket.socket(*key.data) as made:
                    made.setblocking(False)
                    try:
                        socket.send_fds(key.fileobj, [b"\0"], [made.fileno()])
                        self.handed += 1
                    except BlockingIOError:
                        pass
                    except OSError:  # the role has ended
                        self.selector.unregister(key.fileobj)
                        key.fileobj.close()
