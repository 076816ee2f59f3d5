"""What an operator sees and does: configuration, pushing lists, metrics, reloading, stopping."""
import contextlib
import resource
import signal
import subprocess
import threading
import time

import pytest

from harness import (Answer, Homeserver, Router, build_dir, connect, device, device_list, dlh1, exchange,
                     request_bytes, to_device, wait_until)

ALICE = "@alice:a.example"
VERSION = "/_matrix/federation/v1/version"


def plain(router, target, host="a.example", **options):
    return exchange(router.federation, request_bytes("GET", target, [("Host", host)]), **options)


def test_it_says_that_it_lives_and_is_ready(router):
    assert router.get("/livez").status == 200
    assert wait_until(lambda: router.get("/readyz").status == 200, "/readyz")
    assert router.get("/nothing").status == 404


def test_a_pushed_list_can_be_read_back(router):
    listed = device_list(ALICE, [device("DEVA"), device("DEVB")], 7)
    assert router.devices("a.example", ALICE).status == 404
    assert router.push_devices("a.example", listed).status // 100 == 2
    for answer in (router.devices("a.example", ALICE), router.get(router.devices_path("a.example", ALICE))):
        assert answer.status == 200
        told = answer.json()
        assert told["hash"] == dlh1(listed)
        assert "source" in told


def test_the_operations_listener_changes_nothing(router):
    body = b'{"user_id":"@alice:a.example","stream_id":1,"devices":[]}'
    raw = request_bytes("PUT", router.devices_path("a.example", ALICE), [("Host", "x")], body)
    assert exchange(router.operations, raw).status in (403, 404, 405)
    assert router.devices("a.example", ALICE).status == 404


BAD_PUSHES = {
    "no JSON": ("a.example", ALICE, b"hello", 400),
    "no object": ("a.example", ALICE, b"[]", 400),
    "no devices": ("a.example", ALICE, b'{"user_id":"@alice:a.example","stream_id":1}', 400),
    "another user": ("a.example", ALICE, b'{"user_id":"@eve:a.example","stream_id":1,"devices":[]}', 400),
    "a server that is not hosted": ("c.example", "@x:c.example", b'{"user_id":"@x:c.example","stream_id":1,"devices":[]}', 404),
    "a user of another server": ("a.example", "@x:c.example", b'{"user_id":"@x:c.example","stream_id":1,"devices":[]}', 400),
}


@pytest.mark.parametrize("name", BAD_PUSHES)
def test_a_bad_push_is_refused(router, name):
    server, user, body, status = BAD_PUSHES[name]
    assert router.admin("PUT", router.devices_path(server, user), body).status == status
    assert router.devices(server, user).status == 404


def test_the_admin_socket_is_for_its_owner_only(router):
    import os
    assert os.stat(router.admin_socket).st_mode & 0o007 == 0


def test_metrics_count_what_happened(router, origin):
    listed = device_list(ALICE, [device("DEVA")], 7)
    router.push_devices("a.example", listed)
    origin.send(router, "a.example", origin.transaction(
        to_device(origin.user, {ALICE: {"DEVA": {}}}, {ALICE: {"hash": dlh1(listed)}})))
    for name, labels in (("freshet_transactions_total", {}), ("freshet_requests_total", {}),
                         ("freshet_verdicts_total", {"verdict": "fresh"}), ("freshet_claims_total", {"kind": "hash"}),
                         ("freshet_key_fetches_total", {"result": "ok"}), ("freshet_list_pushes_total", {}),
                         ("freshet_edus_total", {}), ("freshet_messages_total", {}), ("freshet_batches_total", {})):
        router.wait_metric(name, **labels)
    samples = [line for line in router.metrics().splitlines() if line and not line.startswith("#")]
    assert samples and all(line.startswith("freshet_") for line in samples)


def test_connections_are_shown_for_each_worker(router):
    with contextlib.closing(connect(router.federation)):
        router.wait_metric("freshet_connections")
    text = router.metrics()
    for name in ("connections", "upstream_connections", "queue_bytes"):
        samples = [line.split(" ")[0] for line in text.splitlines() if line.startswith(f"freshet_{name}{{")]
        assert samples == [f'freshet_{name}{{worker="{worker}"}}' for worker in range(2)]
    wait_until(lambda: router.metric("freshet_connections") == 0, "the gauge goes down again")


