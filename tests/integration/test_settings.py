"""What the operator's settings change: proxies in front, trust in the homeserver, several upstreams, patience."""
import contextlib
import socket
import threading
import time

import pytest

from harness import (Answer, Homeserver, Origin, canonical, device, device_list, dlh1, exchange, read_answer,
                     request_bytes, to_device, wait_until)

VERSION = "/_matrix/federation/v1/version"
KEYS = "/_matrix/key/v2/server"
ALICE = "@alice:a.example"
TRUSTED = {"trusted_proxies": ["127.0.0.0/8"]}


def get(router, headers=(), host="a.example", target=VERSION, **options):
    return exchange(router.federation, request_bytes("GET", target, [("Host", host), *headers]), **options)


def forwarded(homeserver):
    return homeserver.of(VERSION)[-1].headers


SPOOFED = [("X-Forwarded-For", "6.6.6.6"), ("x-forwarded-for", "7.7.7.7"), ("Forwarded", "for=6.6.6.6"),
           ("X-Real-IP", "6.6.6.6"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "evil.example")]


def test_what_a_peer_says_of_itself_is_replaced(router, homeserver):
    get(router, SPOOFED)
    headers = forwarded(homeserver)
    assert headers.all("X-Forwarded-For") == ["127.0.0.1"]
    assert not any(headers.get(name) for name in ("Forwarded", "X-Real-IP", "X-Forwarded-Proto", "X-Forwarded-Host"))


def test_a_trusted_proxy_is_believed_and_added_to(start_router, homeserver):
    get(start_router(**TRUSTED), SPOOFED)
    headers = forwarded(homeserver)
    assert headers.all("X-Forwarded-For") == ["6.6.6.6, 7.7.7.7, 127.0.0.1"]
    assert headers.get("X-Forwarded-Proto") == "https"


def test_a_trusted_proxy_may_rewrite_host(start_router, homeserver, origin, untouched):
    strict, trusting = start_router(), start_router(**TRUSTED)
    with untouched(homeserver):
        assert origin.send(strict, "a.example", origin.transaction(), host="internal:8448").status == 421
    assert origin.send(trusting, "a.example", origin.transaction(), host="internal:8448").status == 200
    trusting.wait_metric("freshet_host_mismatches_total")
    assert get(trusting, host="internal:8448").status == 421  # nothing but Host to go by


def test_a_connection_header_cannot_take_the_signature_away(router, homeserver, origin):
    headers = [("Connection", "Authorization, Host, Content-Type, X-Forwarded-For")]
    assert origin.send(router, "a.example", origin.transaction(), headers=headers).status == 200
    sent = homeserver.sends[-1].headers
    assert sent.get("Authorization") and sent.get("Content-Type") == "application/json"
    assert sent.all("Host") == ["a.example"] and sent.all("X-Forwarded-For") == ["127.0.0.1"]


def test_with_authenticate_upstream_the_homeserver_decides_and_verdicts_come_with_its_200(start_router, homeserver, origin):
    router = start_router(server={"authenticate": "upstream"})
    listed = device_list(ALICE, [device("DEVA")], 7)
    router.push_devices("a.example", listed)
    content = origin.transaction(to_device(origin.user, {ALICE: {"DEVA": {}}}, {ALICE: {"hash": dlh1(listed)}}))
    reply = origin.send(router, "a.example", content)
    assert [row["verdict"] for row in reply.json()["io.freshet.verdicts"]] == ["fresh"]
    assert origin.key_requests == []
    homeserver.on("/_matrix/federation/v1/send/", Answer(401, b'{"errcode":"M_UNAUTHORIZED","error":"no"}'))
    reply = origin.send(router, "a.example", content, sig="A" * 86)
    assert (reply.status, reply.body) == (401, b'{"errcode":"M_UNAUTHORIZED","error":"no"}')


