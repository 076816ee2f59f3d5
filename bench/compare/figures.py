"""What the samples of interleaved rounds say: medians, ratios within a round, and the bounds on them."""
import collections
import statistics

from compare.contestants import FRONTS, PEERS

ROUNDS_MIN = 5
BODIES = ("edu2k", "edu100")
# Contestant and claims of a column of figures.
Entry = collections.namedtuple("Entry", "contestant claims")
JUDGED = Entry("freshet-upstream", "fresh")
UNJUDGED = Entry("freshet-upstream", "none")
EDGE = Entry("freshet-edge", "fresh")
EDGE_UNJUDGED = Entry("freshet-edge", "none")
# The peers get the same bodies as the router that judges; the claims are nothing to them.
PEER_ENTRIES = tuple(Entry(name, "fresh") for name in PEERS)
ENTRIES = (UNJUDGED, JUDGED, EDGE_UNJUDGED, EDGE, *PEER_ENTRIES)
# Those that are loaded at the same rate when latencies are compared.
GROUPS = ((UNJUDGED, JUDGED, *PEER_ENTRIES), (EDGE_UNJUDGED, EDGE))

Spread = collections.namedtuple("Spread", "median min max n")


def spread(values):
    values = list(values)
    if not values:
        raise ValueError("nothing was measured")
    return Spread(statistics.median(values), min(values), max(values), len(values))


class Samples:
    """By kind ("closed", "open", ...), entry, front and body: a sample of each round, in order."""

    def __init__(self):
        self._rows = collections.defaultdict(list)

    def add(self, kind, entry, front, body, sample):
        self._rows[kind, entry, front, body].append(sample)

    def of(self, kind, entry, front, body):
        return self._rows[kind, entry, front, body]

    def values(self, kind, entry, front, body, name):
        return [sample[name] for sample in self.of(kind, entry, front, body)]

    def spread(self, kind, entry, front, body, name):
        return spread(self.values(kind, entry, front, body, name))

    def rows(self):
        for (kind, entry, front, body), samples in self._rows.items():
            yield {"kind": kind, "contestant": entry.contestant, "claims": entry.claims, "front": front, "body": body,
                   "rounds": samples}


def pairwise(operation, *columns):
    """Of each round by itself: what a slow spell does to one side it does to the other."""
    if len({len(column) for column in columns}) != 1:
        raise ValueError(f"rounds do not match: {[len(column) for column in columns]}")
    return spread(operation(*row) for row in zip(*columns))


def best_peer(samples, front, body):
    """The one with the most requests per second of CPU in the median; the same one in all rounds."""
    return max(PEER_ENTRIES, key=lambda entry: samples.spread("closed", entry, front, body, "per_core").median)


def half_of_saturation(samples, group, front, body):
    """Of the slowest of the group: a rate that all of them can keep."""
    return max(1, int(min(samples.spread("closed", entry, front, body, "requests_per_s").median
                          for entry in group) / 2))


# ---------------------------------------------------------------- bounds


class Bound(collections.namedtuple("Bound", "name unit spread at_least at_most note")):
    """A figure that the median of its rounds must keep."""

    @property
    def holds(self):
        if self.spread.n < ROUNDS_MIN:
            return None  # too few rounds to say
        if self.at_least is not None and self.spread.median < self.at_least:
            return False
        return self.at_most is None or self.spread.median <= self.at_most

    def row(self):
        return {"name": self.name, "unit": self.unit, **self.spread._asdict(), "at_least": self.at_least,
                "at_most": self.at_most, "note": self.note, "holds": self.holds}


def bound(name, unit, value, *, at_least=None, at_most=None, note=""):
    return Bound(name, unit, value, at_least, at_most, note)


def relay_bounds(samples, front, body):
    best = best_peer(samples, front, body)
    ratio = pairwise(lambda own, other: own / other, samples.values("closed", JUDGED, front, body, "per_core"),
                     samples.values("closed", best, front, body, "per_core"))
    least = 1.0 if body == "edu2k" and not front.startswith("h2") else 0.9
    yield bound(f"relay and judge, {front}, {body}: requests per core against the best peer", "ratio", ratio,
                at_least=least, note=f"best: {best.contestant}")


def edge_bounds(samples, verify_us, front, body):
    """verify_us: of each round, the cheaper library's."""
    best = best_peer(samples, front, body)
    ratio = pairwise(lambda own, other, verify: own / (other + verify),
                     samples.values("closed", EDGE, front, body, "cpu_us"),
                     samples.values("closed", best, front, body, "cpu_us"), verify_us)
    yield bound(f"edge, {front}, {body}: CPU against the best peer and one verification", "ratio", ratio,
                at_most=1.05 if body == "edu2k" else 1.2, note=f"best: {best.contestant}")


def judging_bounds(samples, front):
    for quantile, most in (("p50_us", 20), ("p99_us", 200)):
        cost = pairwise(lambda fresh, none: fresh - none, samples.values("open", JUDGED, front, "edu2k", quantile),
                        samples.values("open", UNJUDGED, front, "edu2k", quantile))
        yield bound(f"what judging costs, {front}, edu2k: {quantile[:-3]}", "us", cost, at_most=most)


def stale_bounds(samples, delay_us):
    for quantile, most in (("p50_us", 100), ("p99_us", 1000)):
        cost = pairwise(lambda stale, none: stale - none - delay_us,
                        samples.values("stale", Entry("freshet-reads", "stale"), "h1-tls", "edu2k", quantile),
                        samples.values("stale", Entry("freshet-reads", "none"), "h1-tls", "edu2k", quantile))
        yield bound(f"what a stale claim costs beyond {delay_us} us of the list read: {quantile[:-3]}", "us", cost,
                    at_most=most)


def bounds_of(samples, parts, delay_us):
    """parts: roofline's, by body, of each round."""
    rows = []
    for front in FRONTS:
        for body in BODIES:
            rows += relay_bounds(samples, front, body)
    for front in FRONTS:
        for body in BODIES:
            rows += edge_bounds(samples, [each.verify for each in parts[body]], front, body)
    for front in FRONTS:
        rows += judging_bounds(samples, front)
    rows += stale_bounds(samples, delay_us)
    return rows
