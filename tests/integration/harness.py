"""Peers for the black-box tests: a scripted homeserver, a simulated remote server, and the router itself.

Homeserver and Origin know nothing of Freshet: what they sign is made with signedjson and canonicaljson, what
they hash with the xxhash module.
"""
import base64
import collections
import contextlib
import datetime
import functools
import ipaddress
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse

import canonicaljson
import signedjson.key
import signedjson.sign
import xxhash
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = pathlib.Path(__file__).resolve().parents[2]
WAIT_S = 10  # for anything that should happen soon; sanitizer builds are slow


def wait_until(condition, what, timeout_s=WAIT_S):
    """Returns the first true value of condition(); fails the test after timeout_s."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain: {what}"
        time.sleep(0.02)


def canonical(value):
    return canonicaljson.encode_canonical_json(value)


# ---------------------------------------------------------------- device lists (docs/protocol.md, dlh1)


def key_bytes(text):
    """The key's 32 bytes, or None."""
    if not isinstance(text, str):
        return None
    text = text.rstrip("=").replace("-", "+").replace("_", "/")
    data = base64.b64decode(text + "=" * (-len(text) % 4))
    return data if len(data) == 32 else None


def random_key():
    return base64.b64encode(os.urandom(32)).decode().rstrip("=")


def device(device_id, curve25519=None, ed25519=None):
    """An entry of a /user/devices answer."""
    keys = {f"curve25519:{device_id}": curve25519 or random_key(), f"ed25519:{device_id}": ed25519 or random_key()}
    return {"device_id": device_id,
            "keys": {"algorithms": ["m.olm.v1.curve25519-aes-sha2"], "device_id": device_id, "keys": keys,
                     "signatures": {}, "user_id": "@not:used.example"}}


def device_list(user_id, devices, stream_id):
    """A /user/devices answer."""
    return {"user_id": user_id, "stream_id": stream_id, "devices": devices}


def dlh1(answer):
    """The hash of a /user/devices answer, written after docs/protocol.md and sharing no code with the router."""
    total = count = 0
    for entry in answer["devices"]:
        name = entry["device_id"]
        keys = entry.get("keys", {}).get("keys", {})
        curve25519, ed25519 = (key_bytes(keys.get(f"{kind}:{name}")) for kind in ("curve25519", "ed25519"))
        if curve25519 is None or ed25519 is None:
            continue
        record = b"mx.dlh1\x00" + len(name.encode()).to_bytes(2, "little") + name.encode() + curve25519 + ed25519
        total = (total + xxhash.xxh3_128_intdigest(record)) % 2**128
        count += 1
    user = answer["user_id"].encode()
    whole = b"mx.dlh1\x01" + len(user).to_bytes(2, "little") + user + count.to_bytes(4, "little")
    return "dlh1:" + xxhash.xxh3_128_hexdigest(whole + total.to_bytes(16, "little"))


def to_device(sender, messages, claims=None, message_id=None, kind="m.room.encrypted"):
    """A to-device EDU; claims is {user: {"hash": ..., "stream_id": ...}}."""
    content = {"sender": sender, "type": kind, "message_id": message_id or os.urandom(8).hex(), "messages": messages}
    if claims is not None:
        content["io.freshet.device_lists"] = claims
    return {"edu_type": "m.direct_to_device", "content": content}


# ---------------------------------------------------------------- HTTP/1.1, as raw as it comes


class Headers(list):
    """[(name, value)] as they stood on the wire."""

    def all(self, name):
        return [value for key, value in self if key.lower() == name.lower()]

    def get(self, name, default=None):
        found = self.all(name)
        return found[0] if found else default


Request = collections.namedtuple("Request", "method target headers body raw")


