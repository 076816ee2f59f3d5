"""Other servers are found as the specification says, and only addresses that are allowed are dialled."""
import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
import signedjson.key
import signedjson.sign

from dns_stub import A, AAAA, CNAME, FAILURE, SILENCE, SRV, DnsServer
from harness import ROOT, Answer, Origin, Server, canonical, key_document, make_key, wait_until

# Loopback addresses that no other run of these tests is likely to use.
NET = f"127.{100 + os.getpid() // 250 % 100}.{1 + os.getpid() % 250}"
GOOD, CANARY, OTHER = f"{NET}.2", f"{NET}.3", f"{NET}.4"
WELL_KNOWN = "/.well-known/matrix/server"
KEY_PATH = "/_matrix/key/v2/server"


class Site(Server):
    """An HTTPS server at a certain address and port; records the names that clients say by SNI."""

    def __init__(self, ca, address, port, *names):
        self.place = (address, port)
        self.snis = []
        context = ca.server_context(*names) if ca is not None else None
        if context is not None:
            context.sni_callback = lambda sock, name, context: self.snis.append(name)
        super().__init__(context)

    def _listen(self, port):
        family = socket.AF_INET6 if ":" in self.place[0] else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self.place[0], port or self.place[1]))
        self._listener.listen(256)
        self.port = self._listener.getsockname()[1]
        self._stopping = threading.Event()
        threading.Thread(target=self._accept, args=(self._listener, self._stopping), daemon=True).start()

    @property
    def hosts(self):
        """What the Host headers of the requests for keys said."""
        return [request.headers.get("host") for request in self.of(KEY_PATH)]


class Remote(Origin):
    """A sender of signed requests that does not listen."""

    def __init__(self, name):  # pylint: disable=super-init-not-called
        self.key = make_key("a_origin")
        self.name = name
        self.user = f"@bob:{name}"

    def document(self, **options):
        return Answer(200, key_document(self.name, [self.key], **options))

    def is_authenticated_by(self, router):
        """Whether a forged transaction is told: only then has the router found the key."""
        content = self.transaction()
        body = canonical({**content, "origin_server_ts": content["origin_server_ts"] + 1})
        status = self.send(router, "a.example", content, body=body).status
        assert status in (200, 401)
        return status == 401


class World:
    """A DNS server and the sites and routers of one test."""

    def __init__(self, ca, start_router):
        self.ca = ca
        self.dns = DnsServer()
        self.resolvers = [self.dns.address]
        self.sites = []
        self._start_router = start_router

    def site(self, address, port, *names, plain=False):
        site = Site(None if plain else self.ca, address, port, *names)
        self.sites.append(site)
        return site

    def well_known(self, name, answer, address=GOOD):
        """A site for .well-known alone."""
        site = self.site(address, 443, name)
        site.on(WELL_KNOWN, answer if isinstance(answer, Answer) or callable(answer) else Answer(200, {"m.server": answer}))
        return site

    def key_site(self, remote, port, *names, address=GOOD):
        site = self.site(address, port, *names)
        site.on(KEY_PATH, remote.document())
        return site

    def router(self, *allowed, **sections):
        client = {"ca_file": str(self.ca.file), "dns_servers": self.resolvers,
                  "allow_addresses": list(allowed) or [f"{GOOD}/32"]}
        return self._start_router(federation_client=client, **sections)

    def close(self):
        self.dns.stop()
        for site in self.sites:
            site.stop()


@pytest.fixture
def world(ca, start_router):
    world = World(ca, start_router)
    yield world
    world.close()


# ---------------------------------------------------------------- the steps of the specification


def test_an_address_is_dialled_at_8448(world):
    remote = Remote(GOOD)
    site = world.key_site(remote, 8448, GOOD)
    assert remote.is_authenticated_by(world.router())
    assert site.hosts == [GOOD] and site.snis == [None] and world.dns.queries == []


def test_an_address_with_a_port_is_dialled_there(world):
    remote = Remote(f"{GOOD}:8500")
    site = world.key_site(remote, 8500, GOOD)
    assert remote.is_authenticated_by(world.router())
    assert site.hosts == [remote.name] and site.snis == [None]


def test_an_ipv6_address_is_dialled(world):
    site = world.site("::1", 0, "::1")
    remote = Remote(f"[::1]:{site.port}")
    site.on(KEY_PATH, remote.document())
    assert remote.is_authenticated_by(world.router("::1/128"))
    assert site.hosts == [remote.name] and site.snis == [None]


def test_a_name_with_a_port_has_no_well_known_and_no_srv(world):
    remote = Remote("named.test:8500")
    world.dns.add("named.test", A, GOOD)
    well_known = world.well_known("named.test", "elsewhere.test")
    site = world.key_site(remote, 8500, "named.test")
    assert remote.is_authenticated_by(world.router())
    assert site.hosts == ["named.test:8500"] and site.snis == ["named.test"] and well_known.n_connections == 0
    assert {name for name, _, _ in world.dns.queries} == {"named.test"}


