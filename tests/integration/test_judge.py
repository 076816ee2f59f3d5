"""Whether the sender's copy of a device list was current, and what the answer says of it."""
import json
import os
import threading
import time

from harness import Answer, canonical, device, device_list, dlh1, to_device, wait_until

ALICE, CAROL = "@alice:a.example", "@carol:a.example"
UNSEEN = "dlh1:" + "0123456789abcdef" * 2


def claim_of(user, hash_=None, **more):
    return {user: {**({"hash": hash_} if hash_ else {}), **more}}


def send_claim(router, origin, hash_=None, user=ALICE, messages=None, **more):
    """Sends one to-device EDU with a claim and returns the verdicts of the answer."""
    edu = to_device(origin.user, {user: messages or {"DEVA": {"org.matrix.msgid": "m1"}}}, claim_of(user, hash_, **more))
    answer = origin.send(router, "a.example", origin.transaction(edu))
    assert answer.status == 200, answer.body
    assert answer.json()["pdus"] == {}
    return edu, answer.json().get("io.freshet.verdicts", [])


def lists(user=ALICE, stream_ids=(5, 9)):
    """A list and the one that replaced it: one device more."""
    first = device("DEVA")
    return [device_list(user, [first], stream_ids[0]), device_list(user, [first, device("DEVB")], stream_ids[1])]


def push(router, *answers):
    for answer in answers:
        assert router.push_devices("a.example", answer).status // 100 == 2


def test_a_claim_equal_to_the_pushed_list_is_fresh(router, origin):
    old, _ = lists()
    push(router, old)
    _, verdicts = send_claim(router, origin, dlh1(old))
    assert verdicts == [{"user_id": ALICE, "sender": origin.user, "verdict": "fresh", "claimed": dlh1(old)}]


def test_a_claim_of_the_list_before_is_stale_and_learns_the_current_one(router, origin):
    old, new = lists()
    push(router, old, new)
    edu, verdicts = send_claim(router, origin, dlh1(old))
    assert verdicts == [{"user_id": ALICE, "sender": origin.user, "verdict": "stale", "claimed": dlh1(old),
                         "current": dlh1(new), "message_ids": [edu["content"]["message_id"]], "msgids": ["m1"]}]
    _, verdicts = send_claim(router, origin, dlh1(new))
    assert [row["verdict"] for row in verdicts] == ["fresh"]
    router.wait_metric("freshet_verdicts_total", verdict="stale")


def test_a_claim_never_seen_is_unknown(router, origin):
    push(router, *lists())
    _, verdicts = send_claim(router, origin, UNSEEN)
    assert verdicts == [{"user_id": ALICE, "sender": origin.user, "verdict": "unknown", "claimed": UNSEEN}]


def test_a_user_without_a_list_is_unknown(router, origin):
    _, verdicts = send_claim(router, origin, UNSEEN, user="@nobody:a.example")
    assert [row["verdict"] for row in verdicts] == ["unknown"]


def test_a_list_that_was_true_twice_is_never_called_stale(router, origin):
    old, new = lists()
    push(router, old, new, {**old, "stream_id": 12}, {**new, "stream_id": 15})
    _, verdicts = send_claim(router, origin, dlh1(old))
    assert [row["verdict"] for row in verdicts] == ["unknown"]


def test_a_claimed_position_beyond_the_lists_is_not_stale(router, origin):
    old, new = lists()
    push(router, old, new)
    _, verdicts = send_claim(router, origin, dlh1(old), stream_id=1000)
    assert [row["verdict"] for row in verdicts] == ["unknown"]


def test_an_empty_list_has_a_hash(router, origin):
    empty = device_list(ALICE, [], 3)
    push(router, empty)
    _, verdicts = send_claim(router, origin, dlh1(empty))
    assert [row["verdict"] for row in verdicts] == ["fresh"]


def test_a_list_of_more_than_1000_devices_gets_no_verdict(router, origin):
    large = device_list(ALICE, [device(f"D{number}") for number in range(1001)], 3)
    router.push_devices("a.example", large)
    _, verdicts = send_claim(router, origin, dlh1(large))
    assert [row["verdict"] for row in verdicts] in ([], ["unknown"])


def test_a_stream_id_alone_is_judged_by_position(router, origin):
    old, new = lists(stream_ids=(5, 9))
    push(router, old, new)
    for stream_id, verdict in ((4, "stale"), (7, "unknown"), (9, "fresh"), (12, "fresh")):
        _, verdicts = send_claim(router, origin, stream_id=stream_id)
        assert [row["verdict"] for row in verdicts] == [verdict], stream_id
        assert verdicts[0]["claimed_stream_id"] == stream_id and "claimed" not in verdicts[0]


