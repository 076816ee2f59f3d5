#!/usr/bin/python3
"""The story of the README, played on this machine with the real router between simulated servers.

The router is the program in FRESHET_BUILD (default: build/dev); `deploy/demo` builds one and starts this. Every
step checks what it shows: the exit status is 0 only if all of it was as it should be. Uses only loopback.
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

import signedjson.key  # noqa: E402
import signedjson.sign  # noqa: E402
from harness import (Authority, Homeserver, Origin, Router, build_dir, canonical, connect, device,  # noqa: E402
                     device_list, dlh1, read_answer, to_device, wait_until)

HOSTED = "a.example"
ALICE = "@alice:a.example"
SEND = "/_matrix/federation/v1/send/"
DEVICES = "/_matrix/federation/v1/user/devices/" + urllib.parse.quote(ALICE, safe="")

# max_age_s: by default a list is believed for 5 s after it was read, and the demo would have to wait; with 0 each
# claim is checked by a read of its own. wait_ms: a bound, above the default so that a busy machine gets verdicts too.
LISTS = {"max_age_s": 0, "wait_ms": 3000}

COUNTERS = (
    ("transactions received", "freshet_transactions_total"),
    ("  accepted by the homeserver", "freshet_transactions_accepted_total"),
    ("requests refused", "freshet_refused_total"),
    ("batches, one per recipient user", "freshet_batches_total"),
    ("messages in them", "freshet_messages_total"),
    ("claims", "freshet_claims_total"),
    ("verdicts", "freshet_verdicts_total"),
    ("reads of a device list", "freshet_list_reads_total"),
    ("fetches of a server's keys", "freshet_key_fetches_total"),
    ("commits to LMDB", "freshet_journal_commits_total"),
)


class Failed(Exception):
    """A step did not show what it should."""


class Interrupted(Exception):
    """SIGINT, SIGTERM or SIGHUP."""


def want(condition, message):
    if not condition:
        raise Failed(message)


def program():
    """The router, as one would type it in the top folder."""
    path = (build_dir() / "freshet").resolve()
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def short(hash_):
    return hash_[:13] + "…"


def plural(count, noun):
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# ---------------------------------------------------------------- what is printed


class Page:
    """Lines of at most 100 columns; colours on a terminal only."""

    def __init__(self):
        self._has_colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._n_steps = 0

    def _paint(self, code, text):
        return f"\033[{code}m{text}\033[0m" if self._has_colours else text

    def heading(self, text):
        print("\n" + self._paint("1", text))

    def step(self, text):
        self._n_steps += 1
        self.heading(f"{self._n_steps}. {text}")

    def note(self, text):
        print("   " + text)

    def row(self, text, status, latency_ms, result=""):
        colour = {"fresh": "32", "stale": "33"}.get(result.split(",")[0], "0")
        print(f"   {text:<50} {status} {latency_ms:7.1f} ms   {self._paint(colour, result)}")

    def field(self, name, value):
        print(f"     {name:<12} {value}")


# ---------------------------------------------------------------- the players


class Demo:
    def __init__(self, page):
        self.page = page
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="freshet-demo-"))
        self.router = self.homeserver = None
        self.remotes = []

    def start(self):
        ca = Authority(self.directory)
        self.tls = ca.client_context()
        self.homeserver = Homeserver(HOSTED)
        self.old = device_list(ALICE, [device("PHONE")], 5)
        self.new = device_list(ALICE, self.old["devices"] + [device("LAPTOP")], 9)
        self.homeserver.devices[ALICE] = self.old
        self.remotes = [Origin(ca), Origin(ca)]
        self.router = Router([self.homeserver], ca=ca, certificates=[ca.issue(HOSTED)], directory=self.directory,
                             lists=LISTS)
        self.router.start()

    def stop(self):
        """Ends what runs and removes the folder. The router must end well."""
        try:
            if self.router is not None:
                self.router.close()
        finally:
            for server in [*self.remotes, self.homeserver]:
                if server is not None:
                    server.stop()
            shutil.rmtree(self.directory, ignore_errors=True)

    # requests

    def ask(self, raw):
        """Sends a request on a connection opened before; returns the answer and how long it took."""
        with contextlib.closing(connect(self.router.federation, self.tls, HOSTED)) as sock:
            began = time.monotonic()
            sock.sendall(raw)
            answer = read_answer(sock, raw.split(b" ", 1)[0])
            return answer, (time.monotonic() - began) * 1000

    def put(self, remote, content, txn_id, **options):
        return self.ask(remote.raw_request(HOSTED, "PUT", SEND + txn_id, content, **options))

    def fetch_list(self, remote):
        """GET /user/devices by a remote server, through the router; returns the hash of what it got."""
        answer, latency_ms = self.ask(remote.raw_request(HOSTED, "GET", DEVICES))
        want(answer.status == 200, f"the device list should have been relayed, but the answer was {answer.status}")
        copy = answer.json()
        self.page.row(f"{self.name(remote)} fetches Alice's list, through the router", answer.status, latency_ms,
                      f"{plural(len(copy['devices']), 'device')}, {short(dlh1(copy))}")
        return dlh1(copy)

    def claim(self, remote, hash_, txn_id):
        """A room key for Alice's phone with a claim; returns EDU, answer, latency and the one verdict."""
        edu = to_device(remote.user, {ALICE: {"PHONE": {"org.matrix.msgid": f"{txn_id}-key"}}},
                        {ALICE: {"hash": hash_}}, message_id=f"{txn_id}-message")
        answer, latency_ms = self.put(remote, remote.transaction(edu), txn_id)
        want(answer.status == 200, f"{txn_id} should have been answered 200, not {answer.status}: {answer.body!r}")
        rows = answer.json().get("io.freshet.verdicts", [])
        want(len(rows) == 1, f"the answer should carry one verdict: {answer.body!r}")
        self.page.row(f"{self.name(remote)} sends a room key, claim {short(hash_)}", answer.status, latency_ms,
                      f"{rows[0].get('verdict')}, in the same answer")
        delivered = [json.loads(request.body)["edus"] for request in self.homeserver.of(SEND + txn_id)]
        want(delivered == [[edu]], f"the messages of {txn_id} should have reached the homeserver once")
        return edu, rows[0]

    def name(self, remote):
        return f"remote {self.remotes.index(remote) + 1}"