def test_with_authenticate_upstream_reads_are_the_addresses(start_router, homeserver, origin):
    """Nobody spends in a victim's name what the victim may have read."""
    router = start_router(server={"authenticate": "upstream"}, lists={"reads_per_s": 2, "wait_ms": 5000})  # an origin's share: 1
    listed = homeserver.devices[ALICE] = device_list(ALICE, [device("DEVA")], 7)
    users = [f"@u{number}:a.example" for number in range(20)]
    for user in users:
        homeserver.devices[user] = device_list(user, [device("DEVA")], 7)

    def send(source, edu, **changes):
        raw = origin.raw_request("a.example", "PUT", "/_matrix/federation/v1/send/t", origin.transaction(edu), **changes)
        with contextlib.closing(socket.create_connection(router.federation, timeout=60, source_address=(source, 0))) as sock:
            sock.sendall(raw)
            return read_answer(sock)
    homeserver.on("/_matrix/federation/v1/send/", lambda request: Answer(
        401 if "A" * 86 in request.headers.get("Authorization") else 200, b'{"pdus":{}}'))
    claims = {user: {"hash": "dlh1:" + "0" * 32} for user in users}
    assert send("127.0.0.2", to_device(origin.user, {user: {"D": {}} for user in users}, claims), sig="A" * 86).status == 401
    wait_until(lambda: router.metric("freshet_list_reads_total", result="budget") >= 15, "reads over the budget")
    reply = send("127.0.0.3", to_device(origin.user, {ALICE: {"DEVA": {}}}, {ALICE: {"hash": dlh1(listed)}}))
    assert [row["verdict"] for row in reply.json()["io.freshet.verdicts"]] == ["fresh"]


@pytest.fixture
def second(homeserver):
    server = Homeserver(homeserver.name)
    server.key = homeserver.key
    yield server
    server.stop()


def test_an_origin_keeps_to_one_of_several_upstreams(start_router, homeserver, second, ca):
    router = start_router(server={"upstreams": [homeserver.url, second.url]})
    origins = [Origin(ca) for _ in range(16)]
    for origin in origins:
        for _ in range(3):
            assert origin.send(router, "a.example", origin.transaction()).status == 200
    senders = [{f'origin="{origin.name}"' for origin in origins
                if any(f'origin="{origin.name}"' in request.headers.get("Authorization") for request in server.sends)}
               for server in (homeserver, second)]
    for origin in origins:
        origin.stop()
    assert len(homeserver.sends) + len(second.sends) == 48
    assert senders[0] and senders[1] and not senders[0] & senders[1]


def test_a_restarting_homeserver_is_waited_for(start_router, homeserver, origin):
    router = start_router(upstream={"patience_s": 20})
    assert origin.send(router, "a.example", origin.transaction()).status == 200
    homeserver.stop()
    answers = []

    def collect(call):
        thread = threading.Thread(target=lambda: answers.append(call().status))
        thread.start()
        return thread
    content = origin.transaction()
    threads = [collect(lambda: origin.send(router, "a.example", content, txn_id="waited")),
               collect(lambda: get(router, target=KEYS, timeout_s=60))]
    time.sleep(1.5)
    assert answers == []
    homeserver.start_again()
    for thread in threads:
        thread.join(60)
    assert answers == [200, 200]
    assert [request.body for request in homeserver.sends if b"waited" in request.target] == [canonical(content)]


def test_patience_ends(start_router, homeserver, origin):
    router = start_router(upstream={"patience_s": 1})
    homeserver.stop()
    began = time.monotonic()
    assert origin.send(router, "a.example", origin.transaction(), timeout_s=60).status == 502
    assert time.monotonic() - began < 15


def test_who_has_left_is_not_waited_for(start_router, homeserver, origin):
    router = start_router(upstream={"patience_s": 20})
    assert origin.send(router, "a.example", origin.transaction()).status == 200
    homeserver.stop()
    with pytest.raises(TimeoutError):
        origin.send(router, "a.example", origin.transaction(), txn_id="left", timeout_s=1)
    homeserver.start_again()
    assert get(router, target=KEYS).status == 200
    time.sleep(1)
    assert not [request for request in homeserver.sends if b"left" in request.target]


def test_a_reload_changes_how_lists_are_judged(start_router, homeserver, origin):
    router = start_router(lists={"max_age_s": 3600})
    old = device_list(ALICE, [device("DEVA")], 5)
    homeserver.devices[ALICE] = old

    def judged():
        edu = to_device(origin.user, {ALICE: {"DEVA": {}}}, {ALICE: {"hash": dlh1(old)}})
        return [row["verdict"] for row in origin.send(router, "a.example", origin.transaction(edu)).json()["io.freshet.verdicts"]]
    assert judged() == ["fresh"]
    homeserver.devices[ALICE] = device_list(ALICE, [old["devices"][0], device("DEVB")], 9)
    wait_until(lambda: router.devices("a.example", ALICE).status == 200, "the list is stored")
    assert judged() == ["fresh"] and len(homeserver.list_reads) == 1  # within max_age_s
    router.config["lists"]["max_age_s"] = 0
    router.write_config()
    before = len(router.log)
    router.signal(1)
    wait_until(lambda: [record for record in router.records(since=before) if record.get("event") == "reloaded"], "the reload")
    assert judged() == ["stale"]
