"""One who asks for too much, or is down, and the others, who do not notice."""
import pytest

from harness import Origin, exchange, to_device

ALICE = "@alice:a.example"
SEND = "/_matrix/federation/v1/send/"
FETCHES = {"workers": 1, "keys": {"fetches_per_s": 8}}  # of which a network may begin 4 at once, then 2 a second
N_NAMES = 20


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
