"""Certificates of many hosted servers: chosen by SNI, exchanged while it runs, and what a connection is then for."""
import contextlib
import datetime
import re
import shutil
import socket
import ssl
import subprocess
import threading
import warnings

import pytest
from cryptography import x509

from harness import (WAIT_S, Answer, Homeserver, build_dir, connect, exchange, read_answer, request_bytes, wait_until)

VERSION = "/_matrix/federation/v1/version"


@pytest.fixture
def other():
    server = Homeserver("b.example")
    yield server
    server.stop()


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "certificates"
    path.mkdir()
    return path


def put(ca, folder, *names, stem=None):
    """A pair NAME.crt and NAME.key."""
    chain, key = ca.issue(*names)
    stem = stem or names[0]
    shutil.copy(chain, folder / f"{stem}.crt")
    shutil.copy(key, folder / f"{stem}.key")


def unchecked():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def names_of(sock):
    certificate = x509.load_der_x509_certificate(sock.getpeercert(binary_form=True))
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(found.get_values_for_type(x509.DNSName))


def serial_of(sock):
    return x509.load_der_x509_certificate(sock.getpeercert(binary_form=True)).serial_number


def tls(router, server_name, source="127.0.0.1"):
    """A connection; server_name None: no SNI."""
    sock = socket.create_connection(router.federation, timeout=60, source_address=(source, 0))
    try:
        return unchecked().wrap_socket(sock, server_hostname=server_name)
    except BaseException:
        sock.close()
        raise


def shown(router, server_name, **options):
    with contextlib.closing(tls(router, server_name, **options)) as sock:
        return names_of(sock)


def get(sock, host):
    sock.sendall(request_bytes("GET", VERSION, [("Host", host)]))
    return read_answer(sock)


@pytest.fixture
def start_with(start_router, homeserver, other):
    """A router before a.example and b.example with certificates of a folder, and listed ones."""
    def start(folder, *certificates):
        return start_router([homeserver, other], certificate_folder=folder, certificates=certificates)
    return start


def test_sni_chooses_the_certificate(start_with, ca, folder):
    put(ca, folder, "b.example", "matrix.b.example")
    put(ca, folder, "*.wild.example")
    router = start_with(folder, ca.issue("a.example"))
    assert shown(router, "a.example") == {"a.example"}
    assert shown(router, "b.example") == {"b.example", "matrix.b.example"}
    assert shown(router, "MATRIX.b.example") == {"b.example", "matrix.b.example"}
    assert shown(router, "x.wild.example") == {"*.wild.example"}
    # the default
    assert shown(router, "y.x.wild.example") == {"a.example"}
    assert shown(router, "wild.example") == {"a.example"}
    assert shown(router, None) == {"a.example"}


def test_without_a_default_an_unknown_name_gets_an_alert(start_with, ca, folder):
    put(ca, folder, "b.example")
    router = start_with(folder)
    assert shown(router, "b.example") == {"b.example"}
    for name in ("unknown.example", None):
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            tls(router, name)


def test_the_layouts_of_certbot_and_kubernetes(start_with, ca, folder):
    for name, chain_name, key_name in (("a.example", "fullchain.pem", "privkey.pem"), ("b.example", "tls.crt", "tls.key")):
        (folder / name).mkdir()
        (folder / f".archive-{name}").mkdir()
        chain, key = ca.issue(name)
        for source, target in ((chain, chain_name), (key, key_name)):
            shutil.copy(source, folder / f".archive-{name}" / target)
            (folder / name / target).symlink_to(folder / f".archive-{name}" / target)
    (folder / "README").write_text("This directory contains your keys and certificates.")
    router = start_with(folder)
    assert shown(router, "a.example") == {"a.example"}
    assert shown(router, "b.example") == {"b.example"}


def test_a_host_of_another_certificates_server_is_misdirected(start_with, ca, folder, homeserver, other, untouched):
    put(ca, folder, "b.example")
    router = start_with(folder, ca.issue("a.example"))
    with contextlib.closing(tls(router, "a.example")) as sock:
        assert get(sock, "a.example").status == 404  # the scripted homeserver's answer
        assert len(homeserver.of(VERSION)) == 1
        with untouched(other):
            reply = get(sock, "b.example")
        assert (reply.status, reply.json()["errcode"]) == (421, "M_UNAUTHORIZED")
    with contextlib.closing(tls(router, "b.example")) as sock:
        assert get(sock, "b.example:8448").status == 404
        assert len(other.of(VERSION)) == 1
    with untouched(other), contextlib.closing(tls(router, None)) as sock:  # the default's, which is a.example's
        assert get(sock, "b.example").status == 421
    router.wait_metric("freshet_refused_total", 2, reason="misdirected")