def no_claim_answers():
    yield "plain", b'{"pdus":{}}'
    yield "spaces and order kept", b'{ "x" : 1.50,\n "pdus" : {"$e":{}} }'
    yield "empty", b""
    yield "an array", b"[1]"
    yield "not JSON", b"{oops"


def test_without_a_claim_the_answer_is_unchanged(router, homeserver, origin):
    push(router, *lists())
    edus = {"no claim": to_device(origin.user, {ALICE: {"DEVA": {}}}),
            "a claim for somebody else": to_device(origin.user, {ALICE: {"DEVA": {}}}, claim_of(CAROL, UNSEEN)),
            "an unknown prefix": to_device(origin.user, {ALICE: {"DEVA": {}}}, claim_of(ALICE, "dlh2:" + "0" * 32)),
            "upper case": to_device(origin.user, {ALICE: {"DEVA": {}}}, claim_of(ALICE, "dlh1:" + "A" * 32)),
            "a short hash": to_device(origin.user, {ALICE: {"DEVA": {}}}, claim_of(ALICE, "dlh1:00")),
            "a per-device claim": to_device(origin.user, {ALICE: {"DEVA": {"io.freshet.device_list": {"hash": UNSEEN, "device_id": "BOB"}}}}),
            "no EDU": None}
    for answer_name, body in no_claim_answers():
        homeserver.on("/_matrix/federation/v1/send/", Answer(200, body))
        for name, edu in edus.items():
            reply = origin.send(router, "a.example", origin.transaction(*([edu] if edu else [])))
            assert (reply.status, reply.body) == (200, body), (answer_name, name)


def test_the_homeservers_answer_keeps_its_bytes_around_the_verdicts(router, homeserver, origin):
    old, _ = lists()
    push(router, old)
    body = b'{"pdus":{"$e":{"error":"x"}},"z":1.50}'
    homeserver.on("/_matrix/federation/v1/send/", Answer(200, body))
    edu = to_device(origin.user, {ALICE: {"DEVA": {}}}, claim_of(ALICE, dlh1(old)))
    reply = origin.send(router, "a.example", origin.transaction(edu))
    assert reply.body.startswith(body[:-1]) and reply.json()["io.freshet.verdicts"][0]["verdict"] == "fresh"
    assert reply.headers.get("content-type") == "application/json"


def test_answers_that_cannot_carry_verdicts_pass_unchanged(router, homeserver, origin):
    old, _ = lists()
    push(router, old)
    edu = to_device(origin.user, {ALICE: {"DEVA": {}}}, claim_of(ALICE, dlh1(old)))
    for status, body in ((200, b"[]"), (200, b"{oops"), (200, b""), (403, b"{}"), (500, b'{"pdus":{}}'), (429, b"{}"),
                         (200, b'{"pdus":{},"io.freshet.verdicts":[]}')):
        homeserver.on("/_matrix/federation/v1/send/", Answer(status, body))
        reply = origin.send(router, "a.example", origin.transaction(edu))
        assert (reply.status, reply.body) == (status, body)


def test_each_recipient_and_claim_gets_its_own_verdict(router, origin):
    old, new = lists()
    carol = lists(CAROL)[0]
    push(router, old, new, carol)
    edus = [to_device(origin.user, {ALICE: {"DEVA": {}}}, claim_of(ALICE, dlh1(old))),
            to_device(origin.user, {ALICE: {"DEVA": {}}, CAROL: {"DEVA": {}}},
                      {**claim_of(ALICE, dlh1(new)), **claim_of(CAROL, dlh1(carol))}),
            to_device(origin.user, {ALICE: {"DEVA": {}}}, claim_of(ALICE, dlh1(old))),
            to_device(origin.user, {CAROL: {"DEVA": {}}})]
    rows = origin.send(router, "a.example", origin.transaction(*edus)).json()["io.freshet.verdicts"]
    assert sorted((row["user_id"], row["verdict"]) for row in rows) == [
        (ALICE, "fresh"), (ALICE, "stale"), (CAROL, "fresh")]
    stale = [row for row in rows if row["verdict"] == "stale"][0]
    assert sorted(stale["message_ids"]) == sorted(edus[number]["content"]["message_id"] for number in (0, 2))


def test_echoed_ids_are_bounded(router, origin):
    old, new = lists()
    push(router, old, new)
    messages = {f"D{number}": {"org.matrix.msgid": f"{number:064d}"} for number in range(400)}
    messages["LONG"] = {"org.matrix.msgid": "x" * 65}
    edu, verdicts = send_claim(router, origin, dlh1(old), messages=messages)
    assert verdicts[0]["verdict"] == "stale"
    assert len(verdicts[0]["msgids"]) == 250 and "x" * 65 not in verdicts[0]["msgids"]
    assert len(canonical(verdicts)) <= 65536


