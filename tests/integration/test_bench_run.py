"""bench/run does with figures what bench/README.md says. What the figures are is no test's business."""
import collections
import copy
import json
import os
import re
import subprocess
import sys

import pytest

from harness import ROOT, Answer

sys.path.insert(0, str(ROOT / "bench"))

from compare import contestants, drive, figures, held, process, profile, roofline, rounds, table  # noqa: E402

# ---------------------------------------------------------------- reading what load says

REPORT = {
    "setting": {"body_bytes_mean": 2022},
    "measured": {"elapsed_ns": 2_000_000_000, "requests": 1000, "requests_per_s": 500, "own_cpu_ns": 500_000_000,
                 "watched_cpu_ns": 50_000_000, "watched_rss_bytes": 4096, "answer_body_bytes": 13_000,
                 "latency_ns": {"p50": 1000, "p90": 1500, "p99": 2000, "p99.9": 3000, "max": 4000}},
    "total": {"sent": 1200, "connects": 8}, "verdicts": {"fresh": 600, "stale": 0}, "flawless": True}


def changed(**measured):
    report = copy.deepcopy(REPORT)
    report["measured"].update(measured)
    return report


def test_a_report_becomes_rates_and_times():
    sample = drive.read_report(json.dumps(REPORT), "x")
    assert (sample["requests_per_s"], sample["cpu_us"], sample["per_core"]) == (500, 50, 20000)
    assert (sample["busy"], sample["load_share"]) == (0.025, 0.25)
    assert (sample["p50_us"], sample["p99_us"], sample["p99.9_us"]) == (1, 2, 3)
    assert (sample["sent"], sample["stale"], sample["body_bytes"]) == (1200, 0, 2022)


@pytest.mark.parametrize("text", [
    json.dumps({**REPORT, "flawless": False}), json.dumps(changed(requests=0)), "priming: 3 of 5", ""],
    ids=["not flawless", "nothing measured", "not a report", "nothing"])
def test_a_figure_that_must_not_be_quoted_ends_the_run(text):
    with pytest.raises(drive.NotFlawless, match="who"):
        drive.read_report(text, "who")


Target = collections.namedtuple("Target", "name")


class Stalled(drive.Driver):
    """Reports that are given, in place of runs."""

    def __init__(self, *reports):
        self.reports, self.n_repeated, self.n_runs = list(reports), 0, 0

    def start(self, *_, **__):
        self.n_runs += 1
        return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def finish(self, process, what, timeout_s=10):
        text, _ = process.communicate(json.dumps(self.reports.pop(0)), timeout=timeout_s)
        return drive.read_report(text, what)


@pytest.mark.parametrize("reports, n_runs, error", [
    ([REPORT], 1, None), ([changed(requests=0), REPORT], 2, None),
    ([changed(requests=0)] * 3, 3, drive.NothingMeasured), ([{**REPORT, "flawless": False}], 1, drive.NotFlawless)])
def test_a_run_that_measured_nothing_is_repeated_and_one_with_faults_is_not(reports, n_runs, error):
    driver = Stalled(*reports)
    target = Target("x")
    if error is None:
        assert driver.run(target, "h1", "edu2k", "none")["requests"] == 1000
    else:
        with pytest.raises(error):
            driver.run(target, "h1", "edu2k", "none")
    assert (driver.n_runs, driver.n_repeated) == (n_runs, min(n_runs - 1, 2))


def test_a_process_that_was_not_watched_has_no_cpu_time():
    assert "cpu_us" not in drive.read_report(json.dumps(changed(watched_cpu_ns=0)), "x")


# ---------------------------------------------------------------- medians, ratios, bounds


def samples_with(cpu_us, *, front="h1", body="edu2k"):
    """cpu_us: by entry, of each round."""
    samples = figures.Samples()
    for entry, values in cpu_us.items():
        for value in values:
            samples.add("closed", entry, front, body,
                        {"cpu_us": value, "per_core": 1e6 / value, "requests_per_s": 1e6 / value})
    return samples


