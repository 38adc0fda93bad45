"""At a terminal, real as far as the command can tell: questions are asked, ctrl-C is heard."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.waiting import wait_for_file

from . import flows
from .conftest import Kitaru

# The first terminal that a session leader opens is the one whose ctrl-C it hears.
TAKE_TERMINAL = """
import os, sys
os.close(os.open(sys.argv[1], os.O_RDWR))
os.execv(sys.argv[2], sys.argv[2:])
"""
STYLES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")


class Terminal:
    """A command at a terminal: type into it, read what it shows."""

    def __init__(self, kitaru: Kitaru, *arguments: str, term: str = "xterm") -> None:
        self._fd, terminal = pty.openpty()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        program = [sys.executable, "-c", TAKE_TERMINAL, os.ttyname(terminal)]
        self.process = subprocess.Popen(
            [*program, *kitaru.command(arguments)], cwd=kitaru.folder, start_new_session=True,
            stdin=terminal, stdout=terminal, stderr=terminal, env={**kitaru.environ, "TERM": term},
        )  # fmt: skip
        os.close(terminal)
        self.raw = self.shown = ""

    def read_until(self, text: str) -> str:
        """Return everything shown, styles left out, once it holds `text`."""
        deadline = time.monotonic() + 60
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if not self._read():
                break
        assert text in self.shown, self.shown
        return self.shown

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def end(self) -> int:
        """Read the rest and return the exit code."""
        deadline = time.monotonic() + 60
        while self._read():
            assert time.monotonic() < deadline, self.shown
        return self.process.wait(60)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._fd)

    def _read(self) -> bool:
        try:
            # Unlike select(), poll() works with any number of open files.
            if self._poll.poll(1000):
                data = os.read(self._fd, 65536)
                self.raw += data.decode()
                self.shown = STYLES.sub("", self.raw)
                return bool(data)
            return True
        except OSError:
            # Linux reports the end of a terminal as an error.
            return False


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


def items(kitaru: Kitaru) -> list[dict[str, str]]:
    found: list[dict[str, str]] = kitaru("executions", "list", "--json").document["items"]
    return found


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_wait_is_asked_until_the_answer_fits(
    term: str, kitaru: Kitaru, terminals: list[Terminal]
) -> None:
    kitaru.write("review.py", flows.REVIEW)
    terminal = Terminal(kitaru, "run", "review.py", "-i", "topic=kayaks", term=term)
    terminals.append(terminal)
    terminal.read_until("Approve draft? [y/n]")
    terminal.type("perhaps\n")
    terminal.read_until("perhaps\nApprove draft? [y/n]")
    terminal.type("y\n")
    terminal.read_until("draft of brief on kayaks")
    assert terminal.end() == 0
    assert [item["status"] for item in items(kitaru)] == ["completed"]
    assert (kitaru.folder / "ran.txt").read_text().split() == ["research", "draft"]


def test_every_wait_is_asked_in_turn(kitaru: Kitaru, terminals: list[Terminal]) -> None:
    kitaru.write("form.py", flows.FORM)
    terminal = Terminal(kitaru, "run", "form.py")
    terminals.append(terminal)
    terminal.read_until("Who? [string]")
    terminal.type("42\n")
    terminal.read_until("How many? [integer]")
    terminal.type("many\n")
    terminal.read_until('not of type "integer"')
    terminal.type("1\n")
    terminal.read_until("Value error, too few.\nHow many? [integer]")
    terminal.type("3\n")
    assert '"who": "42"' in terminal.read_until('"count": 3')
    assert terminal.end() == 0


SLEEPERS = """
import kitaru
from kitaru import aio, flow

@flow
def nap():
    kitaru.sleep(3600)

@flow
async def light_nap():
    await aio.sleep(3600)
