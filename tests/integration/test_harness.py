"""The peers of the tests, tried against each other without a router in between."""
import collections
import json
import pathlib

import canonicaljson
import signedjson.key
import signedjson.sign
import pytest

from harness import Answer, Homeserver, Relay, dlh1, exchange, key_document, request_bytes

Direct = collections.namedtuple("Direct", "federation")


def test_a_signed_transaction_reaches_the_homeserver_with_a_signature_that_verifies(homeserver, origin):
    content = origin.transaction({"edu_type": "m.typing", "content": {}})
    answer = origin.send(Direct(("127.0.0.1", homeserver.port)), "a.example", content, txn_id="t1")
    assert (answer.status, answer.json()) == (200, {"pdus": {}})
    request = homeserver.sends[0]
    assert request.body == canonicaljson.encode_canonical_json(content)
    assert request.raw.endswith(request.body) and request.raw.startswith(b"PUT /_matrix/federation/v1/send/t1 HTTP/1.1\r\n")
    fields = dict(field.split("=", 1) for field in request.headers.get("authorization")[len("X-Matrix "):].split(","))
    signed = {"method": "PUT", "uri": "/_matrix/federation/v1/send/t1", "origin": origin.name,
              "destination": "a.example", "content": content,
              "signatures": {origin.name: {"ed25519:a_origin": fields["sig"].strip('"')}}}
    signedjson.sign.verify_signed_json(signed, origin.name, signedjson.key.get_verify_key(origin.key))


def test_an_origin_serves_its_key_document_over_tls(origin, ca):
    raw = request_bytes("GET", "/_matrix/key/v2/server", [("Host", origin.name)])
    document = exchange(("127.0.0.1", origin.port), raw, tls=ca.client_context()).json()
    assert document["server_name"] == origin.name
    signedjson.sign.verify_signed_json(document, origin.name, signedjson.key.get_verify_key(origin.key))


def test_a_homeserver_publishes_both_its_keys(homeserver):
    document = key_document(homeserver.name, [homeserver.key, homeserver.router_key])
    assert sorted(document["verify_keys"]) == ["ed25519:a_hs", "ed25519:router"]
    assert sorted(document["signatures"]["a.example"]) == ["ed25519:a_hs", "ed25519:router"]


@pytest.mark.parametrize("cut", ["before", "inside", "reset"])
def test_a_scripted_cut_cuts(homeserver, cut):
    homeserver.on("/x", Answer(200, b"0123456789", cut=cut))
    with pytest.raises((EOFError, ConnectionResetError)):
        exchange(("127.0.0.1", homeserver.port), request_bytes("GET", "/x", [("Host", "a.example")]))


def test_a_relay_counts_what_passes(homeserver):
    relay = Relay(("127.0.0.1", homeserver.port))
    raw = request_bytes("GET", "/_matrix/key/v2/server", [("Host", "a.example"), ("Connection", "close")])
    assert exchange(("127.0.0.1", relay.port), raw).status == 200
    assert (relay.n_bytes, relay.n_connections) == (len(raw), 1)
    relay.stop()


def test_a_stopped_homeserver_refuses_and_comes_back_on_the_same_port():
    homeserver = Homeserver("a.example")
    raw = request_bytes("GET", "/_matrix/key/v2/server", [("Host", "a.example")])
    homeserver.stop()
    with pytest.raises(ConnectionRefusedError):
        exchange(("127.0.0.1", homeserver.port), raw)
    homeserver.start_again()
    assert exchange(("127.0.0.1", homeserver.port), raw).status == 200
    homeserver.stop()


def vectors():
    return json.loads((pathlib.Path(__file__).parents[1] / "data" / "dlh1.json").read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("case", vectors(), ids=lambda case: case["name"])
def test_the_hash_of_the_tests_agrees_with_the_vectors(case):
    devices = []
    for entry in case["devices"]:
        name = entry["device_id"]
        keys = {f"{kind}:{name}": entry[kind] for kind in ("curve25519", "ed25519") if kind in entry}
        devices.append({"device_id": name, "keys": {"keys": keys}})
    assert dlh1({"user_id": case["user_id"], "devices": devices}) == case["hash"]
