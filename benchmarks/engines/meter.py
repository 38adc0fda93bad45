"""Measure one engine's run, inside its own process and its server's.

Each program here takes a folder, a number of steps and a phase. `run` does everything. `crash` ends
the process after the last step, before the flow completes. `resume` continues in a new process.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

FOLDER, COUNT, PHASE = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
_TICKS = os.sysconf("SC_CLK_TCK")


def end_here(server: int | None = None) -> None:
    """Kill the server and this process at the end of a flow's body in the phase `crash`."""
    if PHASE == "crash":
        if server is not None:
            os.kill(server, signal.SIGKILL)
        os._exit(0)


def measure(work: Callable[[], object], server: int | None = None) -> None:
    """Do the work once, check the number of steps, and print the figures as JSON."""
    wall, cpu = time.perf_counter(), time.process_time() + _cpu_of(server)
    result = work()
    taken = time.perf_counter() - wall
    used = time.process_time() + _cpu_of(server) - cpu
    if result != COUNT:
        raise SystemExit(f"the flow returned {result!r} instead of {COUNT}")
    print_figures(taken, used, server)


def print_figures(wall: float, cpu: float, server: int | None) -> None:
    # Not the peak of getrusage, which starts with the peak of the parent process.
    peak = _peak_of(os.getpid())
    figures = {"wall": wall, "cpu": cpu, "peak": peak, "server_peak": _peak_of(server)}
    sys.stdout.write("\n" + json.dumps(figures) + "\n")
    sys.stdout.flush()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, seconds: float = 60) -> None:
    """Wait until a server listens on a port of this machine."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def _cpu_of(process: int | None) -> float:
    """CPU seconds of another process, from Linux's /proc."""
    if process is None:
        return 0.0
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak_of(process: int | None) -> float:
    if process is None:
        return 0.0
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
