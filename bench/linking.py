"""Link mails: their envelope and piece, fetched over HTTPS from Sealpost, and the same bytes as static files from
nginx, set up to do well: as many workers as processors, sendfile, connections that may be kept for ever. Both
have the same certificate, protocols and ciphers, and neither resumes sessions; both log each request."""
import base64
import hashlib
import hmac
import json
import os
import shutil
import ssl
import urllib.request

from relaying import OUTSIDE, letter
from servers import BUILD, Sealpost, Server, Unavailable, run

PIECE = 100_000


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class LinkingSealpost(Sealpost):
    """With one link mail of one piece: paths and header say how it is fetched."""
    limits = "max_connections_per_client = 1000"

    def __init__(self, directory, sink, slots):
        super().__init__(directory, 1, slots)
        self.relay = f"mode = smarthost\nsmarthost = 127.0.0.1:{sink.port}"
        self.paths, self.header = [], ""

    def start(self):
        super().start()
        said = self.client(0, "send", "-i", "--link", "--print-links", OUTSIDE, input=letter(PIECE).decode())
        link = said.split()[-1]
        path, _, fragment = link.removeprefix(f"https://localhost:{self.web}").partition("#")
        gate = hmac.digest(unb64(fragment.partition(".")[0]), b"sealpost/1 gate", hashlib.sha256)
        self.header = "Authorization: Sealpost-Gate " + base64.urlsafe_b64encode(gate).decode().rstrip("=")
        self.paths = [f"{path}/envelope", f"{path}/piece/0"]
        self.port = self.web


NGINX_CONF = """\
# Written by bench/run.
user nobody nogroup;
worker_processes auto;
daemon off;
pid {dir}/pid;
error_log {dir}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log {dir}/access.log;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000000;
  default_type application/octet-stream;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  open_file_cache max=100;
  server {{
    listen 127.0.0.1:{port} ssl backlog=1024;
    root {dir}/files;
    ssl_certificate {tls}/cert.pem;
    ssl_certificate_key {tls}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256;
    ssl_prefer_server_ciphers on;
    ssl_ecdh_curve X25519:prime256v1;
    ssl_session_cache off;
    ssl_session_tickets off;
  }}
}}
"""


class Nginx(Server):
    name = "nginx"

    def __init__(self, directory, sealpost):
        super().__init__(directory, 0)
        self.sealpost, self.paths, self.header = sealpost, sealpost.paths, sealpost.header

    def start(self):
        if os.geteuid() != 0 or not shutil.which("nginx", path="/usr/sbin"):
            raise Unavailable("nginx runs as root here, and Debian's nginx has to be installed")
        for path in self.paths:
            file = self.dir / "files" / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(get(self.sealpost, path))
        config = self.dir / "nginx.conf"
        config.write_text(NGINX_CONF.format(dir=self.dir, port=self.port, tls=self.sealpost.dir / "tls"))
        self.launch("/usr/sbin/nginx", "-e", self.dir / "error.log", "-c", config)
        for path in self.paths:
            if get(self, path) != get(self.sealpost, path):
                raise Unavailable("nginx serves other bytes")


def get(server, path):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    name, _, value = server.header.partition(": ")
    request = urllib.request.Request(f"https://127.0.0.1:{server.port}{path}", headers={name: value})
    with urllib.request.urlopen(request, context=context, timeout=30) as answer:
        return answer.read()


def fetch(server, seconds, keep, connections=20):
    """One run of the load generator against it: fetches a second, and what they cost."""
    command = [BUILD / "bench" / "load", "--port", server.port, "--header", server.header, "--connections",
               connections, "--count", 1_000_000, "--seconds", seconds, *(["--keep"] if keep else [])]
    for path in server.paths:
        command += ["--get", path]
    before = server.cpu_seconds()
    result = json.loads(run(*command))
    after = server.cpu_seconds()
    result["server_cpu_seconds"] = sum(after.values()) - sum(before.values())
    result["server_cpu_by_process"] = {kind: round(spent - before.get(kind, 0), 3)
                                       for kind, spent in after.items()}
    return result
