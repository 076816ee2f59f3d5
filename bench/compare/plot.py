"""Two plots: latency against rate, and throughput against the size of the body."""
from compare.contestants import PEERS
from compare.figures import EDGE, JUDGED, PEER_ENTRIES

SHAPES = ("edu2k", "edu10", "edu100", "full")
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the contestant's own saturation
FRONT = "h1-tls"
SHOWN = (JUDGED, EDGE, *PEER_ENTRIES)


def measure_sizes(world, samples, n_rounds, say):
    for turn in range(n_rounds):
        for shape in SHAPES:
            for entry in SHOWN:
                samples.add("size", entry, FRONT, shape, world.driver.run(
                    world.contestants[entry.contestant], FRONT, shape, entry.claims))
        say(f"throughput against size: round {turn + 1} of {n_rounds}")


def rate_kind(share):
    return f"rate {share:g}"


def measure_rates(world, samples, n_rounds, say):
    for turn in range(n_rounds):
        for share in SHARES:
            for entry in SHOWN:
                most = samples.spread("size", entry, FRONT, "edu2k", "requests_per_s").median
                samples.add(rate_kind(share), entry, FRONT, "edu2k", world.driver.run(
                    world.contestants[entry.contestant], FRONT, "edu2k", entry.claims, rate=max(1, int(share * most))))
        say(f"latency against rate: round {turn + 1} of {n_rounds}")


def new_figure(title, x, y):
    import matplotlib  # only plots need it: bench/setup installs it
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "freshet"  # else every run names its parts anew
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(8, 5))
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_yscale("log")
    axes.grid(True, which="major", alpha=0.4)
    return figure, axes


def save(figure, axes, path):
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})


def label_of(entry):
    return entry.contestant if entry.contestant in PEERS else entry.contestant.replace("-", ", authenticate: ")


def draw_rates(samples, path):
    figure, axes = new_figure("2 KB transactions over HTTP/1.1 with TLS, open loop, one core",
                              "requests/s", "latency, µs (whole line: p50, dashed: p99)")
    for entry in SHOWN:
        def column(name, entry=entry):
            return [samples.spread(rate_kind(share), entry, FRONT, "edu2k", name).median for share in SHARES]
        line, = axes.plot(column("requests_per_s"), column("p50_us"), label=label_of(entry), marker=".")
        axes.plot(column("requests_per_s"), column("p99_us"), color=line.get_color(), linestyle="--", marker=".")
    save(figure, axes, path)


def draw_sizes(samples, path):
    figure, axes = new_figure("Transactions over HTTP/1.1 with TLS, closed loop", "body, KB",
                              "requests per second of one core")
    axes.set_xscale("log")
    for entry in SHOWN:
        sizes = [samples.spread("size", entry, FRONT, shape, "body_bytes").median / 1000 for shape in SHAPES]
        axes.plot(sizes, [samples.spread("size", entry, FRONT, shape, "per_core").median for shape in SHAPES],
                  label=label_of(entry), marker=".")
    save(figure, axes, path)


def run(world, samples, arguments, say):
    world.warm_up()
    measure_sizes(world, samples, arguments.rounds, say)
    measure_rates(world, samples, arguments.rounds, say)
    arguments.docs.mkdir(exist_ok=True)
    draw_sizes(samples, arguments.docs / "bench-size.svg")
    draw_rates(samples, arguments.docs / "bench-rate.svg")
    say(f"plots are in {arguments.docs}")
