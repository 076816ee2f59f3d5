#!/usr/bin/python3
"""One process with thousands of hosted servers and as many certificates: what it costs.

Usage: FRESHET_BUILD=build/release bench/many_servers.py [SERVERS] [TLS_CONNECTIONS]

Prints the time from the start to the first answer, memory by server, the time of a reload, and how long handshakes and
requests take that go to servers at random. Ends with status 1 if any server is answered for with another's certificate.
"""
import contextlib
import pathlib
import random
import shutil
import socket
import ssl
import statistics
import sys
import tempfile
import time

from cryptography import x509

from compare.process import cpu_s, memory_kib
from hosting import make_certificates, make_router, name_of, reloaded, started
from harness import Homeserver, build_dir, read_answer, request_bytes

REQUEST = "/_matrix/federation/v1/version"


def connect_to(router, context, index):
    """Seconds of a handshake with server `index`, and of a request; both to the last byte."""
    # Each from a network of its own: handshakes are limited by network.
    source = f"127.{1 + index // 250 % 250}.{index % 250}.1"
    with contextlib.closing(socket.create_connection(router.federation, timeout=30, source_address=(source, 0))) as sock:
        began = time.monotonic()
        secured = context.wrap_socket(sock, server_hostname=name_of(index))
        shaken = time.monotonic()
        secured.sendall(request_bytes("GET", REQUEST, [("Host", name_of(index))]))
        read_answer(secured)
        ended = time.monotonic()
        names = x509.load_der_x509_certificate(secured.getpeercert(True)).extensions.get_extension_for_class(
            x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
        return shaken - began, ended - shaken, names == [name_of(index)]


def measure(router, n, folder, n_connections, empty_kib):
    kib = memory_kib(router.pid, "VmRSS")
    print(f"memory: {kib} KiB resident; {(kib - empty_kib) / n:.1f} KiB for each server with its certificate "
          f"(with one server: {empty_kib} KiB)")
    before = cpu_s(router.pid)
    times = [reloaded(router) for _ in range(3)]
    print(f"reload: {statistics.median(times):.2f} s, {(cpu_s(router.pid) - before) / 3:.2f} s of CPU; "
          f"most memory during it: {memory_kib(router.pid, 'VmHWM')} KiB, "
          f"after it: {memory_kib(router.pid, 'VmRSS')} KiB")
    context = ssl.create_default_context(cafile=str(folder.parent / "ca.pem"))
    chosen = [random.randrange(n) for _ in range(n_connections)]
    before = cpu_s(router.pid)
    results = [connect_to(router, context, index) for index in chosen]
    used = cpu_s(router.pid) - before
    shakes = sorted(result[0] for result in results)
    requests = sorted(result[1] for result in results)
    print(f"handshakes, one after the other: median {shakes[len(shakes) // 2] * 1000:.2f} ms, "
          f"99th of 100 {shakes[len(shakes) * 99 // 100] * 1000:.2f} ms; requests: median "
          f"{requests[len(requests) // 2] * 1000:.2f} ms; {used / n_connections * 1000:.2f} ms of CPU for both")
    wrong = sum(not result[2] for result in results)
    print(f"{n_connections} connections, {wrong} with another server's certificate")
    return wrong == 0


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    n_connections = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    homeserver = Homeserver("hs.example")
    with tempfile.TemporaryDirectory(prefix="freshet-bench-") as text:
        directory = pathlib.Path(text)
        authority, folder = make_certificates(directory, [name_of(i) for i in range(n)])
        one = directory / "one"
        one.mkdir()
        for suffix in ("crt", "key"):
            shutil.copy(folder / f"{name_of(0)}.{suffix}", one)
        single = make_router({name_of(0): homeserver.url}, authority, one)
        print(f"{n} hosted servers and certificates, {single.config['workers']} workers, {build_dir()}")
        started(single)
        empty_kib = memory_kib(single.pid, "VmRSS")
        single.close()
        router = make_router({name_of(i): homeserver.url for i in range(n)}, authority, folder)
        try:
            print(f"start to first answer: {started(router):.2f} s")
            is_well = measure(router, n, folder, n_connections, empty_kib)
        finally:
            router.close()
            homeserver.stop()
    return 0 if is_well else 1


sys.exit(main())