class Answer:
    """What a server says, or how it misbehaves.

    cut: "before" closes instead of answering, "inside" closes in the middle of the body, "hang" says nothing
    until the server stops, "reset" closes with RST.
    """

    def __init__(self, status=200, body=b"{}", headers=(), delay_s=0.0, cut=None, chunked=False):
        self.status = status
        self.body = canonical(body) if isinstance(body, (dict, list)) else body
        self.headers = Headers(headers)
        self.delay_s = delay_s
        self.cut = cut
        self.chunked = chunked

    def json(self):
        return json.loads(self.body)

    def wire(self):
        lines = [f"HTTP/1.1 {self.status} Scripted"]
        names = {name.lower() for name, _ in self.headers}
        lines += [f"{name}: {value}" for name, value in self.headers]
        if "content-type" not in names:
            lines.append("Content-Type: application/json")
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in _pieces(self.body)) + b"0\r\n\r\n"
        else:
            lines.append(f"Content-Length: {len(self.body)}")
            body = self.body
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _pieces(data, size=1000):
    return [data[i:i + size] for i in range(0, len(data), size)]


class Wire:
    """Reads HTTP/1.1 messages from a socket and keeps the bytes of each as they came."""

    def __init__(self, sock, on_bytes=lambda count: None):
        self.sock = sock
        self.buffer = b""
        self.raw = b""
        self.on_bytes = on_bytes

    def _fill(self):
        data = self.sock.recv(65536)
        self.on_bytes(len(data))
        self.buffer += data
        return bool(data)

    def _take(self, count):
        while len(self.buffer) < count:
            if not self._fill():
                raise EOFError("cut off")
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        self.raw += data
        return data

    def _take_line(self):
        while b"\r\n" not in self.buffer:
            if not self._fill():
                raise EOFError("cut off")
        return self._take(self.buffer.index(b"\r\n") + 2)[:-2]

    def head(self):
        """The first line and the headers, or None at a clean end."""
        self.raw = b""
        if not self.buffer and not self._fill():
            return None
        first = self._take_line()
        headers = Headers()
        while True:
            line = self._take_line()
            if not line:
                return first, headers
            name, _, value = line.partition(b":")
            headers.append((name.decode("latin-1"), value.strip().decode("latin-1")))

    def body(self, headers, until_end):
        if "chunked" in (headers.get("transfer-encoding") or ""):
            body = b""
            while True:
                size = int(self._take_line().split(b";")[0], 16)
                if size == 0:
                    while self._take_line():
                        pass
                    return body
                body += self._take(size)
                self._take(2)
        if headers.get("content-length") is not None:
            return self._take(int(headers.get("content-length")))
        if not until_end:
            return b""
        while self._fill():
            pass
        return self._take(len(self.buffer))


def read_answer(sock, method=b"GET"):
    wire = Wire(sock)
    while True:
        found = wire.head()
        if found is None:
            raise EOFError("closed without an answer")
        first, headers = found
        status = int(first.split(b" ")[1])
        if status >= 200:
            break
    no_body = method == b"HEAD" or status in (204, 304)
    return Answer(status, b"" if no_body else wire.body(headers, until_end=True), headers)


def connect(address, tls=None, server_name=None, timeout_s=60, source=None):
    """source: an address of one's own to come from, such as 127.0.0.9."""
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout_s)
        sock.connect(address)
    else:
        sock = socket.create_connection(address, timeout=timeout_s, source_address=source and (source, 0))
    if tls is not None:
        sock = tls.wrap_socket(sock, server_hostname=server_name or address[0])
    return sock


def request_bytes(method, target, headers, body=None):
    if isinstance(target, str):
        target = target.encode()
    lines = [method.encode() + b" " + target + b" HTTP/1.1"]
    lines += [f"{name}: {value}".encode("latin-1") for name, value in headers]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def exchange(address, raw, tls=None, server_name=None, timeout_s=60, source=None):
    """Sends raw bytes on a connection of their own and returns the Answer."""
    with contextlib.closing(connect(address, tls, server_name, timeout_s, source)) as sock:
        # A refusal may come, and the connection close, before all is sent.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(raw)
        return read_answer(sock, raw.split(b" ", 1)[0])


