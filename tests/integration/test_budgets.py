"""What requests in flight may hold: who pauses, who is refused, and that nobody pays for another's flood."""
import concurrent.futures
import contextlib
import os
import selectors
import time

import pytest

from harness import (Answer, Homeserver, Origin, build_dir, canonical, connect, device, device_list, dlh1, exchange,
                     is_sanitized, plain_build, read_answer, request_bytes, to_device, wait_until)

ALICE = "@alice:a.example"
SEND = "/_matrix/federation/v1/send/"
MIB = 1 << 20
LEAST = {"workers": 1, "memory": {"request_bytes": 32 * MIB}}  # an address or an origin: one body of full size
AMPLE = {"workers": 1, "memory": {"request_bytes": 4096 * MIB - 1}}
WAIT_S = 5  # before a 429
FULL_SIZE = 13_107_200


def dial(router, source, timeout_s=60):
    """A connection from an address of its own, such as 127.0.0.9."""
    return connect(router.federation, timeout_s=timeout_s, source=source)


def ask(router, source, raw, timeout_s=60):
    return exchange(router.federation, raw, timeout_s=timeout_s, source=source)


def signed(origin, size, server="a.example", claims=None):
    """The bytes of a signed transaction whose body has this size."""
    pad = size - len(canonical(origin.transaction(to_device(origin.user, {ALICE: {"DEV": {"pad": ""}}}, claims, "m"))))
    content = origin.transaction(to_device(origin.user, {ALICE: {"DEV": {"pad": "x" * max(0, pad)}}}, claims, "m"))
    return origin.raw_request(server, "PUT", SEND + os.urandom(6).hex(), content)


def forged(size, origin="forger.example", server="a.example"):
    """Headers in anybody's name, and a body that nobody signed."""
    credentials = f'X-Matrix origin="{origin}",destination="{server}",key="ed25519:a",sig="{"A" * 86}"'
    return request_bytes("PUT", SEND + os.urandom(6).hex(), [("Host", server), ("Authorization", credentials)], b"x" * size)


@contextlib.contextmanager
def held(router, source, raw):
    """A request of which the last byte does not come; its socket, once the router has charged it whole."""
    before = queue_bytes(router)
    with contextlib.closing(dial(router, source)) as sock:
        sock.sendall(raw[:-1])
        wait_until(lambda: queue_bytes(router) >= before + len(raw.split(b"\r\n\r\n", 1)[1]), "it is charged")
        yield sock


def queue_bytes(router):
    return router.metric("freshet_queue_bytes")


def wait_empty(router):
    wait_until(lambda: queue_bytes(router) == 0, "nothing is held any more")


def waits(router, budget):
    return router.metric("freshet_budget_waits_total", budget=budget)


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(16) as executor:
        yield executor


@pytest.fixture
def origins(ca):
    servers = [Origin(ca) for _ in range(4)]
    yield servers
    for server in servers:
        server.stop()


# ---------------------------------------------------------------- a flood of slow bodies


class Flood:
    """Many connections, from eight addresses, that send bodies of full size: up to `at_once` bytes of each as fast as they
    are taken, then a little now and then."""

    def __init__(self, router, n=200, at_once=MIB):
        self.at_once = at_once
        self.n_refused = 0
        self.selector = selectors.DefaultSelector()
        self.raw = forged(FULL_SIZE)
        for number in range(n):
            sock = dial(router, f"127.0.0.{10 + number % 8}")
            sock.setblocking(False)
            self.selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, [0])

    def _drop(self, sock):
        self.selector.unregister(sock)
        sock.close()

    def _turn(self, sock, mask, sent):
        try:
            if mask & selectors.EVENT_READ:
                self.n_refused += sock.recv(65536).startswith(b"HTTP/1.1 429")
                self._drop(sock)
            elif sent[0] < self.at_once:
                sent[0] += sock.send(self.raw[sent[0]:min(sent[0] + 65536, self.at_once)])
            else:
                sent[0] += sock.send(self.raw[sent[0]:sent[0] + 10])
        except BlockingIOError:
            pass
        except OSError:
            self._drop(sock)

    def run(self, seconds, watch=lambda: None):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.selector.get_map():
            for key, mask in self.selector.select(0.1):
                self._turn(key.fileobj, mask, key.data)
            watch()
            time.sleep(0.002)

    def close(self):
        for key in list(self.selector.get_map().values()):
            self._drop(key.fileobj)
        self.selector.close()