def test_a_signed_transaction_for_another_certificates_server_is_misdirected(start_with, ca, folder, other, origin, untouched):
    put(ca, folder, "b.example")
    router = start_with(folder, ca.issue("a.example"))
    raw = origin.raw_request("b.example", "PUT", "/_matrix/federation/v1/send/1", origin.transaction())
    with untouched(other):
        assert exchange(router.federation, raw, tls=unchecked(), server_name="a.example").status == 421
    assert exchange(router.federation, raw, tls=unchecked(), server_name="b.example").status == 200


def test_one_certificate_for_one_of_a_servers_hosts_is_for_all_of_them(start_router, ca, homeserver):
    router = start_router(certificates=[ca.issue("matrix.a.example")], server={"hosts": ["a.example", "matrix.a.example"]})
    with contextlib.closing(tls(router, "matrix.a.example")) as sock:
        assert get(sock, "a.example").status == 404
    assert len(homeserver.of(VERSION)) == 1


def test_a_trusted_proxy_may_reach_any_server_over_its_connection(start_router, ca, homeserver, other):
    router = start_router([homeserver, other], certificates=[ca.issue("a.example")], trusted_proxies=["127.0.0.0/8"])
    with contextlib.closing(tls(router, "a.example")) as sock:
        assert get(sock, "b.example").status == 404
    assert len(other.of(VERSION)) == 1


def test_a_reload_exchanges_certificates_under_connections_and_requests(start_with, ca, folder, homeserver, other):
    put(ca, folder, "a.example")
    router = start_with(folder)
    homeserver.on(VERSION, Answer(200, b'{"slow":true}', delay_s=3))
    busy, idle = tls(router, "a.example"), tls(router, "a.example")
    old_serial = serial_of(idle)
    assert get(idle, "b.example").status == 421
    idle.close()
    idle = tls(router, "a.example")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(get(busy, "a.example")))
    thread.start()
    wait_until(lambda: homeserver.of(VERSION), "the request at the homeserver")
    put(ca, folder, "a.example")  # renewed
    put(ca, folder, "b.example")
    router.reload()
    wait_until(lambda: serial_of(tls(router, "a.example")) != old_serial, "the renewed certificate")
    wait_until(lambda: _is_shown(router, "b.example"), "the new certificate")
    assert answers == []
    thread.join(WAIT_S)
    assert [answer.status for answer in answers] == [200]
    homeserver.on(VERSION, Answer(200, b'{"slow":false}'))
    assert get(idle, "a.example").status == 200  # on a connection of before, too
    assert get(busy, "a.example").status == 200
    busy.close()
    idle.close()
    (folder / "a.example.crt").unlink()
    router.reload()
    wait_until(lambda: not _is_shown(router, "a.example"), "the end of a certificate")
    assert shown(router, "b.example") == {"b.example"}


def _is_shown(router, name):
    try:
        return shown(router, name) == {name}
    except ssl.SSLError:
        return False