class Server:
    """A scripted HTTP/1.1 server, one thread per connection; records every request it gets."""

    def __init__(self, tls=None):
        self.requests = []
        self.n_bytes = 0
        self.n_connections = 0
        self._answers = []  # (method or None, prefix, Answer or function of the request), newest first
        self._tls = tls
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._open = set()
        self._keeper = None
        self._listen(0)

    def _listen(self, port):
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(256)
        self.port = self._listener.getsockname()[1]
        self._stopping = threading.Event()
        threading.Thread(target=self._accept, args=(self._listener, self._stopping), daemon=True).start()

    @property
    def url(self):
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def stop(self):
        """Refuses connections from now on and closes those that are open."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        place = self._listener.getsockname()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._keep(place)
        self._listener.close()
        with self._lock:
            sockets = list(self._open)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _keep(self, place):
        """Nobody else gets the port before start_again; without listen(), connections are refused."""
        self._keeper = socket.socket(self._listener.family)
        self._keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._keeper.bind(place)

    def start_again(self):
        self._listen(self.port)
        self._keeper.close()

    def on(self, prefix, answer, method=None):
        """From now on answers paths that begin so with an Answer, or with what a function of the request returns."""
        self._answers.insert(0, (method, prefix.encode(), answer))

    def built_in(self, request):
        return Answer(404, {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"})

    def of(self, prefix, method=None):
        """The recorded requests whose target begins so."""
        with self._lock:
            return [request for request in self.requests
                    if request.target.startswith(prefix.encode()) and method in (None, request.method)]

    def _accept(self, listener, stopping):
        while not stopping.is_set():
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock, stopping), daemon=True).start()

    def _count(self, count):
        with self._lock:
            self.n_bytes += count

    def _serve(self, sock, stopping):
        with self._lock:
            self.n_connections += 1
            self._open.add(sock)
        try:
            sock.settimeout(120)
            # Else an answer waits up to 40 ms for the peer's delayed acknowledgement of the TLS session tickets.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                plain, sock = sock, self._tls.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._open.discard(plain)
                    self._open.add(sock)
            wire = Wire(sock, self._count)
            while not stopping.is_set() and self._serve_one(sock, wire, stopping):
                pass
        except (OSError, EOFError, ValueError):
            pass
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()

    def _serve_one(self, sock, wire, stopping):
        found = wire.head()
        if found is None:
            return False
        first, headers = found
        method, target, _ = first.split(b" ")
        if "100-continue" in (headers.get("expect") or ""):
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = wire.body(headers, until_end=False)
        request = Request(method.decode(), target, headers, body, wire.raw)
        with self._lock:
            self.requests.append(request)
        answer = self._answer(request)
        if answer.delay_s:
            stopping.wait(answer.delay_s)
        return self._say(sock, answer, stopping) and (headers.get("connection") or "").lower() != "close"

    def _answer(self, request):
        for method, prefix, answer in list(self._answers):
            if request.target.startswith(prefix) and method in (None, request.method):
                answer = answer(request) if callable(answer) else answer
                if answer is not None:
                    return answer
        return self.built_in(request)

    def _say(self, sock, answer, stopping):
        if answer.cut == "hang":
            stopping.wait()
            return False
        if answer.cut == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return False
        if answer.cut == "before":
            return False
        wire = answer.wire()
        if answer.cut == "inside":
            sock.sendall(wire[:wire.index(b"\r\n\r\n") + 4 + max(1, len(answer.body) // 2)])
            return False
        sock.sendall(wire)
        return True


# ---------------------------------------------------------------- the two kinds of Matrix server


def key_document(server_name, keys, valid_s=3600):
    document = {"server_name": server_name, "old_verify_keys": {},
                "valid_until_ts": int((time.time() + valid_s) * 1000),
                "verify_keys": {f"{key.alg}:{key.version}": {"key": signedjson.key.encode_verify_key_base64(key.verify_key)}
                                for key in keys}}
    for key in keys:
        document = signedjson.sign.sign_json(document, server_name, key)
    return document


def make_key(version):
    return signedjson.key.generate_signing_key(version)


def key_file_line(key):
    """One line of Synapse's signing key file."""
    return f"{key.alg} {key.version} {signedjson.key.encode_signing_key_base64(key)}"


def x_matrix(key, origin, destination, method, uri, content=None, /, **changes):
    """The value of an Authorization header; changes replace its parameters after signing."""
    signed = {"method": method, "uri": uri, "origin": origin, "destination": destination}
    if content is not None:
        signed["content"] = content
    signature = signedjson.sign.sign_json(signed, origin, key)["signatures"][origin][f"{key.alg}:{key.version}"]
    parameters = {"origin": origin, "destination": destination, "key": f"{key.alg}:{key.version}", "sig": signature}
    parameters.update(changes)
    return "X-Matrix " + ",".join(f'{name}="{value}"' for name, value in parameters.items() if value is not None)