def flood(router, seconds, n=200):
    """Resident bytes before and at the peak; the most bytes charged; the flood's 429s."""
    ask(router, "127.0.0.1", forged(100))  # what the first request allocates for good
    before = peak = router.rss()
    most_charged = 0

    def watch():
        nonlocal peak, most_charged
        peak = max(peak, router.rss())
        most_charged = max(most_charged, queue_bytes(router))
    attack = Flood(router, n)
    try:
        attack.run(seconds, watch)
    finally:
        attack.close()
    wait_empty(router)
    print(f"RSS before {before / MIB:.1f} MiB, peak {peak / MIB:.1f} MiB, after {router.rss() / MIB:.1f} MiB; "
          f"charged {most_charged / MIB:.1f} MiB; 429s {attack.n_refused}")
    return before, peak, most_charged, attack.n_refused


def test_in_a_flood_of_200_slow_bodies_others_are_served(start_router, homeserver, origins, pool):
    router = start_router(**LEAST)
    origin = origins[0]
    assert ask(router, "127.0.0.99", signed(origin, 2000)).status == 200
    flooding = pool.submit(flood, router, 12)
    wait_until(lambda: waits(router, "process") + waits(router, "address") >= 50, "the flood is on")
    for _ in range(20):
        assert ask(router, "127.0.0.99", signed(origin, 2000)).status == 200
        time.sleep(0.2)
    _, _, most_charged, n_refused = flooding.result(60)
    assert n_refused > 50
    assert 24 * MIB < most_charged <= 36 * MIB  # the budget, and an eighth of it for what was already read
    assert len(homeserver.sends) == 21
    assert ask(router, "127.0.0.10", signed(origin, FULL_SIZE)).status == 200  # nothing is left of it


def test_200_slow_bodies_take_no_more_memory_than_the_budget(start_router):
    router = start_router(build=plain_build(), **LEAST)
    before, peak, _, n_refused = flood(router, 12)
    assert n_refused > 50
    assert peak - before < 2 * 32 * MIB  # the budget, and as much again that the C library may keep between pieces
    wait_until(lambda: router.rss() - before < 8 * MIB, "what the flood took is given back", 5)


def test_the_same_flood_takes_far_more_where_the_budget_is_ample(start_router):
    router = start_router(build=plain_build(), **AMPLE)
    before, peak, _, n_refused = flood(router, 4)
    assert peak - before > 150 * MIB and n_refused == 0
    wait_until(lambda: router.rss() - before < 8 * MIB, "what the flood took is given back", 5)


# ---------------------------------------------------------------- addresses


def test_an_address_over_its_share_waits_and_another_is_served(start_router, origins, pool):
    router = start_router(**LEAST)
    first = signed(origins[0], 13_000_000)
    with held(router, "127.0.0.2", first) as sock:
        second = pool.submit(ask, router, "127.0.0.2", signed(origins[1], MIB))
        wait_until(lambda: waits(router, "address") >= 1, "the same address waits")
        assert ask(router, "127.0.0.3", signed(origins[2], MIB)).status == 200
        assert not second.done()
        sock.sendall(first[-1:])
        assert read_answer(sock).status == 200
        assert second.result(60).status == 200
    assert waits(router, "process") == 0


def test_after_5_seconds_it_is_429_and_not_a_byte_went_upstream(start_router, homeserver, origin, untouched):
    router = start_router(**LEAST)
    with held(router, "127.0.0.2", forged(FULL_SIZE)), held(router, "127.0.0.2", forged(20_000)), untouched(homeserver):
        for raw in (signed(origin, MIB), signed(origin, 60_000),
                    request_bytes("POST", "/_matrix/federation/v1/user/keys/query", [("Host", "a.example")], b"x" * 250_000)):
            began = time.monotonic()
            with contextlib.closing(dial(router, "127.0.0.2")) as sock:
                sock.sendall(raw)
                answer = read_answer(sock)
                assert WAIT_S - 0.5 < time.monotonic() - began < WAIT_S + 15
                assert sock.recv(1) == b""
            assert (answer.status, answer.json()["errcode"]) == (429, "M_LIMIT_EXCEEDED")
            assert answer.json()["retry_after_ms"] == 1000 * int(answer.headers.get("Retry-After")) > 0
            assert answer.headers.get("Connection") == "close"
    assert router.metric("freshet_refused_total", reason="over_address_budget") == 3
    assert waits(router, "address") == 3
    wait_empty(router)
    assert ask(router, "127.0.0.2", signed(origin, MIB)).status == 200


CLIENTS = {"another client": ("192.0.2.2", True), "the same": ("192.0.2.1", False),
           "the same with a port": ("192.0.2.1:4711", False),
           "the same behind two proxies": ("192.0.2.1, 127.0.0.7", False),
           "the same, who claims to be another": ("198.51.100.7, 192.0.2.1", False),
           "nobody knows who": ("unknown", True)}


