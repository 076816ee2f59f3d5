"""Signed requests and key documents against Debian's signedjson: each side reads what the other signed."""
import base64
import copy
import json
import os
import random
import re
import subprocess

from signedjson.key import decode_signing_key_base64, decode_verify_key_base64, get_verify_key
from signedjson.sign import SignatureVerifyException, sign_json, verify_signed_json

CASES = 2_000
OPENSSL_FROM = 64 * 1024  # bytes of a message from which proto/ed25519.c verifies with the other library
TOOL = os.path.join(os.environ["FRESHET_BUILD"], "tests", "signing_tool")
CHARACTERS = ["a", "b", "Z", "0", " ", "/", '"', "\\", "\b", "\t", "\n", "\x00", "\x1f", "\x7f", "\x80",
              "é", "日", "\u2028", "\ufffd", "\ue000", "\U00010000", "😀"]
SERVERS = ["a.example", "b.example:8448", "matrix.org", "1.2.3.4", "[2001:db8::1]:1", "xn--bcher-kva.example"]
METHODS = ["GET", "PUT", "POST", "DELETE"]


def ask(commands):
    sent = "".join(json.dumps(command, ensure_ascii=False) + "\n" for command in commands).encode("utf-8")
    done = subprocess.run([TOOL], input=sent, stdout=subprocess.PIPE, check=True, timeout=300)
    answers = done.stdout.decode("utf-8").split("\n")[:-1]
    assert len(answers) == len(commands)
    return answers


def encoded(data):
    return base64.b64encode(data).decode().rstrip("=")


def decoded(text):
    return base64.b64decode(text + "=" * (-len(text) % 4))


# generating


def text(rng):
    return "".join(rng.choices(CHARACTERS, k=rng.randrange(8)))