class Homeserver(Server):
    """A hosted homeserver: accepts any transaction, answers for its keys and its users' device lists."""

    def __init__(self, name, router_key=None):
        self.name = name
        self.key = make_key("a_hs")
        self.router_key = router_key or make_key("router")
        self.devices = {}  # user id: /user/devices answer
        super().__init__()

    def built_in(self, request):
        path = urllib.parse.unquote(request.target.decode("latin-1").split("?")[0])
        if path.startswith("/_matrix/key/v2/server"):
            return Answer(200, key_document(self.name, [self.key, self.router_key]))
        if path.startswith("/_matrix/federation/v1/user/devices/"):
            user = path[len("/_matrix/federation/v1/user/devices/"):]
            if user in self.devices:
                return Answer(200, self.devices[user])
            return Answer(404, {"errcode": "M_NOT_FOUND", "error": "No such user"})
        if request.method == "PUT" and path.startswith("/_matrix/federation/v1/send/"):
            return Answer(200, b'{"pdus":{}}')
        return super().built_in(request)

    @property
    def sends(self):
        return self.of("/_matrix/federation/v1/send/")

    @property
    def list_reads(self):
        return self.of("/_matrix/federation/v1/user/devices/")


class Origin(Server):
    """A remote server named 127.0.0.1:PORT: serves its key document over TLS and sends signed requests."""

    def __init__(self, ca):
        self.key = make_key("a_origin")
        super().__init__(ca.server_context("127.0.0.1"))
        self.name = f"127.0.0.1:{self.port}"
        self.user = f"@bob:{self.name}"

    def built_in(self, request):
        if request.target.startswith(b"/_matrix/key/v2/server"):
            return Answer(200, key_document(self.name, [self.key]))
        return super().built_in(request)

    @property
    def key_requests(self):
        return self.of("/_matrix/key/")

    def transaction(self, *edus, pdus=(), origin=None, **more):
        content = {"origin": origin or self.name, "origin_server_ts": int(time.time() * 1000), "pdus": list(pdus)}
        if edus:
            content["edus"] = list(edus)
        content.update(more)
        return content

    def raw_request(self, destination, method, target, content=None, *, body=None, host=None, key=None, headers=(),
                    authorization=None, **changes):
        """The bytes of a signed request. body: sent in place of the canonical form of content."""
        if authorization is None:
            authorization = x_matrix(key or self.key, self.name, destination, method, target, content, **changes)
        if body is None and content is not None:
            body = canonical(content)
        fields = [("Host", host or destination)]
        if authorization:
            fields.append(("Authorization", authorization))
        if body is not None:
            fields.append(("Content-Type", "application/json"))
        return request_bytes(method, target, fields + list(headers), body)

    def request(self, router, destination, method, target, content=None, timeout_s=60, **options):
        raw = self.raw_request(destination, method, target, content, **options)
        return exchange(router.federation, raw, timeout_s=timeout_s)

    def send(self, router, destination, content, txn_id=None, target=None, **options):
        """PUTs a transaction and returns the Answer."""
        target = target or f"/_matrix/federation/v1/send/{txn_id or os.urandom(6).hex()}"
        return self.request(router, destination, "PUT", target, content, **options)


# ---------------------------------------------------------------- certificates