def test_what_is_known_outlives_a_kill(router, origin):
    old, new = lists()
    push(router, old, new)
    router.kill9()
    router.start()
    _, verdicts = send_claim(router, origin, dlh1(old))
    assert [(row["verdict"], row["current"]) for row in verdicts] == [("stale", dlh1(new))]
    _, verdicts = send_claim(router, origin, dlh1(new))
    assert [row["verdict"] for row in verdicts] == ["fresh"]


# Reading the list from the homeserver.

ALWAYS_READ = {"max_age_s": 0, "settle_ms": 300}


def test_a_claim_is_judged_by_a_read_of_the_homeservers_list(start_router, homeserver, origin):
    router = start_router(lists=ALWAYS_READ)
    old, new = lists()
    homeserver.devices[ALICE] = old
    _, verdicts = send_claim(router, origin, dlh1(old))
    assert [row["verdict"] for row in verdicts] == ["fresh"]
    read = homeserver.list_reads[-1]
    authorization = read.headers.get("authorization")
    assert 'origin="a.example"' in authorization and 'destination="a.example"' in authorization
    assert 'key="ed25519:router"' in authorization
    homeserver.devices[ALICE] = new
    _, verdicts = send_claim(router, origin, dlh1(old))
    assert [(row["verdict"], row["current"]) for row in verdicts] == [("stale", dlh1(new))]
    _, verdicts = send_claim(router, origin, dlh1(new))
    assert [row["verdict"] for row in verdicts] == ["fresh"]


def test_the_signature_of_a_read_verifies(start_router, homeserver, origin):
    import signedjson.key
    import signedjson.sign
    router = start_router(lists=ALWAYS_READ)
    homeserver.devices[ALICE] = lists()[0]
    send_claim(router, origin, UNSEEN)
    read = homeserver.list_reads[0]
    fields = dict(field.split("=", 1) for field in read.headers.get("authorization").split(" ", 1)[1].split(","))
    signed = {"method": "GET", "uri": read.target.decode(), "origin": "a.example", "destination": "a.example",
              "signatures": {"a.example": {"ed25519:router": fields["sig"].strip('"')}}}
    signedjson.sign.verify_signed_json(signed, "a.example", signedjson.key.get_verify_key(homeserver.router_key))


def test_an_unseen_claim_is_unknown_and_read_a_second_time(start_router, homeserver, origin):
    router = start_router(lists=ALWAYS_READ)
    homeserver.devices[ALICE] = lists()[0]
    _, verdicts = send_claim(router, origin, UNSEEN)
    assert [row["verdict"] for row in verdicts] == ["unknown"]
    wait_until(lambda: len(homeserver.list_reads) >= 2, "a second read")


def test_a_claim_ahead_of_the_read_copy_is_fresh_after_the_second_read(start_router, homeserver, origin):
    router = start_router(lists=ALWAYS_READ)
    old, new = lists()
    homeserver.devices[ALICE] = old
    _, verdicts = send_claim(router, origin, dlh1(new))
    homeserver.devices[ALICE] = new
    assert [row["verdict"] for row in verdicts] == ["unknown"]
    wait_until(lambda: len(homeserver.list_reads) >= 2, "a second read")
    router.wait_metric("freshet_second_reads_total", result="fresh")


def test_a_read_that_takes_long_does_not_hold_the_answer(start_router, homeserver, origin):
    router = start_router(lists=ALWAYS_READ)
    homeserver.on("/_matrix/federation/v1/user/devices/", Answer(200, lists()[0], delay_s=10))
    began = time.monotonic()
    _, verdicts = send_claim(router, origin, UNSEEN)
    assert [row["verdict"] for row in verdicts] == ["unknown"]
    assert time.monotonic() - began < 10


def test_a_read_that_fails_makes_the_verdict_unknown(start_router, homeserver, origin):
    router = start_router(lists=ALWAYS_READ)
    old, _ = lists()
    for answer in (Answer(500), Answer(404), Answer(200, b"{oops"), Answer(200, {}), Answer(cut="before"),
                   Answer(200, {**old, "user_id": CAROL})):
        homeserver.on("/_matrix/federation/v1/user/devices/", answer)
        _, verdicts = send_claim(router, origin, dlh1(old))
        assert [row["verdict"] for row in verdicts] == ["unknown"]


def test_an_answer_that_goes_back_in_time_is_not_believed(start_router, homeserver, origin):
    router = start_router(lists=ALWAYS_READ)
    old, new = lists()
    homeserver.devices[ALICE] = new
    send_claim(router, origin, dlh1(new))
    homeserver.devices[ALICE] = old  # with its lower stream_id: a lagging reader
    _, verdicts = send_claim(router, origin, dlh1(new))
    assert [row["verdict"] for row in verdicts] != ["stale"]