def test_behind_a_trusted_proxy_the_client_counts(start_router, origins):
    router = start_router(trusted_proxies=["127.0.0.0/8"], **LEAST)

    def of(client, raw):
        return raw.replace(b"\r\n", b"\r\nX-Forwarded-For: " + client.encode() + b"\r\n", 1)
    for name, (client, passes) in CLIENTS.items():
        with held(router, "127.0.0.1", of("192.0.2.1", forged(13_000_000))):
            before = waits(router, "address")
            with contextlib.closing(dial(router, "127.0.0.1")) as sock:
                sock.sendall(of(client, signed(origins[0], 200_000)))
                if passes:
                    assert read_answer(sock).status == 200, name
                else:
                    wait_until(lambda: waits(router, "address") == before + 1, name)
            assert waits(router, "address") == before + (not passes), name
        wait_empty(router)


# ---------------------------------------------------------------- origins


def test_a_forger_does_not_use_up_its_victims_share(start_router, homeserver, origin):
    router = start_router(**LEAST)
    with held(router, "127.0.0.2", forged(12_000_000, origin.name)):
        assert ask(router, "127.0.0.3", signed(origin, FULL_SIZE)).status == 200
    assert ask(router, "127.0.0.2", forged(12_000_000, origin.name)).status in (400, 401)
    assert ask(router, "127.0.0.3", signed(origin, FULL_SIZE)).status == 200
    assert waits(router, "origin") == waits(router, "address") == waits(router, "process") == 0
    assert len(homeserver.sends) == 2


def test_an_origin_over_its_share_waits_and_another_does_not(start_router, homeserver, origins, pool):
    """What was verified is the origin's, and no longer the address's: all here come from one."""
    router = start_router(**LEAST)
    noisy, other = origins[:2]
    requests = [signed(noisy, 7_000_000), signed(noisy, 7_000_000), signed(other, 2_000_000)]
    homeserver.on(SEND, Answer(200, b'{"pdus":{}}', delay_s=2))
    first = pool.submit(ask, router, "127.0.0.2", requests[0])
    wait_until(lambda: len(homeserver.sends) == 1, "the first is with the homeserver")
    second = pool.submit(ask, router, "127.0.0.2", requests[1])
    wait_until(lambda: waits(router, "origin") == 1, "the second waits")
    assert ask(router, "127.0.0.2", requests[2]).status == 200
    assert first.result(60).status == second.result(60).status == 200
    assert waits(router, "address") == waits(router, "process") == 0


# ---------------------------------------------------------------- hosted servers


def test_a_hosted_server_that_is_down_leaves_room_for_the_other(start_router, homeserver, origins, pool):
    other = Homeserver("b.example")
    router = start_router([homeserver, other], **LEAST)
    assert ask(router, "127.0.0.2", signed(origins[0], 2000)).status == 200
    homeserver.stop()
    down = [pool.submit(ask, router, f"127.0.0.{2 + number}", signed(origins[number], 7_000_000)) for number in range(2)]
    wait_until(lambda: queue_bytes(router) > 14_000_000, "both are held for the one that is down")
    began = time.monotonic()
    refused = pool.submit(ask, router, "127.0.0.4", signed(origins[2], 7_000_000))
    assert ask(router, "127.0.0.5", signed(origins[3], 13_000_000, "b.example")).status == 200
    assert ask(router, "127.0.0.5", signed(origins[3], 2000, "b.example")).status == 200
    assert refused.result(60).status == 429
    assert time.monotonic() - began < WAIT_S + 15
    assert router.metric("freshet_refused_total", reason="over_server_budget") == 1
    homeserver.start_again()
    assert [answer.result(60).status for answer in down] == [200, 200]
    assert len(other.sends) == 2
    wait_empty(router)
    other.stop()


# ---------------------------------------------------------------- documents


def test_beyond_the_parse_budget_it_is_relayed_unjudged(start_router, homeserver, origins, pool):
    router = start_router(**AMPLE)
    listed = device_list(ALICE, [device("DEV")], 1)
    router.push_devices("a.example", listed)
    requests = [signed(origins[number % 4], FULL_SIZE, claims={ALICE: {"hash": dlh1(listed)}}) for number in range(7)]

    def verdicts(answers):
        assert [answer.status for answer in answers] == [200] * len(answers)
        return [len(answer.json().get("io.freshet.verdicts", [])) for answer in answers]
    homeserver.on(SEND, Answer(200, b'{"pdus":{}}', delay_s=6 if is_sanitized(build_dir()) else 3))
    judged = list(pool.map(lambda raw: ask(router, "127.0.0.2", raw), requests[:4]))
    assert verdicts(judged) == [1] * 4
    assert router.metric("freshet_unjudged_total", reason="parse_budget") == 0
    n_before = len(homeserver.sends)
    some = list(pool.map(lambda raw: ask(router, "127.0.0.2", raw), requests))
    assert sorted(verdicts(some)) == [0, 0, 1, 1, 1, 1, 1]  # 64 MiB are five bodies
    assert router.metric("freshet_unjudged_total", reason="parse_budget") == 2
    bodies = {request.body for request in homeserver.sends[n_before:]}
    assert bodies == {raw.split(b"\r\n\r\n", 1)[1] for raw in requests}
    assert verdicts([ask(router, "127.0.0.2", requests[0])]) == [1]  # it was given back