class Authority:
    """A certificate authority of the tests' own."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Freshet tests")])
        certificate = (self._builder(self._name, self._key)
                       .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                       .add_extension(self._ca_key_usage(), critical=True).sign(self._key, hashes.SHA256()))
        self.file = self.directory / "ca.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    @staticmethod
    def _ca_key_usage():
        others = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                  "encipher_only", "decipher_only")
        return x509.KeyUsage(key_cert_sign=True, crl_sign=True, **dict.fromkeys(others, False))

    def _builder(self, subject, key):
        """Python 3.13 refuses a certificate without the key identifiers and, in an authority's, the key usage."""
        now = datetime.datetime.now(datetime.timezone.utc)
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
                .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
                .not_valid_after(now + datetime.timedelta(days=2))
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                               critical=False))

    def issue(self, *names):
        """Paths of a chain and a key for DNS names and IP addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        alternatives = []
        for name in names:
            try:
                alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                alternatives.append(x509.DNSName(name))
        certificate = self._builder(subject, key).add_extension(
            x509.SubjectAlternativeName(alternatives), critical=False).sign(self._key, hashes.SHA256())
        stem = self.directory / names[0]
        chain, key_file = stem.with_name(stem.name + ".chain.pem"), stem.with_name(stem.name + ".key.pem")
        chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                               serialization.NoEncryption()))
        return str(chain), str(key_file)

    def server_context(self, *names):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(*names))
        return context

    def client_context(self):
        return ssl.create_default_context(cafile=str(self.file))


# ---------------------------------------------------------------- the router


def build_dir():
    return pathlib.Path(os.environ.get("FRESHET_BUILD", ROOT / "build" / "dev"))


def is_sanitized(build):
    """Under a sanitizer a process' size says nothing of what it allocates, and all takes longer."""
    binary = (build / "freshet").read_bytes()
    return b"__asan_init" in binary or b"__tsan_init" in binary


@functools.cache
def plain_build():
    """A build without a sanitizer, for what is said in bytes and ms; made if there is none."""
    if not is_sanitized(build_dir()):
        return build_dir()
    for command in (["cmake", "--preset", "dev"], ["cmake", "--build", "--preset", "dev", "--target", "freshet"]):
        subprocess.run(command, cwd=ROOT, check=True, timeout=900, stdout=subprocess.DEVNULL)
    assert not is_sanitized(ROOT / "build" / "dev")
    return ROOT / "build" / "dev"


