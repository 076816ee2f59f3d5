"""deploy/demo.py plays its story, notices when it goes wrong, and leaves nothing behind."""
import os
import pathlib
import re
import signal
import stat
import subprocess
import tempfile
import time

import pytest

from harness import ROOT, build_dir, wait_until

DEMO = ["/usr/bin/python3", str(ROOT / "deploy" / "demo.py")]
LIMIT_S = 120
KEPT = "ends it."


@pytest.fixture
def place():
    """The folder for the demo's own folders; short, since a socket's path ends at 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="d-", dir="/tmp") as directory:
        yield pathlib.Path(directory)


def environment(place, build=None):
    return {**os.environ, "TMPDIR": str(place), "FRESHET_BUILD": str(build or build_dir())}


def play(place, *arguments, build=None):
    return subprocess.run(DEMO + list(arguments), env=environment(place, build), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=LIMIT_S, check=False)


def processes_of(place):
    """The command lines of running processes that name the folder."""
    found = []
    for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes()
        except OSError:
            continue
        if str(place).encode() + b"/" in command:
            found.append(command)
    return found


def nothing_is_left(place):
    assert processes_of(place) == []
    assert list(place.iterdir()) == []


def verdicts(text):
    return re.findall(r"(fresh|stale|unknown), in the same answer", text)


def stub(directory, script):
    """A folder with a `freshet` of our own."""
    directory.mkdir()
    file = directory / "freshet"
    file.write_text("#!/bin/bash\n" + script, encoding="utf-8")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return directory


@pytest.mark.parametrize("turn", ["first", "second"])
def test_the_story_is_fresh_stale_fresh(place, turn):
    played = play(place)  # the second time finds what the first left, if anything
    assert played.returncode == 0, played.stdout + played.stderr
    assert verdicts(played.stdout) == ["fresh", "stale", "fresh"]
    assert re.findall(r" (\d{3}) +\d+\.\d ms ", played.stdout) == ["200", "200", "401"] + ["200"] * 6
    assert "\033" not in played.stdout
    assert [line for line in played.stdout.splitlines() if len(line) > 100 and str(ROOT) not in line] == []
    nothing_is_left(place)


def test_two_at_once_do_not_meet(place):
    both = [subprocess.Popen(DEMO, env=environment(place), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(2)]
    outputs = [process.communicate(timeout=LIMIT_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    nothing_is_left(place)


class Kept:
    """A demo left running, up to the line that says how to end it."""

    def __init__(self, place):
        self._file = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(DEMO + ["--keep"], env=environment(place), stdout=self._file,
                                        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
        wait_until(lambda: KEPT in self.text or self.process.poll() is not None, "the demo is kept", LIMIT_S)
        assert self.process.poll() is None, self.text

    @property
    def text(self):
        with open(f"/proc/self/fd/{self._file.fileno()}", encoding="utf-8") as file:
            return file.read()

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(LIMIT_S)
        self._file.close()


@pytest.fixture
def kept(place):
    demo = Kept(place)
    yield demo
    demo.close()


def test_a_kept_demo_ends_cleanly_on_sigterm(place, kept):
    assert len(processes_of(place)) == 1
    kept.process.send_signal(signal.SIGTERM)
    assert kept.process.wait(LIMIT_S) == 0, kept.text
    nothing_is_left(place)


def test_a_kept_demo_ends_cleanly_on_ctrl_c(place, kept):
    os.killpg(kept.process.pid, signal.SIGINT)  # a terminal sends it to the router too
    assert kept.process.wait(LIMIT_S) == 0, kept.text
    nothing_is_left(place)


def test_the_commands_of_a_kept_demo_work(place, kept):
    commands = kept.text[kept.text.index("From another terminal:"):kept.text.index("Ctrl-C")].split("\n", 1)[1]
    ran = subprocess.run(["bash", "-eu"], input=commands.replace("curl -s ", "curl -sS -w '\\n%{http_code}\\n' "),
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S, check=False)
    assert ran.returncode == 0, ran.stdout
    assert re.findall(r"^(\d{3})$", ran.stdout, re.MULTILINE) == ["200", "401", "200", "200", "200", "200"], ran.stdout
    for word in ('"verdict":"stale"', "M_UNAUTHORIZED", "verify_keys", '"LAPTOP"', "freshet_verdicts_total", "verdicts: yes"):
        assert word in ran.stdout, ran.stdout


def test_a_router_that_ends_makes_a_kept_demo_fail(place, kept):
    router = int(re.search(r"serve, process (\d+)", kept.text)[1])
    os.kill(router, signal.SIGKILL)
    assert kept.process.wait(LIMIT_S) == 1
    assert "the router ended by itself" in kept.text
    nothing_is_left(place)


def test_an_interrupted_demo_leaves_nothing(place):
    process = subprocess.Popen(DEMO, env=environment(place), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: processes_of(place) or process.poll() is not None, "the router runs")
    process.terminate()
    said = process.communicate(timeout=LIMIT_S)[1]
    # It may have been done already.
    assert (process.returncode, said) in ((1, "\ndemo: FAILED: interrupted\n"), (0, ""))
    nothing_is_left(place)


# What the demo must notice.

FAULTS = {
    "no router": (None, "freshet"),
    "a router that ends at once": ("echo out of order >&2; exit 3\n", "the router ended:\nout of order"),
    "a router that believes its old copy": ("""
[ "$1" = serve ] && sed -i 's/max_age_s: 0/max_age_s: 3600/' "$3"
exec REAL "$@"
""", "the verdict should have been stale, but it was fresh"),
    "a router that cannot read lists": ("""
[ "$1" = serve ] && sed -i '/signing:/,+1d' "$3"
exec REAL "$@"
""", "the verdict should have been fresh, but it was unknown"),
    "a router that authenticates nobody": ("""
[ "$1" = serve ] && sed -i 's/^- name: a.example/&\\n  authenticate: upstream/' "$3"
exec REAL "$@"
""", "should have been refused with 401, not 200"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_makes_the_demo_fail(place, tmp_path, name):
    script, message = FAULTS[name]
    build = tmp_path / "build"
    if script is not None:
        stub(build, script.replace("REAL", str((build_dir() / "freshet").resolve())))
    played = play(place, build=build)
    assert played.returncode == 1, played.stdout
    assert played.stderr.startswith("\ndemo: FAILED: ") and message in played.stderr
    assert "Traceback" not in played.stderr and "All as it should be" not in played.stdout
    nothing_is_left(place)


def test_help_needs_no_router(place, tmp_path):
    for command in (DEMO, [str(ROOT / "deploy" / "demo")]):
        began = time.monotonic()
        said = subprocess.run(command + ["--help"], env=environment(place, tmp_path), stdout=subprocess.PIPE, text=True,
                              timeout=LIMIT_S, check=False)
        assert said.returncode == 0 and "--keep" in said.stdout and time.monotonic() - began < 20
    nothing_is_left(place)