def test_the_log_names_no_user_and_no_device(router, origin):
    listed = device_list("@secretive:a.example", [device("SECRETDEV")], 7)
    router.push_devices("a.example", listed)
    origin.send(router, "a.example", origin.transaction(
        to_device(origin.user, {"@secretive:a.example": {"SECRETDEV": {"body": "SECRETBODY"}}},
                  {"@secretive:a.example": {"hash": "dlh1:" + "0" * 32}})))
    origin.send(router, "a.example", origin.transaction(), body=b"SECRETBODY")
    assert router.terminate() == 0
    text = "\n".join(router.log)
    assert not any(word in text for word in ("@secretive", "SECRETDEV", "SECRETBODY", origin.user))


def run_serve(router):
    return subprocess.run([str(build_dir() / "freshet"), "serve", "--config", str(router.config_file)],
                          capture_output=True, timeout=30, check=False)


BAD_CONFIGS = {
    "an unknown key": ("nonsense: 1\n", b"nonsense"),
    "a key that is not acted on yet": ("ledger: {complete: true}\n", b"ledger"),
    "another one": ("redis: {url: x}\n", b"redis"),
    "no YAML": ("a: [\n", b""),
    "a wrong type": ("workers: many\n", b"workers"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_bad_configuration_is_an_error_that_says_where(ca, homeserver, name):
    router = Router([homeserver], ca=ca)
    more, word = BAD_CONFIGS[name]
    text = router.config_file.read_text(encoding="utf-8")
    text = "".join(line for line in text.splitlines(True) if not (more.startswith("workers") and line.startswith("workers")))
    router.write_config(text + more)
    result = run_serve(router)
    router.close()
    assert result.returncode > 0
    assert word in result.stderr
    if name != "no YAML":
        line = text.count("\n") + 1
        assert str(line).encode() in result.stderr


def test_a_key_file_that_is_none_is_found_by_check_config_and_serve(ca, homeserver):
    router = Router([homeserver], ca=ca)
    key_file = next(router.directory.glob("*.signing.key"))
    check = [str(build_dir() / "freshet"), "check-config", str(router.config_file)]
    assert subprocess.run(check, capture_output=True, timeout=30, check=False).returncode == 0
    key_file.write_text("ed25519 v1 !!!\n", encoding="ascii")
    checked = subprocess.run(check, capture_output=True, timeout=30, check=False)
    served = run_serve(router)
    router.close()
    assert checked.returncode == 1 and str(key_file).encode() in checked.stdout
    assert served.returncode == 1 and str(key_file).encode() in served.stderr
    assert b"!!!" not in checked.stdout + served.stderr


def test_a_missing_configuration_is_an_error():
    result = subprocess.run([str(build_dir() / "freshet"), "serve", "--config", "/nonexistent/freshet.yaml"],
                            capture_output=True, timeout=30, check=False)
    assert result.returncode > 0 and b"/nonexistent/freshet.yaml" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_after_what_is_in_flight(router, homeserver, origin, number):
    homeserver.on("/_matrix/federation/v1/send/", Answer(200, b'{"pdus":{}}', delay_s=1.5))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(origin.send(router, "a.example", origin.transaction())))
    thread.start()
    wait_until(lambda: homeserver.sends, "the transaction at the homeserver")
    router.signal(number)
    time.sleep(0.3)
    with pytest.raises((ConnectionRefusedError, ConnectionResetError, EOFError)):
        plain(router, VERSION)
    thread.join(30)
    assert [answer.status for answer in answers] == [200]
    assert router.wait_ended() == 0


def test_an_idle_connection_does_not_delay_the_end(router):
    with contextlib.closing(connect(router.federation)):
        began = time.monotonic()
        assert router.terminate() == 0
        assert time.monotonic() - began < 30


def reload(router):
    before = len(router.log)
    router.signal(signal.SIGHUP)
    wait_until(lambda: [record for record in router.records(since=before) if "reload" in record.get("event", "")],
               "a word about the reload in the log")


def test_a_reload_takes_up_new_servers_and_drops_nothing_in_flight(router, homeserver, origin):
    other = Homeserver("b.example")
    assert plain(router, VERSION, host="b.example").status == 421
    homeserver.on("/_matrix/federation/v1/send/", Answer(200, b'{"pdus":{}}', delay_s=1.5))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(origin.send(router, "a.example", origin.transaction())))
    thread.start()
    wait_until(lambda: homeserver.sends, "the transaction at the homeserver")
    router.config["servers"].append({"name": "b.example", "upstreams": [other.url]})
    router.write_config()
    reload(router)
    wait_until(lambda: plain(router, "/_matrix/key/v2/server", host="b.example").status == 200, "the new server")
    thread.join(30)
    assert [answer.status for answer in answers] == [200]
    assert plain(router, "/_matrix/key/v2/server").status == 200
    other.stop()


