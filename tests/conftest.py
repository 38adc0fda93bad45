"""Test order, start of the processes that tests need, and faults of the compiler."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import sys
import threading
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from kitaru_targets.dry_run import process

from tests import forks, temporary

MEMORY = temporary.use_memory()

# The duration of an example depends on the load of the machine.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# Users get a correct pipeline and a note when a part of the compiler fails. In the tests, and in
# every process that they start, such a fault ends the command instead, so that no test passes over
# it. `tests/compiler/test_faults.py` injects faults and checks the note.
os.environ["KITARU_TRACEBACK"] = "1"
# Off by default. Tests of the cache need it; all other tests show that it changes no result.
os.environ["KITARU_CACHE"] = "true"
# No test uses a build that the user or an earlier test run has stored;
# `tests/compiler/test_compile_cache.py` has a separate cache.
os.environ["KITARU_COMPILE_CACHE"] = "off"
os.environ["KITARU_STATELESS"] = '["tests.recorder.Calls"]'

START = process.run_command
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell started this process in the background; child processes would ignore SIGINT too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def forked_steps() -> Iterator[None]:
    """Fork the steps of dry runs; `new_steps` starts each step as a new process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "run_command", forks.run_step)
        yield


@pytest.fixture(scope="module")
def new_steps() -> Iterator[None]:
    """Start each step of a dry run as a new process of Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "run_command", START)
        yield


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A temporary folder on a disk, for tests of what a disk stores."""
    with TemporaryDirectory(dir=temporary.ON_DISK) as folder:
        yield Path(folder)


class Overdue:
    """Prints which tests run for long, so that the output of a run that hangs names them."""

    seconds = 150.0

    def __init__(self) -> None:
        self._timers: dict[str, threading.Timer] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        timer = threading.Timer(self.seconds, self._print, (nodeid,))
        timer.daemon = True
        timer.start()
        self._timers[nodeid] = timer

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        if timer := self._timers.pop(nodeid, None):
            timer.cancel()

    def _print(self, nodeid: str) -> None:
        sys.stderr.write(f"\n{nodeid} has run for {self.seconds:.0f} s\n")


def pytest_configure(config: pytest.Config) -> None:
    # The main process receives the reports of all tests, and its output is not captured.
    if hasattr(config.option, "numprocesses") and config.option.numprocesses:
        config.pluginmanager.register(Overdue())


def pytest_sessionfinish(exitstatus: int) -> None:
    """Remove the temporary files, unless a test failed."""
    if MEMORY is not None and exitstatus == pytest.ExitCode.OK:
        # The workers have ended by then.
        atexit.register(shutil.rmtree, MEMORY, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # The conformance kit skips what a harness does not have.
    if not hasattr(getattr(item, "cls", None), "need"):
        report = failed_in_ci(report)
    before, measured[0] = measured[0], cpu_seconds()
    # Workers send the attributes of a report to the main process.
    report.cpu = measured[0] - before
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return failed_in_ci((yield))


def cpu_seconds() -> float:
    """Return the CPU time of this process, its ended children, and the fork servers."""
    times = os.times()
    total = times.user + times.system + times.children_user + times.children_system
    for pid in forks.pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


measured = [cpu_seconds()]


def failed_in_ci(report: Report) -> Report:
    """Fail a skipped test or module in CI, where all requirements of the tests are installed.

    On other systems than Linux, some requirements do not exist.
    """
    if report.skipped and os.environ.get("CI") and sys.platform == "linux":
        report.outcome = "failed"
        report.longrepr = f"No test may skip in CI: {report.longreprtext}"
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slowest-files", type=int, default=0, help="Print the files that took the most CPU time."
    )


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the slowest files by CPU time, which does not depend on the load of the machine."""
    seconds: Counter[str] = Counter()
    cpu: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                file = report.nodeid.partition("::")[0]
                seconds[file] += report.duration
                cpu[file] += getattr(report, "cpu", 0.0)
    if count := config.getoption("slowest_files"):
        terminalreporter.section(f"slowest {count} files")
        for file, total in cpu.most_common(count):
            terminalreporter.line(f"{total:8.1f} s of CPU {seconds[file]:8.1f} s  {file}")
        terminalreporter.line(f"{cpu.total():8.1f} s of CPU {seconds.total():8.1f} s  in all")


def pytest_collection_finish() -> None:
    """Collect garbage less often, and without the modules of the suite, which never become any."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow files first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
