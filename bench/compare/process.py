"""Processes that are measured: on a core of their own, with their CPU time and memory; and the machine they run on."""
import contextlib
import os
import pathlib
import platform
import random
import resource
import socket
import statistics
import subprocess
import time

START_S = 20
STOP_S = 20
FLUSHES = 51
PORT_MIN = 10000
DESCRIPTORS = 65536


def memory_kib(pid, name):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise ValueError(name)


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_ns(pid):
    """Of all its threads that still run; finer than cpu_s."""
    return sum(int(path.read_text(encoding="ascii").split()[0])
               for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"))


def children(pid):
    found = []
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(word) for word in path.read_text(encoding="ascii").split()]
    return found


def worker_of(pid):
    """The process that does the work: itself, or the only child of one that only watches (nginx, nghttpx)."""
    while below := children(pid):
        if len(below) != 1:
            raise RuntimeError(f"process {pid} has {len(below)} children, not one worker")
        pid = below[0]
    return pid


def free_port():
    """Below those that the kernel gives to connections, any of which might have it by the time it is needed."""
    lowest = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    while True:
        port = random.randrange(PORT_MIN, max(lowest, PORT_MIN + 1000))
        with contextlib.suppress(OSError), socket.create_server(("", port)):
            return port


def can_connect(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_until(condition, what, timeout_s=START_S):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {timeout_s} s in vain: {what}")
        time.sleep(0.02)
    return value


def _settle(cpu):
    """In the child: its core, and descriptors for thousands of connections, as many as it may have."""
    os.sched_setaffinity(0, {cpu})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, max(hard, DESCRIPTORS)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Process:
    """A program on one core, whose output is in a file. Ended by close()."""

    def __init__(self, arguments, log, cpu):
        self.arguments = [str(argument) for argument in arguments]
        self.log = pathlib.Path(log)
        with open(self.log, "ab") as output:
            self._process = subprocess.Popen(self.arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                             preexec_fn=lambda: _settle(cpu))

    @property
    def pid(self):
        return self._process.pid

    def output(self):
        return self.log.read_text(encoding="utf-8", errors="replace")

    def check_running(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.arguments[0]} ended with {self._process.returncode}: {self.output()[-2000:]}")

    def wait_ready(self, condition, what):
        def check():
            self.check_running()
            return condition()
        return wait_until(check, f"{self.arguments[0]}: {what}")

    def close(self):
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


# ---------------------------------------------------------------- the machine


def flush_us(folder):
    """One write of 4 KiB with fdatasync, in us: median of many."""
    path = pathlib.Path(folder) / "flush"
    times = []
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        for _ in range(FLUSHES):
            began = time.monotonic_ns()
            os.pwrite(file, bytes(4096), 0)
            os.fdatasync(file)
            times.append((time.monotonic_ns() - began) / 1000)
    finally:
        os.close(file)
        path.unlink()
    return statistics.median(times)


def tcp_timeouts():
    """Retransmission timeouts of all TCP connections since the machine was started: each is a stall of 200 ms or
    more that is nobody's doing who is measured here."""
    lines = pathlib.Path("/proc/net/netstat").read_text(encoding="ascii").splitlines()
    names, values = [line.split() for line in lines if line.startswith("TcpExt:")]
    return int(dict(zip(names, values))["TCPTimeouts"])


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def first_line(*command):
    """What a command says first, on whichever of the two outputs."""
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else ""


def commit(root):
    """The commit that is checked out; with "+" if files differ from it."""
    def git(*words):
        return subprocess.run(["git", "-C", str(root), *words], check=True, stdout=subprocess.PIPE, text=True).stdout
    try:
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine(root, folder, cpus, versions):
    """versions: commands that say them."""
    return {
        "cpu": cpu_model(), "cores": os.cpu_count(), "kernel": platform.release(),
        "load_average": os.getloadavg()[0], "commit": commit(root), "fdatasync_us": round(flush_us(folder), 1),
        "pinned": cpus,
        "versions": [first_line(*command) for command in versions],
    }
