"""The tools of bench/ do what bench/README.md says: against each other, and with the router between them."""
import json
import os
import subprocess

from harness import ROOT, build_dir


def test_what_the_bench_tools_send_count_and_expect_agrees():
    # They are built on demand.
    subprocess.run(["cmake", "--build", str(build_dir()), "--target", "bench"], check=True, timeout=120,
                   stdout=subprocess.DEVNULL)
    ended = subprocess.run([str(ROOT / "bench" / "check"), str(build_dir())], timeout=170, text=True, check=False,
                           env={**os.environ, "CHECK_MS": "100"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert ended.returncode == 0, ended.stdout
    assert "checks passed" in ended.stdout


def test_micro_runs_every_stage_on_the_bodies_of_load(tmp_path):
    subprocess.run(["cmake", "--build", str(build_dir()), "--target", "bench_micro"], check=True, timeout=120,
                   stdout=subprocess.DEVNULL)
    ended = subprocess.run([str(build_dir() / "bench" / "micro"), "--round-ms", "1", "--json", "--folder",
                            str(tmp_path)], check=True, timeout=100, stdout=subprocess.PIPE, text=True)
    rows = json.loads(ended.stdout)["stages"]
    stages = {shape: {row["stage"] for row in rows if row["shape"] == shape} for shape in ("edu2k", "edu100", "full")}
    assert stages["edu2k"] == stages["edu100"] == stages["full"]
    assert {"parse JSON", "canonical check", "verify", "verify, OpenSSL", "verify, libsodium", "batch", "hash a list",
            "look up lists", "glance at lists", "judge claims"} <= stages["edu2k"]
    assert all(row["ns"] >= row["least_ns"] > 0 for row in rows)
    assert not list(tmp_path.iterdir())  # it tidies up


def test_floor_measures_what_a_proxy_cannot_do_without():
    subprocess.run(["cmake", "--build", str(build_dir()), "--target", "bench_floor"], check=True, timeout=120,
                   stdout=subprocess.DEVNULL)
    floor = json.loads(subprocess.run([str(build_dir() / "bench" / "floor"), "--round-ms", "1", "--request", "150000",
                                       "--reply", "20000"], check=True, timeout=100, stdout=subprocess.PIPE).stdout)
    assert set(floor) == {"sockets_ns", "tls_ns", "tls_bytes", "h2_bytes"}
    assert floor["sockets_ns"] > 0 and floor["tls_ns"] > 0


def test_many_lists_finds_each_list_it_stored(tmp_path):
    subprocess.run(["cmake", "--build", str(build_dir()), "--target", "bench_many_lists"], check=True, timeout=120,
                   stdout=subprocess.DEVNULL)
    shown = subprocess.run([str(build_dir() / "bench" / "many_lists"), "--users", "2000", "--lookups", "2000",
                            "--folder", str(tmp_path)], check=True, timeout=100, stdout=subprocess.PIPE, text=True).stdout
    assert [line.split()[0] for line in shown.splitlines()[1:]] == ["1000", "2000"]
    assert not list(tmp_path.iterdir())  # it tidies up