def want_verdict(row, verdict):
    want(row.get("verdict") == verdict, f"the verdict should have been {verdict}, but it was {row.get('verdict')}")


# ---------------------------------------------------------------- the story


def show_players(demo, page):
    page.step("One homeserver behind Freshet, two servers of the federation before it")
    demo.start()
    port = demo.router.federation[1]
    page.field("router", f"{program()} serve, process {demo.router.pid}")
    page.field("", f"TLS on 127.0.0.1:{port}, LMDB in {demo.directory}/data")
    page.field(HOSTED, f"simulated homeserver behind it, 127.0.0.1:{demo.homeserver.port}; Alice has one device")
    for remote in demo.remotes:
        page.field(demo.name(remote), f"simulated homeserver {remote.name}, of {remote.user}")


def show_relay(demo, page):
    page.step("Transactions are relayed as they were signed; forged ones are not")
    for remote in demo.remotes:
        typing = {"edu_type": "m.typing", "content": {"room_id": "!r:a.example", "typing": True, "user_id": remote.user}}
        message = to_device(remote.user, {ALICE: {"PHONE": {}}}, kind="m.room_key_request", message_id="without-a-claim")
        content = remote.transaction(typing, message)
        txn_id = f"relay-{demo.name(remote)[-1]}"
        answer, latency_ms = demo.put(remote, content, txn_id)
        arrived = [request.body for request in demo.homeserver.of(SEND + txn_id)]
        want((answer.status, answer.body) == (200, b'{"pdus":{}}'),
             f"the homeserver's answer should have come back unchanged, not {answer.status} {answer.body!r}")
        want(arrived == [canonical(content)], "the transaction should have arrived once, byte for byte")
        page.row(f"{demo.name(remote)} sends typing and a to-device message", answer.status, latency_ms,
                 f"{len(arrived[0])} bytes arrived as sent")
    page.note("(the first from each: the router fetched that server's key meanwhile)")

    remote = demo.remotes[0]
    content = remote.transaction(typing)
    before = demo.homeserver.n_bytes
    forged = canonical({**content, "origin_server_ts": content["origin_server_ts"] + 1})
    answer, latency_ms = demo.put(remote, content, "forged", body=forged)
    want(answer.status == 401, f"a changed transaction should have been refused with 401, not {answer.status}")
    want(demo.homeserver.n_bytes == before, "not one byte of a forged transaction should have reached the homeserver")
    page.row("the same, one digit changed after signing", answer.status, latency_ms,
             f"{answer.json()['errcode']}, not relayed")


def show_fresh(demo, page):
    page.step("A claim that is current: fresh")
    hashes = [demo.fetch_list(remote) for remote in demo.remotes]
    want(hashes == [dlh1(demo.old)] * 2, "both should have got the list that the homeserver has")
    n_reads = len(demo.homeserver.list_reads)
    _, row = demo.claim(demo.remotes[0], hashes[0], "first")
    want_verdict(row, "fresh")
    reads = demo.homeserver.list_reads[n_reads:]
    want(reads, "the router should have read the list itself")
    check_signature(demo.homeserver, reads[0])
    page.note(f"the router read the list itself, signed by {HOSTED}'s key ed25519:router: signature verified")
    # A verdict does not need it, but a router that trusts its stored copy too long is to be found out every time.
    wait_until(lambda: demo.router.devices(HOSTED, ALICE).status == 200, "the list that was read is on disk")
    page.note("and keeps what it read in LMDB: the past that tells a stale claim from an unknown one")
    return hashes[1]


