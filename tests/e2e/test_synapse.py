"""Freshet before a real Synapse: what passes, what does not, and what the verdicts say."""
import collections
import os

import pytest

from harness import canonical, dlh1, to_device, x_matrix
from synapse import Client

UNSEEN = "dlh1:" + "0123456789abcdef" * 2
Direct = collections.namedtuple("Direct", "federation")


def message(origin, client, text, claim=None):
    claims = {client.user: {"hash": claim}} if claim else None
    return to_device(origin.user, {client.user: {client.device_id: {"text": text}}}, claims, kind="org.example.test")


def has_text(text):
    return lambda event: event["content"].get("text") == text


def verdict(origin, router, client, claim):
    answer = origin.send(router, client.synapse.name, origin.transaction(message(origin, client, "x", claim)))
    assert answer.status == 200, answer.body
    rows = answer.json()["io.freshet.verdicts"]
    assert [row["user_id"] for row in rows] == [client.user] and answer.json()["pdus"] == {}
    return rows[0]


def test_the_simulated_server_and_synapse_understand_each_other_without_a_router(synapse, origin, alice):
    text = os.urandom(4).hex()
    answer = origin.send(Direct(synapse.address), synapse.name, origin.transaction(message(origin, alice, text)))
    assert (answer.status, answer.json()) == (200, {"pdus": {}})
    event = alice.wait_event(has_text(text))
    assert (event["sender"], event["type"]) == (origin.user, "org.example.test")
    listed = synapse.device_list(alice.user)
    assert [entry["device_id"] for entry in listed["devices"]] == [alice.device_id]
    assert dlh1(listed) != dlh1({**listed, "devices": []})


def test_a_signed_transaction_reaches_sync(router, origin, alice):
    text = os.urandom(4).hex()
    answer = origin.send(router, alice.synapse.name, origin.transaction(message(origin, alice, text)))
    assert (answer.status, answer.json()) == (200, {"pdus": {}})
    event = alice.wait_event(has_text(text))
    assert (event["sender"], event["type"]) == (origin.user, "org.example.test")


def test_a_claim_equal_to_synapses_own_list_is_fresh(router, synapse, origin, alice):
    claim = dlh1(synapse.device_list(alice.user))
    assert verdict(origin, router, alice, claim) == {
        "user_id": alice.user, "sender": origin.user, "verdict": "fresh", "claimed": claim}


def test_after_one_more_login_the_old_claim_is_stale_at_the_first_send(router, synapse, origin, alice):
    old = dlh1(synapse.device_list(alice.user))
    assert verdict(origin, router, alice, old)["verdict"] == "fresh"
    Client(synapse, alice.user)
    new = dlh1(synapse.device_list(alice.user))
    told = verdict(origin, router, alice, old)
    assert (told["verdict"], told["claimed"], told["current"]) == ("stale", old, new) and old != new
    assert verdict(origin, router, alice, new)["verdict"] == "fresh"


def test_after_a_logout_the_old_claim_is_stale_too(router, synapse, origin, alice):
    second = Client(synapse, alice.user)
    old = dlh1(synapse.device_list(alice.user))
    assert verdict(origin, router, alice, old)["verdict"] == "fresh"
    synapse.call("POST", "/_matrix/client/v3/logout", {}, second.token)
    assert verdict(origin, router, alice, old)["verdict"] == "stale"


def test_a_hash_never_seen_is_unknown(router, origin, alice):
    assert verdict(origin, router, alice, UNSEEN)["verdict"] == "unknown"


def test_a_message_with_a_stale_claim_is_delivered_all_the_same(router, synapse, origin, alice):
    old = dlh1(synapse.device_list(alice.user))
    verdict(origin, router, alice, old)
    Client(synapse, alice.user)
    text = os.urandom(4).hex()
    answer = origin.send(router, alice.synapse.name, origin.transaction(message(origin, alice, text, old)))
    assert answer.json()["io.freshet.verdicts"][0]["verdict"] == "stale"
    alice.wait_event(has_text(text))


def forged_signature(origin, content, name):
    return {"sig": "A" * 86}


def wrong_destination(origin, content, name):
    return {"authorization": x_matrix(origin.key, origin.name, "b.example", "PUT", "/_matrix/federation/v1/send/t", content)}


def wrong_destination_hidden(origin, content, name):
    return {"authorization": x_matrix(origin.key, origin.name, "b.example", "PUT", "/_matrix/federation/v1/send/t", content,
                                      destination=name)}


def altered_body(origin, content, name):
    return {"body": canonical(content).replace(b'"text":"x"', b'"text":"y"')}


@pytest.mark.parametrize("forgery", [forged_signature, wrong_destination, wrong_destination_hidden, altered_body])
def test_a_forgery_is_refused_and_not_a_byte_reaches_synapse(router, relay, origin, alice, forgery):
    content = origin.transaction(message(origin, alice, "x"))
    answer = origin.send(router, alice.synapse.name, content, txn_id="t", **forgery(origin, content, alice.synapse.name))
    assert (answer.status, answer.json()["errcode"]) == (401, "M_UNAUTHORIZED")
    assert relay.n_bytes == 0


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


ODD = {
    "a fraction": {"n": 1.5},
    "a large integer": {"n": 2**60},
    "a negative zero": {"n": -0.0},
    "depth 300": {"deep": nested(300)},
    "30,001 values": {"many": [0] * 30_001},
    "any character": {"s": "\x00\x01\u2028é日\U0001f600/\\\""},
    "an empty key": {"": {"": ""}},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_content_fares_as_it_does_without_a_router(router, synapse, origin, alice, name):
    odd = ODD[name]
    for target, text in ((Direct(synapse.address), "direct"), (router, "routed")):
        edu = message(origin, alice, text)
        edu["content"]["messages"][alice.user][alice.device_id]["odd"] = odd
        answer = origin.send(target, synapse.name, origin.transaction(edu))
        assert answer.status == 200, (text, answer.body)
        assert alice.wait_event(has_text(text))["content"]["odd"] == odd


def test_the_same_transaction_twice_is_delivered_once(router, origin, alice):
    text = os.urandom(4).hex()
    content = origin.transaction(message(origin, alice, text))
    for _ in range(2):
        assert origin.send(router, alice.synapse.name, content, txn_id="twice").json()["pdus"] == {}
    alice.wait_event(has_text(text))
    assert not [event for event in alice.sync(500) if has_text(text)(event)]
