"""A DNS server for the black-box tests: answers from a table over UDP and TCP, or misbehaves."""
import contextlib
import socket
import struct
import threading

A, NS, CNAME, AAAA, SRV = 1, 2, 5, 28, 33
SILENCE, FAILURE = object(), object()  # no answer at all; SERVFAIL


def encode_name(name):
    labels = [label.encode() for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def decode_name(message, at):
    labels = []
    while message[at]:
        labels.append(message[at + 1:at + 1 + message[at]].decode("latin-1"))
        at += 1 + message[at]
    return ".".join(labels).lower(), at + 1


def encode_data(kind, data):
    if kind == A:
        return socket.inet_aton(data)
    if kind == AAAA:
        return socket.inet_pton(socket.AF_INET6, data)
    if kind == SRV:
        priority, weight, port, target = data
        return struct.pack("!HHH", priority, weight, port) + encode_name(target)
    return encode_name(data)


class DnsServer:
    """Records are set with add(); a name that has none does not exist."""

    UDP_MAX = 512  # bytes; more is truncated and has to be asked for over TCP

    def __init__(self):
        self.queries = []  # (name, type, "udp" or "tcp")
        self._records = {}  # (name, type): [(data, ttl)], a function that returns such, SILENCE or FAILURE
        self._tcp = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._tcp.getsockname()[1]
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", self.port))
        self.address = f"127.0.0.1:{self.port}"
        for run in self._serve_udp, self._serve_tcp:
            threading.Thread(target=run, daemon=True).start()

    def stop(self):
        for sock in self._udp, self._tcp:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def add(self, name, kind, *data, ttl=300):
        """More records of that name and type. data: text, for SRV (priority, weight, port, target)."""
        records = self._records.setdefault((name, kind), [])
        records.extend((each, ttl) for each in data)

    def set(self, name, kind, behaviour):
        """behaviour: SILENCE, FAILURE or a function that returns [(data, ttl)]."""
        self._records[name, kind] = behaviour

    def asked(self, name):
        return [query for query in list(self.queries) if query[0] == name]

    def _find(self, name, kind):
        """The answers' records, with the chain of CNAMEs before them; None if the name does not exist."""
        found, seen = [], set()
        while True:
            records = self._records.get((name, kind))
            if records is not None:
                records = records() if callable(records) else records
                return records if records in (SILENCE, FAILURE) else found + [(name, kind, *each) for each in records]
            alias = self._records.get((name, CNAME))
            if alias is None or name in seen:
                known = found or any(name == other for other, _ in self._records)
                return found if known else None
            seen.add(name)
            found.append((name, CNAME, *alias[0]))
            name = alias[0][0]

    def _answer(self, message, transport):
        name, end = decode_name(message, 12)
        kind, = struct.unpack("!H", message[end:end + 2])
        self.queries.append((name, kind, transport))
        found = self._find(name, kind)
        if found is SILENCE:
            return None
        code = 2 if found is FAILURE else 3 if found is None else 0
        records = [] if found in (None, FAILURE) else found
        body = message[12:end + 4]
        for owner, record_kind, data, ttl in records:
            encoded = encode_data(record_kind, data)
            body += encode_name(owner) + struct.pack("!HHIH", record_kind, 1, ttl, len(encoded)) + encoded
        flags, count = 0x8580 | code, len(records)
        if transport == "udp" and len(body) + 12 > self.UDP_MAX:
            body, flags, count = message[12:end + 4], flags | 0x0200, 0
        return message[:2] + struct.pack("!HHHHH", flags, 1, count, 0, 0) + body

    def _serve_udp(self):
        while True:
            try:
                message, peer = self._udp.recvfrom(4096)
                if not message:  # stop()
                    return
                answer = self._answer(message, "udp")
                if answer is not None:
                    self._udp.sendto(answer, peer)
            except OSError:
                return

    def _serve_tcp(self):
        while True:
            try:
                sock, _ = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_one, args=(sock,), daemon=True).start()

    def _serve_one(self, sock):
        sock.settimeout(30)
        with sock, sock.makefile("rb") as stream, contextlib.suppress(OSError):
            while True:
                head = stream.read(2)
                if len(head) < 2:
                    return
                answer = self._answer(stream.read(struct.unpack("!H", head)[0]), "tcp")
                if answer is not None:
                    sock.sendall(struct.pack("!H", len(answer)) + answer)
