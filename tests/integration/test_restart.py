"""A homeserver that restarts: what waited arrives, what was cut off is sent again, nothing arrives late."""
import os
import threading

import pytest

from harness import Answer, canonical, connect, exchange, request_bytes, wait_until

FEDERATION = "/_matrix/federation/v1"
QUERY, CLAIM = f"{FEDERATION}/user/keys/query", f"{FEDERATION}/user/keys/claim"


def cut_at_first(times):
    """Cuts that many requests off before it answers, then answers."""
    left = [times]

    def answer(_):
        left[0] -= 1
        return Answer(cut="before") if left[0] >= 0 else Answer(200, b'{"ok":true}')
    return answer


def request(router, origin, method, target, body):
    return origin.request(router, "a.example", method, target, body)


RESENT = {"GET": ("GET", f"{FEDERATION}/version", None), "PUT": ("PUT", f"{FEDERATION}/send_leave/!r:a/$e", {"a": 1}),
          "a key query": ("POST", QUERY, {"device_keys": {}})}


@pytest.mark.parametrize("name", RESENT)
@pytest.mark.parametrize("times", [1, 2])
def test_what_was_cut_off_before_its_answer_is_sent_again(router, homeserver, origin, name, times):
    method, target, body = RESENT[name]
    homeserver.on(target, cut_at_first(times))
    answer = request(router, origin, method, target, body)
    assert (answer.status, answer.body) == (200, b'{"ok":true}')
    assert len(homeserver.of(target)) == times + 1
    assert {seen.body for seen in homeserver.of(target)} == {canonical(body) if body else b""}


def test_a_transaction_that_was_cut_off_is_sent_again_under_its_id(router, homeserver, origin):
    homeserver.on(f"{FEDERATION}/send/", cut_at_first(1))
    content = origin.transaction()
    assert origin.send(router, "a.example", content).status == 200
    assert len({seen.target for seen in homeserver.sends}) == 1
    assert [seen.body for seen in homeserver.sends] == [canonical(content)] * 2


def test_a_claim_of_keys_is_never_sent_twice(router, homeserver, origin):
    homeserver.on(CLAIM, cut_at_first(1))
    assert request(router, origin, "POST", CLAIM, {"one_time_keys": {}}).status == 502
    assert len(homeserver.of(CLAIM)) == 1


def test_it_is_not_sent_for_ever_and_holds_up_nobody(start_router, homeserver, origin):
    router = start_router(upstream={"patience_s": 2})
    homeserver.on(QUERY, Answer(cut="before"))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(request(router, origin, "POST", QUERY, {}).status))
    thread.start()
    wait_until(lambda: homeserver.of(QUERY), "the first cut")
    for _ in range(20):
        assert request(router, origin, "GET", "/_matrix/key/v2/server", None).status == 200
    assert answers == []  # they did not wait for it
    thread.join(30)
    assert answers == [502]
    assert 2 <= len(homeserver.of(QUERY)) <= 7


@pytest.mark.parametrize("framing", ["Content-Length", "chunked"])
def test_a_large_body_waits_too(router, homeserver, framing):
    homeserver.on(f"{FEDERATION}/upload", Answer(200, b"{}"))
    body = os.urandom(3 * 1024 * 1024)
    if framing == "chunked":
        raw = request_bytes("POST", f"{FEDERATION}/upload", [("Host", "a.example"), ("Transfer-Encoding", "chunked")])
        raw += b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    else:
        raw = request_bytes("POST", f"{FEDERATION}/upload", [("Host", "a.example")], body)
    homeserver.stop()
    answers = []
    thread = threading.Thread(target=lambda: answers.append(exchange(router.federation, raw).status))
    thread.start()
    thread.join(1)
    assert answers == []
    homeserver.start_again()
    thread.join(60)
    assert answers == [200] and homeserver.of(f"{FEDERATION}/upload")[-1].body == body


def test_many_that_waited_are_let_through_by_and_by(router, homeserver, origin):
    assert origin.send(router, "a.example", origin.transaction()).status == 200
    homeserver.stop()
    statuses = []
    threads = [threading.Thread(target=lambda number=number: statuses.append(
        origin.send(router, "a.example", origin.transaction(), txn_id=f"w{number}").status)) for number in range(60)]
    for thread in threads:
        thread.start()
    threads[0].join(1)
    assert statuses == []
    homeserver.start_again()
    for thread in threads:
        thread.join(60)
    assert statuses == [200] * 60
    targets = [seen.target for seen in homeserver.sends if b"/send/w" in seen.target]
    assert len(targets) == len(set(targets)) == 60


def test_a_large_request_whose_peer_left_does_not_arrive(router, homeserver):
    homeserver.on(f"{FEDERATION}/upload", Answer(200, b"{}"))
    homeserver.stop()
    sock = connect(router.federation)
    sock.sendall(request_bytes("POST", f"{FEDERATION}/upload", [("Host", "a.example"), ("Content-Length", "900000")]) + b"x" * 100_000)
    sock.close()
    wait_until(lambda: router.metric("freshet_connections") == 0, "the router hears that the peer has left")
    homeserver.start_again()
    assert exchange(router.federation, request_bytes("GET", "/_matrix/key/v2/server", [("Host", "a.example")])).status == 200
    assert homeserver.of(f"{FEDERATION}/upload") == []