def document(rng, depth):
    """What Matrix allows in a signed document: no fractions, integers up to 53 bits."""
    kind = rng.randrange(7 if depth else 4)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind == 1:
        return rng.choice([0, 1, -1, rng.randrange(-2**53 + 1, 2**53)])
    if kind <= 3:
        return text(rng)
    if kind == 4:
        return [document(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {text(rng): document(rng, depth - 1) for _ in range(rng.randrange(5))}


def content(rng):
    """A body with at least one member, so that there is something to alter."""
    made = {"origin": "x", **{text(rng): document(rng, 3) for _ in range(rng.randrange(5))}}
    if rng.random() < 0.05:
        made["long"] = "".join(rng.choices(CHARACTERS, k=OPENSSL_FROM))
    return made


def spelled(rng, value):
    if rng.random() < 0.3:
        value = dict(sorted(value.items(), key=lambda _: rng.random()))
    return json.dumps(value, ensure_ascii=rng.random() < 0.5,
                      separators=rng.choice([(",", ":"), (", ", ": "), (" ,\t", " : ")]))


def new_key(rng):
    version = "".join(rng.choices("abcXYZ019_", k=rng.randrange(1, 9)))
    return decode_signing_key_base64("ed25519", version, encoded(rng.randbytes(32)))


def new_keys(rng, n):
    """Up to n, no two of the same id."""
    return list({key.version: key for key in [new_key(rng) for _ in range(n)]}.values())


def key_id_of(key):
    return f"{key.alg}:{key.version}"


def public(key):
    return encoded(bytes(get_verify_key(key)))


def new_request(rng):
    request = {"method": rng.choice(METHODS), "origin": rng.choice(SERVERS), "destination": rng.choice(SERVERS),
               "uri": "/_matrix/federation/v1/" + "".join(rng.choices("abc/%20?&=+~é日", k=rng.randrange(20)))}
    if rng.random() < 0.8:
        request["content"] = content(rng)
    return request


def flipped(rng, signature):
    raw = bytearray(decoded(signature))
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    return encoded(bytes(raw))


def changed(rng, value):
    """The object with one thing in it that is not as it was."""
    value = copy.deepcopy(value)
    name = rng.choice(list(value))
    kind = rng.randrange(3)
    if kind == 0:
        del value[name]
    elif kind == 1:
        value[name + "x"] = value.pop(name)
    else:
        value[name] = [value[name]]
    return value


# X-Matrix


def header_of(rng, given):
    """One of the spellings of the header; `given` are its four parameters."""
    parameters = list(given.items())
    if rng.random() < 0.5:
        rng.shuffle(parameters)
    if rng.random() < 0.2:
        parameters.insert(rng.randrange(len(parameters) + 1), ("new", "thing"))
    case = rng.choice([str, str, str.upper, str.title])
    quote = rng.choice(['"', '"', ""])
    return "X-Matrix " + rng.choice([",", ", ", " ,"]).join(
        f"{case(name)}={quote}{value}{quote}" for name, value in parameters)


def read_header(header):
    """The header's parameters, as Synapse takes them apart."""
    scheme, rest = header.split(" ", 1)
    assert scheme == "X-Matrix"
    parameters = dict(part.split("=", 1) for part in re.split(r"[ \t]*,[ \t]*", rest))
    return {name.lower(): re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
            for name, value in parameters.items()}


def signedjson_accepts(received, given, key_id, key):
    """What Synapse does with the request that came in, its header's parameters, and the key it has."""
    signed = {name: value for name, value in received.items() if name != "origin"}
    signed.update(origin=given["origin"], signatures={given["origin"]: {given["key"]: given["sig"]}})
    if given["destination"] != received["destination"] or given["key"] != key_id:
        return False
    try:
        verify_signed_json(signed, given["origin"], decode_verify_key_base64(*key_id.split(":"), key))
    except SignatureVerifyException:
        return False
    return True


REQUEST_CHANGES = ["nothing", "nothing", "method", "uri", "destination", "both destinations",
                   "the header's destination", "origin", "content", "no content", "sig", "key", "key id",
                   "another key's id"]


def change_request(rng, what, received, given, held):
    """Alters one of: the request as it arrives, the header, the key that the reader holds."""
    if what == "method":
        received["method"] = rng.choice([method for method in METHODS if method != received["method"]])
    elif what == "uri":
        received["uri"] += rng.choice(["x", "/", "?", "%20"])
    elif what in ("destination", "both destinations"):
        received["destination"] = rng.choice([name for name in SERVERS if name != received["destination"]])
        if what == "both destinations":
            given["destination"] = received["destination"]
    elif what == "the header's destination":
        given["destination"] = rng.choice([name for name in SERVERS if name != given["destination"]])
    elif what == "origin":
        given["origin"] = rng.choice([name for name in SERVERS if name != given["origin"]])
    elif what == "content":
        received["content"] = changed(rng, received["content"]) if "content" in received else {}
    elif what == "no content":
        if received.pop("content", None) is None:
            received["content"] = content(rng)
    elif what == "sig":
        given["sig"] = flipped(rng, given["sig"])
    elif what == "key":
        held["key"] = public(new_key(rng))
    elif what == "key id":
        given["key"] += "x"
    elif what == "another key's id":
        held["key_id"] += "x"


def test_what_signedjson_signed_is_accepted_and_what_was_altered_is_not():
    rng = random.Random(20261201)
    commands, want, names = [], [], []
    for index in range(CASES * 2):
        key, request = new_key(rng), new_request(rng)
        signed = sign_json(copy.deepcopy(request), request["origin"], key)
        given = {"origin": request["origin"], "destination": request["destination"], "key": key_id_of(key),
                 "sig": signed["signatures"][request["origin"]][key_id_of(key)]}
        held = {"key_id": key_id_of(key), "key": public(key)}
        what = rng.choice(REQUEST_CHANGES[2:]) if index % 2 else "nothing"
        change_request(rng, what, request, given, held)
        want.append(signedjson_accepts(request, given, **held))
        assert want[-1] == (what == "nothing")
        names.append(what)
        commands.append({"do": "verify", "header": header_of(rng, given), "method": request["method"],
                         "uri": request["uri"], "destination": request["destination"], **held})
        if "content" in request:
            commands[-1]["body"] = spelled(rng, request["content"])
    assert want.count(True) == want.count(False) == CASES and set(names) == set(REQUEST_CHANGES)
    for command, got, right, what in zip(commands, ask(commands), want, names):
        assert got == ("yes" if right else "no"), (what, command)


def test_what_we_sign_is_accepted_by_signedjson_and_what_was_altered_is_not():
    rng = random.Random(20261202)
    cases, commands = [], []
    for _ in range(CASES):
        key, request = new_key(rng), new_request(rng)
        cases.append((key, request))
        commands.append({"do": "sign", "method": request["method"], "uri": request["uri"],
                         "origin": request["origin"], "destination": request["destination"],
                         "signing_key": f"ed25519 {key.version} {encoded(key.encode())}"})
        if "content" in request:
            commands[-1]["body"] = spelled(rng, request["content"])
    for (key, request), header in zip(cases, ask(commands)):
        given = read_header(header)
        assert sorted(given) == ["destination", "key", "origin", "sig"] and given["origin"] == request["origin"]
        held = {"key_id": key_id_of(key), "key": public(key)}
        assert signedjson_accepts(request, given, **held), (request, header)
        signed = sign_json(copy.deepcopy(request), request["origin"], key)
        assert given["sig"] == signed["signatures"][request["origin"]][key_id_of(key)]
        what = rng.choice(REQUEST_CHANGES[2:])
        change_request(rng, what, request, given, held)
        assert not signedjson_accepts(request, given, **held), what


# key documents


def new_key_document(rng, server, keys):
    made = {"server_name": server, "valid_until_ts": rng.randrange(2**53),
            "verify_keys": {key_id_of(key): {"key": public(key)} for key in keys}}
    if rng.random() < 0.7:
        made["old_verify_keys"] = {key_id_of(old): {"key": public(old), "expired_ts": rng.randrange(2**53)}
                                   for old in [new_key(rng) for _ in range(rng.randrange(3))]}
    if rng.random() < 0.3:
        made["verify_keys"]["curve25519:1"] = {"key": encoded(rng.randbytes(32))}
    if rng.random() < 0.3:
        made[text(rng) + "-more"] = document(rng, 2)
    for key in rng.sample(keys, rng.randrange(1, len(keys) + 1)):
        made = sign_json(made, server, key)
    if rng.random() < 0.3:
        made = sign_json(made, "notary.example", new_key(rng))
    return made


def signedjson_verifies(made, server):
    """Whether the document is that server's and one of its own keys has signed it."""
    if made.get("server_name") != server:
        return False
    for key_id, held in made.get("verify_keys", {}).items():
        if not key_id.startswith("ed25519:"):
            continue
        try:
            verify_signed_json(made, server, decode_verify_key_base64(*key_id.split(":"), held["key"]))
            return True
        except SignatureVerifyException:
            pass
    return False


KEEPS = ["nothing", "unsigned", "a stranger's signature"]
BREAKS = ["end", "member", "old keys", "key", "key id", "sig", "no signatures", "signed as another",
          "asked for another", "another's document", "signed by a key it does not give"]


def change_key_document(rng, what, made, server):
    """The altered document, and the server name that is asked for."""
    made, asked = copy.deepcopy(made), server
    own = made["signatures"][server]
    if what == "unsigned":
        made["unsigned"] = {"age_ts": document(rng, 2)}
    elif what == "a stranger's signature":
        made = sign_json(made, "stranger.example", new_key(rng))
    elif what == "end":
        made["valid_until_ts"] += rng.choice([-1, 1])
    elif what == "member":
        made[text(rng) + "-new"] = document(rng, 2)
    elif what == "old keys":
        made["old_verify_keys"] = {key_id_of(new_key(rng)): {"key": encoded(rng.randbytes(32)), "expired_ts": 0}}
    elif what == "key":
        made["verify_keys"][rng.choice(list(own))]["key"] = public(new_key(rng))
    elif what == "key id":
        key_id = rng.choice(list(own))
        made["verify_keys"][key_id + "x"] = made["verify_keys"].pop(key_id)
    elif what == "sig":
        made["signatures"][server] = {key_id: flipped(rng, sig) for key_id, sig in own.items()}
    elif what == "no signatures":
        del made["signatures"]
    elif what == "signed as another":
        made["signatures"]["other.example"] = made["signatures"].pop(server)
    elif what == "asked for another":
        asked = rng.choice([name for name in SERVERS if name != server])
    elif what == "another's document":
        asked = made["server_name"] = rng.choice([name for name in SERVERS if name != server])
        made["signatures"][asked] = own
    elif what == "signed by a key it does not give":
        made["signatures"] = {}
        made = sign_json(made, server, new_key(rng))
    return made, asked


def test_key_documents_are_accepted_as_signedjson_verifies_them():
    rng = random.Random(20261203)
    commands, want, names = [], [], []
    for index in range(CASES * 2):
        server, keys = rng.choice(SERVERS), new_keys(rng, rng.randrange(1, 4))
        what = rng.choice(BREAKS if index % 2 else KEEPS)
        made, asked = change_key_document(rng, what, new_key_document(rng, server, keys), server)
        is_right = signedjson_verifies(made, asked)
        assert is_right == (what in KEEPS), (what, made)
        told = {key_id: held["key"] for key_id, held in made["verify_keys"].items() if key_id.startswith("ed25519:")}
        want.append((made["valid_until_ts"], told) if is_right else None)
        names.append(what)
        commands.append({"do": "key_document", "server_name": asked, "body": spelled(rng, made)})
    assert want.count(None) == CASES and set(names) == set(KEEPS + BREAKS)
    for command, got, right, what in zip(commands, ask(commands), want, names):
        if right is None:
            assert got == "no", (what, command)
        else:
            said, end, *keys = got.split(" ")
            assert said == "yes", (what, command)
            assert (int(end), dict(zip(keys[::2], keys[1::2]))) == right, (what, command)


def test_what_is_no_command_has_no_answer():
    assert ask([{}, {"do": "dance"}, {"do": "verify"}, {"do": "sign"}, {"do": "key_document"}]) == [
        "?", "?", "no", "?", "no"]
