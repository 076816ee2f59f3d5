"""Where a transaction's CPU time goes in the judging router, by perf."""
import collections
import re
import subprocess
import time

from compare.contestants import FRONTS
from compare.figures import BODIES, JUDGED
from compare.table import BODY_NAMES, FRONT_NAMES, number, rows_of

HERTZ = 4999
# In all less than what the 10,000 requests last that the router takes on one connection: when it says that it goes, those
# on their way are lost to load.
WARMUP_MS, BEFORE_S, RECORD_S, AFTER_MS = 200, 0.5, 0.8, 300
LINE = re.compile(r"\s*([\d.]+)%\s+(\S+)\s+\[.\]\s+(\S+)")
KERNEL, TLS, HTTP, JSON, JUDGING, REST = ("kernel", "TLS", "HTTP", "JSON", "judging", "rest")
GROUPS = (KERNEL, TLS, HTTP, JSON, JUDGING, "memory and copies", "event loop", REST)
# What a name in the router's own file begins with; the rest of it is "rest".
OURS = (
    (JSON, ("json_", "close_container", "make_room", "skip_space", "grow_kinds")),
    (JUDGING, ("judg", "batch", "span_index", "claim", "decode_entry", "decode_per_device", "dlh_", "glance", "lists_",
               "duplicate_", "user_id_", "step_decode", "step_batch", "step_reply", "reply_", "verdict", "transaction_",
               "writer_json_string", "device_list", "XXH")),
    (HTTP, ("http_", "head", "on_head", "on_body", "h2_", "write_header", "base64", "xmatrix", "route", "take",
            "begin_", "end_response")),
)


def group_of(library, symbol):
    for pattern, group in (("kernel", KERNEL), ("libcrypto|libssl", TLS), ("libllhttp|libnghttp2", HTTP),
                           ("libxxhash|liblmdb", JUDGING), ("libevent", "event loop"), ("libc[.-]", "memory and copies")):
        if re.search(pattern, library):
            return group
    return next((group for group, prefixes in OURS if symbol.startswith(prefixes)), REST)


def shares(report):
    """Of a report of perf's with library and symbol: the share of each group, 1 in all."""
    found = collections.Counter()
    for line in report.splitlines():
        if match := LINE.match(line):
            found[group_of(match[2], match[3])] += float(match[1])
    whole = sum(found.values())
    if whole < 50:
        raise RuntimeError("perf saw next to nothing of the router")
    return {group: found[group] / whole for group in GROUPS}


def record(path, pid):
    subprocess.run(["perf", "record", "-q", "-F", str(HERTZ), "-p", str(pid), "-o", path, "--", "sleep", str(RECORD_S)],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return subprocess.run(["perf", "report", "-i", path, "--stdio", "--no-children", "--sort", "dso,sym"],
                          check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def run(world, say):
    target = world.contestants[JUDGED.contestant]
    cells = [["CPU us/request", "in all", *GROUPS]]
    world.warm_up()
    for front in FRONTS:
        for body in BODIES:
            load = world.driver.start(target, front, body, JUDGED.claims, warmup_ms=WARMUP_MS,
                                      duration_ms=int(1000 * (BEFORE_S + RECORD_S)) + AFTER_MS)
            time.sleep(BEFORE_S)  # signed and warm
            report = record(world.folder / "perf.data", target.pid(front))
            cpu_us = world.driver.finish(load, f"{front}, {body}")["cpu_us"]
            cells.append([f"{BODY_NAMES[body]}, {FRONT_NAMES[front]}", number(cpu_us),
                          *(number(share * cpu_us) for share in shares(report).values())])
            say(f"profile: {cells[-1][0]}")
    print("\n" + "\n".join(rows_of(cells)))