"""


@pytest.mark.parametrize("name", ["nap", "light_nap"])
def test_a_run_that_sleeps_says_until_when(
    name: str, kitaru: Kitaru, terminals: list[Terminal]
) -> None:
    kitaru.write("sleepers.py", SLEEPERS)
    terminal = Terminal(kitaru, "run", f"sleepers.py:{name}")
    terminals.append(terminal)
    assert re.search(r"… sleep +until \d{4}-", terminal.read_until("sleeping  until 20"))
    terminal.type("\x03")
    assert terminal.end() == 130
    assert [item["status"] for item in items(kitaru)] == ["sleeping"]


@pytest.mark.parametrize("arguments", [["--no-input"], ["--json"]])
def test_nobody_is_asked_who_does_not_want_to_be(
    arguments: list[str], kitaru: Kitaru, terminals: list[Terminal]
) -> None:
    kitaru.write("review.py", flows.REVIEW)
    terminal = Terminal(kitaru, "run", "review.py", "-i", "topic=x", *arguments)
    terminals.append(terminal)
    assert terminal.end() == 0
    assert "waiting" in terminal.shown
    assert [item["status"] for item in items(kitaru)] == ["waiting"]


def test_the_end_of_the_input_leaves_it_waiting(kitaru: Kitaru, terminals: list[Terminal]) -> None:
    kitaru.write("review.py", flows.REVIEW)
    terminal = Terminal(kitaru, "run", "review.py", "-i", "topic=x")
    terminals.append(terminal)
    terminal.read_until("Approve draft?")
    terminal.type("\x04")
    terminal.read_until("answer   kitaru executions input")
    assert terminal.end() == 0


def test_an_answer_from_elsewhere_counts(kitaru: Kitaru, terminals: list[Terminal]) -> None:
    kitaru.write("review.py", flows.REVIEW)
    terminal = Terminal(kitaru, "run", "review.py", "-i", "topic=x")
    terminals.append(terminal)
    terminal.read_until("Approve draft?")
    kitaru("executions", "input", items(kitaru)[0]["exec_id"], "--value", "false")
    terminal.read_until("Another process answered the wait approve.")
    terminal.read_until("Rejected")
    assert terminal.end() == 0


@pytest.mark.parametrize("at", ["work", "question"])
def test_ctrl_c_leaves_an_execution_that_can_be_resumed(
    at: str, kitaru: Kitaru, terminals: list[Terminal]
) -> None:
    work = at == "work"
    kitaru.write("flow.py", flows.SLOW if work else flows.REVIEW)
    terminal = Terminal(kitaru, "run", "flow.py", *([] if work else ["-i", "topic=x"]))
    terminals.append(terminal)
    terminal.read_until("quick" if work else "Approve draft?")
    if work:
        wait_for_file(kitaru.folder / "slow-began")
    terminal.type("\x03")
    terminal.read_until(f"help: kitaru executions {'resume' if work else 'input'}")
    assert terminal.end() == 130
    exec_id = items(kitaru)[0]["exec_id"]
    state = "is interrupted, not lost" if work else "waits for an answer"
    assert f"execution {exec_id} {state}" in terminal.shown
    kitaru.write("go", "")
    status = kitaru("executions", "resume", exec_id, "--json").document["status"]
    assert status == ("completed" if work else "waiting")


def test_progress_is_written_above_the_clock(kitaru: Kitaru, terminals: list[Terminal]) -> None:
    kitaru.write("slow.py", flows.SLOW)
    terminal = Terminal(kitaru, "run", "slow.py")
    terminals.append(terminal)
    wait_for_file(kitaru.folder / "slow-began")
    shown = terminal.read_until("(1 recorded, ")
    assert re.search(r"running  slow \d+ s  \(1 recorded, ", shown)
    kitaru.write("go", "")
    assert terminal.end() == 0
    lines = [STYLES.sub("", line) for line in re.split(r"\x1b\[2K|\n", terminal.raw)]
    assert [line.split()[:2] for line in lines if "✓" in line] == [["✓", "quick"], ["✓", "slow"]]


def test_input_asks_when_no_value_is_given(kitaru: Kitaru, terminals: list[Terminal]) -> None:
    kitaru.write("review.py", flows.REVIEW)
    exec_id = kitaru("run", "review.py", "-i", "topic=x", "--json").document["exec_id"]
    terminal = Terminal(kitaru, "executions", "input", exec_id)
    terminals.append(terminal)
    terminal.read_until("Approve draft? [y/n]")
    terminal.type("n\n")
    terminal.read_until("Rejected")
    assert terminal.end() == 0