def test_a_host_with_ipv6_alone_is_dialled(world):
    site = world.site("::1", 0, "six.test")
    remote = Remote(f"six.test:{site.port}")
    site.on(KEY_PATH, remote.document())
    world.dns.add("six.test", AAAA, "::1")
    assert remote.is_authenticated_by(world.router("::1/128"))


DELEGATIONS = {  # m.server: the port that is dialled, Host, SNI
    "an address": (GOOD, 8448, GOOD, None),
    "an address with a port": (f"{GOOD}:8501", 8501, f"{GOOD}:8501", None),
    "a name with a port": ("delegated.test:8502", 8502, "delegated.test:8502", "delegated.test"),
    "a name": ("delegated.test", 8448, "delegated.test", "delegated.test"),
    "a name with SRV": ("serviced.test", 8503, "serviced.test", "serviced.test"),
    "a name with old SRV": ("aged.test", 8504, "aged.test", "aged.test"),
}


@pytest.mark.parametrize("row", DELEGATIONS.values(), ids=DELEGATIONS)
def test_well_known_delegates(world, row):
    delegated, port, host, sni = row
    remote = Remote("original.test")
    world.dns.add("original.test", A, GOOD)
    world.dns.add("delegated.test", A, GOOD)
    world.dns.add("_matrix-fed._tcp.serviced.test", SRV, (10, 1, 8503, "machine.test"))
    world.dns.add("_matrix._tcp.serviced.test", SRV, (10, 1, 8599, "machine.test"))
    world.dns.add("_matrix._tcp.aged.test", SRV, (10, 1, 8504, "machine.test"))
    world.dns.add("machine.test", A, GOOD)
    # That of the original name is not asked for.
    world.dns.add("_matrix-fed._tcp.original.test", SRV, (10, 1, 8598, "machine.test"))
    well_known = world.well_known("original.test", delegated)
    site = world.key_site(remote, port, sni or GOOD)
    assert remote.is_authenticated_by(world.router())
    assert (site.hosts, site.snis) == ([host], [sni])
    assert len(well_known.of(WELL_KNOWN)) == 1 and well_known.snis == ["original.test"]


SERVICES = {
    "the new service": (["_matrix-fed._tcp"], 8505),
    "the old service": (["_matrix._tcp"], 8505),
    "the new one before the old": (["_matrix-fed._tcp", "_matrix._tcp"], 8505),
    "none": ([], 8448),
}


@pytest.mark.parametrize("row", SERVICES.values(), ids=SERVICES)
def test_without_well_known_srv_says_where(world, row):
    services, port = row
    remote = Remote("original.test")
    world.dns.add("original.test", A, GOOD)
    world.dns.add("machine.test", A, GOOD)
    for number, service in enumerate(services):
        world.dns.add(f"{service}.original.test", SRV, (10, 1, 8505 + number, "machine.test"))
    site = world.key_site(remote, port, "original.test")
    assert remote.is_authenticated_by(world.router())
    assert (site.hosts, site.snis) == (["original.test"], ["original.test"])


def test_a_certificate_for_the_srv_target_is_not_the_servers(world):
    remote = Remote("original.test")
    world.dns.add("_matrix-fed._tcp.original.test", SRV, (10, 1, 8506, "machine.test"))
    world.dns.add("machine.test", A, GOOD)
    site = world.key_site(remote, 8506, "machine.test")
    assert not remote.is_authenticated_by(world.router())
    assert site.n_connections == 1 and site.requests == []


def test_a_certificate_for_the_original_name_is_not_the_delegated_ones(world):
    remote = Remote("original.test")
    world.dns.add("original.test", A, GOOD)
    world.dns.add("delegated.test", A, GOOD)
    world.well_known("original.test", "delegated.test:8507")
    site = world.key_site(remote, 8507, "original.test")
    assert not remote.is_authenticated_by(world.router())
    assert site.n_connections == 1 and site.requests == []


def test_a_service_that_is_not_available_is_not_looked_for_elsewhere(world):
    remote = Remote("original.test")
    world.dns.add("original.test", A, GOOD)
    world.dns.add("_matrix-fed._tcp.original.test", SRV, (0, 0, 0, "."))
    site = world.key_site(remote, 8448, "original.test")
    router = world.router()
    assert not remote.is_authenticated_by(router)
    assert site.n_connections == 0
    assert router.log_has("key_fetch_failed", why="no_service")


def test_the_next_srv_target_is_tried_when_nobody_is_at_the_first(world):
    remote = Remote("original.test")
    world.dns.add("_matrix-fed._tcp.original.test", SRV, (20, 1, 8508, "second.test"), (10, 1, 8508, "first.test"),
                  (5, 1, 8508, "nowhere.test"))
    world.dns.add("first.test", A, OTHER)
    world.dns.add("second.test", A, GOOD)
    site = world.key_site(remote, 8508, "original.test")
    assert remote.is_authenticated_by(world.router(f"{GOOD}/32", f"{OTHER}/32"))
    assert site.hosts == ["original.test"]
    assert world.dns.asked("nowhere.test") and world.dns.asked("first.test")