NGINX, HAPROXY, NGHTTPX = figures.PEER_ENTRIES
# A slow spell in the second round, which all of them met.
COSTS = {figures.JUDGED: [10, 20, 11, 10, 10], figures.EDGE: [50, 100, 55, 50, 50], NGINX: [20, 40, 20, 20, 20],
         HAPROXY: [11, 22, 11, 11, 11], NGHTTPX: [30, 10, 30, 30, 30]}


def test_a_spread_is_the_median_and_the_ends():
    assert figures.spread([5, 1, 3]) == (3, 1, 5, 3)
    assert figures.spread([4, 1, 3, 2]) == (2.5, 1, 4, 4)
    with pytest.raises(ValueError):
        figures.spread([])


def test_the_best_peer_is_the_best_in_the_median_and_not_in_one_round():
    assert figures.best_peer(samples_with(COSTS), "h1", "edu2k") == HAPROXY


def test_a_ratio_is_made_within_each_round():
    row, = figures.relay_bounds(samples_with(COSTS), "h1", "edu2k")
    assert row.spread == pytest.approx((1.1, 1.0, 1.1, 5))
    assert row.holds is True and row.at_least == 1.0 and "haproxy" in row.note


def test_rounds_that_do_not_match_are_not_compared():
    with pytest.raises(ValueError, match="do not match"):
        figures.pairwise(lambda a, b: a / b, [1, 2], [1])


@pytest.mark.parametrize("front, body, least, most", [
    ("h1", "edu2k", 1.0, 1.05), ("h1-tls", "edu2k", 1.0, 1.05), ("h2-tls", "edu2k", 0.9, 1.05),
    ("h1", "edu100", 0.9, 1.2), ("h2-tls", "edu100", 0.9, 1.2)])
def test_the_bounds_are_those_of_the_shape(front, body, least, most):
    samples = samples_with(COSTS, front=front, body=body)
    relay, = figures.relay_bounds(samples, front, body)
    edge, = figures.edge_bounds(samples, [40] * 5, front, body)
    assert (relay.at_least, relay.at_most, edge.at_least, edge.at_most) == (least, None, None, most)


def test_the_edge_is_bounded_by_the_peer_and_one_verification():
    row, = figures.edge_bounds(samples_with(COSTS), [39, 78, 44, 39, 39], "h1", "edu2k")
    assert row.spread.median == pytest.approx(1.0) and row.holds is True
    row, = figures.edge_bounds(samples_with(COSTS), [30] * 5, "h1", "edu2k")
    assert row.spread.median == pytest.approx(50 / 41) and row.holds is False


def test_a_bound_is_missed_by_the_median_on_its_side_and_not_told_by_few_rounds():
    def holds(values, **limits):
        return figures.bound("x", "us", figures.spread(values), **limits).holds
    assert holds([1, 1, 1, 9, 9], at_most=1) is True and holds([1, 1, 2, 2, 2], at_most=1) is False
    assert holds([0, 0, 1, 1, 1], at_least=1) is True and holds([0, 0, 0, 1, 1], at_least=1) is False
    assert holds([1, 1, 1, 1], at_most=1) is None


def test_what_judging_costs_is_a_difference_within_each_round():
    samples = figures.Samples()
    for entry, latencies in ((figures.JUDGED, [110, 220, 115, 110, 110]),
                             (figures.UNJUDGED, [100, 200, 100, 105, 100])):
        for value in latencies:
            samples.add("open", entry, "h1", "edu2k", {"p50_us": value, "p99_us": value * 20})
    p50, p99 = figures.judging_bounds(samples, "h1")
    assert (p50.spread, p50.holds) == ((10, 5, 20, 5), True)
    assert (p99.spread.median, p99.at_most, p99.holds) == (200, 200, True)


def test_what_a_stale_claim_costs_is_without_the_homeservers_own_delay():
    samples = figures.Samples()
    for claims, value in (("stale", 2350), ("none", 200)):
        for _ in range(5):
            samples.add("stale", figures.Entry("freshet-reads", claims), "h1-tls", "edu2k",
                        {"p50_us": value, "p99_us": value})
    p50, p99 = figures.stale_bounds(samples, 2000)
    assert (p50.spread.median, p50.holds, p99.holds) == (150, False, True)


