"""A real Synapse that takes to-device messages by itself, and behind the router: CPU of both, per message."""
import collections
import contextlib
import os
import pathlib
import sys

from compare.figures import Entry, pairwise
from compare.process import cpu_ns
from compare.table import ranged, rows_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
N_USERS = 20
SIZES = {"edu2k": (1, 100), "edu100": (100, 20)}  # messages in a transaction, transactions in a round
FILLING = 1300  # with what is around it about 1.5 KB, as load's
Direct = collections.namedtuple("Direct", "federation pid")


def import_tests():
    """What the end-to-end tests start Synapse with."""
    sys.path[:0] = [str(ROOT / "tests" / "e2e"), str(ROOT / "tests" / "integration")]
    import harness
    import synapse
    return harness, synapse


def message(harness, origin, client):
    content = {"algorithm": "m.olm.v1.curve25519-aes-sha2", "body": os.urandom(FILLING // 2).hex()}
    return harness.to_device(origin.user, {client.user: {client.device_id: content}})


def send_round(harness, origin, target, server_name, clients, n_messages, n_transactions):
    """Transactions are signed ahead, so that our own work is not in between."""
    requests = []
    for number_of_it in range(n_transactions):
        edus = [message(harness, origin, clients[(number_of_it + i) % len(clients)]) for i in range(n_messages)]
        uri = f"/_matrix/federation/v1/send/{os.urandom(8).hex()}"
        requests.append(origin.raw_request(server_name, "PUT", uri, origin.transaction(*edus)))
    for raw in requests:
        answer = harness.exchange(target.federation, raw)
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {answer.body[:500]!r}")


def measure(harness, world, samples, n_rounds, say):
    origin, synapse, router, clients = world
    for turn in range(n_rounds):
        for body, (n_messages, n_transactions) in SIZES.items():
            for name, target in (("synapse", Direct(synapse.address, None)), ("freshet, synapse", router)):
                before = {"synapse": cpu_ns(synapse.pid), "freshet": cpu_ns(router.pid)}
                send_round(harness, origin, target, synapse.name, clients, n_messages, n_transactions)
                sample = {f"{who}_us": (cpu_ns(pid) - before[who]) / 1000 / n_transactions
                          for who, pid in (("synapse", synapse.pid), ("freshet", router.pid))}
                samples.add("synapse", Entry(name, "none"), "h1", body, sample)
        say(f"synapse: round {turn + 1} of {n_rounds}")


def print_samples(samples):
    cells = [["", "Synapse, us/transaction", "Freshet, us/transaction", "Synapse, us/message", "Freshet, us/message"]]
    for body, (n_messages, _) in SIZES.items():
        for name in ("synapse", "freshet, synapse"):
            columns = {who: samples.values("synapse", Entry(name, "none"), "h1", body, f"{who}_us")
                       for who in ("synapse", "freshet")}
            texts = [ranged(pairwise(lambda us, n=n: us / n, columns[who])) if who in name else "-"
                     for n in (1, n_messages) for who in ("synapse", "freshet")]
            cells.append([f"{n_messages} messages: {name}", *texts])
    print("\nCPU of a real Synapse (SQLite, one process), by itself and behind the router; cleartext, a connection "
          "for each transaction:")
    print("\n".join(rows_of(cells)))


def run(arguments, folder, cpus, samples, say):
    os.environ["FRESHET_BUILD"] = str(arguments.build)
    harness, e2e = import_tests()
    with contextlib.ExitStack() as stack:
        authority = harness.Authority(folder)
        place = folder / "synapse"
        place.mkdir()
        synapse = e2e.Synapse(place, authority)
        stack.callback(synapse.stop)
        # What is started from here on stays on this core, as the contestants of other runs do.
        own = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {cpus["router"]})
        stack.callback(os.sched_setaffinity, 0, own)
        synapse.start()
        origin = harness.Origin(authority)
        stack.callback(origin.stop)
        upstream = collections.namedtuple("Upstream", "name url router_key")(
            synapse.name, synapse.url, synapse.router_key)
        router = harness.Router([upstream], ca=authority, workers=1)
        stack.callback(router.close)
        router.start()
        os.sched_setaffinity(0, {cpus["load"]})
        clients = [e2e.Client(synapse, synapse.register(f"user{i}")) for i in range(N_USERS)]
        world = (origin, synapse, router, clients)
        measure(harness, world, type(samples)(), 1, lambda text: say(f"warming up, {text}"))
        measure(harness, world, samples, arguments.rounds, say)
        print_samples(samples)