def test_the_next_srv_target_is_not_tried_when_somebody_is_at_the_first(world):
    remote = Remote("original.test")
    world.dns.add("_matrix-fed._tcp.original.test", SRV, (10, 1, 8508, "first.test"), (20, 1, 8508, "second.test"))
    world.dns.add("first.test", A, OTHER)
    world.dns.add("second.test", A, GOOD)
    first = world.site(OTHER, 8508, "another.test")
    second = world.key_site(remote, 8508, "original.test")
    assert not remote.is_authenticated_by(world.router(f"{GOOD}/32", f"{OTHER}/32"))
    assert (first.n_connections, second.n_connections) == (1, 0)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_of_well_known_is_followed(world, status):
    remote = Remote("original.test")
    for name in "original.test", "www.test", "delegated.test":
        world.dns.add(name, A, GOOD if name != "www.test" else OTHER)
    world.well_known("original.test", Answer(status, b"", [("Location", "https://www.test/elsewhere?x=1")]))
    world.site(OTHER, 443, "www.test").on("/elsewhere?x=1", Answer(200, {"m.server": "delegated.test"}))
    site = world.key_site(remote, 8448, "delegated.test")
    assert remote.is_authenticated_by(world.router(f"{GOOD}/32", f"{OTHER}/32"))
    assert site.hosts == ["delegated.test"]


def slow(seconds):
    return Answer(200, {"m.server": "delegated.test"}, delay_s=seconds)


USELESS = {
    "404": lambda: Answer(404, {"m.server": "delegated.test"}),
    "500": lambda: Answer(500, {"m.server": "delegated.test"}),
    "no JSON": lambda: Answer(200, b"<html>"),
    "no server name": lambda: Answer(200, {"m.server": "delegated.test/path"}),
    "an empty name": lambda: Answer(200, {"m.server": ""}),
    "a number": lambda: Answer(200, {"m.server": 8448}),
    "port 0": lambda: Answer(200, {"m.server": "delegated.test:0"}),
    "port 65536": lambda: Answer(200, {"m.server": "delegated.test:65536"}),
    "brackets around nothing": lambda: Answer(200, {"m.server": "[fade]"}),
    "twice": lambda: Answer(200, b'{"m.server":"delegated.test","m.server":"delegated.test"}'),
    "too large": lambda: Answer(200, b'{"m.server":"delegated.test"}' + b" " * 51200),
    "too large, in chunks": lambda: Answer(200, b'{"m.server":"delegated.test"}' + b" " * 51200, chunked=True),
    "broken off": lambda: Answer(200, {"m.server": "delegated.test"}, cut="inside"),
    "too slow": lambda: slow(5),
    "a redirect to http": lambda: Answer(302, b"", [("Location", "http://original.test/x")]),
    "a redirect to a file": lambda: Answer(302, b"", [("Location", "file:///etc/passwd")]),
    "a redirect to itself": lambda: Answer(302, b"", [("Location", f"https://original.test{WELL_KNOWN}")]),
    "a redirect to no URL": lambda: Answer(302, b"", [("Location", "https://[/")]),
    "endless headers": lambda: Answer(200, {"m.server": "delegated.test"}, [(f"X-{n}", "a" * 1000) for n in range(80)]),
}


@pytest.mark.parametrize("name", USELESS)
def test_without_a_usable_well_known_the_name_stands_for_itself(world, name):
    remote = Remote("original.test")
    world.dns.add("original.test", A, GOOD)
    world.dns.add("delegated.test", A, GOOD)
    world.site(GOOD, 80, plain=True).on("/x", Answer(200, {"m.server": "delegated.test"}))
    well_known = world.well_known("original.test", USELESS[name]())
    site = world.key_site(remote, 8448, "original.test", "delegated.test")
    assert remote.is_authenticated_by(world.router())
    assert site.hosts == ["original.test"]
    # A loop ends after the first request and five redirects.
    assert len(well_known.requests) == (6 if name == "a redirect to itself" else 1)