def check_signature(homeserver, read):
    """A read of the list must carry the hosted server's own signature."""
    fields = dict(re.findall(r'(\w+)="([^"]*)"', read.headers.get("authorization") or ""))
    signed = {"method": "GET", "uri": read.target.decode(), "origin": HOSTED, "destination": HOSTED,
              "signatures": {HOSTED: {fields.get("key", ""): fields.get("sig", "")}}}
    try:
        signedjson.sign.verify_signed_json(signed, HOSTED, signedjson.key.get_verify_key(homeserver.router_key))
    except signedjson.sign.SignatureVerifyException as error:
        raise Failed(f"the signature of the router's read does not verify: {error}") from None


def show_stale(demo, page, claimed):
    page.step("Alice logs in on a laptop; remote 2, cut off meanwhile, sends with its old claim: stale")
    demo.homeserver.devices[ALICE] = demo.new
    page.note(f"{HOSTED} now has: 2 devices, {short(dlh1(demo.new))}")
    edu, row = demo.claim(demo.remotes[1], claimed, "behind")
    want_verdict(row, "stale")
    want(row.get("current") == dlh1(demo.new), f"the answer should name the current list: {row}")
    want(row.get("message_ids") == [edu["content"]["message_id"]] and row.get("msgids") == ["behind-key"],
         f"the answer should name the messages: {row}")
    for name in ("user_id", "claimed", "current", "message_ids", "msgids"):
        page.field(name, ", ".join(row[name]) if isinstance(row[name], list) else row[name])
    page.note("delivered all the same: the phone gets its key, the sender knows about the laptop")


def show_refreshed(demo, page):
    page.step("Remote 2 fetches the list and sends again: fresh, the refreshed resend is accepted")
    hash_ = demo.fetch_list(demo.remotes[1])
    want(hash_ == dlh1(demo.new), "remote 2 should have got the new list")
    _, row = demo.claim(demo.remotes[1], hash_, "refreshed")
    want_verdict(row, "fresh")


def samples(text, name):
    """[(labels' values, value)] of one metric."""
    found = re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
    return [(" ".join(re.findall(r'"([^"]*)"', labels)), int(float(value))) for labels, value in found]


def show_counters(demo, page):
    page.heading("What the router counted (/metrics)")
    router = demo.router
    wait_until(lambda: router.metric("freshet_transactions_accepted_total") >= 5, "the counters are there", 5)
    for name, wanted, labels in (("freshet_verdicts_total", 2, {"verdict": "fresh"}),
                                 ("freshet_verdicts_total", 1, {"verdict": "stale"}),
                                 ("freshet_refused_total", 1, {"reason": "bad_signature"}),
                                 ("freshet_transactions_accepted_total", 5, {})):
        got = router.metric(name, **labels)
        want(got == wanted, f"{name} {labels or ''} should have been {wanted}, but it was {got:g}")
    text = router.metrics()
    for label, name in COUNTERS:
        values = [(labels, value) for labels, value in samples(text, name) if value or not labels]
        said = ", ".join(f"{value} {labels}".rstrip() for labels, value in values) or "0"
        page.note(f"{label:<32} {said:<25} {name}")


def show_config(demo, page):
    page.heading("The configuration it used (every key: docs/config.md)")
    page.note("max_age_s: 0, so that each claim is checked by a read; by default a list is believed for 5 s\n")
    for line in demo.router.config_file.read_text(encoding="utf-8").splitlines():
        page.note(line)
    check = subprocess.run([build_dir() / "freshet", "check-config", demo.router.config_file], check=False,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)
    want(check.returncode == 0, "check-config does not like the configuration: " + check.stderr.decode())


def show_next(page):
    page.heading("What to look at next")
    for text, what in (("deploy/freshet.example.yaml", "a configuration to start from"),
                       ("docs/config.md", f"every key; {program()} check-config FILE checks yours"),
                       ("docs/protocol.md", "what claims and verdicts look like on the wire"),
                       ("docs/operations.md", "running it: signing key, systemd, health, pushed lists"),
                       ("docs/metrics.md", "what each counter means"),
                       ("ARCHITECTURE.md", "how it works inside, and what is missing")):
        page.note(f"{text:<30} {what}")