def test_half_of_saturation_is_of_the_slowest():
    samples = samples_with(COSTS)
    group = (figures.JUDGED, NGINX)
    assert figures.half_of_saturation(samples, group, "h1", "edu2k") == 25000


@pytest.mark.parametrize("stale, n_reads, complaint", [(10, 10, None), (9, 10, "called stale"), (10, 9, "from memory")])
def test_the_share_of_stale_verdicts_and_their_reads_are_asserted(stale, n_reads, complaint):
    sample = {"sent": 10, "stale": stale}
    if complaint is None:
        rounds.check_stale(sample, n_reads)
        return
    with pytest.raises(RuntimeError, match=complaint):
        rounds.check_stale(sample, n_reads)


def test_every_entry_is_first_once():
    assert [rounds.rotated((1, 2, 3), i)[0] for i in range(4)] == [1, 2, 3, 1]
    assert sorted(rounds.rotated((1, 2, 3), 2)) == [1, 2, 3]


# ---------------------------------------------------------------- the table


def test_the_roofline_is_the_sum_of_the_parts_that_the_router_cannot_do_without(capsys):
    parts = roofline.Parts(sockets=5, tls=2, parse=1, verify=30)
    assert roofline.floor_us(parts, figures.JUDGED, "h1") == 6
    assert roofline.floor_us(parts, figures.JUDGED, "h2-tls") == 8
    assert roofline.floor_us(parts, figures.EDGE, "h1-tls") == 38
    samples = figures.Samples()
    for front in contestants.FRONTS:
        for body in figures.BODIES:
            for entry in (figures.JUDGED, figures.EDGE):
                for factor in (1, 2, 1):
                    samples.add("closed", entry, front, body, {"cpu_us": 12 * factor})
    slow = roofline.Parts(*(2 * part for part in parts))
    roofline.print_table(samples, {body: [parts, slow, parts] for body in figures.BODIES})
    shown = capsys.readouterr().out
    assert re.search(r"2 KB, HTTP/1.1, cleartext, freshet-upstream, fresh claims +5\.00 +1\.00 +6\.00 +12\.0 +2\.00 \(2\.00", shown)


def test_the_tables_show_medians_with_their_ends_and_what_became_of_bounds(capsys):
    samples = samples_with(COSTS)
    for rows in samples.rows():
        for sample in rows["rounds"]:
            sample.update(busy=1, load_share=0.5)
    table.print_cells(samples, "closed", "throughput")
    table.print_bounds([*figures.relay_bounds(samples, "h1", "edu2k"),
                        figures.bound("slow", "us", figures.spread([3] * 5), at_most=2),
                        figures.bound("few", "us", figures.spread([1]), at_most=2)])
    shown = capsys.readouterr().out
    assert re.search(r"freshet-upstream, fresh claims +.*10\.0 \(10\.0\.\.20\.0\)", shown)
    assert re.search(r"HTTP/1.1, cleartext", shown) and "150 KB" not in shown
    assert re.search(r"best peer +1\.10 \(1\.00\.\.1\.10\) +>= 1 +kept +best: haproxy", shown)
    assert re.search(r"slow .*<= 2 us +MISSED", shown) and re.search(r"few .*too few rounds", shown)


@pytest.mark.parametrize("value, text", [(0, "0.00"), (1.234, "1.23"), (12.34, "12.3"), (-123.4, "-123"),
                                         (12345.6, "12,346")])
def test_numbers_have_the_digits_that_matter(value, text):
    assert table.number(value) == text


# ---------------------------------------------------------------- contestants and held connections


