"""Those that are compared: Freshet and three proxies of others, all before the same simulated homeserver."""
import os
import pathlib
import re
import secrets
import base64
import shutil
import textwrap

from compare.process import DESCRIPTORS, Process, can_connect, free_port, worker_of

SERVER = "a.example"
CIPHERS = "TLS_AES_128_GCM_SHA256"
PEERS = ("nginx", "haproxy", "nghttpx")
FRONTS = ("h1", "h1-tls", "h2-tls")
# More than any run of hours sends on one connection.
REQUESTS_MAX = 1000000000


class Homeserver:
    def __init__(self, build, folder, cpu, *options, name="homeserver"):
        self.process = Process([build / "bench" / "homeserver", "--server-name", SERVER, *options],
                               folder / f"{name}.log", cpu)
        self.port = int(self.process.wait_ready(
            lambda: re.search(r"listening on .*:(\d+)", self.process.output()), "listening").group(1))

    @property
    def pid(self):
        return self.process.pid

    def close(self):
        self.process.close()


class Contestant:
    """A process with a cleartext and a TLS listener; the latter speaks HTTP/1.1 and h2, as ALPN says."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = folder / name
        self.folder.mkdir()
        self.clear_port, self.tls_port = free_port(), free_port()
        self.process = None

    def start_process(self, arguments, cpu):
        self.process = Process(arguments, self.folder / "log", cpu)
        self.process.wait_ready(lambda: can_connect(self.clear_port) and can_connect(self.tls_port), "listening")
        return self

    def port(self, front):
        return self.clear_port if front == "h1" else self.tls_port

    def pid(self, front):
        del front
        return worker_of(self.process.pid)

    def close(self):
        if self.process is not None:
            self.process.close()


# ---------------------------------------------------------------- others


def nginx_text(folder, clear_port, tls_port, upstream_port, pki):
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "\n".join(f"    {kind}_temp_path {folder}/{kind};"
                          for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    location = "location / { proxy_pass http://homeserver; }"
    return textwrap.dedent(f"""\
        {user}
        daemon off;
        pid {folder}/pid;
        error_log stderr error;
        worker_processes 1;
        worker_rlimit_nofile {DESCRIPTORS};
        events {{ worker_connections 32768; }}
        http {{
            access_log off;
            client_body_buffer_size 2m;
            client_max_body_size 16m;
            keepalive_timeout 1h;
            keepalive_requests {REQUESTS_MAX};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            upstream homeserver {{
                server 127.0.0.1:{upstream_port};
                keepalive 256;
                keepalive_requests {REQUESTS_MAX};
            }}
            server {{ listen 127.0.0.1:{clear_port}; {location} }}
            server {{
                listen 127.0.0.1:{tls_port} ssl http2;
                ssl_certificate {pki}/server.chain.pem;
                ssl_certificate_key {pki}/server.key.pem;
                ssl_protocols TLSv1.3;
                ssl_conf_command Ciphersuites {CIPHERS};
                {location}
            }}
        """) + temporary + "\n}\n"


def start_nginx(folder, homeserver, pki, cpu):
    self = Contestant("nginx", folder)
    config = self.folder / "nginx.conf"
    config.write_text(nginx_text(self.folder, self.clear_port, self.tls_port, homeserver.port, pki), encoding="ascii")
    return self.start_process([program("nginx"), "-e", "stderr", "-p", self.folder, "-c", config], cpu)


def haproxy_text(clear_port, tls_port, upstream_port, pem):
    return textwrap.dedent(f"""\
        global
            nbthread 1
            # It wants two descriptors for each connection, more than a system may give; 10,000 of them fit all the same.
            no strict-limits
            maxconn 16000
            ssl-default-bind-ciphersuites {CIPHERS}
            ssl-default-bind-options ssl-min-ver TLSv1.3
            tune.h2.initial-window-size 1048576
        defaults
            mode http
            http-reuse always
            timeout connect 5s
            timeout client 1h
            timeout server 1h
            timeout http-keep-alive 1h
        frontend clear
            bind 127.0.0.1:{clear_port}
            default_backend homeserver
        frontend tls
            bind 127.0.0.1:{tls_port} ssl crt {pem} alpn h2,http/1.1
            default_backend homeserver
        backend homeserver
            server homeserver 127.0.0.1:{upstream_port}
        """)


def start_haproxy(folder, homeserver, pki, cpu):
    self = Contestant("haproxy", folder)
    pem = self.folder / "server.pem"
    pem.write_bytes((pki / "server.chain.pem").read_bytes() + (pki / "server.key.pem").read_bytes())
    config = self.folder / "haproxy.cfg"
    config.write_text(haproxy_text(self.clear_port, self.tls_port, homeserver.port, pem), encoding="ascii")
    return self.start_process([program("haproxy"), "-db", "-f", config], cpu)


def start_nghttpx(folder, homeserver, pki, cpu):
    self = Contestant("nghttpx", folder)
    options = [
        "--conf=/dev/null", f"--frontend=127.0.0.1,{self.clear_port};no-tls", f"--frontend=127.0.0.1,{self.tls_port}",
        f"--backend=127.0.0.1,{homeserver.port}", "--workers=1", "--single-thread", "--no-ocsp",
        "--tls-min-proto-version=TLSv1.3", f"--tls13-ciphers={CIPHERS}", f"--rlimit-nofile={DESCRIPTORS}",
        "--frontend-http2-window-size=1M", "--frontend-http2-connection-window-size=16M",
        "--frontend-read-timeout=1h", "--frontend-keep-alive-timeout=1h", "--frontend-http2-read-timeout=1h",
        "--backend-keep-alive-timeout=1h", "--errorlog-file=/dev/stderr", f"--pid-file={self.folder}/pid"]
    return self.start_process([program("nghttpx"), *options, pki / "server.key.pem", pki / "server.chain.pem"], cpu)


STARTERS = {"nginx": start_nginx, "haproxy": start_haproxy, "nghttpx": start_nghttpx}


def program(name):
    """Its path, or None. Debian's are in /usr/sbin, which is not on everybody's PATH."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")


def missing_peers():
    """A run without one of them would say nothing about it: it does not begin."""
    return [name for name in PEERS if program(name) is None]


def version_commands():
    return [(program("nginx"), "-v"), (program("haproxy"), "-v"), (program("nghttpx"), "--version"),
            ("openssl", "version")]


# ---------------------------------------------------------------- Freshet


def freshet_text(folder, pki, homeserver_port, tls, authenticate, lists):
    certificates = f", certificates: [{{chain: {pki}/server.chain.pem, key: {pki}/server.key.pem}}]" if tls else ""
    return textwrap.dedent(f"""\
        data_dir: {folder}/data
        workers: 1
        listen:
          federation: {{address: "127.0.0.1:0"{certificates}}}
          admin: {{socket: {folder}/admin.sock}}
        federation_client: {{ca_file: {pki}/ca.pem, allow_addresses: [127.0.0.0/8]}}
        keys: {{fetches_per_s: 10000}}
        lists: {{{lists}}}
        servers:
          - name: {SERVER}
            upstreams: ["http://127.0.0.1:{homeserver_port}"]
            authenticate: {authenticate}
            signing: {{key_file: {folder}/signing.key}}
        """)


class FreshetProcess:
    def __init__(self, build, folder, pki, homeserver_port, cpu, *, tls, authenticate, lists):
        self.folder = folder
        (folder / "data").mkdir(parents=True)
        seed = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        key = folder / "signing.key"
        key.touch(mode=0o600)
        key.write_text(f"ed25519 bench {seed}\n", encoding="ascii")
        config = folder / "freshet.yaml"
        config.write_text(freshet_text(folder, pki, homeserver_port, tls, authenticate, lists), encoding="ascii")
        self.process = Process([build / "freshet", "serve", "--config", config], folder / "log", cpu)
        self.process.wait_ready(lambda: '"event":"started"' in self.process.output(), "started")
        self.port = int(re.search(r'"listener":"federation".*?"port":(\d+)', self.process.output()).group(1))

    @property
    def socket(self):
        return self.folder / "admin.sock"


class Freshet:
    """A router for cleartext and one for TLS: a router's listener is one of the two."""

    def __init__(self, build, folder, homeserver, pki, cpu, authenticate, *, name=None,
                 lists="max_age_s: 0, reads_per_s: 10000, wait_ms: 10000"):
        self.name = name or f"freshet-{authenticate}"
        self.authenticate = authenticate
        self._routers = {}
        try:
            for tls in (False, True):
                self._routers[tls] = FreshetProcess(
                    build, pathlib.Path(folder) / self.name / ("tls" if tls else "clear"), pki, homeserver.port, cpu,
                    tls=tls, authenticate=authenticate, lists=lists)
        except BaseException:
            self.close()
            raise

    def router(self, front):
        return self._routers[front != "h1"]

    def port(self, front):
        return self.router(front).port

    def pid(self, front):
        return self.router(front).process.pid

    def socket(self, front):
        return self.router(front).socket

    def close(self):
        for router in self._routers.values():
            router.process.close()
