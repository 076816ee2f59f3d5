"""One who asks for too much, or is down, and the others, who do not notice."""
import concurrent.futures
import contextlib
import shutil
import time

import pytest

from harness import (Answer, Origin, connect, exchange, plain_build, read_answer, request_bytes,
                     to_device, wait_until)

ALICE = "@alice:a.example"
SEND = "/_matrix/federation/v1/send/"
FETCHES = {"workers": 1, "keys": {"fetches_per_s": 8}}  # of which a network may begin 4 at once, then 2 a second
N_NAMES = 20
VERSION = "/_matrix/federation/v1/version"
MIB = 1 << 20


@pytest.fixture
def origins(ca):
    servers = [Origin(ca) for _ in range(N_NAMES)]
    yield servers
    for server in servers:
        server.stop()


def send(router, origin, source, **headers):
    raw = origin.raw_request("a.example", "PUT", SEND + "t", origin.transaction(to_device(origin.user, {ALICE: {"D": {}}})),
                             headers=list(headers.items()))
    assert exchange(router.federation, raw, source=source).status == 200


def unjudged(router):
    return router.metric("freshet_unjudged_total", reason="key_network")


def n_asked(origins):
    return sum(len(origin.key_requests) for origin in origins)


# ---------------------------------------------------------------- key fetches


def test_a_network_that_names_ever_new_origins_leaves_fetches_to_others(start_router, homeserver, origins):
    router = start_router(**FETCHES)
    noisy, other = origins[:-1], origins[-1]
    for number, origin in enumerate(noisy):
        send(router, origin, f"127.0.0.{2 + number}")  # of one /24
    over = unjudged(router)
    assert over >= 4 and over + n_asked(noisy) == len(noisy)
    assert router.metric("freshet_key_fetches_total", result="network") == over
    assert len(homeserver.sends) == len(noisy)  # all were relayed
    send(router, other, "127.0.1.2")
    assert len(other.key_requests) == 1
    assert unjudged(router) == over
    assert router.metric("freshet_unjudged_total", reason="no_key") == 0
    assert router.metric("freshet_key_fetches_total", result="budget") == 0
    send(router, next(origin for origin in noisy if not origin.key_requests), "127.0.1.3")
    assert unjudged(router) == over  # what was not fetched for one network is fetched for another
    assert over + n_asked(noisy) == len(noisy) + 1


def test_behind_a_trusted_proxy_it_is_the_client_whose_fetches_count(start_router, origins):
    router = start_router(trusted_proxies=["127.0.0.0/8"], **FETCHES)
    for number, origin in enumerate(origins[:4]):
        send(router, origin, "127.0.0.1", **{"X-Forwarded-For": f"203.0.{number}.1"})
    assert (n_asked(origins), unjudged(router)) == (4, 0)
    for number, origin in enumerate(origins[4:-1]):
        send(router, origin, "127.0.0.1", **{"X-Forwarded-For": f"198.51.100.{number}"})
    over = unjudged(router)
    assert over >= 4 and over + n_asked(origins) == N_NAMES - 1
    send(router, origins[-1], "127.0.0.1")  # nobody knows for whom
    assert unjudged(router) == over


# ---------------------------------------------------------------- reloads


def name_of(number):
    return f"matrix{number}.provider.example"


@pytest.fixture
def start_many(start_router, ca, homeserver, tmp_path):
    """A router with many hosted servers and a certificate for each."""
    def start(n, **options):
        folder = tmp_path / "certificates"
        folder.mkdir()
        for number in range(n):
            for path, suffix in zip(ca.issue(name_of(number)), (".crt", ".key")):
                shutil.move(path, folder / (name_of(number) + suffix))
        router = start_router(wait=False, certificate_folder=folder, **options)
        router.wait_ready()
        return router
    return start


@pytest.fixture
def many(homeserver):
    """Servers for start_router, all before one homeserver."""
    def named(n):
        return [Named(name_of(number), homeserver) for number in range(n)]
    return named


class Named:
    """Another name of a homeserver."""

    def __init__(self, name, homeserver):
        self.name, self.url, self.router_key = name, homeserver.url, homeserver.router_key


def ask_version(sock, number):
    sock.sendall(request_bytes("GET", VERSION, [("Host", name_of(number))]))
    return read_answer(sock).status


def configurations(router):
    return router.metric("freshet_configurations")


def stay_connected(router, ca, stack, number):
    """A TLS connection to one of the servers, which has had an answer."""
    sock = stack.enter_context(contextlib.closing(connect(router.federation, ca.client_context(), name_of(number))))
    assert ask_version(sock, number) == 404
    return sock


def test_who_stays_connected_does_not_keep_what_was_replaced(start_many, many, ca):
    router = start_many(10, homeservers=many(10))
    with contextlib.ExitStack() as stack:
        connected = []
        for number in range(10):
            connected.append(stay_connected(router, ca, stack, number))
            router.reload()
        wait_until(lambda: configurations(router) == 1, "all but the last are gone")
        assert [ask_version(sock, number) for number, sock in enumerate(connected)] == [404] * 10


def test_a_request_and_a_handshake_keep_what_they_began_with(start_many, many, ca, homeserver):
    router = start_many(2, homeservers=many(2))
    homeserver.on("/_matrix/media/", Answer(200, b"slow", delay_s=2.5))
    slow = request_bytes("GET", "/_matrix/media/v3/download/a/b", [("Host", name_of(0))])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(exchange, router.federation, slow, ca.client_context(), name_of(0))
        wait_until(lambda: homeserver.of("/_matrix/media/"), "it is with the homeserver")
        router.reload()
        time.sleep(1)  # two looks at what may go
        assert configurations(router) == 2
        assert answer.result().body == b"slow"
        wait_until(lambda: configurations(router) == 1, "the request is over")
    with contextlib.closing(connect(router.federation)) as sock:
        wait_until(lambda: router.metric("freshet_connections") >= 1, "it was accepted")
        router.reload()
        time.sleep(1)
        assert configurations(router) == 2
        with contextlib.closing(ca.client_context().wrap_socket(sock, server_hostname=name_of(1))) as shaken:
            assert ask_version(shaken, 1) == 404
            wait_until(lambda: configurations(router) == 1, "the handshake is over")


def test_20_reloads_of_600_certificates_leave_no_memory_behind(start_many, many, ca):
    """Measured: 5 MiB for a set; 2.2 MiB more after 20 reloads, with 21 connections; 5.9 MiB if
    what is free is not given back, more where a set is kept."""
    router = start_many(600, homeservers=many(600), build=plain_build())
    with contextlib.ExitStack() as stack:
        stay_connected(router, ca, stack, 0)
        before = router.rss()
        for number in range(20):
            stay_connected(router, ca, stack, number)
            router.reload()
        wait_until(lambda: configurations(router) == 1, "all but the last are gone")
        after = router.rss()
    print(f"resident before {before / MIB:.1f} MiB, after {after / MIB:.1f} MiB")
    assert after - before < 4 * MIB
