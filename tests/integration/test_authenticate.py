"""Nothing forged reaches the homeserver; what cannot be checked does, unjudged."""
import threading

import pytest
import signedjson.sign

from harness import Answer, Homeserver, assert_refused, canonical, exchange, key_document, make_key, request_bytes, x_matrix

SEND = "/_matrix/federation/v1/send/"


def test_a_right_signature_passes(router, homeserver, origin):
    assert origin.send(router, "a.example", origin.transaction()).status == 200
    assert len(homeserver.sends) == 1 and len(origin.key_requests) == 1
    router.wait_metric("freshet_key_fetches_total", result="ok")


def altered(content):
    return canonical({**content, "origin_server_ts": content["origin_server_ts"] + 1})


FORGERIES = {
    "an altered body": lambda o, c: {"body": altered(c)},
    "another key": lambda o, c: {"key": make_key("a_origin")},
    "a signature of zeros": lambda o, c: {"sig": "A" * 86},
    "a signature for another path": lambda o, c: {
        "authorization": x_matrix(o.key, o.name, "a.example", "PUT", SEND + "other", c)},
    "a signature for another method": lambda o, c: {
        "authorization": x_matrix(o.key, o.name, "a.example", "POST", SEND + "t", c)},
    "a signature for another destination": lambda o, c: {
        "authorization": x_matrix(o.key, o.name, "b.example", "PUT", SEND + "t", c, destination="a.example")},
    "a signature without the content": lambda o, c: {
        "authorization": x_matrix(o.key, o.name, "a.example", "PUT", SEND + "t")},
    "a destination that is not hosted": lambda o, c: {
        "authorization": x_matrix(o.key, o.name, "b.example", "PUT", SEND + "t", c)},
    "no authorization": lambda o, c: {"authorization": ""},
    "another scheme": lambda o, c: {"authorization": "Bearer abc"},
    "an empty X-Matrix": lambda o, c: {"authorization": "X-Matrix "},
    "no signature": lambda o, c: {"sig": None},
    "no key": lambda o, c: {"authorization": x_matrix(o.key, o.name, "a.example", "PUT", SEND + "t", c).replace("key=", "kex=")},
    "a signature that is not base64": lambda o, c: {"sig": "!!!"},
    "a short signature": lambda o, c: {"sig": "AAAA"},
    "an origin that is no server name": lambda o, c: {"origin": "exa mple"},
    "a parameter given twice": lambda o, c: {"authorization": x_matrix(
        o.key, o.name, "a.example", "PUT", SEND + "t", c) + f',origin="{o.name}"'},
    "an unfinished quotation": lambda o, c: {"authorization": x_matrix(o.key, o.name, "a.example", "PUT", SEND + "t", c) + ',x="'},
}


