"""The rounds of bench/run: every contestant in turn, over and over."""
import re
import urllib.request

from compare import roofline
from compare.contestants import FRONTS, STARTERS, Freshet, Homeserver
from compare.figures import BODIES, EDGE, ENTRIES, GROUPS, Entry, half_of_saturation

STALE_DELAY_US = 2000  # of the homeserver's answer to a list read
STALE_RATE = 500
STALE_REQUESTS = 1000  # each names another user
STALE_USERS = 10007  # prime, so that users and origins never come in the same pairs


class World:
    """All contestants, started once and idle but for the one that is measured."""

    def __init__(self, build, folder, driver, cpus):
        self.build, self.folder, self.driver, self.cpus = build, folder, driver, cpus
        self.contestants = {}
        self._running = []
        self._is_warm = False

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def keep(self, running):
        self._running.append(running)
        return running

    def close(self):
        while self._running:
            self._running.pop().close()

    def _start(self):
        pki, cpu = self.driver.pki, self.cpus["router"]
        self.homeserver = self.keep(Homeserver(self.build, self.folder, self.cpus["homeserver"], "--list-version", "1"))
        for authenticate in ("upstream", "edge"):
            freshet = self.keep(Freshet(self.build, self.folder, self.homeserver, pki, cpu, authenticate))
            self.contestants[freshet.name] = freshet
        for name, start in STARTERS.items():
            self.contestants[name] = self.keep(start(self.folder, self.homeserver, pki, cpu))

    def warm_up(self):
        """Once: pushes the lists to each router (a second time they would never be stale) and opens the first
        connections of all."""
        if self._is_warm:
            return
        self._is_warm = True
        for entry in ENTRIES:
            for front in FRONTS:
                target = self.contestants[entry.contestant]
                options = {}
                if entry.claims == "fresh" and isinstance(target, Freshet) and front != "h2-tls":
                    options["push"] = target.socket(front)
                self.driver.run(target, front, "edu2k", entry.claims, warmup_ms=0, duration_ms=0, requests=500,
                                **options)


def rotated(entries, round_number):
    """So that nobody is always behind the same one."""
    at = round_number % len(entries)
    return entries[at:] + entries[:at]


def closed_round(world, samples, bodies, number):
    """Each front, body and contestant once, as fast as they go."""
    for front in FRONTS:
        for body in bodies:
            for entry in rotated(ENTRIES, number):
                samples.add("closed", entry, front, body, world.driver.run(
                    world.contestants[entry.contestant], front, body, entry.claims))


def run_closed(world, samples, parts, n_rounds, say):
    for number in range(n_rounds):
        closed_round(world, samples, BODIES, number)
        for body, each in roofline.measure(world.build, world.cpus["router"], samples).items():
            parts.setdefault(body, []).append(each)
        say(f"throughput: round {number + 1} of {n_rounds}")


def run_open(world, samples, n_rounds, say):
    for number in range(n_rounds):
        for front in FRONTS:
            for body in BODIES:
                for group in GROUPS:
                    rate = half_of_saturation(samples, group, front, body)
                    for entry in rotated(group, number):
                        samples.add("open", entry, front, body, world.driver.run(
                            world.contestants[entry.contestant], front, body, entry.claims, rate=rate))
        say(f"latency at half of saturation: round {number + 1} of {n_rounds}")


def run_beside(world, samples, n_rounds, say):
    """2 KB transactions by themselves, and while 150 KB ones are verified beside them; each at a quarter of what the
    router can take of its kind."""
    target, front = world.contestants[EDGE.contestant], "h1-tls"
    rates = {body: max(1, half_of_saturation(samples, (EDGE,), front, body) // 2) for body in BODIES}
    for number in range(n_rounds):
        samples.add("alone", EDGE, front, "edu2k",
                    world.driver.run(target, front, "edu2k", "fresh", rate=rates["edu2k"]))
        # It begins before and ends after the one that is measured, which is signed meanwhile.
        large = world.driver.start(target, front, "edu100", "fresh", rate=rates["edu100"], warmup_ms=0,
                                   duration_ms=int(world.driver.seconds * 1000) + 4000, serves_keys=False)
        small = world.driver.start(target, front, "edu2k", "fresh", rate=rates["edu2k"])
        samples.add("beside", EDGE, front, "edu2k", world.driver.finish(small, "2 KB beside 150 KB"))
        samples.add("beside", EDGE, front, "edu100", world.driver.finish(large, "150 KB beside 2 KB"))
        say(f"2 KB beside 150 KB: round {number + 1} of {n_rounds}")


# ---------------------------------------------------------------- stale claims


def homeserver_ask(homeserver, path, method="GET"):
    request = urllib.request.Request(f"http://127.0.0.1:{homeserver.port}/_bench/{path}", method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def n_list_reads(homeserver):
    told = homeserver_ask(homeserver, "count")
    return int(re.search(r'"devices":\{"body_bytes":\d+,"requests":(\d+)', told).group(1))


def check_stale(sample, n_reads):
    """That what was measured is what it says: every claim was stale, and each cost a read."""
    if sample["stale"] != sample["sent"]:
        raise RuntimeError(f"{sample['stale']} of {sample['sent']} claims were called stale")
    if n_reads < sample["sent"]:
        raise RuntimeError(f"{sample['sent']} stale claims cost {n_reads} reads only: some were told from memory")


def run_stale(world, samples, n_rounds, say):
    """Lists that the router reads for itself. In each round all lists have changed since they were read."""
    homeserver = world.keep(Homeserver(world.build, world.folder, world.cpus["homeserver"], "--users", STALE_USERS,
                                       "--devices-delay-us", STALE_DELAY_US, name="slow-homeserver"))
    target = world.keep(Freshet(world.build, world.folder, homeserver, world.driver.pki, world.cpus["router"],
                                "upstream", name="freshet-reads"))
    exact = {"users": STALE_USERS, "rate": STALE_RATE, "requests": STALE_REQUESTS, "warmup_ms": 0, "duration_ms": 0}
    world.driver.run(target, "h1-tls", "edu2k", "fresh", list_version=0, **exact)
    for number in range(1, n_rounds + 1):
        samples.add("stale", Entry(target.name, "none"), "h1-tls", "edu2k",
                    world.driver.run(target, "h1-tls", "edu2k", "none", list_version=number, **exact))
        homeserver_ask(homeserver, "change", "POST")
        before = n_list_reads(homeserver)
        sample = world.driver.run(target, "h1-tls", "edu2k", "stale", list_version=number, **exact)
        check_stale(sample, n_list_reads(homeserver) - before)
        samples.add("stale", Entry(target.name, "stale"), "h1-tls", "edu2k", sample)
        say(f"stale claims: round {number} of {n_rounds}")