def write_signed(demo, remote, claimed):
    """Files for curl: a signed transaction with a claim that is stale by now."""
    edu = to_device(remote.user, {ALICE: {"PHONE": {}}}, {ALICE: {"hash": claimed}}, message_id="by-hand")
    content = remote.transaction(edu)
    head, _, body = remote.raw_request(HOSTED, "PUT", SEND + "by-hand", content).partition(b"\r\n\r\n")
    lines = [line for line in head.decode().split("\r\n") if line.startswith(("Authorization:", "Content-Type:"))]
    (demo.directory / "old-claim.headers").write_text("\n".join(lines) + "\n", encoding="ascii")
    (demo.directory / "old-claim.json").write_bytes(body)


def show_curl(demo, page, claimed):
    write_signed(demo, demo.remotes[1], claimed)
    operations, federation = (address[1] for address in (demo.router.operations, demo.router.federation))
    user = urllib.parse.quote(ALICE, safe="")
    outside = f"--cacert $D/ca.pem --connect-to a.example:443:127.0.0.1:{federation}"
    page.heading("All of it still runs. From another terminal:")
    for what, command in (
            ("", f"D={demo.directory}"),
            ("remote 2's old claim, signed: stale",
             f"curl -s {outside} \\\n     -X PUT -H @$D/old-claim.headers --data-binary @$D/old-claim.json \\\n"
             f"     https://{HOSTED}{SEND}by-hand"),
            ("the same without its signature: refused",
             f"curl -s {outside} \\\n     -X PUT --data-binary @$D/old-claim.json https://{HOSTED}{SEND}by-hand"),
            ("what the homeserver answers itself, relayed",
             f"curl -s {outside} \\\n     https://{HOSTED}/_matrix/key/v2/server"),
            ("Alice's list as the router knows it (admin socket)",
             f"curl -s --unix-socket $D/admin.sock \\\n     http://admin/admin/v1/servers/{HOSTED}/users/{user}/devices"),
            ("health and counters", f"curl -s http://127.0.0.1:{operations}/readyz"),
            ("", f"curl -s http://127.0.0.1:{operations}/metrics"),
            ("what this configuration gives", f"{ROOT / program()} check-config $D/freshet.yaml")):
        if what:
            page.note(f"# {what}")
        page.note(command)


def keep(demo, page, claimed):
    show_curl(demo, page, claimed)
    print("\nCtrl-C, or SIGTERM to process", os.getpid(), "ends it.")
    try:
        while demo.router.is_running():
            time.sleep(0.2)
    except Interrupted:
        return
    raise Failed("the router ended by itself:\n" + "\n".join(demo.router.log[-5:]))


def play(demo, page, is_kept):
    print("Freshet, shown on this machine. Latencies are the sender's, from the first byte it sends to the\n"
          "last byte of the answer; the simulated homeserver answers at once, a real one takes longer.")
    show_players(demo, page)
    show_relay(demo, page)
    claimed = show_fresh(demo, page)
    show_stale(demo, page, claimed)
    show_refreshed(demo, page)
    show_counters(demo, page)
    show_config(demo, page)
    show_next(page)
    if is_kept:
        keep(demo, page, claimed)
    else:
        page.note(f"{'deploy/demo --keep':<30} the same, left running, with curl commands to try")


# ---------------------------------------------------------------- the program


def interrupt(*_):
    raise Interrupted


def on_signals(handler):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


FAILURES = (Failed, AssertionError, EOFError, KeyError, OSError, ValueError, subprocess.SubprocessError)


def run(is_kept):
    """What went wrong, or None."""
    page = Page()
    demo = None
    problem = None
    try:
        demo = Demo(page)
        play(demo, page, is_kept)
    except Interrupted:
        problem = "interrupted"
    except FAILURES as error:
        problem = f"{error}" if isinstance(error, (Failed, AssertionError)) else f"{type(error).__name__}: {error}"
    finally:
        on_signals(signal.SIG_IGN)
        if demo is not None:
            try:
                demo.stop()
            except FAILURES as error:
                problem = problem or f"the router did not end well: {error}"
    return problem


def main():
    parser = argparse.ArgumentParser(prog="deploy/demo", description="Plays Freshet's story on this machine: a router, "
                                     "a simulated homeserver behind it and two simulated servers before it.")
    parser.add_argument("--keep", action="store_true", help="leave all of it running until Ctrl-C or SIGTERM, and print "
                        "curl commands that work from another terminal")
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True, encoding="utf-8", errors="replace")
    on_signals(interrupt)
    problem = run(options.keep)
    if problem is not None:
        print(f"\ndemo: FAILED: {problem}", file=sys.stderr)
        return 1
    print("\nAll as it should be. The router ended cleanly and its folder is removed.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