def test_a_list_read_lately_is_not_read_again(start_router, homeserver, origin):
    router = start_router(lists={"max_age_s": 60})
    old, _ = lists()
    homeserver.devices[ALICE] = old
    for _ in range(5):
        _, verdicts = send_claim(router, origin, dlh1(old))
        assert [row["verdict"] for row in verdicts] == ["fresh"]
        time.sleep(0.1)
    assert len(homeserver.list_reads) == 1


def test_reads_of_one_user_are_shared(start_router, homeserver, origin):
    router = start_router(lists={**ALWAYS_READ, "wait_ms": 3000})
    old, _ = lists()
    send_claim(router, origin, user="@warm:a.example")  # the key is at hand from here on
    before = len(homeserver.list_reads)
    homeserver.on("/_matrix/federation/v1/user/devices/", Answer(200, old, delay_s=0.5))
    verdicts = []
    threads = [threading.Thread(target=lambda: verdicts.append(send_claim(router, origin, dlh1(old))[1][0]["verdict"]))
               for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert verdicts == ["fresh"] * 20
    assert len(homeserver.list_reads) - before <= 6


def test_reads_are_budgeted_and_over_the_budget_is_unknown(start_router, homeserver, origin):
    router = start_router(lists={**ALWAYS_READ, "reads_per_s": 2})
    users = [f"@u{number}:a.example" for number in range(30)]
    homeserver.devices = {user: device_list(user, [device("D")], 1) for user in users}
    edu = to_device(origin.user, {user: {"D": {}} for user in users},
                    {user: {"hash": dlh1(answer)} for user, answer in homeserver.devices.items()})
    rows = origin.send(router, "a.example", origin.transaction(edu)).json()["io.freshet.verdicts"]
    verdicts = [row["verdict"] for row in rows]
    assert len(verdicts) == 30 and set(verdicts) == {"fresh", "unknown"} and len(homeserver.list_reads) < 15
    router.wait_metric("freshet_list_reads_total", result="budget")


def test_without_a_signing_key_nothing_is_read(start_router, homeserver, origin):
    router = start_router(lists=ALWAYS_READ, server={"signing": None})
    old, new = lists()
    homeserver.devices[ALICE] = old
    _, verdicts = send_claim(router, origin, dlh1(old))
    assert [row["verdict"] for row in verdicts] == ["unknown"]
    push(router, old, new)
    _, verdicts = send_claim(router, origin, dlh1(old))
    assert [row["verdict"] for row in verdicts] == ["stale"]
    assert homeserver.list_reads == []


def test_the_messages_arrive_whatever_the_verdict(router, homeserver, origin):
    old, new = lists()
    push(router, old, new)
    for hash_ in (dlh1(old), dlh1(new), UNSEEN):
        edu, _ = send_claim(router, origin, hash_)
        assert json.loads(homeserver.sends[-1].body)["edus"] == [edu]


def test_a_transaction_of_full_size_is_judged_in_full(router, origin):
    users = [f"@u{number}:a.example" for number in range(100)]
    answers = {user: device_list(user, [device("D")], 1) for user in users[:20]}
    push(router, *answers.values())
    edus = [to_device(origin.user, {user: {"D": {"blob": os.urandom(500).hex()}} for user in users[:20]},
                      {user: {"hash": dlh1(answer)} for user, answer in answers.items()}) for _ in range(100)]
    rows = origin.send(router, "a.example", origin.transaction(*edus)).json()["io.freshet.verdicts"]
    assert sorted(row["user_id"] for row in rows) == sorted(answers)
    assert {row["verdict"] for row in rows} == {"fresh"}


def test_a_repeated_claim_leaves_half_of_the_budget_to_others(start_router, homeserver, origin):
    router = start_router(lists={**ALWAYS_READ, "reads_per_s": 8})
    old, new = lists()
    homeserver.devices[ALICE] = old
    assert send_claim(router, origin, dlh1(old))[1][0]["verdict"] == "fresh"
    homeserver.devices[ALICE] = new
    verdicts = [send_claim(router, origin, dlh1(old))[1][0]["verdict"] for _ in range(30)]
    assert verdicts[0] == "stale" and set(verdicts) == {"stale", "unknown"}
    homeserver.devices[CAROL] = lists(CAROL)[0]
    assert send_claim(router, origin, dlh1(homeserver.devices[CAROL]), user=CAROL)[1][0]["verdict"] in ("fresh", "unknown")
    router.wait_metric("freshet_list_reads_total", result="budget")
