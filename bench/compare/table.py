"""What bench/run prints."""
from compare.contestants import FRONTS, PEERS
from compare.figures import BODIES, EDGE, ENTRIES, Entry

FRONT_NAMES = {"h1": "HTTP/1.1, cleartext", "h1-tls": "HTTP/1.1, TLS", "h2-tls": "h2, TLS"}
BODY_NAMES = {"edu2k": "2 KB", "edu100": "150 KB", "full": "300 KB", "dendrite": "150 KB, 20 users",
              "storm": "150 KB, one user"}


def number(value):
    """Three digits that matter."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def ranged(spread):
    return f"{number(spread.median)} ({number(spread.min)}..{number(spread.max)})"


def rows_of(cells, widths=None):
    """Lines of equal columns: the first to the left, the others to the right."""
    widths = widths or [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return ["  ".join([row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])])
            for row in cells]


def entry_name(entry):
    if entry.contestant in PEERS:
        return entry.contestant
    return f"{entry.contestant}, {'no' if entry.claims == 'none' else entry.claims} claims"


def machine_lines(machine):
    pinned = ", ".join(f"{name} on {cpu}" for name, cpu in machine["pinned"].items())
    lines = [f"{machine['cpu']}, {machine['cores']} cores ({pinned}), Linux {machine['kernel']}",
             f"commit {machine['commit']}, load average at the start {machine['load_average']:.1f}, "
             f"a write with fdatasync {number(machine['fdatasync_us'])} us"]
    return lines + ["; ".join(machine["versions"])]


def cell_lines(samples, kind, front, body):
    columns = {
        "closed": (("requests/s", "requests_per_s"), ("of a core", "busy"), ("CPU us/request", "cpu_us"),
                   ("requests/s/core", "per_core"), ("load's core", "load_share")),
        "open": (("requests/s", "requests_per_s"), ("p50 us", "p50_us"), ("p99 us", "p99_us"),
                 ("CPU us/request", "cpu_us"))}[kind]
    cells = [["", *(title for title, _ in columns)]]
    for entry in ENTRIES:
        if samples.of(kind, entry, front, body):
            cells.append([entry_name(entry), *(ranged(samples.spread(kind, entry, front, body, name))
                                               for _, name in columns)])
    return rows_of(cells) if len(cells) > 1 else []


def print_cells(samples, kind, title, bodies=BODIES):
    for front in FRONTS:
        for body in bodies:
            lines = cell_lines(samples, kind, front, body)
            if lines:
                print(f"\n{title}: {BODY_NAMES[body]}, {FRONT_NAMES[front]}; median (least..most)")
                print("\n".join(lines))


def print_beside(samples):
    cells = [["", "requests/s", "p50 us", "p99 us"]]
    for kind, title in (("alone", "by themselves"), ("beside", "beside 150 KB ones")):
        if samples.of(kind, EDGE, "h1-tls", "edu2k"):
            cells.append([f"2 KB transactions {title}", *(
                ranged(samples.spread(kind, EDGE, "h1-tls", "edu2k", name))
                for name in ("requests_per_s", "p50_us", "p99_us"))])
    if len(cells) > 1:
        print("\nfreshet-edge, HTTP/1.1 with TLS:")
        print("\n".join(rows_of(cells)))


def print_stale(samples):
    for claims in ("none", "stale"):
        rows = samples.of("stale", Entry("freshet-reads", claims), "h1-tls", "edu2k")
        if rows:
            owed = sum(row["sent"] for row in rows)
            print(f"{'stale claims' if claims == 'stale' else 'without claims'}: {owed} sent, "
                  f"{sum(row['stale'] for row in rows)} verdicts of stale")


def print_bounds(bounds):
    words = {True: "kept", False: "MISSED", None: "too few rounds"}
    cells = [["", "median (least..most)", "bound", "", ""]]
    for bound in bounds:
        limit = f">= {bound.at_least:g}" if bound.at_least is not None else f"<= {bound.at_most:g}"
        unit = "" if bound.unit == "ratio" else f" {bound.unit}"
        cells.append([bound.name, ranged(bound.spread), limit + unit, words[bound.holds], bound.note])
    print("\n" + "\n".join(rows_of(cells)))