@pytest.mark.parametrize("wrong", ["garbage", "no key", "another's key", "empty folder"])
def test_a_broken_certificate_keeps_those_before_and_says_which(start_with, ca, folder, wrong):
    put(ca, folder, "a.example")
    put(ca, folder, "b.example")
    router = start_with(folder)
    put(ca, folder, "c.example")
    named = "b.example.crt"
    if wrong == "garbage":
        (folder / "b.example.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    elif wrong == "no key":
        (folder / "b.example.key").unlink()
        named = "b.example.key"
    elif wrong == "another's key":
        shutil.copy(folder / "c.example.key", folder / "b.example.key")
        named = "b.example.key"
    else:
        for path in list(folder.iterdir()):
            path.unlink()
        named = str(folder)
    records = router.reload("reload_failed")
    problems = [record["problem"] for record in records if record["event"] == "reload_problem"]
    assert len(problems) == 1 and named in problems[0], problems
    assert shown(router, "a.example") == {"a.example"}
    assert shown(router, "b.example") == {"b.example"}
    with pytest.raises(ssl.SSLError):
        tls(router, "c.example")


def test_it_does_not_start_with_a_broken_certificate(start_with, ca, folder):
    put(ca, folder, "a.example")
    (folder / "a.example.key").write_text("no key")
    with pytest.raises(AssertionError, match=r"a\.example\.key: is not a private key"):
        start_with(folder)


def test_cleartext_becomes_tls_by_a_reload(start_router, ca):
    router = start_router()
    chain, key = ca.issue("a.example")
    router.config["listen"]["federation"]["certificates"] = [{"chain": chain, "key": key}]
    router.write_config()
    router.reload()
    wait_until(lambda: _is_shown(router, "a.example"), "the certificate")


def test_three_hundred_certificates(start_router, ca, folder):
    names = [f"s{i}.example" for i in range(300)]
    for name in names:
        put(ca, folder, name)
    router = start_router(server={"hosts": names}, certificate_folder=folder)
    wrong = [name for i, name in enumerate(names) if shown(router, name, source=f"127.0.{i % 100}.1") != {name}]
    assert wrong == []


# ---------------------------------------------------------------- what the operator is told


def issue_until(ca, monkeypatch, folder, name, delta):
    """A pair that expires in so long; the authority's own certificates expire in two days."""
    real = ca._builder

    def builder(subject, key):
        made = real(subject, key)
        made._not_valid_before = datetime.datetime.utcnow() - datetime.timedelta(days=30)
        made._not_valid_after = datetime.datetime.utcnow() + delta
        return made
    with monkeypatch.context() as patch:
        patch.setattr(ca, "_builder", builder)
        put(ca, folder, name)


def test_expiry_is_warned_of_and_measured(start_with, ca, folder, monkeypatch):
    issue_until(ca, monkeypatch, folder, "a.example", datetime.timedelta(days=90))
    issue_until(ca, monkeypatch, folder, "b.example", datetime.timedelta(days=30))
    router = start_with(folder)
    assert router.records("certificate_expires") == [] and router.records("certificate_expired") == []
    first = router.metric("freshet_certificate_expiry_seconds")
    in_30_days = datetime.datetime.now(datetime.timezone.utc).timestamp() + 30 * 86400
    assert abs(first - in_30_days) < 600
    issue_until(ca, monkeypatch, folder, "c.example", datetime.timedelta(days=13))
    issue_until(ca, monkeypatch, folder, "d.example", -datetime.timedelta(days=3))
    records = router.reload()
    for event, name in (("certificate_expires", "c.example"), ("certificate_expired", "d.example")):
        found = [record for record in records if record["event"] == event]
        assert len(found) == 1 and found[0]["level"] == "warn" and f"{name}.crt" in found[0]["file"], found
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", found[0]["on"])
    assert router.metric("freshet_certificate_expiry_seconds") < first - 30 * 86400


def check_config(router):
    done = subprocess.run([str(build_dir() / "freshet"), "check-config", str(router.config_file)], capture_output=True,
                          text=True, timeout=60, check=False)
    return done.returncode, done.stdout


def test_check_config_tells_of_certificates(start_with, ca, folder, monkeypatch):
    put(ca, folder, "a.example", "*.a.example")
    put(ca, folder, "b.example")
    router = start_with(folder)
    router.config["servers"][0]["hosts"] = ["a.example", "matrix.a.example", "elsewhere.example:8448"]
    router.write_config()
    status, text = check_config(router)
    assert status == 0, text
    assert re.search(r"/a\.example\.crt: until \d{4}-\d\d-\d\d \(soon\): a\.example \*\.a\.example\n", text)
    assert "no certificate covers elsewhere.example:8448, a host of a.example\n" in text
    assert "matrix.a.example," not in text and "PROBLEM" not in text
    issue_until(ca, monkeypatch, folder, "b.example", -datetime.timedelta(days=3))
    status, text = check_config(router)
    assert status == 0 and re.search(r"/b\.example\.crt: EXPIRED \d{4}-\d\d-\d\d: b\.example\n", text)
    (folder / "b.example.crt").rename(folder / "b.example.crt.old")
    status, text = check_config(router)
    assert status == 1 and text.count("PROBLEM") == 1, text
    assert "PROBLEM: no certificate covers any host of b.example" in text
    (folder / "b.example.crt.old").rename(folder / "b.example.crt")
    (folder / "b.example.key").write_text("")
    status, text = check_config(router)
    assert status == 1
    assert f"PROBLEM: {folder}/b.example.key: is not a private key" in text
    assert "PROBLEM: no certificate covers any host of b.example" in text


# ---------------------------------------------------------------- what is left out of TLS


def s_client(router, *options, stdin, until):
    """What openssl s_client says, sent the lines of stdin, each once the text before it has been seen; up to `until`."""
    process = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{router.federation[1]}", "-servername", "a.example", *options],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, steps = b"", [*stdin, (until, None)]
    watchdog = threading.Timer(4 * WAIT_S, process.kill)
    watchdog.start()
    try:
        for seen, line in steps:
            while seen not in said:
                data = process.stdout.read1(65536)
                assert data, said.decode("latin-1")
                said += data
            if line is not None:
                process.stdin.write(line)
                process.stdin.flush()
        return said
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


HEALTH = request_bytes("GET", "/health", [("Host", "a.example")])


def test_there_is_no_renegotiation_and_no_compression(start_router, ca, homeserver):
    router = start_router(certificates=[ca.issue("a.example")])
    said = s_client(router, "-tls1_2", stdin=[(b"Verify return code", b"R\n")], until=b"no renegotiation")
    assert b"RENEGOTIATING" in said and b"Compression: NONE" in said
    said = s_client(router, "-tls1_2", stdin=[(b"Verify return code", HEALTH)], until=b"OK\n")  # it is "R" that ended it
    assert b"200 OK" in said and homeserver.requests == []


def elements_of(der):
    """The elements of a DER sequence, each whole."""
    def head(at):
        size, start = der[at + 1], at + 2
        if size & 0x80:
            start += size & 0x7f
            size = int.from_bytes(der[at + 2:start], "big")
        return start, start + size
    found, (at, end) = [], head(0)
    while at < end:
        found.append(der[at:head(at)[1]])
        at += len(found[-1])
    return found


def allow_early_data(session_file):
    """A client that sends early data though nobody allowed it: OpenSSL's is led to believe that the session allows 16 KiB.
    Source: OpenSSL, ssl/ssl_asn1.c."""
    der = ssl.PEM_cert_to_DER_cert(session_file.read_text().replace("SSL SESSION PARAMETERS", "CERTIFICATE"))
    elements = [element for element in elements_of(der) if element[0] != 0xaf]
    content = b"".join(sorted(elements[:-1] + [b"\xaf\x04\x02\x02\x40\x00", elements[-1]], key=lambda e: e[0] if e[0] >= 0xa0 else 0))
    whole = b"\x30\x82" + len(content).to_bytes(2, "big") + content
    session_file.write_text(ssl.DER_cert_to_PEM_cert(whole).replace("CERTIFICATE", "SSL SESSION PARAMETERS"))


def test_early_data_is_neither_allowed_nor_taken(start_router, ca, homeserver, untouched, tmp_path):
    router = start_router(certificates=[ca.issue("a.example")])
    session, early = tmp_path / "session", tmp_path / "early"
    early.write_bytes(request_bytes("GET", VERSION, [("Host", "a.example")]))
    s_client(router, "-tls1_3", "-sess_out", str(session), stdin=[(b"Verify return code", HEALTH)], until=b"OK\n")
    text = subprocess.run(["openssl", "sess_id", "-in", str(session), "-noout", "-text"], capture_output=True, check=True).stdout
    assert b"TLSv1.3" in text and b"Max Early Data: 0" in text
    allow_early_data(session)
    with untouched(homeserver):
        said = s_client(router, "-tls1_3", "-sess_in", str(session), "-early_data", str(early),
                        stdin=[(b"Early data was", HEALTH)], until=b"OK\n")
        assert b"Early data was rejected" in said


def test_a_handshake_that_fails_is_counted_and_who_only_looks_in_is_not(start_with, ca, folder, homeserver):
    put(ca, folder, "a.example")
    router = start_with(folder)
    old, strange = unchecked(), unchecked()
    with warnings.catch_warnings():  # that they are old
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    strange.set_alpn_protocols(["spdy/1"])
    for number, (context, name) in enumerate(((unchecked(), "b.example"), (unchecked(), None), (old, "a.example"), (strange, "a.example"))):
        with pytest.raises((ssl.SSLError, OSError)), contextlib.closing(connect(router.federation)) as sock:
            context.wrap_socket(sock, server_hostname=name)
        router.wait_metric("freshet_refused_total", number + 1, reason="tls")
    with contextlib.closing(connect(router.federation)) as sock:
        sock.sendall(HEALTH)
        with contextlib.suppress(ConnectionResetError):
            assert not sock.recv(65536).startswith(b"HTTP")
    router.wait_metric("freshet_refused_total", 5, reason="tls")
    connect(router.federation).close()
    assert shown(router, "a.example") == {"a.example"}
    assert router.metric("freshet_refused_total") == 5 and homeserver.requests == []