def test_a_profile_is_shared_out_by_what_the_time_was_for():
    report = """
# Overhead  Shared Object      Symbol
    30.00%  [kernel.kallsyms]  [k] tcp_ack
    20.00%  libcrypto.so.3     [.] 0x0000000000243759
    15.00%  freshet            [.] json_parse
    10.00%  freshet            [.] judge_batch
    10.00%  freshet            [.] stream_write
     5.00%  libc.so.6          [.] __memmove_avx512_unaligned_erms
     6.00%  libevent_core-2.1.so.7.0.1  [.] event_add
     2.00%  libllhttp.so.9.2.1 [.] 0x0000000000003c14
     2.00%  freshet            [.] http_header_find
"""
    expected = {"kernel": 30, "TLS": 20, "HTTP": 4, "JSON": 15, "judging": 10, "memory and copies": 5, "event loop": 6,
                "rest": 10}
    assert profile.shares(report) == pytest.approx({group: share / 100 for group, share in expected.items()})
    with pytest.raises(RuntimeError, match="next to nothing"):
        profile.shares("")


def test_a_run_without_a_contestant_fails(tmp_path):
    # A build that is complete, and a machine on which one of the three is missing.
    for name in ("freshet", "bench/load", "bench/homeserver", "bench/micro"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    script = ("import runpy, sys; from compare import contestants; "
              "contestants.program = lambda name: None if name == 'haproxy' else '/bin/true'; "
              f"sys.argv = ['run', '--build', {str(tmp_path)!r}]; "
              f"runpy.run_path({str(ROOT / 'bench' / 'run')!r}, run_name='__main__')")
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT / "bench", check=False, timeout=60, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert (ended.returncode, ended.stdout) == (2, "bench/run: not installed: haproxy; bench/setup installs them\n")


def test_the_worker_is_the_child_of_the_one_that_watches():
    script = "import subprocess, sys; subprocess.run(['sleep', '60'])"
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        try:
            worker = process.wait_until(lambda: process.children(parent.pid), "a child")[0]
            assert process.worker_of(parent.pid) == worker and process.worker_of(worker) == worker
        finally:
            os.kill(worker, 15)


def test_the_configurations_pin_what_the_figures_depend_on(tmp_path):
    nginx = contestants.nginx_text(tmp_path, 1, 2, 3, tmp_path)
    assert all(line in nginx for line in ("worker_processes 1;", "client_body_buffer_size 2m;", "access_log off;",
                                          "ssl_protocols TLSv1.3;", "server 127.0.0.1:3;", "keepalive 256;"))
    assert nginx.count("{") == nginx.count("}")
    haproxy = contestants.haproxy_text(1, 2, 3, "x.pem")
    assert all(line in haproxy for line in ("nbthread 1", "http-reuse always", "ssl-min-ver TLSv1.3", "127.0.0.1:3"))


@pytest.mark.parametrize("value, encoded", [(0, b"\x00"), (126, b"\x7e"), (127, b"\x7f\x00"), (1337, b"\x7f\xba\x09")])
def test_integers_of_hpack(value, encoded):
    assert held.hpack_integer(value, 7) == encoded


def test_the_held_request_is_as_long_as_a_transaction_of_load():
    assert len(held.transaction()) == held.BODY_SIZE and json.loads(held.transaction())["edus"]


@pytest.mark.parametrize("front", ["h1-tls", "h2-tls"])
def test_a_held_connection_has_made_its_transaction_and_is_seen_to_be_closed(start_router, ca, homeserver, front):
    router = start_router(certificates=[ca.issue("a.example")], server={"authenticate": "upstream"})
    context = held.client_context(front)
    socks = [held.open_one(context, router.federation[1], front, i) for i in range(3)]
    try:
        assert [request.body for request in homeserver.sends] == [held.transaction()] * 3
        assert held.n_closed(socks) == 0
        router.terminate()
        assert held.n_closed(socks) == 3
    finally:
        for sock in socks:
            sock.close()


@pytest.mark.parametrize("front", ["h1-tls", "h2-tls"])
def test_a_held_connection_whose_transaction_was_refused_ends_the_run(start_router, ca, homeserver, front):
    homeserver.on("/_matrix/federation/v1/send/", Answer(403, {"errcode": "M_FORBIDDEN"}))
    router = start_router(certificates=[ca.issue("a.example")], server={"authenticate": "upstream"})
    with pytest.raises(RuntimeError, match="not 200"):
        held.open_one(held.client_context(front), router.federation[1], front, 0)