class Router:
    """`freshet serve`, started from a configuration in a directory of its own."""

    def __init__(self, homeservers, ca=None, certificates=None, certificate_folder=None, server=None, directory=None,
                 build=None, **sections):
        """server: settings for every hosted server; directory: taken over, and removed by close(); build: where the
        program is; sections: replace or add sections of the configuration."""
        self.build = build or build_dir()
        # The default is short: a socket's path ends at 108 bytes.
        self.directory = pathlib.Path(directory or tempfile.mkdtemp(prefix="freshet-"))
        self.homeservers = list(homeservers)
        self.config_file = self.directory / "freshet.yaml"
        self.admin_socket = str(self.directory / "admin.sock")
        self.log = []
        self._process = None
        self.config = self._default_config(ca, certificates, certificate_folder, server or {})
        self.config.update(sections)
        self.write_config()

    def _default_config(self, ca, certificates, certificate_folder, server_settings):
        federation = {"address": "127.0.0.1:0"}
        if certificates:
            federation["certificates"] = [{"chain": chain, "key": key} for chain, key in certificates]
        if certificate_folder:
            federation["certificate_folder"] = str(certificate_folder)
        config = {"data_dir": str(self.directory / "data"), "workers": 2, "servers": [],
                  "listen": {"federation": federation, "operations": {"address": "127.0.0.1:0"},
                             "admin": {"socket": self.admin_socket}},
                  "federation_client": {"allow_addresses": ["127.0.0.0/8"]}}
        if ca is not None:
            config["federation_client"]["ca_file"] = str(ca.file)
        for homeserver in self.homeservers:
            settings = {"name": homeserver.name, "upstreams": [homeserver.url]}
            if "signing" not in server_settings:
                key_file = self.directory / f"{homeserver.name.replace(':', '_')}.signing.key"
                key_file.write_text(key_file_line(homeserver.router_key) + "\n", encoding="ascii")
                key_file.chmod(0o600)
                settings["signing"] = {"key_file": str(key_file)}
            settings.update({key: value for key, value in server_settings.items() if key != "signing"})
            config["servers"].append(settings)
        (self.directory / "data").mkdir(exist_ok=True)
        return config

    def write_config(self, text=None):
        self.config_file.write_text(text if text is not None else yaml.safe_dump(self.config, sort_keys=False),
                                    encoding="utf-8")

    # life

    def start(self, wait=True):
        self._mark = len(self.log)
        self._process = subprocess.Popen([str(self.build / "freshet"), "serve", "--config", str(self.config_file)],
                                         stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        self._reader = threading.Thread(target=self._read_log, args=(self._process,), daemon=True)
        self._reader.start()
        if wait:
            self.wait_ready()
        return self

    def _read_log(self, process):
        for line in process.stderr:
            self.log.append(line.decode("utf-8", "replace").rstrip("\n"))
        process.stderr.close()

    def wait_ready(self):
        def ready():
            if self._process.poll() is not None:
                self._reader.join(5)
                raise AssertionError("the router ended:\n" + "\n".join(self.log[-20:]))
            return self._port("federation") and self._port("operations") and os.path.exists(self.admin_socket)
        wait_until(ready, "the router listens")
        self.federation = ("127.0.0.1", self._port("federation"))
        self.operations = ("127.0.0.1", self._port("operations"))
        wait_until(lambda: self.get("/livez").status == 200, "/livez")

    def _port(self, listener):
        for record in self.records("listening", since=self._mark):
            if record.get("listener") == listener:
                return int(record.get("port") or 0)
        return 0

    @property
    def pid(self):
        return self._process.pid

    def rss(self):
        """Resident bytes."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))

    def reload(self, event="reloaded"):
        """SIGHUP; the log's records from then on."""
        before = len(self.log)
        self.signal(signal.SIGHUP)
        wait_until(lambda: any(record.get("event") == event for record in self.records(since=before)), event)
        return self.records(since=before)

    def is_running(self):
        return self._process is not None and self._process.poll() is None

    def signal(self, number):
        self._process.send_signal(number)

    def wait_ended(self, timeout_s=40):
        """The exit status, once the router has ended by itself."""
        status = self._process.wait(timeout_s)
        self._reader.join(5)
        return status

    def terminate(self, timeout_s=40):
        self.signal(signal.SIGTERM)
        return self.wait_ended(timeout_s)

    def kill9(self):
        self._process.kill()
        self.wait_ended()

    def restart(self):
        self.terminate()
        return self.start()

    def close(self):
        """Ends the router and checks that it ended well: no crash, no leak, no race."""
        status = None
        try:
            if self.is_running():
                try:
                    status = self.terminate()
                except subprocess.TimeoutExpired:
                    self.kill9()
                    raise AssertionError("SIGTERM did not end the router:\n" + "\n".join(self.log[-20:])) from None
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)
        reports = [line for line in self.log if "Sanitizer" in line or "runtime error:" in line or "CHECK failed" in line]
        assert not reports, "\n".join(self.log[-60:])
        assert status in (None, 0), f"exit status {status}:\n" + "\n".join(self.log[-20:])

    # what it tells

    def records(self, event=None, since=0):
        """The log's JSON lines, as dictionaries."""
        found = []
        for line in list(self.log)[since:]:
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict) and event in (None, record.get("event")):
                    found.append(record)
        return found

    def log_has(self, event, **fields):
        return any(all(record.get(name) == value for name, value in fields.items()) for record in self.records(event))

    def get(self, path, timeout_s=30):
        """A GET on the operations listener."""
        return exchange(self.operations, request_bytes("GET", path, [("Host", "operations")]), timeout_s=timeout_s)

    def metrics(self):
        answer = self.get("/metrics")
        assert answer.status == 200, answer.body
        return answer.body.decode()

    def metric(self, name, **labels):
        """The sum of the samples that have these labels (their letters' case aside); 0 if there are none."""
        total = 0.0
        wanted = {(key, value.lower()) for key, value in labels.items()}
        for line in self.metrics().splitlines():
            found = re.match(r'([a-z0-9_]+)(?:\{(.*)\})? (\S+)$', line)
            if found and found[1] == name:
                given = {(key, value.lower()) for key, value in re.findall(r'(\w+)="([^"]*)"', found[2] or "")}
                if wanted <= given:
                    total += float(found[3])
        return total

    def wait_metric(self, name, at_least=1, **labels):
        return wait_until(lambda: self.metric(name, **labels) >= at_least, f"{name} {labels} >= {at_least}")

    # the admin socket

    def admin(self, method, path, body=None):
        if isinstance(body, (dict, list)):
            body = canonical(body)
        return exchange(self.admin_socket, request_bytes(method, path, [("Host", "admin")], body))

    def devices_path(self, server, user):
        return f"/admin/v1/servers/{urllib.parse.quote(server, safe='')}/users/{urllib.parse.quote(user, safe='')}/devices"

    def push_devices(self, server, answer):
        """Pushes a /user/devices answer; returns the Answer."""
        return self.admin("PUT", self.devices_path(server, answer["user_id"]), answer)

    def devices(self, server, user):
        return self.admin("GET", self.devices_path(server, user))


