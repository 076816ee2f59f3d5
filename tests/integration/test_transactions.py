"""The table "Transactions" of the limits: what is provably wrong is refused, what is merely odd arrives."""
import json

import pytest

from harness import assert_refused, canonical, device, device_list, dlh1, exchange, to_device

BODY_MAX = 13_107_200
ALICE = "@alice:a.example"


def edu(content, edu_type="m.typing"):
    return {"edu_type": edu_type, "content": content}


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


def padded(content, size):
    """A transaction of exactly so many bytes."""
    room = size - len(canonical({**content, "x": ""}))
    return {**content, "x": "y" * room}


NOT_JSON = {
    "nothing": b"",
    "no JSON": b"hello",
    "an array": b"[]",
    "a string": b'"x"',
    "cut off": b'{"origin":"o","pdus":[]',
    "something after it": b'{"origin":"o","pdus":[]}x',
    "a trailing comma": b'{"origin":"o","pdus":[],}',
    "a comment": b'{"origin":"o"/**/,"pdus":[]}',
    "invalid UTF-8": b'{"origin":"o\xff","pdus":[]}',
    "overlong UTF-8": b'{"origin":"o\xc0\xaf","pdus":[]}',
    "a surrogate in UTF-8": b'{"origin":"o\xed\xa0\x80","pdus":[]}',
    "a lone surrogate": b'{"origin":"o","pdus":[],"x":"\\ud800"}',
    "a lone low surrogate": b'{"origin":"o","pdus":[],"x":"\\udc00"}',
    "a control character": b'{"origin":"o","pdus":[],"x":"\x01"}',
    "a byte order mark": b'\xef\xbb\xbf{"origin":"o","pdus":[]}',
    "NaN": b'{"origin":"o","pdus":[],"x":NaN}',
    "a leading zero": b'{"origin":"o","pdus":[],"x":01}',
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_not_a_json_object_is_refused(router, homeserver, origin, name):
    assert_refused(router, "not_json", lambda: origin.send(
        router, "a.example", origin.transaction(), body=NOT_JSON[name]), homeserver)


DUPLICATES = {
    "pdus": b'{"edus":[],"origin":"%s","origin_server_ts":1,"pdus":[],"pdus":[]}',
    "edus": b'{"edus":[],"edus":[],"origin":"%s","origin_server_ts":1,"pdus":[]}',
    "origin, escaped": b'{"edus":[],"origin":"%s","origin_server_ts":1,"orig\\u0069n":"other.example","pdus":[]}',
    "an EDU's content": b'{"edus":[{"content":{},"content":{"a":1},"edu_type":"m.typing"}],"origin":"%s","origin_server_ts":1,"pdus":[]}',
    "an EDU's type": b'{"edus":[{"content":{},"edu_type":"m.x","edu_type":"m.typing"}],"origin":"%s","origin_server_ts":1,"pdus":[]}',
}


@pytest.mark.parametrize("name", DUPLICATES)
def test_a_key_given_twice_is_refused(router, homeserver, origin, name):
    body = DUPLICATES[name] % origin.name.encode()
    assert_refused(router, "duplicate_key", lambda: origin.send(router, "a.example", json.loads(body), body=body), homeserver)


@pytest.mark.parametrize("n_pdus, n_edus, reason", [(50, 100, None), (51, 0, "too_many_pdus"), (0, 101, "too_many_edus")])
def test_50_pdus_and_100_edus_pass_and_no_more(router, homeserver, origin, n_pdus, n_edus, reason):
    content = origin.transaction(*[edu({"room_id": "!r:a"})] * n_edus, pdus=[{"type": "m.x"}] * n_pdus)
    if reason is None:
        assert origin.send(router, "a.example", content).status == 200
        assert homeserver.sends[-1].body == canonical(content)
    else:
        assert_refused(router, reason, lambda: origin.send(router, "a.example", content), homeserver)


def test_a_body_of_the_full_size_arrives(router, homeserver, origin):
    content = padded(origin.transaction(), BODY_MAX)
    assert origin.send(router, "a.example", content).status == 200
    assert homeserver.sends[-1].body == canonical(content)


def test_a_body_one_byte_larger_is_refused(router, homeserver, origin):
    content = padded(origin.transaction(), BODY_MAX + 1)
    assert_refused(router, "body_too_large", lambda: origin.send(router, "a.example", content), homeserver)


def test_a_larger_body_in_chunks_is_refused(router, homeserver, origin):
    raw = origin.raw_request("a.example", "PUT", "/_matrix/federation/v1/send/t", origin.transaction(), body=b"",
                             headers=[("Transfer-Encoding", "chunked")]).replace(b"Content-Length: 0\r\n", b"")
    piece = b"%x\r\n" % 65536 + b"x" * 65536 + b"\r\n"
    assert_refused(router, "body_too_large", lambda: exchange(router.federation, raw + piece * 201), homeserver)


@pytest.mark.parametrize("codings", [["gzip"], ["br"], ["identity, gzip"], [""], ["identity", "identity"]],
                         ids=["gzip", "br", "a list", "an empty one", "twice"])
def test_only_the_identity_encoding_is_taken(router, homeserver, origin, codings):
    content = origin.transaction()
    assert origin.send(router, "a.example", content, headers=[("Content-Encoding", "Identity")]).status == 200
    assert homeserver.sends[-1].body == canonical(content)
    headers = [("Content-Encoding", coding) for coding in codings]
    assert_refused(router, "content_encoding", lambda: origin.send(router, "a.example", content, headers=headers), homeserver)


# What arrives all the same, and under what it is counted as not judged.
ODD = {
    "depth 300": (edu({"deep": nested(300)}), "too_deep"),
    "depth 300 in a to-device message": (to_device("@bob:ORIGIN", {ALICE: {"DEV": {"deep": nested(300)}}}), "too_deep"),
    "30,001 values": (edu({"many": list(range(30_001))}), None),
    "120,000 values": (edu({"many": [0] * 120_000}), "too_many_values"),
    "a fraction": (edu({"n": 1.5}), None),
    "a negative zero": (edu({"n": -0.0}), None),
    "an integer beyond 2^53": (edu({"n": 2**63}), None),
    "an unknown EDU": (edu({"a": 1}, "org.example.unknown"), None),
    "content of the wrong shape": (edu("text", "m.direct_to_device"), "odd_shape"),
    "messages of the wrong shape": (edu({"messages": [1], "sender": "@bob:ORIGIN", "type": "x", "message_id": "y"},
                                        "m.direct_to_device"), "odd_shape"),
    "no content": ({"edu_type": "m.direct_to_device"}, "odd_shape"),
    "an EDU that is no object": (7, "odd_shape"),
    "a type that is no string": (edu({}, 9), "odd_shape"),
    "a recipient without a server": (to_device("@bob:ORIGIN", {"alice": {"DEV": {}}}), "odd_identifier"),
    "a recipient without a localpart": (to_device("@bob:ORIGIN", {"@:a.example": {"DEV": {}}}), None),
    "a recipient of an odd grammar": (to_device("@bob:ORIGIN", {"@Al ice!:a.example": {"DEV": {}}}), None),
    "a recipient of another spelling": (to_device("@bob:ORIGIN", {"@alice:A.example": {"DEV": {}}}), "not_hosted"),
    "a recipient of another server": (to_device("@bob:ORIGIN", {"@x:elsewhere.example": {"DEV": {}}}), "not_hosted"),
    "a sender without a server": (to_device("bob", {ALICE: {"DEV": {}}}), "odd_identifier"),
    "a sender of another server": (to_device("@bob:elsewhere.example", {ALICE: {"DEV": {}}}), "spoofed_sender"),
    "a list update of another server": (edu({"user_id": "@eve:elsewhere.example", "device_id": "X", "stream_id": 1, "prev_id": []},
                                            "m.device_list_update"), "spoofed_sender"),
    "a claim of the wrong shape": (to_device("@bob:ORIGIN", {ALICE: {"DEV": {}}}, claims={ALICE: "dlh1:00"}), "unusable_claim"),
    "claims of the wrong shape": (to_device("@bob:ORIGIN", {ALICE: {"DEV": {}}}, claims=[1, 2]), "unusable_claim"),
    "an empty device id": (to_device("@bob:ORIGIN", {ALICE: {"": {}}}), None),
    "all devices": (to_device("@bob:ORIGIN", {ALICE: {"*": {}}}), None),
    "a null in a string": (edu({"a": "x\x00y"}), None),
}
WHOLE = ("too_deep", "too_many_values")  # then nothing of the transaction is judged


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_arrives_byte_for_byte_and_its_neighbour_is_judged(router, homeserver, origin, name):
    answer = device_list(ALICE, [device("DEV")], 1)
    assert router.push_devices("a.example", answer).status // 100 == 2
    odd, reason = ODD[name]
    odd = json.loads(json.dumps(odd).replace("ORIGIN", origin.name))
    plain = to_device(origin.user, {ALICE: {"DEV": {"n": 1}}}, {ALICE: {"hash": dlh1(answer)}})
    content = origin.transaction(odd, plain)
    reply = origin.send(router, "a.example", content)
    assert reply.status == 200
    assert homeserver.sends[-1].body == canonical(content)
    assert router.metric("freshet_unjudged_total") == (reason is not None)
    assert reason is None or router.metric("freshet_unjudged_total", reason=reason) == 1
    verdicts = [row["verdict"] for row in reply.json().get("io.freshet.verdicts", []) if row["user_id"] == ALICE]
    assert verdicts == ([] if reason in WHOLE else ["fresh"])


NUMBERS = [b"1e2", b"1E+2", b"1.0", b"-0", b"1.50", b"1e400"]


@pytest.mark.parametrize("number", NUMBERS, ids=[number.decode() for number in NUMBERS])
def test_a_number_in_another_form_than_the_signers_is_left_to_the_homeserver(router, homeserver, origin, number):
    content = origin.transaction(edu({"n": 1}))
    body = canonical(content).replace(b'"n":1', b'"n":' + number)
    assert origin.send(router, "a.example", content, body=body).status == 200
    assert homeserver.sends[-1].body == body
    router.wait_metric("freshet_unjudged_total", reason="odd_number")


def test_an_integer_has_one_form_however_large(router, homeserver, origin):
    content = origin.transaction(edu({"n": 1}))
    body = canonical(content).replace(b'"n":1', b'"n":123456789012345678901234567890')
    assert_refused(router, "bad_signature", lambda: origin.send(router, "a.example", content, body=body), homeserver)


def test_a_key_given_twice_deeper_is_not_judged(router, homeserver, origin):
    listed = device_list(ALICE, [device("DEV")], 1)
    router.push_devices("a.example", listed)
    body = canonical(origin.transaction(to_device(origin.user, {ALICE: {"DEV": {"n": 1}}}, {ALICE: {"hash": dlh1(listed)}})))
    body = body.replace(b'"n":1', b'"n":1,"n":2')
    reply = origin.send(router, "a.example", json.loads(body), body=body)
    assert reply.status == 200 and homeserver.sends[-1].body == body
    assert [row["verdict"] for row in reply.json().get("io.freshet.verdicts", [])] in ([], ["unknown"])
    router.wait_metric("freshet_unjudged_total", reason="duplicate_inside")


SPOOFED = {"to-device": to_device("@eve:elsewhere.example", {ALICE: {"DEV": {}}}),
           "a device list": edu({"user_id": "@eve:elsewhere.example", "device_id": "X", "stream_id": 1, "prev_id": []},
                                "m.device_list_update")}


@pytest.mark.parametrize("name", SPOOFED)
def test_a_spoofed_sender_is_counted_and_refused_where_the_operator_says_so(start_router, homeserver, origin, name):
    content = origin.transaction(SPOOFED[name])
    relaying = start_router()
    assert origin.send(relaying, "a.example", content).status == 200
    assert homeserver.sends[-1].body == canonical(content)
    relaying.wait_metric("freshet_unjudged_total", reason="spoofed_sender")
    refusing = start_router(server={"spoofed_sender": "refuse"})
    assert_refused(refusing, "spoofed_sender", lambda: origin.send(refusing, "a.example", content), homeserver)


def test_large_lists_of_many_recipients_cost_verdicts_and_no_transaction(router, homeserver, origin):
    """They are copied for one request up to 96 MiB (inbound/exchange.h): large ones first, then what still fits beside them."""
    users = []
    for n_lists, n_devices in (320, 1000), (50, 20), (50, 1), (10, 0):
        body = canonical(device_list("@u0000:a.example", [device(f"{number:0300}") for number in range(n_devices)], 1))
        for _ in range(n_lists):
            users.append(f"@u{len(users):04}:a.example")
            pushed = router.admin("PUT", router.devices_path("a.example", users[-1]), body.replace(b"@u0000", users[-1][:6].encode()))
            assert pushed.status == 200
    claims = {user: {"hash": "dlh1:" + "0" * 32} for user in users}
    content = origin.transaction(to_device(origin.user, {user: {"D": {}} for user in users}, claims))
    reply = origin.send(router, "a.example", content)
    assert reply.status == 200 and homeserver.sends[-1].body == canonical(content)
    assert {row["verdict"] for row in reply.json()["io.freshet.verdicts"]} == {"unknown"}