def trickle(world, address, port, seconds):
    """Sends a byte at a time, for ever, to whoever connects; counts who does."""
    listener = socket.create_server((address, port))
    context = world.ca.server_context("original.test")
    seen = []

    def serve(sock):
        with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n")
            while True:
                tls.sendall(b" ")
                time.sleep(seconds)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                seen.append(listener.accept()[0])
                threading.Thread(target=serve, args=(seen[-1],), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    return listener, seen


def test_bodies_that_never_end_cost_ten_seconds_in_all(world, homeserver):
    remote = Remote("original.test")
    world.dns.add("original.test", A, GOOD)
    listeners = [trickle(world, GOOD, port, 0.1) for port in (443, 8448)]
    router = world.router()
    began = time.monotonic()
    assert not remote.is_authenticated_by(router)
    took = time.monotonic() - began
    assert 9 < took < 20 and len(homeserver.sends) == 1
    assert [len(seen) for _, seen in listeners] == [1, 1]
    for listener, _ in listeners:
        listener.shutdown(socket.SHUT_RDWR)  # else whoever accepts keeps the port
        listener.close()


# ---------------------------------------------------------------- what an operator is told


def nothing(world):
    del world


def no_service(world):
    world.dns.add("_matrix-fed._tcp.original.test", SRV, (0, 0, 0, "."))


def nobody_there(world):
    world.dns.add("_matrix-fed._tcp.original.test", SRV, (1, 1, 8530, "machine.test"))
    world.dns.add("machine.test", A, GOOD)


def another_certificate(world):
    world.dns.add("original.test", A, GOOD)
    world.site(GOOD, 8448, "another.test")


def private(world):
    world.dns.add("original.test", A, "10.9.8.7")


def another_document(world):
    world.dns.add("original.test", A, GOOD)
    world.key_site(Remote("another.test"), 8448, "original.test")


def another_status(world):
    world.dns.add("original.test", A, GOOD)
    world.site(GOOD, 8448, "original.test").on(KEY_PATH, Answer(418, {}))


FAILURES = {  # what key_fetch_failed says
    "no_address": (nothing, {"host": "original.test", "port": 8448, "status": 0, "detail": ""}),
    "no_service": (no_service, {"host": "", "port": 0, "status": 0}),
    "unreachable": (nobody_there, {"host": "machine.test", "port": 8530, "detail": ""}),
    "tls": (another_certificate, {"host": "original.test", "port": 8448}),
    "not_allowed": (private, {"host": "original.test", "detail": "::ffff:10.9.8.7"}),
    "document": (another_document, {"host": "original.test", "status": 200}),
    "status": (another_status, {"host": "original.test", "status": 418}),
}


@pytest.mark.parametrize("why", FAILURES)
def test_a_failure_is_logged_and_counted_with_its_reason(world, why):
    prepare, fields = FAILURES[why]
    prepare(world)
    router = world.router()
    assert not Remote("original.test").is_authenticated_by(router)
    router.wait_metric("freshet_key_fetch_failures_total", reason=why)
    assert router.metric("freshet_key_fetch_failures_total") == 1
    wait_until(lambda: router.records("key_fetch_failed"), "the log has it")
    assert router.log_has("key_fetch_failed", server="original.test", why=why, **fields)
    if why == "tls":
        record, = router.records("key_fetch_failed")
        assert "certificate" in record["detail"] and "original.test" in record["detail"]


WELL_KNOWN_FAILURES = {  # the reason and the status in the log; None: no line, since there simply is none
    "none": (lambda: Answer(404, {}), None),
    "an error": (lambda: Answer(500, {}), ("status", 500)),
    "no JSON": (lambda: Answer(200, b"<html>"), ("document", 200)),
    "too large": (lambda: Answer(200, b" " * 51201), ("too_large", 200)),
    "broken off": (lambda: Answer(cut="before"), ("closed", 0)),
    "a redirect to http": (lambda: Answer(302, b"", [("Location", "http://original.test/")]), ("redirect", 0)),
    "redirects": (lambda: Answer(302, b"", [("Location", f"https://original.test{WELL_KNOWN}")]), ("status", 302)),
}


@pytest.mark.parametrize("name", WELL_KNOWN_FAILURES)
def test_a_well_known_that_fails_is_logged_with_its_reason(world, name):
    answer, said = WELL_KNOWN_FAILURES[name]
    remote = Remote("original.test")
    world.dns.add("original.test", A, GOOD)
    world.well_known("original.test", answer())
    world.key_site(remote, 8448, "original.test")
    router = world.router()
    assert remote.is_authenticated_by(router)
    assert router.metric("freshet_key_fetch_failures_total") == 0
    router.terminate()  # now all of its log was read
    seen = [(record["server"], record["why"], record["status"], record["used"])
            for record in router.records("well_known_failed")]
    assert seen == ([("original.test", *said, "original.test")] if said else [])


def test_srv_queries_that_nobody_answers_are_logged(world):
    remote = Remote("original.test")
    world.dns.add("original.test", A, GOOD)
    silent_srv(world.dns)
    world.key_site(remote, 8448, "original.test")
    router = world.router()
    assert remote.is_authenticated_by(router)
    wait_until(lambda: router.log_has("srv_unanswered", server="original.test", asked="original.test"), "the log has it")


# ---------------------------------------------------------------- addresses are checked as dialled


class Canary:
    """Listens at an address that is not allowed, on every port that the rows below lead to."""

    PORTS = (80, 443, 8448, 8600)

    def __init__(self, ca):
        self.sites = [Site(None if port == 80 else ca, CANARY, port, "origin.test", "canary.test", CANARY)
                      for port in self.PORTS]

    @property
    def n_connections(self):
        return sum(site.n_connections for site in self.sites)

    def stop(self):
        for site in self.sites:
            site.stop()


@pytest.fixture
def canary(ca):
    canary = Canary(ca)
    yield canary
    canary.stop()


def hexadecimal(address):
    first, second, third, fourth = (int(part) for part in address.split("."))
    return f"{first:02x}{second:02x}:{third:02x}{fourth:02x}"


def to(*addresses):
    def prepare(dns, _):
        for address in addresses:
            dns.add("origin.test", AAAA if ":" in address else A, address)
    return prepare


def by_cname(dns, _):
    dns.add("origin.test", CNAME, "one.test")
    dns.add("one.test", CNAME, "two.test")
    dns.add("two.test", A, CANARY)


def by_srv(dns, _):
    dns.add("_matrix-fed._tcp.origin.test", SRV, (1, 1, 8600, "canary.test"))
    dns.add("canary.test", A, CANARY)


def by_srv_to_an_address(dns, _):
    dns.add("_matrix-fed._tcp.origin.test", SRV, (1, 1, 8600, CANARY))


def by_old_srv(dns, _):
    dns.add("_matrix._tcp.origin.test", SRV, (1, 1, 8600, "canary.test"))
    dns.add("canary.test", A, CANARY)


def by_rebinding(dns, world):
    """The name leads to a good address when .well-known is asked for, and to the canary after that."""
    world.well_known("origin.test", Answer(404, {}))
    answers = iter([GOOD])
    dns.set("origin.test", A, lambda: [(next(answers, CANARY), 0)])


def by_delegation(name):
    def prepare(dns, world):
        dns.add("origin.test", A, GOOD)
        dns.add("canary.test", A, CANARY)
        world.well_known("origin.test", name)
    return prepare


def by_redirect(url):
    def prepare(dns, world):
        dns.add("origin.test", A, GOOD)
        dns.add("canary.test", A, CANARY)
        world.well_known("origin.test", Answer(302, b"", [("Location", url)]))
    return prepare


ROUTABLE = {
    "a record": to(CANARY),
    "a mapped address": to(f"::ffff:{CANARY}"),
    "beside others that are allowed": to(GOOD, CANARY, OTHER),
    "among many": to(*[f"{NET}.{n}" for n in range(20, 60)], CANARY),
    "a chain of CNAMEs": by_cname,
    "SRV": by_srv,
    "SRV, to what looks like an address": by_srv_to_an_address,
    "old SRV": by_old_srv,
    "an answer that changes": by_rebinding,
    "delegation to an address": by_delegation(CANARY),
    "delegation to an address and a port": by_delegation(f"{CANARY}:8600"),
    "delegation to a mapped address": by_delegation(f"[::ffff:{CANARY}]:8600"),
    "delegation to a name": by_delegation("canary.test"),
    "a redirect to an address": by_redirect(f"https://{CANARY}/"),
    "a redirect to another port": by_redirect(f"https://{CANARY}:8600/"),
    "a redirect to a mapped address": by_redirect(f"https://[::ffff:{CANARY}]/"),
    "a redirect to a number": by_redirect(f"https://{int.from_bytes(socket.inet_aton(CANARY), 'big')}/"),
    "a redirect to a name": by_redirect("https://canary.test/"),
    "a redirect with a user": by_redirect("https://user:secret@canary.test:8600/"),
}
# These would lead into a network through its own translators, which the machine that tests has not.
TRANSLATED = {
    "NAT64": to(f"64:ff9b::{hexadecimal(CANARY)}"),
    "NAT64 of a network's own": to(f"64:ff9b:1::{hexadecimal(CANARY)}"),
    "6to4": to(f"2002:{hexadecimal(CANARY)}::1"),
    "Teredo": to(f"2001:0:{hexadecimal(CANARY)}::1"),
    "compatible": to(f"::{CANARY}"),
    "private": to("10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "fd00::1", "fe80::1"),
    "nowhere": to("0.0.0.0", "::", "255.255.255.255", "ff02::1"),
    "a redirect to cleartext": by_redirect(f"http://{CANARY}/"),
    "a redirect to gopher": by_redirect(f"gopher://{CANARY}:8600/"),
}


@pytest.mark.parametrize("name", [*ROUTABLE, *TRANSLATED])
def test_an_address_that_is_not_allowed_is_not_dialled(world, canary, name):
    {**ROUTABLE, **TRANSLATED}[name](world.dns, world)
    router = world.router(f"{GOOD}/32", f"{OTHER}/32")
    began = time.monotonic()
    assert not Remote("origin.test").is_authenticated_by(router)
    assert time.monotonic() - began < 20
    assert canary.n_connections == 0
    router.wait_metric("freshet_key_fetches_total", result="failed")


# What is not dialled above for want of trying shows here.
@pytest.mark.parametrize("name", [name for name in ROUTABLE if name != "among many"])
def test_the_canary_hears_of_it_if_its_address_is_allowed(world, canary, name):
    ROUTABLE[name](world.dns, world)
    Remote("origin.test").is_authenticated_by(world.router(f"{GOOD}/32", f"{CANARY}/32"))
    wait_until(lambda: canary.n_connections > 0, "the canary is dialled")


def test_an_allowed_address_is_used_though_others_are_not(world, canary):
    remote = Remote("origin.test")
    to(CANARY, GOOD, "10.0.0.1")(world.dns, world)
    world.key_site(remote, 8448, "origin.test")
    assert remote.is_authenticated_by(world.router())
    assert canary.n_connections == 0


def test_a_proxy_of_the_environment_is_not_used(world, canary, monkeypatch):
    remote = Remote("origin.test")
    world.dns.add("origin.test", A, GOOD)
    world.key_site(remote, 8448, "origin.test")
    for name in "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY":
        monkeypatch.setenv(name, f"http://{CANARY}:80")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert remote.is_authenticated_by(world.router())
    assert canary.n_connections == 0
    with contextlib.suppress(OSError):  # who does obey the environment goes there
        urllib.request.urlopen("https://origin.test/", timeout=5)
    assert canary.n_connections == 1


# ---------------------------------------------------------------- a DNS that misbehaves


def test_a_large_answer_comes_over_tcp(world):
    remote = Remote("original.test")
    world.dns.add("original.test", A, GOOD)
    world.dns.add("_matrix-fed._tcp.original.test", SRV, (1, 1, 8509, "machine.test"),
                  *[(100 + n, 1, 9, f"unused{n}.test") for n in range(300)])
    world.dns.add("machine.test", A, GOOD)
    site = world.key_site(remote, 8509, "original.test")
    assert remote.is_authenticated_by(world.router())
    assert site.hosts == ["original.test"]
    assert "tcp" in {transport for _, _, transport in world.dns.asked("_matrix-fed._tcp.original.test")}


def silent_srv(dns):
    dns.set("_matrix-fed._tcp.original.test", SRV, SILENCE)
    dns.set("_matrix._tcp.original.test", SRV, SILENCE)


def failing_srv(dns):
    dns.set("_matrix-fed._tcp.original.test", SRV, FAILURE)
    dns.set("_matrix._tcp.original.test", SRV, FAILURE)


@pytest.mark.parametrize("spoil", [silent_srv, failing_srv, lambda dns: dns.set("original.test", AAAA, SILENCE),
                                   lambda dns: dns.set("original.test", AAAA, FAILURE)],
                         ids=["silence about SRV", "failure about SRV", "silence about AAAA", "failure about AAAA"])
def test_a_dns_server_that_fails_in_part_does_not_keep_a_server_from_being_found(world, spoil):
    remote = Remote("original.test")
    world.dns.add("original.test", A, GOOD)
    spoil(world.dns)
    world.key_site(remote, 8448, "original.test")
    assert remote.is_authenticated_by(world.router())


def test_a_resolver_that_is_silent_does_not_keep_the_next_from_being_asked(world):
    remote = Remote("original.test")
    world.dns.add("machine.test", A, GOOD)
    world.dns.add("_matrix-fed._tcp.original.test", SRV, (1, 1, 8540, "machine.test"))
    site = world.key_site(remote, 8540, "original.test")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent_resolver:
        silent_resolver.bind((OTHER, 0))
        world.resolvers.insert(0, f"{OTHER}:{silent_resolver.getsockname()[1]}")
        assert remote.is_authenticated_by(world.router())
        assert silent_resolver.recv(512)
    assert site.hosts == ["original.test"]


def srv_loop(dns):
    dns.add("_matrix-fed._tcp.original.test", SRV, (1, 1, 8448, "original.test"))
    dns.add("original.test", CNAME, "loop.test")
    dns.add("loop.test", CNAME, "original.test")


def silent(dns):
    for name in "original.test", "_matrix-fed._tcp.original.test", "_matrix._tcp.original.test":
        for kind in A, AAAA, SRV:
            dns.set(name, kind, SILENCE)


@pytest.mark.parametrize("spoil", [srv_loop, silent, lambda dns: dns.stop(), lambda dns: None],
                         ids=["a loop", "silence", "nobody", "no such name"])
def test_a_server_that_cannot_be_found_is_relayed_unjudged(world, homeserver, spoil):
    spoil(world.dns)
    router = world.router()
    began = time.monotonic()
    assert not Remote("original.test").is_authenticated_by(router)
    assert time.monotonic() - began < 20
    assert len(homeserver.sends) == 1
    assert router.metric("freshet_unjudged_total", reason="no_key") == 1


# ---------------------------------------------------------------- a victim that others name


def flood(router, name, seconds, n_least, threads=4):
    """Sends so many forged requests in that name, each under another key, and then some more until the time has
    passed; returns the threads that do and how many were answered."""
    end = time.monotonic() + seconds
    counts = [0] * threads

    def run(index):
        forger = Remote(name)
        while time.monotonic() < end or sum(counts) < n_least:
            forger.key = make_key(f"forged{index}x{counts[index]}")
            assert forger.send(router, "a.example", forger.transaction()).status in (200, 401)
            counts[index] += 1
            if sum(counts) > n_least:
                time.sleep(0.1)

    running = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
    for thread in running:
        thread.start()
    return running, counts


VICTIMS = {
    "that serves": lambda world, victim: [world.well_known("victim.test", Answer(404, {})),
                                          world.key_site(victim, 8448, "victim.test")],
    "with a delegation": lambda world, victim: [world.well_known("victim.test", "victim.test:8510"),
                                                world.key_site(victim, 8510, "victim.test")],
    "with SRV": lambda world, victim: [world.well_known("victim.test", Answer(404, {})),
                                       world.key_site(victim, 8511, "victim.test")],
    "that closes": lambda world, victim: [world.well_known("victim.test", Answer(cut="before")),
                                          world.site(GOOD, 8448, "victim.test")],
    "that resets": lambda world, victim: [world.well_known("victim.test", Answer(cut="reset")),
                                          world.site(GOOD, 8448, "victim.test")],
    "without TLS": lambda world, victim: [world.site(GOOD, 443, plain=True), world.site(GOOD, 8448, plain=True)],
}
N_FORGED = 10000
LONG = os.environ.get("FRESHET_LONG")  # for nearly the 5 minutes in which a server is not asked again


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", VICTIMS)
def test_a_victim_that_others_name_is_dialled_twice_and_served_throughout(world, homeserver, name):
    victim = Remote("victim.test")
    world.dns.add("victim.test", A, GOOD)
    if name == "with SRV":
        world.dns.add("_matrix-fed._tcp.victim.test", SRV, (1, 1, 8511, "victim.test"), (2, 1, 8512, "victim.test"),
                      (3, 1, 8513, "other.test"))
        world.dns.add("other.test", A, GOOD)
    sites = VICTIMS[name](world, victim)
    sites += [world.site(GOOD, port, "victim.test") for port in (8512, 8513)]
    router = world.router()
    seconds = 290 if LONG else 12 if name == "without TLS" else 3
    running, counts = flood(router, "victim.test", seconds, N_FORGED)
    n_real = 0
    while any(thread.is_alive() for thread in running):
        assert victim.send(router, "a.example", victim.transaction(), txn_id=f"real{n_real}").status == 200
        n_real += 1
    print(f"{sum(counts)} forged requests, {n_real} real ones")
    assert sum(counts) >= N_FORGED and n_real > 20
    assert len({send.target for send in homeserver.sends if b"/real" in send.target}) == n_real
    assert sum(site.n_connections for site in sites) == 2


def may_sniff():
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP).close()
    except PermissionError:
        return False
    return True


def run_in_own_network(nodeid):
    """Runs the test in a network namespace where whoever began it may have a raw socket; fails where even that is denied."""
    assert "FRESHET_OWN_NETWORK" not in os.environ, "no raw socket even in a network of one's own"
    command = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh",
               sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", nodeid]
    run = subprocess.run(command, cwd=ROOT, env={**os.environ, "FRESHET_OWN_NETWORK": "1"}, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=150, check=False)
    assert run.returncode == 0 and "1 passed" in run.stdout, run.stdout


class Sniffer:
    """Counts the attempts to connect to an address, also where nobody listens."""

    def __init__(self, address):
        self._wanted = socket.inet_aton(address)
        self._seen = set()
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._sock.bind((address, 0))
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with contextlib.suppress(OSError, ValueError):
            while True:
                packet = self._sock.recv(65536)
                tcp = packet[(packet[0] & 15) * 4:]
                if packet[16:20] == self._wanted and tcp[13] & 0x12 == 0x02:  # SYN without ACK
                    self._seen.add(tcp[:4])  # a repeated one has the same ports

    @property
    def ports(self):
        return sorted(int.from_bytes(pair[2:], "big") for pair in self._seen)

    def stop(self):
        self._sock.close()


def test_a_victim_that_refuses_is_dialled_twice_at_most(request, world, homeserver):
    if not may_sniff():
        run_in_own_network(request.node.nodeid)
        return
    world.dns.add("victim.test", A, OTHER)
    world.dns.add("other.test", A, OTHER)
    world.dns.add("_matrix-fed._tcp.victim.test", SRV, (1, 1, 8511, "victim.test"), (2, 1, 8512, "victim.test"),
                  (3, 1, 8513, "other.test"), (4, 1, 8514, "last.test"))
    sniffer = Sniffer(OTHER)
    router = world.router(f"{OTHER}/32", f"{GOOD}/32")
    running, counts = flood(router, "victim.test", 3, N_FORGED)
    for thread in running:
        thread.join()
    assert sum(counts) >= N_FORGED and len(homeserver.sends) == sum(counts)
    wait_until(lambda: world.dns.asked("last.test"), "all targets were tried")
    assert sniffer.ports == [443, 8511]
    with contextlib.suppress(OSError):  # it does see what is dialled
        socket.create_connection((OTHER, 8600), timeout=2)
    wait_until(lambda: sniffer.ports == [443, 8511, 8600], "the sniffer works")
    sniffer.stop()


@pytest.mark.parametrize("name", ["Victim.test", "VICTIM.TEST", "victim.tesT:8448"])
def test_another_spelling_of_a_name_is_not_dialled(world, name):
    world.dns.add("victim.test", A, GOOD)
    sites = [world.site(GOOD, port, "victim.test") for port in (443, 8448)]
    router = world.router()
    assert not Remote(name).is_authenticated_by(router)
    router.wait_metric("freshet_unjudged_total", reason="no_key")
    assert [site.n_connections for site in sites] == [0, 0]
    assert world.dns.queries == []


# ---------------------------------------------------------------- keys come and go


class Changing:
    """A server whose key document the test changes; each router of it begins without memory of attempts."""

    def __init__(self, world, start_router):
        self.remote = Remote(f"{GOOD}:8520")
        self.site = world.site(GOOD, 8520, GOOD)
        self.router = world.router()

    def publish(self, *keys, old=(), valid_s=3600, ids=None):
        document = key_document(self.remote.name, [], valid_s)
        named = dict(zip(ids or [f"{key.alg}:{key.version}" for key in keys], keys))
        document["verify_keys"] = {name: {"key": signedjson.key.encode_verify_key_base64(key.verify_key)}
                                   for name, key in named.items()}
        document["old_verify_keys"] = {
            f"{key.alg}:{key.version}": {"key": signedjson.key.encode_verify_key_base64(key.verify_key),
                                         "expired_ts": int(time.time() * 1000) - 1000} for key in old}
        for key in keys:
            document = signedjson.sign.sign_json(document, self.remote.name, key)
        self.site.on(KEY_PATH, Answer(200, document))

    def forget_attempts(self):
        """A new start: what is stored stays, and the next unknown key may be asked for at once."""
        self.router.restart()

    def verdict(self, key):
        """401 of the router for a forgery under that key: it has it. 200: relayed unjudged."""
        self.remote.key = key
        return self.remote.is_authenticated_by(self.router)

    def accepts(self, key):
        self.remote.key = key
        return self.remote.send(self.router, "a.example", self.remote.transaction()).status == 200


@pytest.fixture
def changing(world, start_router):
    return Changing(world, start_router)


def test_a_key_that_is_new_is_fetched_and_the_one_that_is_gone_counts_no_more(changing):
    old, new = make_key("old"), make_key("new")
    changing.publish(old)
    assert changing.verdict(old) and changing.accepts(old)
    changing.router.wait_metric("freshet_journal_records_total")
    changing.forget_attempts()
    changing.publish(new)
    assert changing.verdict(new) and changing.accepts(new)
    assert len(changing.site.of(KEY_PATH)) == 2
    before = changing.router.metric("freshet_unjudged_total", reason="no_key")
    assert not changing.verdict(old)  # nobody's key: the homeserver decides
    assert changing.router.metric("freshet_unjudged_total", reason="no_key") == before + 1


def test_an_old_verify_key_verifies_no_request(changing):
    old, new = make_key("old"), make_key("new")
    changing.publish(new, old=[old])
    assert changing.verdict(new)
    assert not changing.verdict(old) and not changing.verdict(old)
    assert len(changing.site.of(KEY_PATH)) == 1


def test_a_key_id_that_changes_its_key_is_that_of_the_newest_document(changing, homeserver):
    first, second, other = make_key("same"), make_key("same"), make_key("other")
    changing.publish(first)
    assert changing.verdict(first)
    changing.router.wait_metric("freshet_journal_records_total")
    # Under a cached id the router asks nobody anew: a signature of the second key is a forgery to it.
    changing.publish(second, other)
    changing.remote.key = second
    assert changing.remote.send(changing.router, "a.example", changing.remote.transaction()).status in (200, 401)
    changing.forget_attempts()
    assert changing.verdict(other)  # an unknown id has the document fetched
    changing.router.wait_metric("freshet_journal_records_total")  # till then another worker may read the old one
    changing.remote.key = second
    assert changing.remote.send(changing.router, "a.example", changing.remote.transaction()).status == 200
    changing.remote.key = first
    n_before = len(homeserver.sends)
    assert changing.remote.send(changing.router, "a.example", changing.remote.transaction()).status == 401
    assert len(homeserver.sends) == n_before


def test_a_server_out_of_reach_is_judged_by_its_cached_key_until_that_ends(changing):
    key = make_key("short")
    changing.publish(key, valid_s=6)
    began = time.monotonic()
    assert changing.verdict(key)
    changing.router.wait_metric("freshet_journal_records_total")
    changing.site.stop()
    changing.forget_attempts()
    if time.monotonic() - began < 5:
        assert changing.verdict(key) and changing.accepts(key)
    time.sleep(max(0, began + 6.5 - time.monotonic()))
    assert not changing.verdict(key)
    assert changing.router.metric("freshet_unjudged_total", reason="no_key") == 1


def test_a_document_that_has_ended_gives_no_key(changing):
    key = make_key("ended")
    changing.publish(key, valid_s=-10)
    assert not changing.verdict(key)


def test_a_document_is_not_read_again_within_five_minutes_though_its_key_has_ended(changing):
    key = make_key("short")
    changing.publish(key, valid_s=2)
    assert changing.verdict(key)
    time.sleep(2.2)
    assert not changing.verdict(key) and not changing.verdict(key)
    assert len(changing.site.of(KEY_PATH)) == 1
