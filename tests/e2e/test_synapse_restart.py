"""A real Synapse restarts under steady traffic, and nobody notices."""
import collections
import os
import threading
import time
import urllib.parse

import pytest

from harness import Origin, Router, to_device

N_ORIGINS, PERIOD_S = 50, 0.5  # 100 requests a second in all
BEFORE_S, AFTER_S = 4, 6
FEDERATION = "/_matrix/federation/v1"
Outcome = collections.namedtuple("Outcome", "kind status seconds")


@pytest.fixture
def patient_router(synapse, ca):
    # Longer than by default, since the machine of a test may be busy.
    server = Router([synapse], ca=ca, lists={"max_age_s": 0}, upstream={"patience_s": 45})
    try:
        yield server.start()
    finally:
        server.close()


class Traffic:
    """Origins that each send one request at a time, of every kind, a fifth of them transactions."""

    def __init__(self, router, synapse, alice, ca):
        self.router, self.name, self.alice = router, synapse.name, alice
        self.origins = [Origin(ca) for _ in range(N_ORIGINS)]
        self.outcomes, self.texts = [], []
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number, origin)) for number, origin in enumerate(self.origins)]

    def start(self):
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._is_over.set()
        for thread in self._threads:
            thread.join(90)
        for origin in self.origins:
            origin.stop()

    def _run(self, number, origin):
        time.sleep(PERIOD_S * number / N_ORIGINS)
        calls = [self._send, self._devices, self._key_query, self._profile, self._send, self._key_claim, self._version, self._keys,
                 self._event, self._room_state]
        turn = number
        while not self._is_over.is_set():
            began = time.monotonic()
            call = calls[turn % len(calls)]
            status = call(origin)
            seconds = time.monotonic() - began
            self.outcomes.append(Outcome(call.__name__, status, seconds))
            turn += 1
            time.sleep(max(0, PERIOD_S - seconds))

    def _send(self, origin):
        text = os.urandom(6).hex()
        edu = to_device(origin.user, {self.alice.user: {self.alice.device_id: {"text": text}}}, kind="org.example.test")
        self.texts.append(text)
        return origin.send(self.router, self.name, origin.transaction(edu), timeout_s=80).status

    def _ask(self, origin, method, target, content=None):
        return origin.request(self.router, self.name, method, target, content, timeout_s=80).status

    def _devices(self, origin):
        return self._ask(origin, "GET", f"{FEDERATION}/user/devices/{urllib.parse.quote(self.alice.user)}")

    def _key_query(self, origin):
        return self._ask(origin, "POST", f"{FEDERATION}/user/keys/query", {"device_keys": {self.alice.user: []}})

    def _key_claim(self, origin):
        return self._ask(origin, "POST", f"{FEDERATION}/user/keys/claim", {"one_time_keys": {}})

    def _profile(self, origin):
        return self._ask(origin, "GET", f"{FEDERATION}/query/profile?user_id={urllib.parse.quote(self.alice.user)}")

    def _version(self, origin):
        return self._ask(origin, "GET", f"{FEDERATION}/version")

    def _keys(self, origin):
        return self._ask(origin, "GET", "/_matrix/key/v2/server")

    def _event(self, origin):
        return self._ask(origin, "GET", f"{FEDERATION}/event/$none")

    def _room_state(self, origin):
        return self._ask(origin, "GET", f"{FEDERATION}/state_ids/!none:example?event_id=$none")


def received(alice, texts):
    """How often each text has come, after all have or a while."""
    seen = collections.Counter()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and len(seen) < len(texts):
        seen.update(event["content"].get("text") for event in alice.sync(500))
    seen.update(event["content"].get("text") for event in alice.sync())
    return seen


def test_a_restart_under_traffic_is_noticed_by_nobody(patient_router, synapse, alice, ca, record_property):
    alice.sync()
    traffic = Traffic(patient_router, synapse, alice, ca)
    traffic.start()
    time.sleep(BEFORE_S)
    began = time.monotonic()
    synapse.stop()
    synapse.start()
    away_s = time.monotonic() - began
    time.sleep(AFTER_S)
    traffic.stop()
    refused = [outcome for outcome in traffic.outcomes if outcome.status == 429 or outcome.status >= 500]
    # One-time keys may be used up by a claim whose answer was cut off: that one is not sent again.
    assert [outcome for outcome in refused if (outcome.kind, outcome.status) != ("_key_claim", 502)] == []
    seen = received(alice, traffic.texts)
    assert [text for text in traffic.texts if seen[text] != 1] == []
    longest = max(outcome.seconds for outcome in traffic.outcomes)
    waited = sum(outcome.seconds > 1 for outcome in traffic.outcomes)
    assert waited > N_ORIGINS / 2  # so there was a restart to notice
    told = (f"{len(traffic.outcomes)} requests, {len(traffic.texts)} transactions; Synapse was away for {away_s:.1f} s, "
            f"{waited} requests waited, the longest {longest:.1f} s; {len(refused)} claims of keys cut off")
    record_property("told", told)
    print(told)
