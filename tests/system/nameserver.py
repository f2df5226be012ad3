"""A real DNS server for the tests: nsd on the loopback, with zones of the test's making, some signed
(ldns), one of them broken afterwards. Everything below `test.`, whose key is the trust anchor.

Run as a program it serves the zones of the resolver's own test, prints "PORT ANCHOR-FILE" and ends
when its input does."""
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from place import free_port

SOA = "@ 60 IN SOA ns.test. admin.test. 1 3600 600 86400 60\n@ 60 IN NS ns.test.\n"


class NameServer:
    """zones: {"outside.test": "records in zone file form"}. signed: names of those to be signed and
    delegated securely from test.; bogus: those whose records, changed(text) -> text, are falsified once
    signed; broken: zones that the server knows and cannot load (it answers SERVFAIL)."""

    def __init__(self, zones, signed=(), bogus=None, broken=()):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="nameserver-", dir="/var/tmp"))
        self.port = free_port()
        self.anchor = self.dir / "anchor.key"
        self.process = None
        self.keys = {}
        bogus = bogus or {}
        parent = SOA + "ns 60 IN A 127.0.0.1\n"
        for name, records in zones.items():
            parent += f"{name}. 60 IN NS ns.test.\n"
            if name in signed or name in bogus:
                self.write(name, records, sign=True)
                parent += self.keys[name].with_suffix(".ds").read_text()
            else:
                self.write(name, records)
        parent += "".join(f"{name}. 60 IN NS ns.test.\n" for name in broken)
        self.write("test", parent, sign=True, soa=False)
        for name, change in bogus.items():
            path = self.zone_file(name)
            before = path.read_text()
            path.write_text(change(before))
            assert path.read_text() != before
        shutil.copy(self.keys["test"].with_suffix(".key"), self.anchor)
        self.anchor.chmod(0o644)
        self.dir.chmod(0o755)
        self.configure([*zones, "test"], broken)

    def zone_file(self, name):
        return self.dir / f"{name}.zone"

    def write(self, name, records, sign=False, soa=True):
        path = self.zone_file(name)
        path.write_text(f"$ORIGIN {name}.\n$TTL 60\n" + (SOA if soa else "") + records)
        if sign:
            key = subprocess.run(["ldns-keygen", "-a", "ECDSAP256SHA256", "-k", name], cwd=self.dir,
                                 check=True, capture_output=True, text=True).stdout.strip()
            self.keys[name] = self.dir / f"{key}.key"
            subprocess.run(["ldns-signzone", "-f", path, path, key], cwd=self.dir, check=True,
                           capture_output=True)

    def configure(self, names, broken):
        text = (f'server:\n ip-address: 127.0.0.1@{self.port}\n ip-address: ::1@{self.port}\n zonesdir: "{self.dir}"\n username: ""\n'
                f' database: ""\n pidfile: "{self.dir}/pid"\n xfrdfile: "{self.dir}/xfrd"\n'
                f' zonelistfile: "{self.dir}/list"\n logfile: "{self.dir}/log"\n server-count: 1\n'
                ' hide-version: yes\nremote-control:\n control-enable: no\n')
        for name in names:
            text += f'zone:\n name: "{name}"\n zonefile: "{self.zone_file(name)}"\n'
        for name in broken:
            text += f'zone:\n name: "{name}"\n zonefile: "{self.dir}/there-is-none"\n'
        (self.dir / "nsd.conf").write_text(text)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def settings(self):
        """For a tree that is to use it."""
        return {"server": self.address, "trust_anchor": str(self.anchor)}

    def start(self):
        self.process = subprocess.Popen(["/usr/sbin/nsd", "-d", "-c", self.dir / "nsd.conf"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"nsd does not start: {(self.dir / 'log').read_text()}")
        return self

    def answers(self):
        """Asks for the SOA of test."""
        question = bytes.fromhex("0001000000010000000000000474657374000006" "0001")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.1)
            try:
                s.connect(("127.0.0.1", self.port))
                s.send(question)
                return len(s.recv(4096)) > len(question)
            except OSError:
                time.sleep(0.02)
                return False

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
        self.process = None
        shutil.rmtree(self.dir, ignore_errors=True)


def resolver_zones():
    """What tests/unit/test_resolver.c asks about."""
    many_mx = "".join(f"many {60} IN MX {100 - i} mx{i}.outside.test.\n" for i in range(60))
    many_a = "".join(f"crowd IN A 127.0.1.{i}\ncrowd IN AAAA fd00::{i:x}\n" for i in range(1, 25))
    outside = f"""
@ IN MX 20 second
@ IN MX 10 First
@ IN MX 10 not*a+name
first IN A 127.0.0.2
second IN A 127.0.0.3
second IN AAAA ::1
six IN AAAA fd00::25
null IN MX 0 .
plain IN A 127.0.0.4
alias IN CNAME plain
mxalias IN CNAME @
useless IN MX 10 1.2.3.4.
useless IN A 127.0.0.5
zero IN A 0.0.0.0
zero IN A 224.0.0.1
zero IN AAAA ::ffff:127.0.0.1
{many_mx}{many_a}"""
    sealed = "@ IN MX 10 mx\nmx IN A 127.0.0.6\nmx IN AAAA fd00::6\nnothing IN TXT x\n"
    return {"outside.test": outside, "signed.test": sealed, "bogus.test": sealed}


def main():
    server = NameServer(resolver_zones(), signed=["signed.test"], broken=["broken.test"],
                        bogus={"bogus.test": lambda text: re.sub(r"\bMX\t10 mx", "MX\t10 evil", text)})
    try:
        server.start()
        print(server.port, server.anchor, flush=True)
        sys.stdin.read()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
