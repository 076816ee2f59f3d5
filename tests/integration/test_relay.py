"""What is relayed arrives byte for byte; what is not, not at all; whatever the homeserver does, nothing hangs."""
import concurrent.futures
import contextlib
import os
import re
import socket
import threading
import time

import pytest

from harness import (Answer, Homeserver, Wire, assert_closed, assert_refused, canonical, connect, exchange, read_answer,
                     request_bytes, wait_until, x_matrix)

FEDERATION = "/_matrix/federation/v1"

TARGETS = {
    "a plain path": f"{FEDERATION}/version",
    "a query": f"{FEDERATION}/backfill/!room:a.example?v=$one&v=$two&limit=10",
    "an empty query": f"{FEDERATION}/version?",
    "percent-encoding in both cases": f"{FEDERATION}/event/%24a%2Fb%2fc",
    "an encoded slash inside a segment": "/_matrix/key/v2/query/b%2fexample",
    "characters that need no encoding": f"{FEDERATION}/state/!a:b?event_id=$x~y'()*+,;=@",
    "a trailing slash": f"{FEDERATION}/version/",
    "dots and slashes in the query": f"{FEDERATION}/query/profile?field=/../..//",
    "the key path": "/_matrix/key/v2/server",
    "old media": "/_matrix/media/v3/download/a.example/abc",
    "user info": f"{FEDERATION}/openid/userinfo?access_token=x",
    "dots that are encoded": f"{FEDERATION}/%2e%2e/%2E/x",
    "version 2": "/_matrix/federation/v2/send_join/!room:a/$event",
}

NOT_RELAYED = {
    "the client API": "/_matrix/client/v3/sync",
    "the client API's versions": "/_matrix/client/versions",
    "the admin API": "/_synapse/admin/v1/users/@alice:a.example",
    "the replication API": "/_synapse/replication/fed_send_edu/m.typing/1",
    "the root": "/",
    "something else": "/index.html",
    "a prefix that only begins so": "/_matrix/federationx/v1/version",
    "two dots": f"{FEDERATION}/../../client/versions",
    "two dots at the end": "/_matrix/federation/..",
    "one dot": "/_matrix/./client/versions",
    "a dot segment inside": "/_matrix/federation/./v1/version",
    "an empty segment": "/_matrix/federation//v1/version",
    "an empty segment first": "//_matrix/federation/v1/version",
    "a backslash": "/_matrix/federation\\v1/version",
    "a backslash later": f"{FEDERATION}/..\\version",
    "non-ASCII": f"{FEDERATION}/".encode() + b"\xc3\xa9",
}

BAD_PATHS = {name for name in NOT_RELAYED if name.startswith(("two dots", "one dot", "a dot", "an empty", "a backslash"))}

HOST = "Host: a.example\r\n"
EXTENSION = ";" + "a" * 255  # 256 bytes


def with_headers(n):
    return f"GET {FEDERATION}/version HTTP/1.1\r\n{HOST}" + "".join(f"X-{i}: 1\r\n" for i in range(n - 1)) + "\r\n"


def with_header_bytes(n):
    """Names and values, with ": " and the line's end."""
    head = f"GET {FEDERATION}/version HTTP/1.1\r\n{HOST}X-A: "
    return head + "a" * (n - len(f"{HOST}X-A: \r\n")) + "\r\n\r\n"


def with_target(n):
    return f"GET {FEDERATION}/{'a' * (n - len(FEDERATION) - 1)} HTTP/1.1\r\n{HOST}\r\n"


def chunked_send(body):
    """A transaction's head, which nobody signed, and whatever comes as its body."""
    return (f"PUT {FEDERATION}/send/x HTTP/1.1\r\n{HOST}Authorization: X-Matrix origin=\"127.0.0.1:1\",destination=\"a.example\","
            f"key=\"ed25519:a\",sig=\"{'A' * 86}\"\r\nTransfer-Encoding: chunked\r\n\r\n{body}")