# Where it is not the signature that is found wrong.
REASONS = {
    "a destination that is not hosted": "wrong_destination",
    "no authorization": "no_xmatrix",
    "another scheme": "no_xmatrix",
    **dict.fromkeys(["an empty X-Matrix", "no signature", "no key", "a signature that is not base64", "a short signature",
                     "an origin that is no server name", "a parameter given twice", "an unfinished quotation"], "bad_xmatrix"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_refused(router, homeserver, origin, name):
    content = origin.transaction()
    assert_refused(router, REASONS.get(name, "bad_signature"), lambda: origin.send(
        router, "a.example", content, txn_id="t", **FORGERIES[name](origin, content)), homeserver)


def test_headers_of_different_origins_are_refused(router, homeserver, origin):
    content = origin.transaction()
    other = x_matrix(make_key("x"), "other.example", "a.example", "PUT", SEND + "t", content)
    assert_refused(router, "many_origins", lambda: origin.send(
        router, "a.example", content, txn_id="t", headers=[("Authorization", other)]), homeserver)


def test_eight_signatures_pass_and_no_more(router, homeserver, origin):
    content = origin.transaction()
    others = [("Authorization", x_matrix(make_key(f"k{number}"), origin.name, "a.example", "PUT", SEND + "t", content))
              for number in range(8)]
    assert origin.send(router, "a.example", content, txn_id="t", headers=others[:7]).status == 200
    assert homeserver.sends[-1].body == canonical(content)
    assert_refused(router, "bad_xmatrix", lambda: origin.send(router, "a.example", content, txn_id="t", headers=others), homeserver)


@pytest.mark.parametrize("name", ["Remote.EXAMPLE", "remote.examplE:8448", "A.example"])
def test_an_origin_with_capital_letters_is_relayed_unjudged(router, homeserver, name):
    """Names are case-sensitive, and one with capital letters is a valid name; its key is never fetched."""
    content = {"origin": name, "origin_server_ts": 1, "pdus": []}
    for n in 1, 2:
        authorization = x_matrix(make_key("a"), name, "a.example", "PUT", SEND + "t", content)
        raw = request_bytes("PUT", SEND + "t", [("Host", "a.example"), ("Authorization", authorization)], canonical(content))
        assert exchange(router.federation, raw).status == 200
        assert homeserver.requests[-1].body == canonical(content) and len(homeserver.requests) == n
        assert router.metric("freshet_unjudged_total", reason="no_key") == n
    assert router.metric("freshet_key_fetches_total", result="ok") == 0


def test_one_right_signature_among_an_origins_headers_is_enough(router, homeserver, origin):
    content = origin.transaction()
    other = x_matrix(make_key("x"), origin.name, "a.example", "PUT", SEND + "t", content)
    assert origin.send(router, "a.example", content, txn_id="t", headers=[("Authorization", other)]).status == 200
    assert len(homeserver.sends) == 1


def test_the_bodys_origin_must_be_the_senders(router, homeserver, origin):
    content = origin.transaction(origin="other.example")
    assert_refused(router, "origin_mismatch", lambda: origin.send(router, "a.example", content), homeserver)


def test_a_body_that_is_not_canonical_is_verified_in_its_canonical_form(router, homeserver, origin):
    content = origin.transaction({"edu_type": "m.typing", "content": {"é": "\x01/"}})
    keys = ["pdus", "origin_server_ts", "origin", "edus"]
    body = b'{ ' + b' , '.join(b'"%s" : %s' % (key.encode(), canonical(content[key])) for key in keys) + b' }'
    body = body.replace("é".encode(), b"\\u00e9").replace(b"/", b"\\/")
    assert origin.send(router, "a.example", content, body=body).status == 200
    assert homeserver.sends[-1].body == body
    assert_refused(router, "bad_signature", lambda: origin.send(
        router, "a.example", content, body=body.replace(b"m.typing", b"m.typinh")), homeserver)


@pytest.mark.parametrize("target", [SEND, SEND + "a/", SEND + "%61%2Fb", SEND + "t?x=1", SEND[:-1]],
                         ids=["no id", "a trailing slash", "an encoded id", "a query", "no id, no slash"])
def test_every_way_to_write_the_transaction_path_is_checked(router, homeserver, origin, untouched, target):
    content = origin.transaction()
    with untouched(homeserver):
        assert origin.send(router, "a.example", content, target=target, body=altered(content)).status == 401
    origin.send(router, "a.example", content, target=target)
    assert homeserver.requests[-1].target == target.encode()


def test_a_signed_request_outside_the_transaction_path_is_relayed(router, homeserver, origin):
    homeserver.on("/_matrix/federation/v1/user/keys/query", Answer(200, b'{"device_keys":{}}'))
    answer = origin.request(router, "a.example", "POST", "/_matrix/federation/v1/user/keys/query", {"device_keys": {}})
    assert (answer.status, answer.body) == (200, b'{"device_keys":{}}')


def test_without_a_key_the_homeserver_decides(router, homeserver, origin):
    origin.stop()
    content = origin.transaction()
    assert origin.send(router, "a.example", content).status == 200
    assert homeserver.sends[-1].body == canonical(content)
    router.wait_metric("freshet_unjudged_total", reason="no_key")
    homeserver.on(SEND, Answer(401, b'{"errcode":"M_UNAUTHORIZED","error":"no"}'))
    assert origin.send(router, "a.example", content, body=altered(content)).status == 401
    assert len(homeserver.sends) == 2


# The neutral element of the curve: with itself as R and 0 as S it "signs" any message.
SMALL_ORDER = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
FORGED = "AQ" + "A" * 84
BANNED_KEYS = {"of small order": SMALL_ORDER,
               "whose private half is public": "l/O9hxMVKB6Lg+3Hqf0FQQZhVESQcMzbPN1Cz2nM3og"}
UNDER_BANNED = {"key": "ed25519:banned", "sig": FORGED}


def with_banned_key(origin, key=SMALL_ORDER):
    """The origin's document, signed by its good key, that lists a banned one too."""
    document = key_document(origin.name, [])
    document["verify_keys"] = {**key_document(origin.name, [origin.key])["verify_keys"], "ed25519:banned": {"key": key}}
    return signedjson.sign.sign_json(document, origin.name, origin.key)


def learn_ban(router, origin):
    """Every worker of the router knows it then, from the store."""
    origin.on("/_matrix/key/", Answer(200, with_banned_key(origin)))
    assert origin.send(router, "a.example", origin.transaction()).status == 200
    router.wait_metric("freshet_journal_records_total")


def under_banned(origin, content, txn_id="t"):
    return x_matrix(origin.key, origin.name, "a.example", "PUT", SEND + txn_id, content, **UNDER_BANNED)


def hang(origin):
    return Answer(cut="hang")


def of_another_name(origin):
    return Answer(200, key_document("other.example", [origin.key]))


def not_signed(origin):
    document = key_document(origin.name, [origin.key])
    document["signatures"] = {}
    return Answer(200, document)


def signed_by_another(origin):
    document = key_document(origin.name, [origin.key])
    document["signatures"] = key_document(origin.name, [make_key("a_origin")])["signatures"]
    return Answer(200, document)


def signed_by_a_banned_one(origin):
    document = with_banned_key(origin)
    document["signatures"] = {origin.name: {"ed25519:banned": FORGED}}
    return Answer(200, document)


def too_large(origin):
    return Answer(200, b" " * 70000 + canonical(key_document(origin.name, [origin.key])))


@pytest.mark.parametrize("document", [hang, of_another_name, not_signed, signed_by_another,
                                      signed_by_a_banned_one, too_large])
def test_a_key_document_that_does_not_hold_is_no_key(router, homeserver, origin, document):
    origin.on("/_matrix/key/", document(origin))
    content = origin.transaction()
    assert origin.send(router, "a.example", content).status == 200
    assert origin.send(router, "a.example", content, body=altered(content)).status == 200
    assert len(homeserver.sends) == 2
    router.wait_metric("freshet_unjudged_total", at_least=2, reason="no_key")
    assert len(origin.key_requests) == 1


@pytest.mark.parametrize("key", BANNED_KEYS.values(), ids=BANNED_KEYS)
def test_what_a_banned_key_signed_is_refused(router, homeserver, origin, key):
    origin.on("/_matrix/key/", Answer(200, with_banned_key(origin, key)))
    for n in 1, 2:
        content = origin.transaction()
        assert_refused(router, "banned_key", lambda: origin.send(
            router, "a.example", content, txn_id="t", authorization=under_banned(origin, content)), homeserver)
        router.wait_metric("freshet_refused_total", at_least=n, reason="banned_key")
    assert len(origin.key_requests) == 1
    assert origin.send(router, "a.example", origin.transaction()).status == 200
    assert router.metric("freshet_unjudged_total") == 0


# OpenSSL, which checks long messages, takes a signature of a key of small order.
BODIES = {
    "long": canonical({"edu_type": "x", "content": {"a": "a" * 200000}}),
    "with a number that is no integer": b'{"content":{"a":1.50},"edu_type":"x"}',
    "too deep": b'{"content":' + b"[" * 200 + b"]" * 200 + b',"edu_type":"x"}',
    "too deep and not canonical": b'{"content": ' + b"[" * 200 + b"]" * 200 + b',"edu_type":"x"}',
}


@pytest.mark.parametrize("edu", BODIES.values(), ids=BODIES)
def test_a_banned_key_is_refused_whatever_the_body(router, homeserver, origin, edu):
    learn_ban(router, origin)
    content = origin.transaction()
    body = canonical({**content, "edus": []}).replace(b'"edus":[]', b'"edus":[' + edu + b']')
    assert_refused(router, "banned_key", lambda: origin.send(
        router, "a.example", content, txn_id="t", body=body, authorization=under_banned(origin, content)), homeserver)
    router.wait_metric("freshet_refused_total", reason="banned_key")


def test_a_banned_key_beside_a_right_signature_is_not_counted(router, homeserver, origin):
    origin.on("/_matrix/key/", Answer(200, with_banned_key(origin)))
    content = origin.transaction()
    headers = [("Authorization", under_banned(origin, content))]
    right = [("Authorization", x_matrix(origin.key, origin.name, "a.example", "PUT", SEND + "t", content))]
    assert origin.send(router, "a.example", content, txn_id="t", headers=headers).status == 200
    assert origin.send(
        router, "a.example", content, txn_id="t", headers=right, authorization=headers[0][1]).status == 200
    assert len(homeserver.sends) == 2 and router.metric("freshet_unjudged_total") == 0
    for changes in ({"sig": "A" * 86}, {"key": make_key("unknown")}):
        assert_refused(router, "banned_key", lambda: origin.send(
            router, "a.example", content, txn_id="t", headers=headers, **changes), homeserver)
    router.wait_metric("freshet_refused_total", at_least=2, reason="banned_key")
    assert len(origin.key_requests) == 1


def test_a_ban_outlives_the_router(router, homeserver, origin):
    learn_ban(router, origin)
    origin.stop()
    router.kill9()
    router.start()
    content = origin.transaction()
    assert_refused(router, "banned_key", lambda: origin.send(
        router, "a.example", content, txn_id="t", authorization=under_banned(origin, content)), homeserver)
    router.wait_metric("freshet_refused_total", reason="banned_key")


def test_a_key_is_fetched_once_for_many_at_once(router, homeserver, origin):
    origin.on("/_matrix/key/", Answer(200, key_document(origin.name, [origin.key]), delay_s=0.5))
    statuses = []
    threads = [threading.Thread(target=lambda: statuses.append(origin.send(router, "a.example", origin.transaction()).status))
               for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert statuses == [200] * 20 and len(origin.key_requests) == 1


def test_an_unknown_key_id_is_looked_for_once_in_five_minutes(router, homeserver, origin):
    assert origin.send(router, "a.example", origin.transaction()).status == 200
    stranger = make_key("new")
    for _ in range(3):
        origin.send(router, "a.example", origin.transaction(), key=stranger)
    assert len(origin.key_requests) <= 2


def test_a_key_outlives_the_router(router, homeserver, origin):
    content = origin.transaction()
    assert origin.send(router, "a.example", content).status == 200
    router.wait_metric("freshet_journal_records_total")  # a key that was not committed yet is not promised
    origin.stop()
    router.kill9()
    router.start()
    assert_refused(router, "bad_signature", lambda: origin.send(router, "a.example", content, body=altered(content)), homeserver)
    assert origin.send(router, "a.example", content).status == 200
    assert router.metric("freshet_unjudged_total") == 0


def test_an_address_that_is_not_allowed_is_not_dialled(start_router, ca, homeserver, origin):
    router = start_router(federation_client={"ca_file": str(ca.file)})
    assert origin.send(router, "a.example", origin.transaction()).status == 200
    router.wait_metric("freshet_unjudged_total", reason="no_key")
    assert origin.n_connections == 0


def test_a_certificate_of_nobody_known_is_not_believed(start_router, homeserver, origin):
    router = start_router(federation_client={"allow_addresses": ["127.0.0.0/8"]})
    assert origin.send(router, "a.example", origin.transaction()).status == 200
    router.wait_metric("freshet_unjudged_total", reason="no_key")
    assert origin.key_requests == []


def test_a_hosted_servers_key_comes_from_its_own_upstream(start_router, homeserver):
    other = Homeserver("b.example")
    router = start_router([homeserver, other])
    content = {"origin": "b.example", "origin_server_ts": 1, "pdus": []}

    def send(key):
        authorization = x_matrix(key, "b.example", "a.example", "PUT", SEND + "t", content)
        return exchange(router.federation, request_bytes(
            "PUT", SEND + "t", [("Host", "a.example"), ("Authorization", authorization)], canonical(content)))
    assert send(other.key).status == 200
    assert send(other.router_key).status == 200
    assert_refused(router, "bad_signature", lambda: send(make_key("a_hs")), homeserver)
    assert len(other.of("/_matrix/key/")) >= 1
    other.stop()
