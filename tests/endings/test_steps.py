"""If anything fails while a step ends, its process ends with a code, and a retry continues.

As in `test_injected`, every call of Kitaru's after the marker fails once. All of them:

    KITARU_ENDINGS=1 pytest tests/endings/test_steps.py -n 2
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru.ops.answer import answer
from kitaru.stores import open_store
from tests.step.build import Program, Ran, end_zygote
from tests.step.programs import REVIEW_STEPS, review

_EACH = int(os.environ.get("KITARU_ENDINGS", "211"))
_FAILURES = ("MemoryError", "OSError", "RuntimeError")
_ENDS = """    import os, signal, sys, time
    sys.stdout.write("a line without an end")
    sys.stdout.write("ENDS")
"""
_RAISES = """    if Path("broken").exists():
        raise ValueError("the body")
"""
_TERMINATED = """    if Path("broken").exists():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
"""
# By ending: the step, the line before which it ends, and what it does there.
_ENDINGS = {
    "next": ("research", 'return "draft", locals()', ""),
    "waits": ("draft", 'return "wait_approve", locals()', ""),
    "completes": ("publish", "return None, done", ""),
    "raises": ("draft", 'return "wait_approve", locals()', _RAISES),
    "terminated": ("draft", 'return "wait_approve", locals()', _TERMINATED),
}
_STEPS = ("research", "draft", "publish")
_CODES = (0, 1, 3, 143)


@pytest.fixture(autouse=True)
def zygote() -> Iterator[None]:
    yield
    end_zygote()


def program(folder: Path, how: str) -> Program:
    """Return the review flow with the marker where one of its steps ends."""
    _, line, what = _ENDINGS[how]
    last = "done = publish(text)\n    return None, done"
    steps = REVIEW_STEPS.replace("return None, publish(text)", last)
    made = review(folder)
    made.steps_py = steps.replace(f"    {line}", f"{_ENDS}{what}    {line}")
    made.__post_init__()
    return made


def walked(made: Program, before: str) -> None:
    """Run what comes before a step, and answer its question."""
    for name in _STEPS[: _STEPS.index(before)]:
        assert made.run(name).code == 0
    if before == "publish":
        answer(open_store(made.url), "e1", True)
        assert made.run("draft").code == 0


def wrong(folder: Path, how: str, number: int, failure: str) -> str:
    """Return what is wrong about a step's ending in which a call failed, nothing if all is well."""
    folder.mkdir()
    made, name = program(folder, how), _ENDINGS[how][0]
    walked(made, name)
    (folder / "broken").touch()
    ran = made.run(name, kill=f"call:{number}:{failure}")
    (folder / "broken").unlink()
    return _wrong(made, name, ran) or _unfinished(made, name)


def _wrong(made: Program, name: str, ran: Ran) -> str:
    if ran.code == -signal.SIGALRM:
        return "waits for ever"
    if ran.code not in _CODES:
        return f"ended with {ran.code}: {ran.log[-2000:]}"
    if ran.code == 0 and not (ran.next and ran.status):
        return "exit code 0 without outputs"
    status = made.journal().state().status
    if ran.code == 0 and status not in ("running", "waiting", "completed"):
        return f"exit code 0, and the status is {status}"
    if ran.code and status == "completed" and name != "publish":
        return f"exit code {ran.code}, and the status is {status}"
    return ""


def _unfinished(made: Program, name: str) -> str:
    """Start the step again, as its service does, and continue to the end."""
    for each in _STEPS[_STEPS.index(name) :]:
        ran = made.run(each)
        if ran.code != 0:
            return f"{each} cannot be run again: {ran.log[-2000:]}"
        if ran.status == "waiting":
            answer(open_store(made.url), "e1", True)
            if (again := made.run(each)).code != 0:
                return f"{each} does not take the answer: {again.log[-2000:]}"
    journal = made.journal()
    end = journal.end()
    if end is None or journal.fetch(end.result) != "DRAFT OF KAYAKS":
        return f"it ended as {end}"
    twice = [one for one in _STEPS if made.calls().count(one) != 1]
    return f"recorded work ran again: {made.calls()}" if twice else ""


@pytest.mark.parametrize("how", _ENDINGS)
def test_a_step_in_whose_ending_a_call_fails(tmp_path: Path, how: str) -> None:
    assert not wrong(tmp_path / "first", how, 0, "MemoryError")
    calls = (tmp_path / "first" / "calls").read_text().splitlines()
    assert len(calls) > 50
    found = []
    for number in range(1, len(calls) + 1, _EACH):
        failure = _FAILURES[number // _EACH % len(_FAILURES)]
        if text := wrong(tmp_path / str(number), how, number, failure):
            found.append(f"{failure} in call {number}, {calls[number - 1]}: {text}")
    assert not found, "\n".join(found)
