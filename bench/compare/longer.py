"""What bench/run long adds: other shapes, new connections, many users, hours."""
import contextlib
import time

from compare.contestants import FRONTS, Freshet, Homeserver
from compare.figures import EDGE, ENTRIES, JUDGED, half_of_saturation
from compare.process import memory_kib
from compare.rounds import closed_round, rotated
from compare.table import BODY_NAMES, FRONT_NAMES, entry_name, number, print_cells, ranged, rows_of

SHAPES = ("full", "dendrite", "storm")
NEW_SOURCES = 2000  # networks; each may begin 50 handshakes a second
PUSH_S = 4 * 3600  # most time for all lists to be pushed
PIECE_S = 600


def run_shapes(world, samples, n_rounds, say):
    for turn in range(n_rounds):
        closed_round(world, samples, SHAPES, turn)
        say(f"other shapes: round {turn + 1} of {n_rounds}")
    print_cells(samples, "closed", "throughput", SHAPES)


def run_new_connections(world, samples, n_rounds, say):
    """Each request on a connection of its own, with a whole handshake."""
    for turn in range(n_rounds):
        for front in FRONTS:
            for entry in rotated(ENTRIES, turn):
                samples.add("new", entry, front, "edu2k", world.driver.run(
                    world.contestants[entry.contestant], front, "edu2k", entry.claims, per_connection=1, streams=1,
                    sources=NEW_SOURCES))
        say(f"new connections: round {turn + 1} of {n_rounds}")
    for front in FRONTS:
        cells = [["", "requests/s", "CPU us/request", "p50 us", "p99 us"]]
        for entry in ENTRIES:
            cells.append([entry_name(entry), *(ranged(samples.spread("new", entry, front, "edu2k", name))
                                               for name in ("requests_per_s", "cpu_us", "p50_us", "p99_us"))])
        print(f"\na new connection for each request: {BODY_NAMES['edu2k']}, {FRONT_NAMES[front]}")
        print("\n".join(rows_of(cells)))


def store_bytes(router):
    return (router.folder / "data" / "data.mdb").stat().st_blocks * 512


def run_users(world, arguments, samples, say):
    """As many lists in the store; the transactions name those that fit into load's memory."""
    with contextlib.ExitStack() as stack:
        users = {"users": arguments.users}
        homeserver = stack.enter_context(contextlib.closing(Homeserver(
            world.build, world.folder, world.cpus["homeserver"], "--users", str(arguments.users), "--list-version",
            "1", name="many-users")))
        target = stack.enter_context(contextlib.closing(Freshet(
            world.build, world.folder, homeserver, world.driver.pki, world.cpus["router"], "upstream",
            name="freshet-many-users")))
        began = time.monotonic()
        world.driver.run(target, "h1-tls", "edu2k", "fresh", timeout_s=PUSH_S, push=target.socket("h1-tls"),
                         warmup_ms=0, duration_ms=0, requests=500, **users)
        took_s = time.monotonic() - began
        for _ in range(arguments.rounds):
            samples.add("users", JUDGED, "h1-tls", "edu2k",
                        world.driver.run(target, "h1-tls", "edu2k", "fresh", **users))
        router = target.router("h1-tls")
        print(f"\n{arguments.users:,} users, whose lists were pushed twice in {took_s:.0f} s: store "
              f"{store_bytes(router) / arguments.users:.0f} bytes each, resident "
              f"{memory_kib(router.process.pid, 'VmRSS') / 1024:,.0f} MiB; 2 KB over HTTP/1.1 with TLS "
              f"{ranged(samples.spread('users', JUDGED, 'h1-tls', 'edu2k', 'cpu_us'))} us of CPU per request "
              f"(with 1,000 users {ranged(samples.spread('closed', JUDGED, 'h1-tls', 'edu2k', 'cpu_us'))})")
        say("many users: done")


def run(world, samples, arguments, say):
    run_shapes(world, samples, arguments.rounds, say)
    run_new_connections(world, samples, arguments.rounds, say)
    run_users(world, arguments, samples, say)


def run_hours(world, samples, arguments, say):
    """Half of saturation, in pieces; memory after each."""
    target, front = world.contestants[EDGE.contestant], "h1-tls"
    rate = half_of_saturation(samples, (EDGE,), front, "edu2k")
    pid = target.pid(front)
    cells = [["hours", "resident, KiB", "p50 us", "p99 us", "CPU us/request"]]
    began = time.monotonic()
    while (left_s := arguments.hours * 3600 - (time.monotonic() - began)) > 0:
        piece_s = min(PIECE_S, max(1, left_s))
        sample = world.driver.run(target, front, "edu2k", "fresh", timeout_s=piece_s + 300, rate=rate,
                                  duration_ms=int(piece_s * 1000))
        samples.add("hours", EDGE, front, "edu2k", sample)
        cells.append([f"{(time.monotonic() - began) / 3600:.2f}", str(memory_kib(pid, "VmRSS")),
                      *(number(sample[name]) for name in ("p50_us", "p99_us", "cpu_us"))])
        say(f"hours: {cells[-1][0]} of {arguments.hours}")
    print(f"\n{rate} transactions of 2 KB a second, {entry_name(EDGE)}, {FRONT_NAMES[front]}:")
    print("\n".join(rows_of(cells)))
