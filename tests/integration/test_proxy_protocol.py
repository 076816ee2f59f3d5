"""PROXY protocol headers (version 2) before cleartext and TLS, and the limit of handshakes."""
import contextlib
import ipaddress
import socket
import ssl
import struct

import pytest

from harness import read_answer, request_bytes, wait_until

VERSION = "/_matrix/federation/v1/version"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
TRUSTED = {"trusted_proxies": ["127.0.0.0/8"]}
REQUEST = request_bytes("GET", VERSION, [("Host", "a.example")])
HANDSHAKES_BURST = 500  # net/http_server.h, for each of the workers


def proxy_header(client, command=1, version=2, family=None, extra=b""):
    client = ipaddress.ip_address(client)
    server = ipaddress.ip_address("192.0.2.99" if client.version == 4 else "2001:db8::99")
    family = family if family is not None else (0x11 if client.version == 4 else 0x21)
    rest = client.packed + server.packed + struct.pack("!HH", 5555, 8448) + extra
    return SIGNATURE + bytes([version << 4 | command, family]) + struct.pack("!H", len(rest)) + rest


def connect(router, source="127.0.0.1"):
    return socket.create_connection(router.federation, timeout=30, source_address=(source, 0))


def say(router, *pieces, source="127.0.0.1"):
    """Sends the pieces; the answer, or None if the connection is closed without one."""
    with contextlib.closing(connect(router, source)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            for piece in pieces:
                sock.sendall(piece)
        try:
            return read_answer(sock)
        except (OSError, EOFError):
            return None


def seen(homeserver):
    return homeserver.of(VERSION)[-1].headers.all("X-Forwarded-For")


@pytest.mark.parametrize("client", ["203.0.113.5", "2001:db8::5"])
def test_the_header_says_who_the_peer_is(start_router, homeserver, client):
    router = start_router(**TRUSTED)
    assert say(router, proxy_header(client) + REQUEST).status == 404  # the scripted homeserver's answer
    assert seen(homeserver) == [client]
    whole = proxy_header(client, extra=b"\x04\x00\x03abc") + REQUEST
    assert say(router, *[whole[i:i + 1] for i in range(len(whole))]).status == 404
    assert seen(homeserver) == [client]


def test_a_client_behind_it_is_not_believed_about_others(start_router, homeserver):
    router = start_router(**TRUSTED)
    request = request_bytes("GET", VERSION, [("Host", "a.example"), ("X-Forwarded-For", "6.6.6.6")])
    say(router, proxy_header("203.0.113.5") + request)
    assert seen(homeserver) == ["203.0.113.5"]
    say(router, proxy_header("127.9.9.9") + request)  # one more proxy, which is trusted too
    assert seen(homeserver) == ["6.6.6.6, 127.9.9.9"]
    say(router, request)
    assert seen(homeserver) == ["6.6.6.6, 127.0.0.1"]


@pytest.mark.parametrize("header", [SIGNATURE + b"\x20\x00\x00\x00", proxy_header("203.0.113.5", command=0),
                                    SIGNATURE + b"\x21\x00\x00\x00", b""], ids=["local", "local with address", "unspecified", "none"])
def test_a_health_check_keeps_its_own_address(start_router, homeserver, header):
    assert say(start_router(**TRUSTED), header + REQUEST).status == 404
    assert seen(homeserver) == ["127.0.0.1"]


@pytest.mark.parametrize("header", [proxy_header("203.0.113.5", version=1), proxy_header("203.0.113.5", command=2),
                                    proxy_header("203.0.113.5", family=0x12), proxy_header("203.0.113.5", family=0x21),
                                    proxy_header("203.0.113.5", extra=b"\x04" + bytes(600)), SIGNATURE[:-1] + b"X"],
                         ids=["version", "command", "UDP", "too short", "too large", "signature"])
def test_a_malformed_header_is_closed_and_counted(start_router, homeserver, untouched, header):
    router = start_router(**TRUSTED)
    with untouched(homeserver):
        assert say(router, header + REQUEST) is None
    router.wait_metric("freshet_refused_total", 1, reason="proxy_header")


def test_from_others_it_is_garbage(start_router, homeserver, untouched):
    router = start_router(trusted_proxies=["127.0.0.2/32"])
    with untouched(homeserver):
        assert say(router, proxy_header("203.0.113.5") + REQUEST).status == 400
    assert say(router, proxy_header("203.0.113.5") + REQUEST, source="127.0.0.2").status == 404
    assert seen(homeserver) == ["203.0.113.5"]
    assert router.metric("freshet_refused_total", reason="proxy_header") == 0


def test_who_is_trusted_changes_with_a_reload(start_router, homeserver):
    router = start_router()
    assert say(router, proxy_header("203.0.113.5") + REQUEST).status == 400
    router.config.update(TRUSTED)
    router.write_config()
    router.signal(1)
    wait_until(lambda: (say(router, proxy_header("203.0.113.5") + REQUEST) or REFUSED).status == 404, "the new settings")
    assert seen(homeserver) == ["203.0.113.5"]


class REFUSED:
    status = 0


# ---------------------------------------------------------------- with TLS


def wrap(ca, sock):
    return ca.client_context().wrap_socket(sock, server_hostname="a.example")


def test_the_header_comes_before_tls(start_router, ca, homeserver):
    router = start_router(certificates=[ca.issue("a.example")], **TRUSTED)
    for header, address in ((proxy_header("203.0.113.5"), "203.0.113.5"), (b"", "127.0.0.1")):
        sock = connect(router)
        sock.sendall(header)
        with contextlib.closing(wrap(ca, sock)) as secured:
            secured.sendall(REQUEST)
            assert read_answer(secured).status == 404
        assert seen(homeserver) == [address]


def test_inside_tls_and_from_others_it_is_garbage(start_router, ca, homeserver, untouched):
    router = start_router(certificates=[ca.issue("a.example")], trusted_proxies=["127.0.0.2/32"])
    with untouched(homeserver):
        sock = connect(router)
        sock.sendall(proxy_header("203.0.113.5"))
        with pytest.raises((ssl.SSLError, OSError)):
            wrap(ca, sock)
        sock.close()
        with contextlib.closing(wrap(ca, connect(router, "127.0.0.2"))) as secured:
            secured.sendall(proxy_header("203.0.113.5") + REQUEST)
            assert read_answer(secured).status == 400


def knock(router, times, header=b"", source="127.0.0.1"):
    """So many connections, none of which goes on to a handshake."""
    for _ in range(times):
        with contextlib.suppress(OSError), contextlib.closing(connect(router, source)) as sock:
            sock.sendall(header)


def can_shake(router, ca, header=b"", source="127.0.0.1"):
    try:
        sock = connect(router, source)
        sock.sendall(header)
        wrap(ca, sock).close()
        return True
    except OSError:
        return False


def is_limited(router, ca, knock_options, shake_options):
    """Whether handshakes are refused; a token comes every 20 ms, so it is tried more than once."""
    knock(router, 2 * HANDSHAKES_BURST, **knock_options)
    for _ in range(40):
        knock(router, 50, **knock_options)
        if not can_shake(router, ca, **shake_options):
            return True
    return False


def test_a_network_that_begins_too_many_handshakes_is_closed_but_others_are_not(start_router, ca, homeserver):
    router = start_router(certificates=[ca.issue("a.example")], workers=1)
    assert can_shake(router, ca)
    assert is_limited(router, ca, {"source": "127.0.0.7"}, {"source": "127.0.0.8"})  # of the same /24
    assert can_shake(router, ca, source="127.0.1.1")
    router.wait_metric("freshet_refused_total", HANDSHAKES_BURST // 4, reason="handshakes")
    wait_until(lambda: can_shake(router, ca, source="127.0.0.8"), "a token for it")
    assert homeserver.requests == []


def test_behind_a_trusted_proxy_the_client_is_limited_and_not_the_proxy(start_router, ca):
    router = start_router(certificates=[ca.issue("a.example")], workers=1, **TRUSTED)
    knock(router, 2 * HANDSHAKES_BURST)
    assert router.metric("freshet_refused_total", reason="handshakes") == 0
    assert can_shake(router, ca)
    assert is_limited(router, ca, {"header": proxy_header("203.0.113.5")}, {"header": proxy_header("203.0.113.77")})
    assert can_shake(router, ca, proxy_header("203.0.114.5"))
    assert can_shake(router, ca)
