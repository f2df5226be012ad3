"""The world that a tree sends into: a name server, Postfix with and without TLS, hosts that are dead, and
scripted servers that a test adds. `World(settings).tree_settings` makes a tree live in it."""
import base64
import pathlib
import shutil
import subprocess
import tempfile

import nameserver
from place import free_port
from outside import Postfix, Scripted, Submission, make_authority, make_certificate, run, server_context

POSTFIX, PLAIN, DEAD = "127.0.0.2", "127.0.0.3", "127.0.0.9"
SINK = "127.0.0.8"
TRICKS = 240  # addresses 127.0.1.1 ...: trickN.test


def zones(dkim):
    """Domains, and what is special about each."""
    chunks = [dkim[i:i + 200] for i in range(0, len(dkim), 200)]
    ours = "sp1._domainkey IN TXT " + " ".join(f'"{c}"' for c in chunks) + "\n"
    tricks = "".join(f"t{n} IN MX 10 h{n}\nh{n} IN A 127.0.1.{n}\n" for n in range(1, TRICKS + 1))
    return {
        "example.test": ours,
        "outside.test": f"@ IN MX 10 mx\nmx IN A {POSTFIX}\n",
        "plain.test": f"@ IN MX 10 mx\nmx IN A {PLAIN}\n",
        "direct.test": f"@ IN A {POSTFIX}\n",
        "fallback.test": f"@ IN MX 10 dead\n@ IN MX 20 alive\ndead IN A {DEAD}\nalive IN A {POSTFIX}\n",
        "dead.test": f"@ IN MX 10 dead\ndead IN A {DEAD}\n",
        "null.test": "@ IN MX 0 .\n",
        "useless.test": f"@ IN MX 10 127.0.0.2.\n@ IN A {POSTFIX}\n",
        "empty.test": "@ IN TXT nothing\n",
        "sealed.test": f"@ IN MX 10 mx\nmx IN A {POSTFIX}\n",
        "forged.test": f"@ IN MX 10 mx\nmx IN A {POSTFIX}\n",
        "misnamed.test": f"@ IN MX 10 mx\nmx IN A {POSTFIX}\n",  # its certificate has other names
        "sink.test": f"@ IN MX 10 mx\nmx IN A {SINK}\n",
        "trick.test": tricks,
    }


class World:
    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="world-", dir="/var/tmp"))
        self.dir.chmod(0o755)
        self.port = free_port()
        self.ca = make_authority(self.dir)
        self.certificate = make_certificate(self.dir, "mx.outside.test", "mx.sealed.test", "direct.test",
                                            "alive.fallback.test")
        self.trick_certificate = make_certificate(self.dir, "*.trick.test")
        self.dkim_key = self.dir / "dkim.pem"
        run("openssl", "genrsa", "-out", self.dkim_key, "2048")
        public = subprocess.run(["openssl", "rsa", "-in", self.dkim_key, "-pubout", "-outform", "DER"],
                                check=True, capture_output=True).stdout
        self.dkim_record = "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()
        for path in self.dir.iterdir():
            path.chmod(0o644)
        self.names = nameserver.NameServer(
            zones(self.dkim_record), signed=["sealed.test"], broken=["broken.test"],
            bogus={"forged.test": lambda text: text.replace("MX\t10 mx", "MX\t10 evil")}).start()
        self.postfix = Postfix(POSTFIX, self.port, "mx.outside.test", self.certificate).start()
        self.plain = Postfix(PLAIN, self.port, "mx.plain.test").start()
        self.tricks, self.sink = [], None

    @property
    def settings(self):
        """For a tree that is to live in it."""
        return {"relay": {"mode": "mx", "port": self.port, "private_addresses": "yes", "ca": self.ca, "dkim_selector": "sp1",
                          "dkim_key": self.dkim_key},
                "resolver": self.names.settings, "storage": {"map_size": "4G", "slots": "accept-cow"}}

    def dkim_txt(self, name, timeout=5):
        """For dkim.verify(): the record as our zone has it."""
        assert name.rstrip(b".") == b"sp1._domainkey.example.test", name
        return self.dkim_record.encode()

    def trick(self, trick=None, tls=False, **more):
        """A new scripted server, and the domain whose mail it gets."""
        n = len(self.tricks) + 1
        assert n <= TRICKS
        context = server_context(self.trick_certificate) if tls else None
        server = Scripted(f"127.0.1.{n}", self.port, trick, context, **more)
        self.tricks.append(server)
        return server, f"t{n}.trick.test"

    def submission(self, user, password, mechanisms):
        """A smarthost that wants a password, and the name that its certificate has."""
        n = len(self.tricks) + 1
        assert n <= TRICKS
        host = f"h{n}.trick.test"
        server = Submission(f"127.0.1.{n}", self.port, host, self.trick_certificate, user, password, mechanisms)
        self.tricks.append(server)
        return server.start(), host

    def start_sink(self):
        """Postfix's smtp-sink: takes all, keeps nothing."""
        self.sink = subprocess.Popen(["smtp-sink", "-u", "nobody", f"{SINK}:{self.port}", "256"],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL)

    def stop(self):
        for server in self.tricks:
            server.stop()
        if self.sink:
            self.sink.terminate()
            self.sink.wait()
        self.postfix.stop()
        self.plain.stop()
        self.names.stop()
        shutil.rmtree(self.dir, ignore_errors=True)
