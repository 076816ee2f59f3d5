"""One run of bench/load, and what it measured."""
import json
import subprocess

from compare.contestants import CIPHERS, SERVER

# As facts of others were measured: enough to keep a target busy, without long queues.
CONCURRENCY = {("h1", "edu2k"): (32, 1), ("h2", "edu2k"): (8, 8), ("h1", "large"): (8, 1), ("h2", "large"): (4, 4)}
ORIGINS = 50
SOURCES = 200  # networks to connect from: what one may take of the router is limited
MEMORY_MB = 8  # of signed transactions: more take longer to sign than to send
TIMEOUT_S = 120
RUNS_MAX = 3


class NotFlawless(RuntimeError):
    """A figure that must not be used."""


class NothingMeasured(NotFlawless):
    """All was answered, but nothing of it inside the time that counts: there is no CPU time by request."""


def sample_of(told):
    """The figures of one report of load: rates in 1/s, times in us."""
    measured = told["measured"]
    elapsed_s = measured["elapsed_ns"] / 1e9
    sample = {
        "requests": measured["requests"], "requests_per_s": measured["requests"] / elapsed_s,
        "load_share": measured["own_cpu_ns"] / measured["elapsed_ns"],
        "rss_bytes": measured["watched_rss_bytes"], "body_bytes": told["setting"]["body_bytes_mean"],
        "answer_bytes": measured["answer_body_bytes"] / measured["requests"],
        "fresh": told["verdicts"]["fresh"], "stale": told["verdicts"]["stale"],
        "connects": told["total"]["connects"], "sent": told["total"]["sent"],
    }
    for quantile in ("p50", "p99", "p99.9"):
        sample[f"{quantile}_us"] = measured["latency_ns"][quantile] / 1000
    if measured["watched_cpu_ns"] > 0:
        sample["cpu_us"] = measured["watched_cpu_ns"] / measured["requests"] / 1000
        sample["per_core"] = 1e6 / sample["cpu_us"]
        sample["busy"] = measured["watched_cpu_ns"] / measured["elapsed_ns"]
    return sample


def read_report(text, what):
    """The sample of a report; raises NotFlawless for one that must not be quoted."""
    try:
        told = json.loads(text)
    except ValueError:
        raise NotFlawless(f"{what}: no report: {text[-1000:]!r}") from None
    if not told["flawless"]:
        raise NotFlawless(f"{what}: {json.dumps(told)}")
    if told["measured"]["requests"] == 0:
        raise NothingMeasured(f"{what}: {json.dumps(told)}")
    return sample_of(told)


class Driver:
    """What all runs of load have in common."""

    def __init__(self, build, pki, cpu, key_port, seconds):
        self.load = build / "bench" / "load"
        self.pki, self.cpu, self.key_port, self.seconds = pki, cpu, key_port, seconds
        self.n_repeated = 0

    def _command(self, target, front, shape, claims, options, serves_keys=True):
        connections, streams = CONCURRENCY[front[:2], "edu2k" if shape == "edu2k" else "large"]
        authenticate = getattr(target, "authenticate", None)
        settings = {
            "target": f"127.0.0.1:{target.port(front)}", "server-name": SERVER, "shape": shape, "cpu": self.cpu,
            "protocol": "h2" if front.startswith("h2") else "http/1.1", "connections": connections, "streams": streams,
            "origins": ORIGINS, "sources": SOURCES, "memory-mb": MEMORY_MB, "key-port": self.key_port,
            "list-version": 1, "fresh": 100 if claims == "fresh" else 0, "stale": 100 if claims == "stale" else 0,
            "warmup-ms": int(self.seconds * 200), "duration-ms": int(self.seconds * 1000),
            "pid": target.pid(front)}
        if front.endswith("tls"):
            settings["ciphers"] = CIPHERS
        if authenticate == "edge" and serves_keys:
            settings["pki"] = self.pki
        settings.update({name.replace("_", "-"): value for name, value in options.items()})
        words = [str(self.load), "--json"] + (["--tls"] if front.endswith("tls") else [])
        if authenticate is None:
            words.append("--no-verdicts")
        if "pki" not in settings:  # nobody else fetches keys
            words.append("--no-prime")
        for name, value in settings.items():
            words += [f"--{name}", str(value)]
        return words

    def start(self, target, front, shape, claims, serves_keys=True, **options):
        """A run that is waited for with finish(). Of two at once only one can serve keys; the other is for a target
        that knows them already."""
        command = self._command(target, front, shape, claims, options, serves_keys)
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True)

    @staticmethod
    def finish(process, what, timeout_s=TIMEOUT_S):
        try:
            text, _ = process.communicate(timeout=timeout_s)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return read_report(text, what)

    def run(self, target, front, shape, claims, timeout_s=TIMEOUT_S, **options):
        """A run that a stall of the machine swallowed whole is repeated, and counted."""
        what = f"{target.name}, {front}, {shape}, {claims} {options or ''}"
        for _ in range(RUNS_MAX - 1):
            try:
                return self.finish(self.start(target, front, shape, claims, **options), what, timeout_s)
            except NothingMeasured:
                self.n_repeated += 1
        return self.finish(self.start(target, front, shape, claims, **options), what, timeout_s)
