"""Looks for a message's fragments in the memory of a tree and in its files."""
import contextlib
import os
import re
import socket
import struct

MARKER = re.compile(rb"MaRk-[0-9a-f]{24}")
EVERY = 512


def marked_message(size, seed):
    """A message with a marker of its own every 512 bytes."""
    head = b"Subject: marked\r\n\r\n"
    lines = []
    for i in range(size // EVERY):
        mark = b"MaRk-%08x%016x" % (seed, i)
        lines.append(mark + b"." * (EVERY - len(mark) - 2) + b"\r\n")
    return head + b"".join(lines)


def needles_in_memory(pid, needles):
    """Names of those needles ({name: bytes}) that root can read in a process's memory."""
    there = in_memory(pid, re.compile(b"|".join(re.escape(n) for n in needles.values()), re.S))
    return {name for name, needle in needles.items() if needle in there}


def needles_in_files(needles, *places):
    there = in_files(*places, pattern=re.compile(b"|".join(re.escape(n) for n in needles.values()), re.S))
    return {name for name, needle in needles.items() if needle in there}


def in_memory(pid, pattern=MARKER):
    """The distinct markers that root can read in a process's memory; one that has ended has none."""
    found = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/maps") as maps, \
            open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            fields = line.split()
            if "r" not in fields[1] or fields[-1] in ("[vvar]", "[vsyscall]", "[vvar_vclock]"):
                continue
            at, end = (int(x, 16) for x in fields[0].split("-"))
            while at < end:
                try:
                    mem.seek(at)
                    chunk = mem.read(min(1 << 20, end - at))
                except (OSError, ValueError):
                    break  # secret memory: EIO
                found.update(pattern.findall(chunk))
                at += max(len(chunk) - 64, 1) if len(chunk) == 1 << 20 else len(chunk) or end
    return found


def in_files(*places, pattern=MARKER):
    found = set()
    for place in places:
        for folder, _, names in os.walk(place):
            for name in names:
                if not os.path.isfile(os.path.join(folder, name)):
                    continue
                with open(os.path.join(folder, name), "rb") as f:
                    found.update(pattern.findall(f.read()))
    return found


def ask(path, frame_type, body):
    """One frame to the control socket, as its owner, one back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(20)
        me, owner = os.geteuid(), os.stat(path).st_uid
        os.seteuid(owner)
        try:
            s.connect(str(path))
        finally:
            os.seteuid(me)
        s.send(struct.pack(">HHI", frame_type, 0, 0) + body)
        return s.recv(1 << 18)


def table(frame):
    """The rows of a CC_TABLE."""
    at = 8 + 1

    def text():
        nonlocal at
        n = struct.unpack_from(">H", frame, at)[0]
        at += 2 + n
        return frame[at - n:at].decode()

    text()
    columns, rows = struct.unpack_from(">HI", frame, at)
    at += 6
    return [[text() for _ in range(columns)] for _ in range(rows)][1:]


CC_SCAN, CC_PROBE = 0x0703, 0x0704


def in_locked_memory(control, prefix=b"MaRk-"):
    """Markers in the memory that not even root can read: each role of the test build looks itself."""
    rows = table(ask(control, CC_SCAN, struct.pack(">H", len(prefix)) + prefix))
    return sum(int(value) for _, name, value in rows if name == "result")
