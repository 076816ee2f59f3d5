"""The tools of bench/ do what bench/README.md says: against each other, and with the router between them."""
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
