"""Whatever fails while an execution ends, the process ends, and the execution can be finished.

Every call of Kitaru's between the last line of output and the end of the process fails once: with
no memory, a failed disk, no threads. The calls are those that a first run makes; none is listed by
hand. All of them, thousands, take an hour:

    KITARU_ENDINGS=1 pytest tests/endings/test_injected.py -n 2
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Every so many calls; a prime, so that all failures and places have their turn.
_EACH = int(os.environ.get("KITARU_ENDINGS", "331"))
_FAILURES = ("MemoryError", "OSError", "RuntimeError")
_BROKEN = ("fails", "raises", "terminated")
_RESULTS = {"fan": 5}
_ROOT = Path(__file__).parents[2]


class Zygote:
    """The process that all others are forked from."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.endings.process"], cwd=_ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, folder: Path, how: str, number: int = 0, failure: str = "MemoryError") -> str:
        """Return the exit code of an ending in `folder`, or `hang` if the process does not end."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{folder} {how} {number} {failure}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    made = Zygote()
    yield made
    made.close()


def wrong(zygote: Zygote, folder: Path, how: str, number: int, failure: str) -> str:
    """Return what is wrong about an ending in which a call failed, nothing when all is well."""
    folder.mkdir()
    if how in _BROKEN:
        (folder / "broken").touch()
    code = zygote.run(folder, how, number, failure)
    if code not in ("0", "1", "143", "120"):  # 120: Python could not flush stdout
        return f"ended with {code}"
    (folder / "broken").unlink(missing_ok=True)
    ran, told = _ran(folder), (folder / "stderr").read_text()
    again = zygote.run(folder, "again")
    if again != "0":
        return f"cannot be finished after {code}: {(folder / 'stderr').read_text()[-2000:]}"
    status, result = (folder / "result").read_text().split()
    if int(result) != _RESULTS.get(how, 2):
        return f"the result is {result}"
    # The script may have ended at its wait, a moment before what failed there failed the flow.
    waited = "waiting  ending" in told
    if code == "0" and status not in ("completed", "waiting") and not waited:
        return f"exit code 0, and the status is {status}"
    if _ran(folder).count("one") > 1:
        return "a recorded checkpoint ran again"
    if status == "completed" and _ran(folder) != ran:
        return "something ran again after the end"
    return ""


def _ran(folder: Path) -> list[str]:
    return (folder / "ran").read_text().split()


@pytest.mark.parametrize("how", ["completes", "fails", "raises", "waits", "fan", "terminated"])
def test_an_ending_in_which_a_call_fails(zygote: Zygote, tmp_path: Path, how: str) -> None:
    first = tmp_path / "first"
    assert not wrong(zygote, first, how, 0, "MemoryError")
    calls = (first / "calls").read_text().splitlines()
    assert len(calls) > 100
    found = []
    for number in range(1, len(calls) + 1, _EACH):
        failure = _FAILURES[number // _EACH % len(_FAILURES)]
        if text := wrong(zygote, tmp_path / str(number), how, number, failure):
            found.append(f"{failure} in call {number}, {calls[number - 1]}: {text}")
    assert not found, "\n".join(found)