# ---------------------------------------------------------------- refusals


class Untouched:
    """Not one byte may reach a homeserver while this lasts."""

    def __init__(self, homeserver):
        self._homeserver = homeserver

    def __enter__(self):
        self._before = self._homeserver.n_bytes, len(self._homeserver.requests)
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            now = self._homeserver.n_bytes, len(self._homeserver.requests)
            assert now == self._before, f"reached the homeserver: {self._homeserver.requests[self._before[1]:]}"


# What a peer is told: docs/limits.md.
REFUSALS = {
    "bad_http": (400, "M_UNRECOGNIZED"),
    "uri_too_long": (414, "M_TOO_LARGE"),
    "headers_too_large": (431, "M_TOO_LARGE"),
    "method_not_implemented": (501, "M_UNRECOGNIZED"),
    "expectation_failed": (417, "M_UNRECOGNIZED"),
    "not_relayed": (404, "M_UNRECOGNIZED"),
    "bad_path": (404, "M_UNRECOGNIZED"),
    "bad_xmatrix": (401, "M_UNAUTHORIZED"),
    "many_origins": (401, "M_UNAUTHORIZED"),
    "no_xmatrix": (401, "M_UNAUTHORIZED"),
    "wrong_destination": (401, "M_UNAUTHORIZED"),
    "misdirected": (421, "M_UNAUTHORIZED"),
    "bad_signature": (401, "M_UNAUTHORIZED"),
    "banned_key": (401, "M_UNAUTHORIZED"),
    "origin_mismatch": (403, "M_FORBIDDEN"),
    "spoofed_sender": (403, "M_FORBIDDEN"),
    "body_too_large": (413, "M_TOO_LARGE"),
    "content_encoding": (415, "M_UNRECOGNIZED"),
    "not_json": (400, "M_NOT_JSON"),
    "duplicate_key": (400, "M_NOT_JSON"),
    "too_many_pdus": (400, "M_BAD_JSON"),
    "too_many_edus": (400, "M_BAD_JSON"),
    "timeout": (408, "M_UNKNOWN"),
}


def assert_refused(router, reason, answer_of, *untouched):
    """answer_of() must be refused for that reason and no other, as a Matrix error after which the connection closes,
    counted once, without a byte for the homeservers named."""
    before = router.metric("freshet_refused_total")
    of_reason = router.metric("freshet_refused_total", reason=reason)
    with contextlib.ExitStack() as stack:
        for homeserver in untouched:
            stack.enter_context(Untouched(homeserver))
        answer = answer_of()
        assert (answer.status, answer.json()["errcode"]) == REFUSALS[reason]
        assert answer.json()["error"] and answer.headers.get("connection") == "close"
        wait_until(lambda: router.metric("freshet_refused_total") > before, f"{reason} is counted")
    assert router.metric("freshet_refused_total", reason=reason) == of_reason + 1
    assert router.metric("freshet_refused_total") == before + 1


def assert_closed(sock):
    """The peer has nothing more to say, and has ended."""
    with contextlib.suppress(ConnectionResetError):
        assert sock.recv(1) == b""


class Relay:
    """A TCP proxy that counts: what of a request reached the server behind it."""

    def __init__(self, target):
        self.target = target
        self.n_bytes = 0
        self.n_connections = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def stop(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self.target, timeout=120)
            except OSError:
                near.close()
                continue
            with self._lock:
                self.n_connections += 1
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source, sink, inward):
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(65536)
                if inward:
                    with self._lock:
                        self.n_bytes += len(data)
                if not data:
                    break
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
