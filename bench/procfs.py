"""What a tree of processes uses, from /proc: processor time, resident memory, shares of memory."""
import os

TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid):
    """(parent, processor seconds of the process and of the children it has reaped), or None. What is
    in stat are ticks of 10 ms, too coarse for dozens of processes; schedstat has nanoseconds."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            field = file.read().rpartition(")")[2].split()
        own = 0
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
                own += int(file.read().split()[0])
    except OSError:
        return None
    return int(field[1]), own / 1e9 + (int(field[13]) + int(field[14])) / TICKS


def tree(master):
    """{pid: processor seconds} of master and all that descend from it."""
    known = {int(name): _stat(name) for name in os.listdir("/proc") if name.isdigit()}
    found, fresh = {}, {master}
    while fresh:
        found.update({pid: known[pid][1] for pid in fresh if known.get(pid)})
        fresh = {pid for pid, stat in known.items()
                 if stat and stat[0] in fresh and pid not in found}
    return found


def cpu_seconds(master):
    """{kind of process: seconds} of the whole tree. What has ended is counted with the parent that
    reaped it, so that the difference of two readings misses nothing, whatever was forked between."""
    kinds = {}
    for pid, seconds in tree(master).items():
        kinds[kind(pid)] = kinds.get(kind(pid), 0) + seconds
    return kinds


def _fields(path):
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            rows = [line.split() for line in file]
    except OSError:
        return {}
    return {row[0].rstrip(":"): int(row[1]) for row in rows
            if len(row) == 3 and row[2] == "kB" and row[1].isdigit()}


def name(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def kind(pid):
    """The role, where the command line names one ("--role ROLE"); else the program's name."""
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            words = file.read().split("\0")
    except OSError:
        return ""
    return words[words.index("--role") + 1] if "--role" in words else name(pid)


def peak_rss_kb(pid):
    """Highest resident set since the process began, or since reset_peak()."""
    return _fields(f"/proc/{pid}/status").get("VmHWM", 0)


def reset_peak(pid):
    try:
        with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass  # without root the peak of a long-lived process counts from its start


def pss_kb(pids):
    """Sum of the proportional set sizes: shared pages are counted once in all."""
    return sum(_fields(f"/proc/{pid}/smaps_rollup").get("Pss", 0) for pid in pids)
