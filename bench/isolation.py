#!/usr/bin/python3
"""One hosted server of thousands is flooded, slow or down: what the others have of it.

Usage: FRESHET_BUILD=build/release bench/isolation.py [SERVERS] [REPEATS] [CASES]

A router with one worker hosts SERVERS (2,000) servers, each with a certificate and an upstream address of its own. A
closed loop says what the router can take; a share is that divided by SERVERS. Then a steady open loop of
OTHERS_PER_S goes to OTHERS of the servers, over a TLS connection each: in quiet, and while another one gets ten times
its share, or a quarter of all the router can take; that one's homeserver answers at once, after 1 s, or not at all
(its port is closed). Latencies count from the moment a request should have begun. Every repeat has all cases in turn,
or those whose names begin with CASES ("10 shares");
the ratios are those of a case to the quiet of the same repeat. Ends with status 1 if the median of a p99 ratio is
above 2, or if one of the others' requests was not answered with a 2xx.
"""
import contextlib
import json
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from compare.process import memory_kib
from hosting import make_certificates, make_router, name_of, started
from harness import build_dir

OTHERS = 500
OTHERS_PER_S = 200
DURATION_MS = 6000
WARMUP_MS = 3000  # in which the connections are made
ODD = {"at once": "flooded.provider.example", "after 1 s": "slow.provider.example", "not at all": "down.provider.example"}


class Pki:
    """What load --make-pki made; the authority of the origins."""

    def __init__(self, directory):
        self.file = directory / "ca.pem"


def tool(name):
    return str(build_dir() / "bench" / name)


@contextlib.contextmanager
def homeserver(*options):
    """The port of a homeserver on all of 127.0.0.0/8."""
    command = [tool("homeserver"), "--address", "0.0.0.0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline().rsplit(":", 1)[1])
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.read()


class Load:
    """A run of bench/load, which has keys of its own."""

    def __init__(self, router, pki, **options):
        options = {"memory_mb": 8, "sources": 250, "timeout_ms": 60000, **options}
        command = [tool("load"), "--target", "%s:%d" % router.federation, "--tls", "--json", "--pki", str(pki)]
        for name, value in options.items():
            command += ["--" + name.replace("_", "-"), str(value)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def result(self):
        return json.loads(self._process.communicate()[0])

    def stop(self):
        self._process.kill()
        self._process.communicate()


def closed_port():
    with contextlib.closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def others(router, pki, port, **options):
    return Load(router, pki, servers=OTHERS, server_name=name_of("*"), connections=OTHERS, origins=OTHERS, key_port=port,
                warmup_ms=WARMUP_MS, **options)


def measure(router, pki, ports, flood=None, rate=0):
    """What the others saw, and of the flood how much was begun each second."""
    flooding = None
    if flood is not None:
        n_connections = 64 if flood == ODD["at once"] else min(1000, max(64, 2 * rate))
        flooding = Load(router, pki, server_name=flood, rate=rate, connections=n_connections, origins=50,
                        key_port=ports[1], warmup_ms=0, duration_ms=120000)
        time.sleep(2)
    seen = others(router, pki, ports[0], rate=OTHERS_PER_S, duration_ms=DURATION_MS).result()
    if flooding is not None:
        flooding.stop()
        time.sleep(1)
    latency = seen["measured"]["latency_ns"]
    return {"p50": latency["p50"] / 1e6, "p99": latency["p99"] / 1e6, "flawless": seen["flawless"],
            "MiB": memory_kib(router.pid, "VmRSS") / 1024}


def cases(share, capacity, wanted):
    """By name: whom to flood, and how much."""
    found = {"quiet": (None, 0)}
    for how, name in ODD.items():
        found[f"10 shares, its homeserver answers {how}"] = (name, max(1, round(10 * share)))
    for how, name in ODD.items():
        found[f"a quarter of all, its homeserver answers {how}"] = (name, round(capacity / 4))
    return {name: case for name, case in found.items() if name == "quiet" or name.startswith(wanted)}


def print_table(results):
    ok = True
    print(f"{'':52} p50 ms  p99 ms   p50 ratio  p99 ratio (all)")
    for name, rows in results.items():
        quiet = results["quiet"]
        p50, p99 = ([row[key] / first[key] for row, first in zip(rows, quiet)] for key in ("p50", "p99"))
        is_well = all(row["flawless"] for row in rows) and statistics.median(p99) <= 2
        ok = ok and is_well
        print(f"{name:52} {statistics.median(row['p50'] for row in rows):6.2f}  "
              f"{statistics.median(row['p99'] for row in rows):6.2f}  {statistics.median(p50):9.2f}  "
              f"{statistics.median(p99):9.2f} ({' '.join(f'{value:.2f}' for value in p99)})"
              f"{'' if is_well else '   NOT WELL'}")
    return ok


def run(router, pki, n, repeats, wanted):
    ports = closed_port(), closed_port()
    capacity = others(router, pki, ports[0], duration_ms=5000, pid=router.pid).result()["measured"]["requests_per_s"]
    share = capacity / n
    print(f"the router takes {capacity} transactions/s in all, with one worker; a share is {share:.2f}/s, ten are "
          f"{10 * share:.0f}/s; the others send {OTHERS_PER_S}/s to {OTHERS} servers", flush=True)
    chosen = cases(share, capacity, wanted)
    results = {name: [] for name in chosen}
    for _ in range(repeats):
        for name, (flood, rate) in chosen.items():
            results[name].append(measure(router, pki, ports, flood, rate))
            print(f"  {name}: {results[name][-1]}", flush=True)
    return print_table(results)


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    wanted = sys.argv[3] if len(sys.argv) > 3 else ""
    names = [name_of(i) for i in range(n - len(ODD))]
    with tempfile.TemporaryDirectory(prefix="freshet-bench-") as text, homeserver() as quick, \
            homeserver("--send-delay-us", "1000000") as slow:
        directory = pathlib.Path(text)
        pki = directory / "pki"
        pki.mkdir()
        subprocess.run([tool("load"), "--make-pki", str(pki), "--server-name", "a.example"], check=True)
        _, folder = make_certificates(directory, names + list(ODD.values()))
        upstreams = {name: f"http://127.1.{i // 250}.{1 + i % 250}:{quick}" for i, name in enumerate(names)}
        for name, port in zip(ODD.values(), (quick, slow, closed_port())):
            upstreams[name] = f"http://127.0.0.1:{port}"
        router = make_router(upstreams, Pki(pki), folder, workers=1, keys={"fetches_per_s": 10000})
        try:
            print(f"{n} hosted servers and certificates, {build_dir()}; start {started(router):.2f} s, "
                  f"{memory_kib(router.pid, 'VmRSS')} KiB resident")
            is_well = run(router, pki, n, repeats, wanted)
        finally:
            router.close()
    return 0 if is_well else 1


sys.exit(main())