BAD_HTTP = {
    "no Host": (f"GET {FEDERATION}/version HTTP/1.1\r\n\r\n", "bad_http"),
    "two Hosts": (f"GET {FEDERATION}/version HTTP/1.1\r\n{HOST}{HOST}\r\n", "bad_http"),
    "length and chunked": (f"PUT {FEDERATION}/x HTTP/1.1\r\n{HOST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "bad_http"),
    "two lengths": (f"PUT {FEDERATION}/x HTTP/1.1\r\n{HOST}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "bad_http"),
    "two unequal lengths": (f"PUT {FEDERATION}/x HTTP/1.1\r\n{HOST}Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc", "bad_http"),
    "a length with a sign": (f"PUT {FEDERATION}/x HTTP/1.1\r\n{HOST}Content-Length: +3\r\n\r\nabc", "bad_http"),
    "a length list": (f"PUT {FEDERATION}/x HTTP/1.1\r\n{HOST}Content-Length: 3, 3\r\n\r\nabc", "bad_http"),
    "an unknown transfer coding": (f"PUT {FEDERATION}/x HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "bad_http"),
    "chunked twice": (f"PUT {FEDERATION}/x HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "bad_http"),
    "chunked on 1.0": (f"PUT {FEDERATION}/x HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "bad_http"),
    "an underscore twin of a framing header": (f"PUT {FEDERATION}/x HTTP/1.1\r\n{HOST}Content_Length: 3\r\nContent-Length: 3\r\n\r\nabc", "bad_http"),
    "a space before the colon": (f"GET {FEDERATION}/version HTTP/1.1\r\n{HOST}X-A : b\r\n\r\n", "bad_http"),
    "a folded header": (f"GET {FEDERATION}/version HTTP/1.1\r\n{HOST}X-A: b\r\n c\r\n\r\n", "bad_http"),
    "a control character in a value": (f"GET {FEDERATION}/version HTTP/1.1\r\n{HOST}X-A: b\x01c\r\n\r\n", "bad_http"),
    "absolute form with another authority": (f"GET http://b.example{FEDERATION}/version HTTP/1.1\r\n{HOST}\r\n", "bad_http"),
    "HTTP/0.9": (f"GET {FEDERATION}/version\r\n\r\n", "bad_http"),
    "an upgrade": (f"GET {FEDERATION}/version HTTP/1.1\r\n{HOST}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", "method_not_implemented"),
    "CONNECT": (f"CONNECT a.example:443 HTTP/1.1\r\n{HOST}\r\n", "method_not_implemented"),
    "TRACE": (f"TRACE {FEDERATION}/version HTTP/1.1\r\n{HOST}\r\n", "method_not_implemented"),
    "another expectation": (f"PUT {FEDERATION}/x HTTP/1.1\r\n{HOST}Expect: 200-ok\r\nContent-Length: 0\r\n\r\n", "expectation_failed"),
    "another expectation beside the known one": (f"PUT {FEDERATION}/x HTTP/1.1\r\n{HOST}Expect: 100-continue, x\r\nContent-Length: 0\r\n\r\n", "expectation_failed"),
    "101 headers": (with_headers(101), "headers_too_large"),
    "a byte over 32 KiB of headers": (with_header_bytes(32 * 1024 + 1), "headers_too_large"),
    "a megabyte of headers": (with_header_bytes(1 << 20), "headers_too_large"),
    "a target a byte over 8 KiB": (with_target(8 * 1024 + 1), "uri_too_long"),
    "chunk extensions of 257 bytes": (chunked_send("1" + EXTENSION + "a\r\nx\r\n0\r\n\r\n"), "bad_http"),
    "chunk extensions of 257 bytes in two chunks": (chunked_send("1;a\r\nx\r\n1" + EXTENSION[:-1] + "\r\nx\r\n0\r\n\r\n"), "bad_http"),
    "trailers without end": (chunked_send("0\r\n" + "X-Trailer: aaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 300 + "\r\n"), "headers_too_large"),
    "a chunk without a size": (chunked_send(";\r\n\r\n"), "bad_http"),
    "a chunk's size with a sign": (chunked_send("-1\r\nx\r\n0\r\n\r\n"), "bad_http"),
    "a chunk's size beyond 64 bits": (chunked_send("11111111111111111\r\nx\r\n0\r\n\r\n"), "bad_http"),
}


def plain(router, method, target, host="a.example", body=None, headers=(), **options):
    return exchange(router.federation, request_bytes(method, target, [("Host", host), *headers], body), **options)


def test_targets_arrive_as_they_were_sent(router, homeserver):
    homeserver.on("/", lambda request: Answer(200, b'{"ok":true}'))
    for name, target in TARGETS.items():
        answer = plain(router, "GET", target)
        assert (answer.status, answer.body) == (200, b'{"ok":true}'), name
        assert target.encode() in [request.target for request in homeserver.requests], name


def test_a_signed_body_arrives_byte_for_byte(router, homeserver, origin):
    contents = [origin.transaction(), origin.transaction({"edu_type": "m.typing", "content": {"ü": ["\u0001", "/", 1]}})]
    for number, content in enumerate(contents):
        assert origin.send(router, "a.example", content, txn_id=f"t%20{number}").status == 200
        request = homeserver.sends[-1]
        assert request.target == f"{FEDERATION}/send/t%20{number}".encode()
        assert request.body == canonical(content)
        assert request.headers.get("authorization").startswith("X-Matrix ")
        assert request.headers.all("content-length") == [str(len(request.body))]


def test_a_chunked_transaction_goes_out_with_a_length(router, homeserver, origin):
    content = origin.transaction({"edu_type": "m.typing", "content": {}})
    body, target = canonical(content), f"{FEDERATION}/send/chunked"
    head = origin.raw_request("a.example", "PUT", target, content, body=b"", headers=[("Transfer-Encoding", "chunked")])
    head = head.replace(b"Content-Length: 0\r\n", b"")
    raw = head + b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 7]), body[i:i + 7]) for i in range(0, len(body), 7)) + b"0\r\n\r\n"
    assert exchange(router.federation, raw).status == 200
    request = homeserver.sends[-1]
    assert request.body == body and request.headers.all("content-length") == [str(len(body))]
    assert request.headers.get("transfer-encoding") is None


def test_the_homeservers_status_headers_and_body_come_back(router, homeserver):
    for status, body in ((200, b"[]"), (403, b'{"errcode":"M_FORBIDDEN"}'), (404, b""), (429, b"{}"), (500, b"not json")):
        homeserver.on(f"{FEDERATION}/version", Answer(status, body, [("X-Own", "one two"), ("Content-Type", "text/x")]))
        answer = plain(router, "GET", f"{FEDERATION}/version")
        assert (answer.status, answer.body) == (status, body)
        assert (answer.headers.get("x-own"), answer.headers.get("content-type")) == ("one two", "text/x")


def test_hop_by_hop_headers_end_at_the_router(router, homeserver):
    homeserver.on("/", Answer(200, b"{}", [("Keep-Alive", "timeout=9"), ("X-Kept", "1")]))
    answer = plain(router, "GET", f"{FEDERATION}/version", headers=[
        ("Connection", "close, X-Hop"), ("X-Hop", "1"), ("Keep-Alive", "1"), ("Proxy-Authorization", "x"), ("TE", "trailers"), ("X-End", "2")])
    assert answer.headers.get("x-kept") == "1" and answer.headers.get("keep-alive") is None
    sent = homeserver.of(f"{FEDERATION}/version")[-1].headers
    assert [sent.get(name) for name in ("x-hop", "keep-alive", "proxy-authorization", "te")] == [None] * 4
    assert sent.get("x-end") == "2" and len(sent.all("host")) == 1


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_a_large_answer_is_streamed_whole(router, homeserver, chunked):
    body = os.urandom(8 * 1024 * 1024)
    homeserver.on("/_matrix/media/", Answer(200, body, [("Content-Type", "application/octet-stream")], chunked=chunked))
    answer = plain(router, "GET", "/_matrix/media/v3/download/a.example/big")
    assert answer.status == 200 and answer.body == body


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_another_requests_body_has_no_limit_of_the_routers(router, homeserver, chunked):
    homeserver.on(f"{FEDERATION}/upload", Answer(200, b"{}"))
    body = os.urandom(14 * 1024 * 1024)
    if chunked:
        raw = request_bytes("POST", f"{FEDERATION}/upload", [("Host", "a.example"), ("Transfer-Encoding", "chunked")])
        raw += b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    else:
        raw = request_bytes("POST", f"{FEDERATION}/upload", [("Host", "a.example")], body)
    assert exchange(router.federation, raw).status == 200
    assert homeserver.of(f"{FEDERATION}/upload")[-1].body == body


def test_a_slow_reader_holds_up_nobody(router, homeserver):
    homeserver.on("/_matrix/media/", Answer(200, os.urandom(8 * 1024 * 1024)))
    with contextlib.closing(connect(router.federation)) as slow:
        slow.sendall(request_bytes("GET", "/_matrix/media/v3/download/a.example/big", [("Host", "a.example")]))
        time.sleep(0.3)
        assert plain(router, "GET", "/_matrix/key/v2/server").status == 200
        assert len(read_answer(slow).body) == 8 * 1024 * 1024


def test_one_connection_carries_many_requests(router, homeserver):
    with contextlib.closing(connect(router.federation)) as sock:
        for _ in range(20):
            sock.sendall(request_bytes("GET", "/_matrix/key/v2/server", [("Host", "a.example")]))
            assert read_answer(sock).status == 200
    assert len(homeserver.of("/_matrix/key/")) >= 20


def test_connections_to_the_homeserver_are_used_again(router, homeserver):
    for _ in range(30):
        assert plain(router, "GET", "/_matrix/key/v2/server").status == 200
    assert homeserver.n_connections < 10


@pytest.mark.parametrize("name", NOT_RELAYED)
def test_other_paths_are_never_relayed(router, homeserver, name):
    reason = "bad_http" if name == "non-ASCII" else "bad_path" if name in BAD_PATHS else "not_relayed"
    assert_refused(router, reason, lambda: plain(router, "GET", NOT_RELAYED[name]), homeserver)


@pytest.mark.parametrize("name", BAD_HTTP)
def test_malformed_http_is_refused_and_the_connection_closed(router, homeserver, name):
    raw, reason = BAD_HTTP[name]

    def answer():
        with contextlib.closing(connect(router.federation)) as sock:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(raw.encode("latin-1"))
            answer = read_answer(sock)
            assert_closed(sock)
            return answer
    assert_refused(router, reason, answer, homeserver)


GOOD_HTTP = {
    "100 headers": with_headers(100),
    "32 KiB of headers": with_header_bytes(32 * 1024),
    "a target of 8 KiB": with_target(8 * 1024),
    "absolute form with Host's authority": f"GET http://A.example{FEDERATION}/version HTTP/1.1\r\n{HOST}\r\n",
    "chunk extensions of 256 bytes": f"PUT {FEDERATION}/x HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n1{EXTENSION}\r\nx\r\n0\r\n\r\n",
    "chunked in capital letters": f"PUT {FEDERATION}/x HTTP/1.1\r\n{HOST}Transfer-Encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "HTTP/1.0": f"GET {FEDERATION}/version HTTP/1.0\r\n{HOST}\r\n",
}


@pytest.mark.parametrize("name", GOOD_HTTP)
def test_what_is_just_within_the_limits_arrives(router, homeserver, name):
    homeserver.on(FEDERATION, Answer(200, b"{}"))
    raw = GOOD_HTTP[name].encode()
    assert exchange(router.federation, raw).status == 200
    request = homeserver.requests[-1]
    assert request.target == raw.split(b" ", 2)[1].removeprefix(b"http://A.example")
    assert request.body == (b"x" if raw.startswith(b"PUT") else b"")
    sent = [line for line in raw.split(b"\r\n\r\n")[0].split(b"\r\n")[1:] if line.startswith(b"X-")]
    assert [f"{key}: {value}".encode() for key, value in request.headers if key.startswith("X-") and key != "X-Forwarded-For"] == sent
    assert router.metric("freshet_refused_total") == 0


def test_trailers_and_chunk_extensions_end_at_the_router(router, homeserver, origin):
    content = origin.transaction()
    homeserver.on(f"{FEDERATION}/x", Answer(200, b"{}"))
    head = origin.raw_request("a.example", "PUT", f"{FEDERATION}/send/t", content, body=b"",
                              headers=[("Transfer-Encoding", "chunked"), ("Trailer", "X-Trailer")]).replace(b"Content-Length: 0\r\n", b"")
    body = canonical(content)
    chunks = b"%x;a=b\r\n%s\r\n0;c\r\nX-Trailer: 1\r\nAuthorization: X-Matrix x\r\n\r\n" % (len(body), body)
    assert exchange(router.federation, head + chunks).status == 200
    streamed = request_bytes("PUT", f"{FEDERATION}/x", [("Host", "a.example"), ("Transfer-Encoding", "chunked")])
    assert exchange(router.federation, streamed + chunks).status == 200
    for request in homeserver.sends[-1], homeserver.of(f"{FEDERATION}/x")[-1]:
        assert request.body == body
        assert request.headers.get("x-trailer") is None and request.headers.get("trailer") is None
        assert b"X-Trailer" not in request.raw and b"a=b" not in request.raw


def test_a_stream_that_turns_out_malformed_is_cut_off_upstream(router, homeserver):
    """What came before is with the homeserver, which sees that it is not whole."""
    raw = request_bytes("PUT", f"{FEDERATION}/x", [("Host", "a.example"), ("Transfer-Encoding", "chunked")])
    with contextlib.closing(connect(router.federation)) as sock:
        sock.sendall(raw + b"1\r\nx\r\n")
        wait_until(lambda: homeserver.n_bytes, "it is on its way")
        sock.sendall(b"spam\r\n")
        assert read_answer(sock).status == 400
        assert_closed(sock)
    router.wait_metric("freshet_refused_total", reason="bad_http")
    assert plain(router, "GET", "/_matrix/key/v2/server").status == 200
    assert homeserver.of(f"{FEDERATION}/x") == []


def test_an_expectation_is_met_by_the_router(router, homeserver, origin):
    content = origin.transaction()
    raw = origin.raw_request("a.example", "PUT", f"{FEDERATION}/send/t", content, headers=[("Expect", "100-continue")])
    head, body = raw.split(b"\r\n\r\n", 1)
    with contextlib.closing(connect(router.federation)) as sock:
        sock.sendall(head + b"\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert read_answer(sock).status == 200
    assert homeserver.sends[-1].body == canonical(content)
    assert homeserver.sends[-1].headers.get("expect") is None


def test_who_expects_and_is_refused_need_not_send_the_body(router, homeserver):
    def answer():
        with contextlib.closing(connect(router.federation)) as sock:
            sock.sendall(f"PUT {FEDERATION}/send/t HTTP/1.1\r\n{HOST}Expect: 100-continue\r\nContent-Length: 100\r\n\r\n".encode())
            assert (first := sock.recv(12, socket.MSG_PEEK)) == b"HTTP/1.1 401", first
            answer = read_answer(sock)
            assert_closed(sock)
            return answer
    assert_refused(router, "no_xmatrix", answer, homeserver)


def test_one_request_of_a_connection_is_in_flight_at_a_time(router, homeserver):
    homeserver.on(f"{FEDERATION}/slow", Answer(200, b"1", delay_s=1))
    homeserver.on(f"{FEDERATION}/next", Answer(200, b"2"))
    raw = [request_bytes("GET", f"{FEDERATION}/{name}", [("Host", "a.example")]) for name in ("slow", "next")]
    with contextlib.closing(connect(router.federation)) as sock:
        sock.sendall(raw[0] + raw[1])
        wait_until(lambda: homeserver.of(f"{FEDERATION}/slow"), "the first has arrived")
        time.sleep(0.5)
        assert homeserver.of(f"{FEDERATION}/next") == []
        buffered = b""
        while not buffered.endswith(b"\r\n\r\n2"):
            buffered += sock.recv(65536)
    assert buffered.count(b"HTTP/1.1 200") == 2 and buffered.index(b"\r\n\r\n1") < buffered.index(b"\r\n\r\n2")


def test_a_connection_has_10000_requests(router, homeserver):
    one = request_bytes("GET", "/health", [("Host", "a.example")])
    with contextlib.closing(connect(router.federation)) as sock:
        wire = Wire(sock)
        for number in range(10_000):
            if number % 100 == 0:
                sock.sendall(one * 100)
            _, headers = wire.head()
            assert wire.body(headers, until_end=False) == b"OK\n"
            assert (headers.get("connection") == "close") == (number == 9_999), number
        assert_closed(sock)
    assert router.metric("freshet_requests_total", **{"class": "health"}) == 10_000
    assert router.metric("freshet_refused_total") == 0 and homeserver.requests == []


def test_what_follows_a_refused_request_is_not_read(router, homeserver, untouched):
    smuggled = request_bytes("GET", f"{FEDERATION}/version", [("Host", "a.example")])
    with untouched(homeserver):
        answer = exchange(router.federation, request_bytes("GET", "/_synapse/x", [("Host", "a.example")]) + smuggled)
        assert answer.status == 404
        raw, _ = BAD_HTTP["length and chunked"]
        assert exchange(router.federation, raw.encode() + smuggled).status == 400


def test_health_is_the_routers_own(router, homeserver, untouched):
    with untouched(homeserver):
        assert plain(router, "GET", "/health", host="anything.example").status == 200
    for method, target in (("GET", "/health?x"), ("GET", "/health/"), ("PUT", "/health"), ("GET", "/%68ealth")):
        assert_refused(router, "not_relayed", lambda: plain(router, method, target), homeserver)


def test_a_host_that_is_not_served_is_misdirected(router, homeserver):
    for host in ("c.example", "a.example.", "a.example:x", "xa.example", "a.example@c.example"):
        assert_refused(router, "misdirected", lambda: plain(router, "GET", f"{FEDERATION}/version", host=host), homeserver)


def test_requests_go_to_the_server_they_name(start_router, homeserver):
    other = Homeserver("b.example:8448")
    router = start_router([homeserver, other])
    for host, server in (("a.example", homeserver), ("b.example:8448", other), ("A.Example", homeserver)):
        before = len(server.of(f"{FEDERATION}/version"))
        assert plain(router, "GET", f"{FEDERATION}/version", host=host).status == 404  # the homeserver's own answer
        assert len(server.of(f"{FEDERATION}/version")) == before + 1, host
    other.stop()


def test_the_destination_decides_and_the_host_must_be_one_of_its_hosts(start_router, homeserver, origin):
    other = Homeserver("b.example")
    router = start_router([homeserver, other])
    assert origin.send(router, "b.example", origin.transaction()).status == 200
    assert (len(homeserver.sends), len(other.sends)) == (0, 1)
    for destination, host, reason in (("b.example", "a.example", "misdirected"), ("b.example", "c.example", "misdirected"),
                                      ("c.example", "a.example", "wrong_destination"),
                                      ("A.example", "a.example", "wrong_destination")):  # names are case-sensitive
        assert_refused(router, reason, lambda: origin.send(router, destination, origin.transaction(), host=host), homeserver, other)
    content = origin.transaction()
    assert_refused(router, "wrong_destination", lambda: origin.send(
        router, "a.example", content, txn_id="t",
        headers=[("Authorization", x_matrix(origin.key, origin.name, "b.example", "PUT", f"{FEDERATION}/send/t", content))]), homeserver, other)
    other.stop()


def test_a_delegated_name_is_not_a_host_and_a_host_with_its_port_comes_first(start_router, origin):
    a, b = Homeserver("a.example"), Homeserver("b.example")
    router = start_router([a, b])
    router.config["servers"][0]["hosts"] = ["matrix.example"]
    router.config["servers"][1]["hosts"] = ["matrix.example:8449"]
    router.write_config()
    router.restart()
    for host, server in (("matrix.example", a), ("matrix.example:8448", a), ("matrix.example:8449", b)):
        before = len(server.of(f"{FEDERATION}/version"))
        plain(router, "GET", f"{FEDERATION}/version", host=host)
        assert len(server.of(f"{FEDERATION}/version")) == before + 1, host
    assert origin.send(router, "a.example", origin.transaction(), host="matrix.example:8448").status == 200
    assert_refused(router, "misdirected", lambda: plain(router, "GET", f"{FEDERATION}/version"), a, b)
    assert_refused(router, "misdirected", lambda: origin.send(router, "a.example", origin.transaction()), a, b)
    assert_refused(router, "misdirected", lambda: origin.send(router, "b.example", origin.transaction(), host="matrix.example"), a, b)
    a.stop()
    b.stop()


def test_without_a_destination_the_host_decides(start_router, homeserver, origin):
    other = Homeserver("b.example")
    router = start_router([homeserver, other])
    content = origin.transaction()

    def send(host):
        authorization = x_matrix(origin.key, origin.name, "b.example", "PUT", f"{FEDERATION}/send/t", content, destination=None)
        return origin.send(router, "b.example", content, txn_id="t", host=host, authorization=authorization)
    assert send("b.example").status == 200
    assert [len(homeserver.sends), len(other.sends)] == [0, 1] and other.sends[0].body == canonical(content)
    assert router.metric("freshet_unjudged_total") == 0
    assert_refused(router, "misdirected", lambda: send("c.example"), homeserver, other)
    assert_refused(router, "bad_signature", lambda: send("a.example"), homeserver, other)
    other.stop()


def test_a_homeserver_that_is_down_gives_502_and_does_not_hurt_the_other(start_router, homeserver):
    other = Homeserver("b.example")
    router = start_router([homeserver, other])
    other.stop()
    answer = plain(router, "GET", f"{FEDERATION}/version", host="b.example", timeout_s=60)
    assert (answer.status, answer.json()["errcode"]) == (502, "M_UNKNOWN")
    assert plain(router, "GET", "/_matrix/key/v2/server").status == 200
    router.wait_metric("freshet_refused_total", reason="upstream_unreachable")
    other.start_again()
    assert plain(router, "GET", "/_matrix/key/v2/server", host="b.example").status == 200
    other.stop()


def test_a_homeserver_that_says_nothing_gives_504(start_router, homeserver):
    router = start_router(upstream={"idle_s": 2})
    homeserver.on(f"{FEDERATION}/version", Answer(cut="hang"))
    began = time.monotonic()
    answer = plain(router, "GET", f"{FEDERATION}/version")
    assert (answer.status, answer.json()["errcode"]) == (504, "M_UNKNOWN")
    assert time.monotonic() - began < 15
    assert router.metric("freshet_refused_total", reason="upstream_timeout") == 1


@pytest.mark.parametrize("cut", ["before", "reset"])
def test_a_homeserver_that_cuts_before_the_answer_gives_502(router, homeserver, origin, cut):
    homeserver.on(f"{FEDERATION}/", Answer(cut=cut))
    answer = plain(router, "GET", f"{FEDERATION}/version")
    assert (answer.status, answer.json()["errcode"]) == (502, "M_UNKNOWN")
    assert origin.send(router, "a.example", origin.transaction()).status == 502
    assert router.metric("freshet_refused_total", reason="upstream_failed") == 2


def test_a_homeserver_that_cuts_inside_the_answer_is_seen_as_cut(router, homeserver, origin):
    homeserver.on(f"{FEDERATION}/version", Answer(200, b"x" * 100000, cut="inside"))
    with pytest.raises((EOFError, ConnectionResetError)):
        plain(router, "GET", f"{FEDERATION}/version", timeout_s=30)
    # A transaction's answer must be whole before it is a 200 of ours, or be cut as well.
    homeserver.on(f"{FEDERATION}/send/", Answer(200, b'{"pdus":{},"x":"' + b"y" * 1000 + b'"}', cut="inside"))
    with contextlib.suppress(EOFError, ConnectionResetError):
        assert origin.send(router, "a.example", origin.transaction()).status == 502


def test_a_malformed_answer_of_the_homeserver_gives_502(router, homeserver):
    class Garbage(Answer):
        def wire(self):
            return b"SPAM/9 hello\r\n\r\n"
    homeserver.on(f"{FEDERATION}/version", Garbage(cut=None))
    assert plain(router, "GET", f"{FEDERATION}/version", timeout_s=30).status == 502


def test_a_homeserver_that_answers_late_is_waited_for(router, homeserver, origin):
    homeserver.on(f"{FEDERATION}/send/", Answer(200, b'{"pdus":{}}', delay_s=3))
    assert origin.send(router, "a.example", origin.transaction()).body == b'{"pdus":{}}'


def test_a_peer_that_leaves_is_noticed_and_nothing_stays_open(router, homeserver, origin):
    homeserver.on(f"{FEDERATION}/version", Answer(delay_s=1))
    for raw in (request_bytes("GET", f"{FEDERATION}/version", [("Host", "a.example")]),
                origin.raw_request("a.example", "PUT", f"{FEDERATION}/send/x", origin.transaction())[:-5]):
        with contextlib.closing(connect(router.federation)) as sock:
            sock.sendall(raw)
            time.sleep(0.2)
    assert plain(router, "GET", "/_matrix/key/v2/server").status == 200
    assert homeserver.sends == []


def test_many_at_once_are_all_answered(router, homeserver, origin):
    statuses = []

    def one(number):
        statuses.append(origin.send(router, "a.example", origin.transaction(), txn_id=f"many{number}").status)
    threads = [threading.Thread(target=one, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == [200] * 60
    assert len({request.target for request in homeserver.sends}) == 60


def trickle(address, first, pieces, every_s, tls=None):
    """Sends the first bytes, then a piece now and then for as long as it can; what came back, and after how long it ended."""
    with contextlib.closing(connect(address, tls, timeout_s=every_s)) as sock:
        began, got = time.monotonic(), b""
        sock.sendall(first)
        while time.monotonic() - began < 100:
            try:
                data = sock.recv(65536)
                got += data
                if not data:
                    break
            except TimeoutError:
                with contextlib.suppress(OSError):
                    sock.sendall(pieces)
            except ConnectionResetError:
                break
        return got, time.monotonic() - began


def test_every_phase_has_its_time(start_router, homeserver):
    """A byte now and then extends none. The handshake's is in test_operations.py, an answer that is not read in test_budgets.py."""
    router = start_router(upstream={"idle_s": 100})
    whole = request_bytes("GET", "/health", [("Host", "a.example")])
    put = f"PUT {FEDERATION}/%s HTTP/1.1\r\n{HOST}%s\r\n"
    signature = f"Authorization: X-Matrix origin=\"127.0.0.1:1\",destination=\"a.example\",key=\"ed25519:a\",sig=\"{'A' * 86}\"\r\n"
    phases = {  # what is sent first, then each second; the status at the end; the seconds it has
        "a head": (b"GET / HTTP/1.1\r\nX: ", b"x", b"408", 10),
        "a second head": (whole + b"GET / HTTP/1.1\r\nX: ", b"x", b"408", 10),
        "a small body": ((put % ("send/x", f"{signature}Content-Length: 1000\r\n")).encode(), b"x", b"408", 10),
        "a body of ten seconds more": ((put % ("send/x", f"{signature}Content-Length: {10 * 65536}\r\n")).encode(), b"x", b"408", 20),
        "a body in chunks": ((put % ("send/x", f"{signature}Transfer-Encoding: chunked\r\n")).encode(), b"1\r\nx\r\n", b"408", 10),
        "a streamed body": ((put % ("y", "Content-Length: 1000\r\n")).encode(), b"x", b"408", 10),
        "nothing": (b"", b"", b"", 10),
        "idle": (whole, b"", b"200", 60),
    }
    with concurrent.futures.ThreadPoolExecutor(len(phases)) as pool:
        ends = {name: pool.submit(trickle, router.federation, first, piece, 1) for name, (first, piece, _, _) in phases.items()}
        for name, (_, _, status, seconds) in phases.items():
            got, took = ends[name].result()
            assert seconds - 1 < took < seconds + 8, (name, took)
            assert re.findall(rb"HTTP/1\.1 (\d+) ", got)[-1:] == ([status] if status else []), (name, got)
            assert (b"M_UNKNOWN" in got) == (status == b"408"), (name, got)
    n_late = sum(status == b"408" for _, _, status, _ in phases.values())
    assert router.metric("freshet_refused_total", reason="timeout") == router.metric("freshet_refused_total") == n_late
    assert homeserver.requests == []


def test_an_answer_that_is_not_read_is_counted_as_too_slow(router, homeserver):
    homeserver.on("/_matrix/media/", Answer(200, b"x" * (24 << 20)))
    with contextlib.closing(connect(router.federation)) as sock:
        sock.sendall(request_bytes("GET", "/_matrix/media/v3/download/a.example/x", [("Host", "a.example")]))
        began = time.monotonic()
        wait_until(lambda: router.metric("freshet_refused_total", reason="timeout"), "it is counted", 60)
        assert 25 < time.monotonic() - began < 45
        with pytest.raises((EOFError, ConnectionResetError)):
            read_answer(sock)
