"""HTTP/2 in front of the same router: what is sent arrives, what is bad does not, and no flood costs more than a little."""
import contextlib
import glob
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import h2.config
import h2.connection
import h2.events
import h2.settings
import hpack
import pytest
from hyperframe import frame as frames

from harness import (Answer, Headers, canonical, connect, exchange, is_sanitized, plain_build, request_bytes,
                     wait_until)
from test_proxy_protocol import proxy_header

FEDERATION = "/_matrix/federation/v1"
VERSION = f"{FEDERATION}/version"
MEDIA = "/_matrix/media/v3/download/a.example/abc"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PROTOCOL_ERROR, CALM = 1, 11  # of GOAWAY
FRAMES_MAX = 250  # until a flood's connection is closed. Source: limits.md
GROWTH_MAX_KIB = 1024  # of the process, by one connection. Source: limits.md
CPU_MAX_MS = 50  # the same


# ---------------------------------------------------------------- two peers: one that is sound, one that sends anything


def pseudo(method="GET", path=VERSION, scheme="http", authority="a.example"):
    return [(":method", method), (":path", path), (":scheme", scheme), (":authority", authority)]


class Peer:
    """A sound client of python3-h2; one thread."""

    def __init__(self, address, tls=None, server_name=None, window=65535):
        self.sock = connect(address, tls, server_name)
        self.scheme = "https" if tls else "http"
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="latin-1"))
        self.h2.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.h2.initiate_connection()
        self.flush()
        self.streams = {}  # id: [Headers, body, None or how it ended]
        self.goaway = None
        self.acknowledges = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def begin(self, method="GET", path=VERSION, headers=(), body=None, authority="a.example", ends=True):
        stream = self.h2.get_next_available_stream_id()
        self.streams[stream] = [None, b"", None]
        self.h2.send_headers(stream, pseudo(method, path, self.scheme, authority) + list(headers),
                             end_stream=ends and body is None)
        self.flush()
        if body is not None:
            self.send_body(stream, body, ends)
        return stream

    def send_body(self, stream, body, ends=True):
        while body and self.streams[stream][2] is None:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(body))
            if room == 0:
                self.step()
                continue
            self.h2.send_data(stream, body[:room])
            self.flush()
            body = body[room:]
        if ends and self.streams[stream][2] is None:
            self.h2.end_stream(stream)
            self.flush()

    def step(self):
        """Takes what comes next; False at the end of it all."""
        data = self.sock.recv(65536)
        for event in self.h2.receive_data(data) if data else ():
            if isinstance(event, h2.events.ResponseReceived):
                self.streams[event.stream_id][0] = Headers(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.streams[event.stream_id][1] += event.data
                if self.acknowledges:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.streams[event.stream_id][2] = "whole"
            elif isinstance(event, h2.events.StreamReset):
                self.streams[event.stream_id][2] = self.streams[event.stream_id][2] or event.error_code
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.goaway = event.error_code
        with contextlib.suppress(OSError):
            self.flush()
        return bool(data)

    def wait(self, stream):
        """An Answer, or the code of the reset."""
        while self.streams[stream][2] is None:
            assert self.step(), "closed without an answer"
        headers, body, end = self.streams[stream]
        if end != "whole":
            return end
        return Answer(int(headers.get(":status")), body, [(n, v) for n, v in headers if n != ":status"])

    def request(self, *args, **options):
        return self.wait(self.begin(*args, **options))


class Raw:
    """Sends any frames, and sees how it ends."""

    def __init__(self, router, sock=None):
        self.sock = sock or connect(router.federation)
        self.encoder = hpack.Encoder()
        self.received = b""
        self.sock.sendall(PREFACE + frames.SettingsFrame(0).serialize())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def headers(self, stream, fields, flags=("END_HEADERS", "END_STREAM")):
        frame = frames.HeadersFrame(stream, data=self.encoder.encode(fields))
        for flag in flags:
            frame.flags.add(flag)
        return frame.serialize()

    def send(self, data):
        """False: the router has closed."""
        try:
            self.sock.sendall(data)
            return True
        except OSError:
            return False

    def read(self):
        """All that has come so far."""
        self.sock.setblocking(False)
        with contextlib.suppress(BlockingIOError, OSError):
            while data := self.sock.recv(65536):
                self.received += data
        self.sock.settimeout(20)

    def read_to_end(self):
        with contextlib.suppress(ConnectionResetError):
            while data := self.sock.recv(65536):
                self.received += data
        return self.frames()

    def frames(self):
        data, found = memoryview(self.received), []
        while len(data) >= 9:
            frame, size = frames.Frame.parse_frame_header(data[:9])
            if len(data) < 9 + size:
                break
            frame.parse_body(data[9:9 + size])
            found.append(frame)
            data = data[9 + size:]
        return found

    def until(self, kind, stream=None):
        """The first frame of that kind."""
        def found():
            self.read()
            return next((f for f in self.frames() if isinstance(f, kind) and stream in (None, f.stream_id)), None)
        return wait_until(found, f"a {kind.__name__}")


# ---------------------------------------------------------------- what is sound


@pytest.fixture
def tls_router(start_router, ca):
    return start_router(certificates=[ca.issue("a.example")])


def tls_client(ca, *protocols):
    context = ca.client_context()
    context.set_alpn_protocols(protocols)
    return context


def test_alpn_chooses_the_protocol(tls_router, ca, homeserver):
    for offered, chosen in ((["http/1.1", "h2"], "h2"), (["h2"], "h2"), (["http/1.1"], "http/1.1"), ([], None)):
        context = tls_client(ca, *offered) if offered else ca.client_context()
        with contextlib.closing(connect(tls_router.federation, context, "a.example")) as sock:
            assert sock.selected_alpn_protocol() == chosen
    with Peer(tls_router.federation, tls_client(ca, "h2"), "a.example") as peer:
        assert peer.request(path="/_matrix/key/v2/server").status == 200
    answer = exchange(tls_router.federation, request_bytes("GET", "/_matrix/key/v2/server", [("Host", "a.example")]),
                      tls=tls_client(ca, "http/1.1"), server_name="a.example")
    assert answer.status == 200 and len(homeserver.of("/_matrix/key/")) == 2


def test_a_preface_chooses_it_without_tls_however_it_comes(router, homeserver):
    with contextlib.closing(connect(router.federation)) as sock:
        for byte in PREFACE + frames.SettingsFrame(0).serialize():
            sock.sendall(bytes([byte]))
            time.sleep(0.001)
        assert frames.Frame.parse_frame_header(memoryview(sock.recv(9)))[0].type == frames.SettingsFrame.type
    for start in (b"P", b"PR"):  # of a method that begins likewise
        with contextlib.closing(connect(router.federation)) as sock:
            sock.sendall(start)
            time.sleep(0.05)
            sock.sendall(b"PROPFIND /health HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"[len(start):])
            assert sock.recv(65536).startswith(b"HTTP/1.1 404 ")


def test_there_is_no_upgrade_to_it(router, homeserver, untouched):
    with untouched(homeserver):
        answer = exchange(router.federation, request_bytes("GET", VERSION, [
            ("Host", "a.example"), ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")]))
        assert answer.status == 501


def test_requests_and_answers_pass_as_over_http_1(router, homeserver):
    homeserver.on(VERSION, Answer(203, b"body", [("X-Own", "one two"), ("Connection", "X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "1"), ("X-KEPT", "é")]))
    with Peer(router.federation) as peer:
        for target in (VERSION, VERSION + "?a=%2f&b=..//", f"{VERSION}/"):
            answer = peer.request(path=target, headers=[("x-a", "1"), ("te", "trailers"), ("cookie", "a=1"), ("cookie", "b=2")])
            assert (answer.status, answer.body) == (203, b"body")
            assert answer.headers.get("x-own") == "one two" and answer.headers.get("x-kept") is not None
            assert not {"connection", "x-hop", "keep-alive", "transfer-encoding"} & {name for name, _ in answer.headers}
            request = homeserver.requests[-1]
            assert request.target == target.encode() and request.headers.all("host") == ["a.example"]
            assert request.headers.get("x-a") == "1" and request.headers.get("te") is None
            assert request.headers.all("cookie") in (["a=1", "b=2"], ["a=1; b=2"])
        for status, body in ((204, b""), (304, b""), (404, b"{}"), (500, b"x" * 100000)):
            homeserver.on(VERSION, Answer(status, body))
            answer = peer.request()
            assert (answer.status, answer.body) == (status, body)
        head = peer.request("HEAD", "/_matrix/key/v2/server")
        assert head.status == 200 and head.body == b""


def test_a_signed_transaction_arrives_byte_for_byte_with_a_length(router, homeserver, origin):
    content = origin.transaction({"edu_type": "m.typing", "content": {"ü": [1, "/"]}})
    for padding in (0, 300_000):
        content["padding"] = "x" * padding
        target, body = f"{FEDERATION}/send/h2{padding}", canonical(content)
        raw = origin.raw_request("a.example", "PUT", target, content)
        authorization = re.search(rb"Authorization: (.*)\r\n", raw)[1].decode()
        for length in ([], [("content-length", str(len(body)))]):
            with Peer(router.federation) as peer:
                answer = peer.request("PUT", target, [("authorization", authorization), *length], body)
            assert answer.status == 200, answer.body
            request = homeserver.sends[-1]
            assert request.body == body and request.headers.all("content-length") == [str(len(body))]
            assert request.headers.get("transfer-encoding") is None


def test_many_requests_at_once_are_answered_each_in_its_time(router, homeserver):
    homeserver.on(FEDERATION, lambda request: Answer(200, request.target, delay_s=1.0 if b"slow" in request.target else 0))
    with Peer(router.federation) as peer:
        slow = peer.begin(path=f"{FEDERATION}/slow")
        quick = [peer.begin(path=f"{FEDERATION}/{number}") for number in range(50)]
        for number, stream in enumerate(quick):
            assert peer.wait(stream).body == f"{FEDERATION}/{number}".encode()
        assert peer.streams[slow][2] is None
        assert peer.wait(slow).body == f"{FEDERATION}/slow".encode()


def test_a_large_download_passes_a_small_window(router, homeserver):
    media = os.urandom(20 << 20)
    homeserver.on(MEDIA, Answer(200, media))
    for window in (65535, 2000):
        size = len(media) if window == 65535 else 1 << 20
        homeserver.on(MEDIA, Answer(200, media[:size]))
        with Peer(router.federation, window=window) as peer:
            answer = peer.request(path=MEDIA)
            assert answer.status == 200 and answer.body == media[:size]
            assert peer.goaway is None


def test_a_slow_source_may_be_told_of_each_piece(router, homeserver):
    """WINDOW_UPDATEs come while no output waits, for each DATA two."""
    def trickle(request):
        return Answer(200, b"x" * 2_000_000, chunked=True)
    homeserver.on(MEDIA, trickle)
    with Raw(router) as raw:
        big = frames.WindowUpdateFrame(0, window_increment=1 << 24).serialize()
        assert raw.send(big + raw.headers(1, pseudo(path=MEDIA)))
        size = n_sent = 0
        while size < 2_000_000:
            raw.read()
            found = [f for f in raw.frames() if isinstance(f, frames.DataFrame)]
            size = sum(len(f.data) for f in found)
            while n_sent < 2 * len(found):
                assert raw.send(frames.WindowUpdateFrame(1 if n_sent % 2 else 0, window_increment=16384).serialize())
                n_sent += 1
            assert not any(isinstance(f, frames.GoAwayFrame) for f in raw.frames())


def test_a_large_upload_waits_for_a_slow_homeserver(router, homeserver):
    body = os.urandom(3 << 20)
    homeserver.on(FEDERATION, lambda request: Answer(200, str(len(request.body)).encode()))
    with Peer(router.federation) as peer:
        assert peer.request("POST", f"{FEDERATION}/x", body=body).body == str(len(body)).encode()
        assert peer.request("POST", f"{FEDERATION}/x", [("content-length", str(len(body)))], body).status == 200
    assert [r.body == body for r in homeserver.of(f"{FEDERATION}/x")] == [True, True]


def test_an_early_answer_comes_whole_and_the_body_is_not_wanted(router, homeserver, untouched):
    with untouched(homeserver), Peer(router.federation) as peer:
        stream = peer.begin("POST", "/_matrix/client/v3/x", ends=False)
        assert peer.wait(stream).status == 404
        with contextlib.suppress(Exception):
            peer.send_body(stream, b"x" * 60000, ends=False)
        assert peer.request(path="/health").body == b"OK\n"  # and the connection goes on


def test_a_peer_that_goes_is_no_trouble(router, homeserver):
    homeserver.on(VERSION, Answer(200, b"{}", delay_s=0.5))
    for ends in (True, False):
        with Peer(router.federation) as peer:
            for _ in range(20):
                peer.begin(path=VERSION, ends=ends)
    with Peer(router.federation) as peer:
        streams = [peer.begin() for _ in range(15)]
        for stream in streams[1:]:
            peer.h2.reset_stream(stream)
        peer.flush()
        assert peer.wait(streams[0]).status == 200


def test_a_stopping_router_answers_what_is_under_way(start_router, homeserver):
    router = start_router()
    arrived = threading.Event()
    def answer(request):
        arrived.set()
        return Answer(200, b"late", delay_s=1)
    homeserver.on(VERSION, answer)
    with Raw(router) as busy, Raw(router) as idle:
        idle.send(idle.headers(1, pseudo(path="/health")))
        idle.until(frames.DataFrame)
        busy.send(busy.headers(1, pseudo()))
        assert arrived.wait(10)
        router.signal(signal.SIGTERM)
        for raw, body in ((idle, b"OK\n"), (busy, b"late")):
            found = raw.read_to_end()
            assert [f.error_code for f in found if isinstance(f, frames.GoAwayFrame)] == [0]
            assert b"".join(f.data for f in found if isinstance(f, frames.DataFrame)) == body
    assert router.wait_ended() == 0


def test_curl_speaks_it(tls_router, ca, homeserver):
    run = subprocess.run(["curl", "-sS", "--http2", "--cacert", str(ca.file), "-w", "%{http_version} %{http_code}", "-m", "20",
                          "--resolve", f"a.example:{tls_router.federation[1]}:127.0.0.1", "-H", "Host: a.example",
                          f"https://a.example:{tls_router.federation[1]}/health"], capture_output=True, check=True)
    assert run.stdout == b"OK\n2 200"


# ---------------------------------------------------------------- what would be read in two ways


def without(name):
    return [field for field in pseudo() if field[0] != name]


def with_(**changes):
    return [(name, changes.get(name[1:], value)) for name, value in pseudo()]


BAD_HEADS = {
    "a line end in a value": pseudo() + [("x-a", "b\r\nx-b: c")],
    "a line feed in a value": pseudo() + [("x-a", "b\nc")],
    "a CR in a value": pseudo() + [("x-a", "b\rc")],
    "a NUL in a value": pseudo() + [("x-a", "b\0c")],
    "a line end in a name": pseudo() + [("x-a\r\nx-b", "c")],
    "a colon in a name": pseudo() + [("x-a:b", "c")],
    "a space in a name": pseudo() + [("x a", "c")],
    "a NUL in a name": pseudo() + [("x\0a", "c")],
    "an empty name": pseudo() + [("", "c")],
    "an upper-case name": pseudo() + [("X-A", "c")],
    "an underscore": pseudo() + [("x_a", "c")],
    "an underscore twin": pseudo() + [("content_length", "3")],
    "transfer-encoding": pseudo() + [("transfer-encoding", "chunked")],
    "connection": pseudo() + [("connection", "close")],
    "connection that names a header": pseudo() + [("connection", "authorization")],
    "keep-alive": pseudo() + [("keep-alive", "1")],
    "proxy-connection": pseudo() + [("proxy-connection", "close")],
    "upgrade": pseudo() + [("upgrade", "h2c")],
    "te of more than trailers": pseudo() + [("te", "gzip")],
    "two lengths": pseudo() + [("content-length", "0"), ("content-length", "0")],
    "a length with a sign": pseudo() + [("content-length", "+0")],
    "a length that is none": pseudo() + [("content-length", "x")],
    "a negative length": pseudo() + [("content-length", "-1")],
    "a length without a body": with_(method="PUT") + [("content-length", "3")],
    "a line end in the path": with_(path=f"{VERSION} HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a space in the path": with_(path=f"{VERSION} x"),
    "a tab in the path": with_(path=f"{VERSION}\tx"),
    "a fragment": with_(path=f"{VERSION}#x"),
    "8-bit in the path": with_(path=f"{VERSION}/\xe9"),
    "a DEL in the path": with_(path=f"{VERSION}/\x7f"),
    "a path that is none": with_(path="x"),
    "an absolute path": with_(path=f"http://a.example{VERSION}"),
    "an empty path": with_(path=""),
    "an asterisk with GET": with_(path="*"),
    "no path": without(":path"),
    "no method": without(":method"),
    "no scheme": without(":scheme"),
    "no authority and no host": without(":authority"),
    "two paths": pseudo() + [(":path", VERSION)],
    "two methods": [(":method", "GET")] + pseudo(),
    "two authorities": [(":authority", "a.example")] + pseudo(),
    "an unknown pseudo-header": [(":x", "1")] + pseudo(),
    "a pseudo-header of answers": [(":status", "200")] + pseudo(),
    "a pseudo-header after others": without(":path") + [("x-a", "1"), (":path", VERSION)],
    "a lower-case method": with_(method="get"),
    "a method with a space": with_(method="GET /x"),
    "a method with a line end": with_(method="GET\r\n"),
    "CONNECT": [(":method", "CONNECT"), (":authority", "a.example:443")],
    "CONNECT with a path": with_(method="CONNECT"),
    "a user in the authority": with_(authority="evil@a.example"),
    "a space in the authority": with_(authority="a.example b"),
    "a line end in the authority": with_(authority="a.example\r\nX-A: b"),
    "a host that is another": pseudo() + [("host", "b.example")],
    "two hosts": without(":authority") + [("host", "a.example"), ("host", "a.example")],
    "an empty host": without(":authority") + [("host", "")],
    "another scheme": with_(scheme="https"),
    "a scheme that is none": with_(scheme="x y"),
}


def test_what_could_be_read_in_two_ways_is_reset_and_goes_no_further(router, homeserver, untouched):
    before = router.metric("freshet_refused_total", reason="bad_http")
    with untouched(homeserver):
        for name, fields in BAD_HEADS.items():
            with Raw(router) as raw:
                raw.send(raw.headers(1, fields))
                assert raw.until(frames.RstStreamFrame, 1).error_code == 1, name
                assert not any(isinstance(f, (frames.HeadersFrame, frames.GoAwayFrame)) for f in raw.frames()), name
                # What was refused cost one stream, not the connection.
                raw.send(raw.headers(3, pseudo(path="/health")))
                assert raw.until(frames.DataFrame, 3).data == b"OK\n", name
    wait_until(lambda: router.metric("freshet_refused_total", reason="bad_http") - before >= len(BAD_HEADS), "all are counted")


@pytest.mark.parametrize("header", (b"", proxy_header("203.0.113.5")), ids=("plain", "PROXY header"))
def test_a_trusted_proxy_in_cleartext_says_what_scheme_its_client_had(start_router, homeserver, untouched, header):
    router = start_router(trusted_proxies=["127.0.0.2/32"])
    before = router.metric("freshet_refused_total", reason="bad_http")
    sock = socket.create_connection(router.federation, timeout=20, source_address=("127.0.0.2", 0))
    sock.sendall(header)
    with Raw(router, sock) as raw:
        for stream, scheme in ((1, "https"), (3, "http")):
            raw.send(raw.headers(stream, pseudo(scheme=scheme, path="/health")))
            assert raw.until(frames.DataFrame, stream).data == b"OK\n"
        with untouched(homeserver):
            raw.send(raw.headers(5, pseudo(scheme="ftp")))
            assert raw.until(frames.RstStreamFrame, 5).error_code == 1
    with untouched(homeserver), Raw(router) as raw:  # from 127.0.0.1, which is not trusted
        raw.send(raw.headers(1, pseudo(scheme="https")))
        assert raw.until(frames.RstStreamFrame, 1).error_code == 1
        assert not any(isinstance(f, frames.HeadersFrame) for f in raw.frames())
    wait_until(lambda: router.metric("freshet_refused_total", reason="bad_http") - before == 2, "both are counted")


def test_with_tls_the_scheme_is_https_whoever_says_otherwise(start_router, ca, homeserver, untouched):
    router = start_router(certificates=[ca.issue("a.example")], trusted_proxies=["127.0.0.0/8"])
    for scheme, end in (("http", PROTOCOL_ERROR), ("https", None)):
        with untouched(homeserver), Peer(router.federation, tls_client(ca, "h2"), "a.example") as peer:
            peer.scheme = scheme
            answer = peer.request(path="/health")
            assert answer == end if end else answer.status == 200
    assert router.wait_metric("freshet_refused_total", reason="bad_http") == 1


def test_only_other_servers_may_speak_it(router):
    for address in (router.operations, router.admin_socket):
        with contextlib.closing(connect(address)) as sock:
            sock.sendall(PREFACE + frames.SettingsFrame(0).serialize())
            data = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := sock.recv(65536):
                    data += piece
            assert data.startswith(b"HTTP/1.1 400 ")


def test_bodies_that_are_not_as_announced_are_reset(router, homeserver, origin):
    for size, sent in ((3, b"abcd"), (4, b"abc"), (0, b"a")):
        with Raw(router) as raw:
            fields = with_(method="PUT", path=f"{FEDERATION}/send/x") + [("content-length", str(size)), ("authorization", "X-Matrix x")]
            raw.send(raw.headers(1, fields, ("END_HEADERS",)))
            data = frames.DataFrame(1, data=sent)
            data.flags.add("END_STREAM")
            raw.send(data.serialize())
            wait_until(lambda raw=raw: (raw.read(), any(isinstance(f, frames.RstStreamFrame) or getattr(f, "flags", None) and isinstance(f, frames.HeadersFrame) for f in raw.frames()))[1], "an end")
    assert homeserver.sends == []


def test_answers_that_are_not_resets(router, homeserver, untouched):
    with untouched(homeserver), Peer(router.federation) as peer:
        assert peer.request("TRACE").status == 501
        assert peer.request(path=f"{FEDERATION}/{'a' * 9000}").status == 414
        assert peer.request("PUT", headers=[("expect", "200-ok")], body=b"").status == 417
        for path in ("/_matrix/client/v3/sync", "/_synapse/admin/v1/users/@a:b", f"{FEDERATION}/../../client/versions", "/"):
            assert peer.request(path=path).status == 404
        assert peer.request(authority="b.example").status == 421


def test_host_stands_in_for_authority(router, homeserver):
    with Raw(router) as raw:
        raw.send(raw.headers(1, without(":authority") + [("host", "a.example")]))
        raw.until(frames.HeadersFrame, 1)
    assert homeserver.requests[-1].headers.all("host") == ["a.example"]


# ---------------------------------------------------------------- floods


def cpu_ms(pid):
    """Of all its threads."""
    return sum(int(open(path, encoding="ascii").read().split()[0]) for path in glob.glob(f"/proc/{pid}/task/*/schedstat")) / 1e6


def status_kib(pid, name):
    return int(re.search(name + r":\s+(\d+)", open(f"/proc/{pid}/status", encoding="ascii").read())[1])


def begin_peak(pid):
    """KiB resident now, from which VmHWM then rises."""
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    return status_kib(pid, "VmRSS")


def padded_empty(stream):
    frame = frames.DataFrame(stream, data=b"", pad_length=0)
    frame.flags.add("PADDED")
    return frame.serialize()


OPEN = 1  # a stream whose request waits for its body


def many(frame_of):
    return lambda raw, number: frame_of(number)


def unknown_frame(number):
    return b"\0\0\0" + bytes([0xbb, 0]) + b"\0\0\0\0"


def priority_update(number):
    return b"\0\0\x07" + bytes([0x10, 0]) + b"\0\0\0\0" + struct.pack(">I", OPEN) + b"u=1"


def priority(number):
    return frames.PriorityFrame(2 * number + 101, depends_on=0, stream_weight=1).serialize()


def settings(number):
    return frames.SettingsFrame(0, settings={3: number}).serialize()


def settings_ack(number):
    return frames.SettingsFrame(0, flags=["ACK"]).serialize()


def ping(number):
    return frames.PingFrame(0, opaque_data=struct.pack(">Q", number)).serialize()


def ping_ack(number):
    return frames.PingFrame(0, opaque_data=b"12345678", flags=["ACK"]).serialize()


def window_update(number):
    return frames.WindowUpdateFrame(0, window_increment=1).serialize()


def stream_window_update(number):
    return frames.WindowUpdateFrame(OPEN, window_increment=1).serialize()


def empty_data(number):
    return frames.DataFrame(OPEN, data=b"").serialize()


def padded_empty_data(number):
    return padded_empty(OPEN)


def rapid_reset(raw, number):
    stream = 2 * number + 3
    return raw.headers(stream, pseudo()) + frames.RstStreamFrame(stream, error_code=8).serialize()


def reset_of_nothing(raw, number):
    return frames.RstStreamFrame(OPEN, error_code=8).serialize()


def made_you_reset(raw, number):
    stream = 2 * number + 3
    return (raw.headers(stream, with_(method="POST"), ("END_HEADERS",)) +
            frames.WindowUpdateFrame(stream, window_increment=(1 << 31) - 1).serialize())


def bad_heads(raw, number):
    return raw.headers(2 * number + 3, pseudo() + [("x_a", "b")])


def zero_window_update(raw, number):
    stream = 2 * number + 3
    return raw.headers(stream, with_(method="POST"), ("END_HEADERS",)) + b"\0\0\4\x08\0" + struct.pack(">II", stream, 0)


def too_many_streams(raw, number):
    return raw.headers(2 * number + 3, with_(method="POST", path="/_matrix/federation/v1/send/x") + [("authorization", "X-Matrix x")],
                       ("END_HEADERS",))


def empty_continuations(raw, number):
    if number == 0:
        return raw.headers(3, pseudo(), ())
    return frames.ContinuationFrame(3, data=b"").serialize()


def continuations(raw, number):
    if number == 0:
        return raw.headers(3, pseudo(), ())
    return frames.ContinuationFrame(3, data=raw.encoder.encode([(f"x-{number}", "y" * 1000)])).serialize()


def unfolding(raw):
    """A block of 16 KiB that is 60 MiB of fields: one of 3.9 KiB, put into the table, and 12,000 of a byte each."""
    field = [("x-bomb", "b" * 3900)]
    return raw.encoder.encode(field) + raw.encoder.encode(field) * 12000


def block(stream, data, *flags):
    frame = frames.HeadersFrame(stream, data=data)
    for flag in ("END_HEADERS", *flags):
        frame.flags.add(flag)
    return frame.serialize()


def header_bomb(raw, number):
    return block(2 * number + 3, raw.encoder.encode(pseudo()) + unfolding(raw))


REFUSED_FROM = 110  # streams that wait for a body are more than are allowed


def refused_header_bomb(raw, number):
    """On streams that the library only passes over."""
    if number < REFUSED_FROM:
        return too_many_streams(raw, number)
    return block(2 * number + 3, raw.encoder.encode(pseudo()) + unfolding(raw))


def refused_many_fields(raw, number):
    if number < REFUSED_FROM:
        return too_many_streams(raw, number)
    return many_fields(raw, number)


def bomb_behind_a_bad_field(raw, number):
    """The library passes over what follows a field that is none."""
    return block(2 * number + 3, raw.encoder.encode(pseudo() + [("X-A", "b")]) + unfolding(raw))


def trailer_bomb(raw, number):
    return block(OPEN, unfolding(raw), "END_STREAM")


def push_promises(number):
    return frames.PushPromiseFrame(OPEN, 2, data=b"\x82", flags=["END_HEADERS"]).serialize()


def data_of_no_stream(number):
    return frames.DataFrame(2 * number + 101, data=b"x").serialize()


def many_fields(raw, number):
    return raw.headers(2 * number + 3, pseudo() + [(f"x{i}", "") for i in range(97)])


def goaways(number):
    return frames.GoAwayFrame(0).serialize()


# what: (a frame, or some that belong together; what is counted; the code of GOAWAY)
FLOODS = {
    "unknown frames": (many(unknown_frame), "h2_flood", CALM),
    "PRIORITY": (many(priority), "h2_flood", CALM),
    "PRIORITY_UPDATE": (many(priority_update), "h2_flood", CALM),
    "SETTINGS": (many(settings), "h2_flood", CALM),
    "acknowledged SETTINGS": (many(settings_ack), "bad_http", PROTOCOL_ERROR),
    "PING": (many(ping), "h2_flood", CALM),
    "acknowledged PING": (many(ping_ack), "h2_flood", CALM),
    "WINDOW_UPDATE of the connection": (many(window_update), "h2_flood", CALM),
    "WINDOW_UPDATE of a stream": (many(stream_window_update), "h2_flood", CALM),
    "empty DATA": (many(empty_data), "h2_flood", CALM),
    "empty DATA with padding": (many(padded_empty_data), "h2_flood", CALM),
    "GOAWAY": (many(goaways), "h2_flood", CALM),
    "rapid reset": (rapid_reset, "h2_resets", CALM),
    "RST_STREAM of the same stream": (reset_of_nothing, "h2_resets", CALM),
    "streams that we are made to reset": (made_you_reset, "h2_resets", CALM),
    "windows opened by nothing": (zero_window_update, "bad_http", PROTOCOL_ERROR),
    "bad heads": (bad_heads, "h2_resets", CALM),
    "streams beyond the limit": (too_many_streams, "h2_resets", CALM),
    "empty CONTINUATION": (empty_continuations, "bad_http", PROTOCOL_ERROR),
    "CONTINUATION without end": (continuations, "bad_http", PROTOCOL_ERROR),
    "small heads that unfold": (header_bomb, "headers_too_large", CALM),
    "101 fields": (many_fields, "headers_too_large", CALM),
    "small heads that unfold, refused": (refused_header_bomb, "headers_too_large", CALM),
    "101 fields, refused": (refused_many_fields, "headers_too_large", CALM),
    "small heads that unfold, behind a bad field": (bomb_behind_a_bad_field, "headers_too_large", CALM),
    "small trailers that unfold": (trailer_bomb, "headers_too_large", CALM),
    "PUSH_PROMISE": (many(push_promises), "bad_http", PROTOCOL_ERROR),
    "DATA of no stream": (many(data_of_no_stream), "bad_http", PROTOCOL_ERROR),
}


WAITING_MAX_KIB = 1024 + 100 * 64  # a MiB, and for each stream one piece more


@pytest.mark.parametrize("size", (60_000, 5_000_000), ids=("ended answers", "answers that go on"))
def test_answers_that_are_not_taken_hold_no_more_than_they_may_in_a_build_without_sanitizers(start_router, homeserver, size):
    router = start_router(workers=1, build=plain_build())
    homeserver.on(MEDIA, Answer(200, b"x" * size))
    warm(router)
    before = begin_peak(router.pid)
    with Raw(router) as raw:
        raw.send(frames.SettingsFrame(0, settings={4: 0}).serialize())  # no window
        n_before = len(homeserver.of(MEDIA))
        raw.send(b"".join(raw.headers(2 * number + 1, pseudo(path=MEDIA)) for number in range(100)))
        wait_until(lambda: sum(isinstance(f, frames.HeadersFrame) for f in (raw.read(), raw.frames())[1]) == 100, "all answers begin")
        assert len(homeserver.of(MEDIA)) - n_before == 100
        time.sleep(1)  # for what might still come
        peak = status_kib(router.pid, "VmHWM") - before
        print(f"FIGURES 100 answers of {size} bytes: {peak} KiB")
        assert not any(isinstance(f, (frames.DataFrame, frames.GoAwayFrame)) and getattr(f, "data", b"x") for f in raw.frames())
        assert peak <= WAITING_MAX_KIB + 4 * 1024  # the rest of 100 requests
        raw.send(frames.SettingsFrame(0, settings={4: 60_000}).serialize() +
                 frames.WindowUpdateFrame(0, window_increment=6_000_000).serialize())
        def n_bytes():
            raw.read()
            return sum(len(f.data) for f in raw.frames() if isinstance(f, frames.DataFrame))
        wait_until(lambda: n_bytes() == 6_000_000, "they go on")


def begin_flood(raw, homeserver):
    """A request whose body does not come, which some of the floods go on about."""
    homeserver.on(FEDERATION, Answer(200, b"{}", cut="hang"))
    raw.send(raw.headers(OPEN, with_(method="POST", path=f"{FEDERATION}/x"), ("END_HEADERS",)))
    raw.until(frames.SettingsFrame)


def warm(router):
    """What is allocated by what is first used, and stays, is no flood's."""
    with Peer(router.federation) as peer:
        for _ in range(20):
            assert peer.request(path="/health").status == 200


def flood(router, homeserver, name):
    """The frames that came back, and what it cost the router: ms of CPU and KiB."""
    with Raw(router) as raw:
        begin_flood(raw, homeserver)
        data = b"".join(FLOODS[name][0](raw, number) for number in range(FRAMES_MAX))
        cpu, rss = cpu_ms(router.pid), begin_peak(router.pid)
        raw.send(data)
        found = raw.read_to_end()
    cpu, rss = cpu_ms(router.pid) - cpu, status_kib(router.pid, "VmHWM") - rss
    print(f"FIGURES {name}: {cpu:.1f} ms of CPU, {rss} KiB")
    return found, cpu, rss


def check_end(router, found, name):
    _, reason, code = FLOODS[name]
    assert [f.error_code for f in found if isinstance(f, frames.GoAwayFrame)] == [code]
    assert router.wait_metric("freshet_refused_total", reason=reason) >= 1
    with Peer(router.federation) as peer:
        assert peer.request(path="/health").status == 200


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_the_connection_soon(start_router, homeserver, name):
    router = start_router(workers=1)
    found, _, _ = flood(router, homeserver, name)
    check_end(router, found, name)


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_costs_little_in_a_build_without_sanitizers(start_router, homeserver, name):
    assert not is_sanitized(plain_build())
    router = start_router(workers=1, build=plain_build())
    warm(router)
    found, cpu, rss = flood(router, homeserver, name)
    check_end(router, found, name)
    assert cpu <= CPU_MAX_MS
    assert rss <= GROWTH_MAX_KIB
