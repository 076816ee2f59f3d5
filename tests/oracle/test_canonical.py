"""The canonical form of generated documents, byte for byte as Python's canonicaljson writes it."""
import json
import os
import random
import subprocess

import canonicaljson

DOCUMENTS = 100_000
BATCH = 10_000
TOOL = os.path.join(os.environ["FRESHET_BUILD"], "tests", "canonical_tool")
CHARACTERS = ["a", "b", "Z", "0", " ", "/", '"', "\\", "\b", "\t", "\n", "\f", "\r", "\x00", "\x1f",
              "\x7f", "\x80", "é", "日", "\u2028", "\ufffd", "\ue000", "\U00010000", "😀"]


def text(rng):
    return "".join(rng.choices(CHARACTERS, k=rng.randrange(8)))


def number(rng):
    return rng.choice([0, 1, -1, rng.randrange(-2**53, 2**53), rng.randrange(-2**70, 2**70),
                       rng.random(), -0.0, 1.5, 1e22, rng.uniform(-1e9, 1e9)])


def document(rng, depth):
    kind = rng.randrange(8 if depth else 5)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind <= 2:
        return number(rng)
    if kind <= 4:
        return text(rng)
    if kind == 5:
        return [document(rng, depth - 1) for _ in range(rng.randrange(5))]
    return {text(rng): document(rng, depth - 1) for _ in range(rng.randrange(6))}


def spelled(rng, value):
    """The document in one of the spellings that a sender might choose."""
    return json.dumps(value, ensure_ascii=rng.random() < 0.5,
                      separators=rng.choice([(",", ":"), (", ", ": "), (" ,\t", " : ")]))


def canonical_forms(lines):
    sent = "".join(line + "\n" for line in lines).encode("utf-8")
    done = subprocess.run([TOOL], input=sent, stdout=subprocess.PIPE, check=True, timeout=120)
    return done.stdout.split(b"\n")[:-1]


def test_100000_documents_have_the_same_canonical_form():
    rng = random.Random(20261125)
    n_odd_spellings = 0
    for _ in range(DOCUMENTS // BATCH):
        values = [document(rng, 5) for _ in range(BATCH)]
        lines = [spelled(rng, value) for value in values]
        got = canonical_forms(lines)
        want = [canonicaljson.encode_canonical_json(value) for value in values]
        n_odd_spellings += sum(line.encode() != form for line, form in zip(lines, want))
        assert len(got) == BATCH
        for line, ours, theirs in zip(lines, got, want):
            assert ours == theirs, line
    assert n_odd_spellings > DOCUMENTS // 4  # the comparison saw documents that needed work


def test_what_is_no_document_has_no_form():
    assert canonical_forms(["{", '"\\ud800"', "[1,]", "", "1"]) == [b"!", b"!", b"!", b"!", b"1"]
