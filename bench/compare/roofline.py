"""What a transaction cannot cost less than: the sum of its parts, each measured by itself in the same round."""
import collections
import json
import subprocess

from compare.contestants import FRONTS
from compare.figures import BODIES, EDGE, JUDGED, pairwise
from compare.table import BODY_NAMES, FRONT_NAMES, entry_name, number, ranged, rows_of

ROUND_MS = 10
HEAD_BYTES = (600, 150)  # about as many have a request's head and an answer's

# All in us.
Parts = collections.namedtuple("Parts", "sockets tls parse verify")


def tool(build, name, cpu, *options):
    done = subprocess.run([build / "bench" / name, "--cpu", str(cpu), "--round-ms", str(ROUND_MS), *options],
                          check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def stage_us(stages, body, *names):
    """The cheapest of the stages with these names."""
    return min(row["ns"] / 1000 for row in stages if row["shape"] == body and row["stage"] in names)


def measure(build, cpu, samples):
    """By body. Sizes are those of the round that has just ended."""
    stages = tool(build, "micro", cpu, "--json")["stages"]
    parts = {}
    for body in BODIES:
        sample = samples.of("closed", JUDGED, "h1", body)[-1]
        request, reply = (int(size + head) for size, head in
                          zip((sample["body_bytes"], sample["answer_bytes"]), HEAD_BYTES))
        floor = tool(build, "floor", cpu, "--request", str(request), "--reply", str(reply))
        parts[body] = Parts(floor["sockets_ns"] / 1000, floor["tls_ns"] / 1000, stage_us(stages, body, "parse JSON"),
                            stage_us(stages, body, "verify, OpenSSL", "verify, libsodium"))
    return parts


def floor_us(parts, entry, front):
    return parts.sockets + parts.parse + (parts.tls if front.endswith("tls") else 0) + (
        parts.verify if entry == EDGE else 0)


def print_table(samples, parts):
    """parts: by body, of each round."""
    cells = [["CPU us/request", "system calls", "TLS", "parse", "verify", "sum", "router", "router / sum"]]
    for front in FRONTS:
        for body in BODIES:
            for entry in (JUDGED, EDGE):
                spent = samples.values("closed", entry, front, body, "cpu_us")
                floors = [floor_us(each, entry, front) for each in parts[body]]
                middle = sorted(parts[body], key=lambda each: floor_us(each, entry, front))[len(floors) // 2]
                cells.append([
                    f"{BODY_NAMES[body]}, {FRONT_NAMES[front]}, {entry_name(entry)}", number(middle.sockets),
                    number(middle.tls) if front.endswith("tls") else "", number(middle.parse),
                    number(middle.verify) if entry == EDGE else "", number(floor_us(middle, entry, front)),
                    number(samples.spread("closed", entry, front, body, "cpu_us").median),
                    ranged(pairwise(lambda router, floor: router / floor, spent, floors))])
    print("\nwhat the parts of a transaction cost by themselves, and the router as a whole:")
    print("\n".join(rows_of(cells)))
