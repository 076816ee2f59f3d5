"""A real, unmodified Synapse and a client for its users."""
import fcntl
import hashlib
import hmac
import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.parse

import signedjson.key
import signedjson.sign
import yaml

from harness import exchange, key_file_line, make_key, random_key, request_bytes, wait_until, x_matrix

SHARED_SECRET = "e2e"
START_S = 90  # a first start creates the database; two cores may be busy


def cache_dir():
    default = pathlib.Path.home() / ".cache" / "freshet"
    return pathlib.Path(os.environ.get("FRESHET_CACHE", default))


def synapse_python():
    """The Python of a virtual environment that has Synapse; made on first use, kept in the cache."""
    venv = cache_dir() / "synapse-venv"
    venv.parent.mkdir(parents=True, exist_ok=True)
    python = venv / "bin" / "python"
    with open(venv.parent / "synapse-venv.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        probe = [str(python), "-c", "import synapse.app.homeserver"]
        if not python.exists() or subprocess.run(probe, capture_output=True, check=False).returncode != 0:
            subprocess.run(["/usr/bin/python3", "-m", "venv", "--clear", str(venv)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", "matrix-synapse"], check=True)
    return str(python)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


class Synapse:
    """A monolith on SQLite that federates by itself; one cleartext listener for clients and federation.

    It must reach its own name: of its two keys it knows only the first by itself and fetches the second
    from its own key document, as a stranger would. So there is a TLS listener under its name as well.
    """

    def __init__(self, directory, ca):
        self.directory = pathlib.Path(directory)
        self.port, self._tls_port = free_port(), free_port()
        self.name = f"localhost:{self._tls_port}"
        self._chain, self._chain_key = ca.issue("localhost")
        self.address = ("127.0.0.1", self.port)
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = make_key("a_hs")
        self.router_key = make_key("router")
        self._process = None
        self._write_files()

    def _write_files(self):
        # The first line is Synapse's own key; it publishes the second too and accepts what is signed with it.
        lines = key_file_line(self.key) + "\n" + key_file_line(self.router_key) + "\n"
        (self.directory / "signing.key").write_text(lines, encoding="ascii")
        logging = {"version": 1, "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
                   "handlers": {"file": {"class": "logging.FileHandler", "formatter": "plain",
                                         "filename": str(self.directory / "homeserver.log")}},
                   "root": {"level": "INFO", "handlers": ["file"]}, "disable_existing_loggers": False}
        (self.directory / "log.yaml").write_text(yaml.safe_dump(logging), encoding="ascii")
        (self.directory / "homeserver.yaml").write_text(yaml.safe_dump(self._config()), encoding="ascii")

    def _config(self):
        plenty = {"per_second": 1000, "burst_count": 1000}
        return {
            "server_name": self.name, "report_stats": False, "public_baseurl": f"http://127.0.0.1:{self.port}/",
            "signing_key_path": str(self.directory / "signing.key"), "log_config": str(self.directory / "log.yaml"),
            "media_store_path": str(self.directory / "media"), "pid_file": str(self.directory / "hs.pid"),
            "database": {"name": "sqlite3", "args": {"database": str(self.directory / "hs.db")}},
            "listeners": [{"port": self.port, "type": "http", "tls": False, "bind_addresses": ["127.0.0.1"],
                           "x_forwarded": True, "resources": [{"names": ["client", "federation"], "compress": False}]},
                          {"port": self._tls_port, "type": "http", "tls": True, "bind_addresses": ["127.0.0.1"],
                           "resources": [{"names": ["federation"], "compress": False}]}],
            "tls_certificate_path": self._chain, "tls_private_key_path": self._chain_key,
            "trusted_key_servers": [], "federation_verify_certificates": False,
            # Not a white list: Synapse 1.163 does not heed that one for a server named by its address.
            "federation_ip_range_blacklist": [],
            "registration_shared_secret": SHARED_SECRET, "macaroon_secret_key": "e2e", "form_secret": "e2e",
            "federation": {"client_timeout": "5s", "max_long_retries": 1, "max_long_retry_delay": "1s",
                           "max_short_retries": 1, "destination_min_retry_interval": "1s",
                           "destination_max_retry_interval": "5s", "destination_retry_multiplier": 1},
            "rc_message": plenty, "rc_login": {"address": plenty, "account": plenty},
            "rc_federation": {"window_size": 1000, "sleep_limit": 1000, "sleep_delay": 1, "reject_limit": 100000,
                              "concurrent": 100},
        }

    def start(self):
        environment = {**os.environ, "SYNAPSE_CACHE_FACTOR": "0.5"}
        with open(self.directory / "output", "ab") as output:
            self._process = subprocess.Popen(
                [synapse_python(), "-m", "synapse.app.homeserver", "-c", str(self.directory / "homeserver.yaml")],
                stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=self.directory, env=environment)
        wait_until(self._is_healthy, "Synapse's /health", START_S)
        return self

    @property
    def pid(self):
        return self._process.pid

    def _is_healthy(self):
        assert self._process.poll() is None, (self.directory / "output").read_text(encoding="utf-8")[-3000:]
        try:
            return exchange(self.address, request_bytes("GET", "/health", [("Host", self.name)])).status == 200
        except (OSError, EOFError):
            return False

    def stop(self):
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def register(self, localpart):
        """A new user, in Synapse's own way for administrators; returns the user id."""
        path = "/_synapse/admin/v1/register"
        nonce = self.call("GET", path)["nonce"]
        words = [nonce, localpart, "password", "notadmin"]
        mac = hmac.new(SHARED_SECRET.encode(), "\0".join(words).encode(), hashlib.sha1).hexdigest()
        self.call("POST", path, {"nonce": nonce, "username": localpart, "password": "password", "admin": False,
                                 "mac": mac, "inhibit_login": True})
        return f"@{localpart}:{self.name}"

    def call(self, method, path, body=None, token=None):
        headers = [("Host", self.name), ("Connection", "close")]
        if token:
            headers.append(("Authorization", f"Bearer {token}"))
        data = None if body is None else json.dumps(body).encode()
        answer = exchange(self.address, request_bytes(method, path, headers, data))
        assert answer.status == 200, (method, path, answer.status, answer.body)
        return answer.json()

    def device_list(self, user):
        """What the homeserver itself answers to GET /user/devices, asked directly and signed as itself."""
        path = f"/_matrix/federation/v1/user/devices/{urllib.parse.quote(user)}"
        headers = [("Host", self.name), ("Connection", "close"),
                   ("Authorization", x_matrix(self.router_key, self.name, self.name, "GET", path))]
        answer = exchange(self.address, request_bytes("GET", path, headers))
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json()


class Client:
    """One device of a user, with signed device keys uploaded."""

    def __init__(self, synapse, user):
        self.synapse = synapse
        self.user = user
        told = synapse.call("POST", "/_matrix/client/v3/login", {
            "type": "m.login.password", "identifier": {"type": "m.id.user", "user": user}, "password": "password"})
        self.token, self.device_id = told["access_token"], told["device_id"]
        self._since = None
        self._upload_keys()

    def _upload_keys(self):
        key = signedjson.key.generate_signing_key(self.device_id)
        keys = {"algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"], "device_id": self.device_id,
                "user_id": self.user, "keys": {
                    f"curve25519:{self.device_id}": random_key(),
                    f"ed25519:{self.device_id}": signedjson.key.encode_verify_key_base64(key.verify_key)}}
        signed = signedjson.sign.sign_json(keys, self.user, key)
        self.synapse.call("POST", "/_matrix/client/v3/keys/upload", {"device_keys": signed}, self.token)

    def sync(self, timeout_ms=0):
        """The to-device events that are new."""
        query = {"timeout": timeout_ms}
        if self._since:
            query["since"] = self._since
        told = self.synapse.call("GET", "/_matrix/client/v3/sync?" + urllib.parse.urlencode(query), token=self.token)
        self._since = told["next_batch"]
        return told.get("to_device", {}).get("events", [])

    def wait_event(self, matches, timeout_s=20):
        deadline = time.monotonic() + timeout_s
        seen = []
        while time.monotonic() < deadline:
            seen += self.sync(1000)
            found = [event for event in seen if matches(event)]
            if found:
                return found[0]
        raise AssertionError(f"no such event among {seen}")
