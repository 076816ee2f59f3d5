"""What a connection at rest costs in memory, after one 2 KB transaction: router and peers, over TLS."""
import concurrent.futures
import contextlib
import json
import resource
import select
import socket
import ssl
import statistics
import time

from compare import roofline
from compare.contestants import PEERS, SERVER, STARTERS, Freshet
from compare.figures import bound, spread
from compare.process import DESCRIPTORS, memory_kib
from compare.table import number, ranged, rows_of

SOURCES = 250  # networks; what one may take of the router is limited
BODY_SIZE = 2022  # as load's edu2k
IDLE_S = 60  # for which the router keeps an idle connection; the peers are told to keep them longer
OPENERS = 8  # threads: while one side of a handshake computes, another has its turn
MOST_KIB = {"h1-tls": 20, "h2-tls": 28}
END_STREAM, END_HEADERS, ACK = 1, 4, 1
DATA, HEADERS, SETTINGS, GOAWAY = 0, 1, 4, 7


# ---------------------------------------------------------------- one transaction, as bytes


def transaction():
    def body_of(filling):
        content = {"message_id": "m", "messages": {f"@u0:{SERVER}": {"BENCH00000": {"ciphertext": filling}}},
                   "sender": "@s0:127.16.0.0:8448", "type": "m.room.encrypted"}
        return json.dumps({"edus": [{"content": content, "edu_type": "m.direct_to_device"}],
                           "origin": "127.16.0.0:8448", "origin_server_ts": 1700000000000, "pdus": []},
                          separators=(",", ":"), sort_keys=True).encode()
    return body_of("x" * (BODY_SIZE - len(body_of(""))))


def fields():
    """Nobody here checks the signature: the router leaves that to the homeserver."""
    signature = "A" * 86
    return [("authorization", f'X-Matrix origin="127.16.0.0:8448",destination="{SERVER}",key="ed25519:bench",'
                              f'sig="{signature}"'), ("content-type", "application/json")]