@pytest.mark.parametrize("text", ["nonsense: 1\n", "servers: [\n", ""], ids=["an unknown key", "no YAML", "empty"])
def test_a_bad_reload_changes_nothing(router, origin, text):
    router.write_config(text)
    reload(router)
    assert router.is_running()
    assert plain(router, "/_matrix/key/v2/server").status == 200
    assert origin.send(router, "a.example", origin.transaction()).status == 200


def test_it_speaks_tls_with_the_hosted_servers_certificate(start_router, ca, homeserver, origin):
    router = start_router(certificates=[ca.issue("a.example")])
    raw = origin.raw_request("a.example", "PUT", "/_matrix/federation/v1/send/tls", origin.transaction())
    answer = exchange(router.federation, raw, tls=ca.client_context(), server_name="a.example")
    assert answer.status == 200 and len(homeserver.sends) == 1


def test_old_tls_is_refused_and_cleartext_on_the_tls_port_too(start_router, ca, homeserver, untouched):
    import ssl
    router = start_router(certificates=[ca.issue("a.example")])
    old = ca.client_context()
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with untouched(homeserver):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            connect(router.federation, tls=old, server_name="a.example")
        with contextlib.suppress(EOFError, ConnectionResetError):
            assert plain(router, VERSION).status == 400
    assert exchange(router.federation, request_bytes("GET", "/health", [("Host", "a.example")]),
                    tls=ca.client_context(), server_name="a.example").status == 200


def test_a_handshake_that_never_ends_is_not_waited_for(start_router, ca):
    router = start_router(certificates=[ca.issue("a.example")])
    with contextlib.closing(connect(router.federation, timeout_s=20)) as sock:
        began = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(4096):
                pass
        assert 4 < time.monotonic() - began < 20
    assert router.metric("freshet_refused_total", reason="timeout") == 1


def test_it_starts_again_after_a_kill(router, origin):
    router.kill9()
    router.start()
    assert origin.send(router, "a.example", origin.transaction()).status == 200


def test_with_a_failed_store_it_relays_and_judges_nothing(router, homeserver, origin):
    listed = device_list(ALICE, [device("DEVA")], 7)
    assert router.push_devices("a.example", listed).status == 200
    resource.prlimit(router.pid, resource.RLIMIT_FSIZE, (4096, 4096))  # as a full disk
    assert router.push_devices("a.example", {**listed, "stream_id": 8}).status == 503
    wait_until(lambda: router.get("/readyz").status == 503, "/readyz says so")
    assert "store_failed" in router.get("/readyz").json()["reasons"]
    assert router.metric("freshet_store_failed") == 1
    edu = to_device(origin.user, {ALICE: {"DEVA": {}}}, {ALICE: {"hash": dlh1(listed)}})
    reply = origin.send(router, "a.example", origin.transaction(edu))
    assert (reply.status, reply.json()) == (200, {"pdus": {}}) and len(homeserver.sends) == 1
    router.wait_metric("freshet_unjudged_total", reason="store_failed")