def test_a_document_that_nobody_needs_takes_nothing_of_the_budget(start_router, homeserver, origins, pool):
    router = start_router(**AMPLE)
    for origin in origins:  # its key is at hand afterwards: nothing waits with its document in memory
        assert ask(router, "127.0.0.2", signed(origin, 100)).status == 200
    requests = [signed(origins[number % 4], FULL_SIZE) for number in range(7)]
    homeserver.on(SEND, Answer(200, b'{"pdus":{}}', delay_s=2))
    assert [answer.status for answer in pool.map(lambda raw: ask(router, "127.0.0.2", raw), requests)] == [200] * 7
    assert router.metric("freshet_unjudged_total", reason="parse_budget") == 0


# ---------------------------------------------------------------- other requests, answers, slow peers


def test_an_answer_that_is_not_read_is_charged(start_router, homeserver):
    router = start_router(**LEAST)
    homeserver.on("/_matrix/media/", Answer(200, b"x" * (24 * MIB)))
    with contextlib.closing(dial(router, "127.0.0.2")) as sock:
        sock.sendall(request_bytes("GET", "/_matrix/media/v3/download/a.example/x", [("Host", "a.example")]))
        wait_until(lambda: queue_bytes(router) >= 256 * 1024, "what waits for it is charged")
        assert queue_bytes(router) < MIB
        assert len(read_answer(sock).body) == 24 * MIB
    wait_empty(router)


def test_a_streamed_body_goes_on_when_there_is_room(start_router, homeserver, pool):
    """The bytes that came while it waited are not lost, whatever the size and framing."""
    router = start_router(**LEAST)
    homeserver.on("/_matrix/federation/v2/invite", lambda request: Answer(200, b'{"n":%d}' % len(request.body)))
    target = "/_matrix/federation/v2/invite/!r:a/$e"
    for size, chunked in ((60_000, False), (100_000, False), (1_000_000, False), (1_000_000, True)):
        body = os.urandom(size)
        if chunked:
            raw = request_bytes("PUT", target, [("Host", "a.example"), ("Transfer-Encoding", "chunked")])
            raw += b"%x\r\n%s\r\n0\r\n\r\n" % (size, body)
        else:
            raw = request_bytes("PUT", target, [("Host", "a.example")], body)
        before = waits(router, "address")
        with held(router, "127.0.0.2", forged(FULL_SIZE)), held(router, "127.0.0.2", forged(20_000)):
            waiting = pool.submit(ask, router, "127.0.0.2", raw)
            wait_until(lambda: waits(router, "address") > before, "it waits")
            time.sleep(0.2)
            assert not waiting.done()
        answer = waiting.result(60)
        assert (answer.status, answer.body) == (200, b'{"n":%d}' % size)
        assert homeserver.of("/_matrix/federation/v2/invite")[-1].body == body


def test_who_is_slow_in_any_phase_is_not_waited_for(start_router, homeserver, untouched):
    """Headers and TLS: test_relay.py, test_operations.py. Here a body that stops, and an answer that is never read."""
    router = start_router(**LEAST)

    with untouched(homeserver), contextlib.closing(dial(router, "127.0.0.2")) as sock:
        began = time.monotonic()
        sock.sendall(forged(1000)[:-1])
        assert read_answer(sock).status == 408
        assert 8 < time.monotonic() - began < 20
    homeserver.on("/_matrix/media/", Answer(200, b"x" * (24 * MIB)))
    with contextlib.closing(dial(router, "127.0.0.2")) as sock:
        began = time.monotonic()
        sock.sendall(request_bytes("GET", "/_matrix/media/v3/download/a.example/x", [("Host", "a.example")]))
        wait_until(lambda: queue_bytes(router) > 0, "it is being answered")
        wait_until(lambda: queue_bytes(router) == 0, "it is not waited for any longer", 60)
        assert 25 < time.monotonic() - began < 45