def http1_request(number_of_it):
    body = transaction()
    lines = [f"PUT /_matrix/federation/v1/send/held{number_of_it} HTTP/1.1", f"Host: {SERVER}"]
    lines += [f"{name}: {value}" for name, value in fields()] + [f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def hpack_integer(value, prefix_bits):
    """Source: RFC 7541, section 5.1; the bits before the prefix are 0."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes([value])
    out, value = [most], value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out + [value])


def hpack_field(name, value):
    """A literal that nobody indexes."""
    return b"\0" + b"".join(hpack_integer(len(text), 7) + text.encode() for text in (name, value))


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def http2_request(number_of_it):
    body = transaction()
    pseudo = [(":method", "PUT"), (":scheme", "https"), (":authority", SERVER),
              (":path", f"/_matrix/federation/v1/send/held{number_of_it}")]
    block = b"".join(hpack_field(name, value)
                     for name, value in pseudo + fields() + [("content-length", str(len(body)))])
    return (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_HEADERS, 1, block)
            + frame(DATA, END_STREAM, 1, body))


def read_exactly(sock, size):
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise RuntimeError("closed inside an answer")
        data += piece
    return data


def read_http1(sock):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_exactly(sock, 1)
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(f"not 200: {head!r}")
    sizes = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    read_exactly(sock, int(sizes[0]))


def read_http2(sock):
    while True:
        head = read_exactly(sock, 9)
        payload = read_exactly(sock, int.from_bytes(head[:3], "big"))
        kind, flags = head[3], head[4]
        if kind == SETTINGS and not flags & ACK:
            sock.sendall(frame(SETTINGS, ACK, 0, b""))
        if kind == GOAWAY:
            raise RuntimeError(f"GOAWAY: {payload!r}")
        # 0x88 is the whole of ":status: 200" (RFC 7541, appendix A); a change of the table's size may precede it.
        if kind == HEADERS and 0x88 not in payload[:4]:
            raise RuntimeError(f"not 200: {payload!r}")
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            return


# ---------------------------------------------------------------- many of them


def client_context(front):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2" if front == "h2-tls" else "http/1.1"])
    return context


def open_one(context, port, front, i):
    plain = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(f"127.1.{i % SOURCES}.1", 0))
    try:
        sock = context.wrap_socket(plain, server_hostname=SERVER)
    except BaseException:
        plain.close()
        raise
    sock.sendall(http2_request(i) if front == "h2-tls" else http1_request(i))
    (read_http2 if front == "h2-tls" else read_http1)(sock)
    return sock


def n_closed(sockets):
    """Of connections at rest nobody says a word; but an h2 server may have acknowledged our SETTINGS."""
    closed = 0
    poll = select.poll()
    by_descriptor = {sock.fileno(): sock for sock in sockets}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN | select.POLLRDHUP)
    for descriptor, events in poll.poll(0):
        closed += bool(events & (select.POLLRDHUP | select.POLLHUP | select.POLLERR))
    return closed


def kib_per_connection(target, front, n_connections):
    context = client_context(front)
    with contextlib.ExitStack() as stack:
        # What the first connection makes it allocate for good is not the price of the others.
        stack.enter_context(contextlib.closing(open_one(context, target.port(front), front, 0)))
        pid = target.pid(front)
        before = memory_kib(pid, "VmRSS")
        began = time.monotonic()
        sockets = []
        with concurrent.futures.ThreadPoolExecutor(OPENERS) as pool:
            for sock in pool.map(lambda i: open_one(context, target.port(front), front, i),
                                 range(1, n_connections + 1)):
                sockets.append(stack.enter_context(contextlib.closing(sock)))
        after = memory_kib(pid, "VmRSS")
        gone = n_closed(sockets)
        if gone > 0:
            raise RuntimeError(f"{target.name}, {front}: {gone} of {n_connections} connections were closed; opening "
                               f"all took {time.monotonic() - began:.0f} s, and idle ones are closed after {IDLE_S}")
        return (after - before) / n_connections


def measure_one(world, name, front, n_connections, number_of_round):
    """A process of its own: what another measurement has freed would not be asked for again."""
    folder = world.folder / f"held-{number_of_round}-{name}-{front}"
    folder.mkdir()
    if name in PEERS:
        target = STARTERS[name](folder, world.homeserver, world.driver.pki, world.cpus["router"])
    else:
        target = Freshet(world.build, folder, world.homeserver, world.driver.pki, world.cpus["router"], "upstream")
    with contextlib.closing(target):
        return kib_per_connection(target, front, n_connections)


def raise_limit(n_connections):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < n_connections + 100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def print_floor(world, figures):
    """What the libraries take for a connection by themselves, after one transaction."""
    floor = roofline.tool(world.build, "floor", world.cpus["router"])
    tls_kib, h2_kib = floor["tls_bytes"] / 1024, floor["h2_bytes"] / 1024
    for front, name, kib in (("h1-tls", "OpenSSL", tls_kib), ("h2-tls", "OpenSSL and nghttp2 as they come", tls_kib + h2_kib)):
        router_kib = statistics.median(figures[front, "freshet-upstream"])
        print(f"{name}: {number(kib)} KiB of them; the router as a whole {number(router_kib / kib)} times that")


def run(world, arguments, say):
    n = arguments.connections
    raise_limit(n)
    figures = {}
    for number_of_round in range(arguments.rounds):
        for front in MOST_KIB:
            for name in ("freshet-upstream", *PEERS):
                figures.setdefault((front, name), []).append(measure_one(world, name, front, n, number_of_round))
                say(f"held: {name}, {front}: {number(figures[front, name][-1])} KiB")
    cells = [["", "HTTP/1.1, KiB", "h2, KiB"]]
    for name in ("freshet-upstream", *PEERS):
        cells.append([name, *(ranged(spread(figures[front, name])) for front in MOST_KIB)])
    print(f"\nresident memory of each of {n} TLS connections at rest after one 2 KB transaction:")
    print("\n".join(rows_of(cells)))
    print_floor(world, figures)
    return [bound(f"a connection at rest, {front}", "KiB", spread(figures[front, "freshet-upstream"]), at_most=most,
                  note=f"best peer {number(min(statistics.median(figures[front, name]) for name in PEERS))}")
            for front, most in MOST_KIB.items()]
