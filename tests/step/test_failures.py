"""Failures in steps: whose lines are shown, who tries again, what is sealed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kitaru.runtime import codec
from kitaru.wire.records import WaitAnswer
from tests.step.build import Program, block, step
from tests.waiting import attempts

SOURCE = """\
from pathlib import Path

import kitaru
from kitaru import checkpoint, flow


def note(name):
    with Path("calls.txt").open("a") as file:
        file.write(name + "\\n")
    return Path("calls.txt").read_text().split().count(name)


@checkpoint(retries=2)
def flaky(until):
    if note("flaky") < until:
        raise ValueError(
            "not yet")
    return "done"


@checkpoint
def repair():
    note("repair")
    return "repaired"


@checkpoint
def use(value):
    note("use")
    return value + "!"


@flow
def the_flow(topic: str):
    value = flaky(int(topic))
    return use(value)
"""

STEPS = """\
def one(frame):
    topic = frame["topic"]
    value = flaky(int(topic))
    return "two", locals()


def two(frame):
    value = frame["value"]
    return None, use(value)
"""

POSITIONS = (
    {
        "function": "one",
        "lines": {"2": [35, 0], "3": [35, 0], "4": [35, 0]},
        "nodes": {},
    },
    {"function": "two", "lines": {"8": [36, 0], "9": [36, -2]}, "nodes": {}},
)


def make(folder: Path, retry: Any = "shim", **options: Any) -> Program:
    blocks = (
        block("one", "checkpoint", ("two",), ("topic",)),
        block("two", "checkpoint", (None,), ("value",)),
    )
    steps = (step("one", "one", retries=2, retry=retry), step("two", "two"))
    return Program(folder, SOURCE, STEPS, blocks, steps, positions=POSITIONS, line=34, **options)


def result(program: Program) -> Any:
    journal = program.journal()
    end = journal.end()
    assert end is not None and end.result is not None
    return codec.decode(journal.fetch(end.result))


def test_the_shim_tries_again_in_the_process(tmp_path: Path) -> None:
    program = make(tmp_path)
    assert program.run("one", topic="3").code == 0
    record = program.journal().invocation("flaky")
    assert record is not None and record.attempts == 3
    assert len(program.journal().attempts("flaky")) == 2


def test_natively_each_process_is_one_attempt(tmp_path: Path) -> None:
    program = make(tmp_path, retry="native")
    codes = [program.run("one", topic="3").code for _ in range(3)]
    assert codes == [1, 1, 0]
    record = program.journal().invocation("flaky")
    assert record is not None and record.attempts == 3


def test_after_the_last_native_attempt_the_execution_has_failed(tmp_path: Path) -> None:
    program = make(tmp_path, retry="native")
    states = []
    for _ in range(3):
        assert program.run("one", topic="9").code == 1
        states.append(program.journal().state().status)
    assert states == ["running", "running", "failed"]
    assert program.journal().invocation("flaky") is None, "an uncaught failure is never sealed"


def slow(folder: Path, retry: Any) -> Program:
    """Return the program whose `flaky` hangs, instead of raising, until its last attempt."""
    program = make(folder, retry)
    hanging = SOURCE.replace("@checkpoint(retries=2)", "@checkpoint(retries=2, timeout=0.2)")
    hanging = hanging.replace(
        "import Path\n", "import Path; from tests.waiting import time_hangs; hang = time_hangs()\n"
    )
    hanging = hanging.replace(
        "raise ValueError(", "hang.set() or __import__('time').sleep(3600 or"
    ).replace('"not yet")', "0)")
    (folder / "project.py").write_text(hanging)
    return program


@pytest.mark.parametrize(("retry", "codes"), [("shim", [0]), ("native", [1, 1, 0])])
def test_an_attempt_that_hangs_is_over_after_its_timeout(
    tmp_path: Path, retry: str, codes: list[int]
) -> None:
    program = slow(tmp_path, retry)
    ran = [program.run("one", topic="3") for _ in codes]
    assert [one.code for one in ran] == codes, ran
    assert program.run("two").code == 0
    assert result(program) == "done!"
    failed = program.journal().attempts("flaky")
    assert [a.error.type for a in failed if a.error] == ["kitaru.errors.CheckpointTimeout"] * 2
    assert program.calls() == ["flaky"] * 3 + ["use"]


def test_the_last_attempt_that_hangs_fails_the_execution(tmp_path: Path) -> None:
    program = slow(tmp_path, "shim")
    ran = program.run("one", topic="9")
    assert ran.code == 1
    assert "longer than its timeout of 0.2 s" in ran.log
    assert program.journal().state().status == "failed"


def test_the_traceback_shows_the_users_lines_only(tmp_path: Path) -> None:
    program = make(tmp_path)
    ran = program.run("one", topic="9")
    assert ran.code == 1
    project = tmp_path / "project.py"
    assert f'File "{project}", line 35, in the_flow' in ran.log
    assert "value = flaky(int(topic))" in ran.log
    assert f'File "{project}", line 16, in flaky' in ran.log
    assert "steps.py" not in ran.log and "kitaru/runtime" not in ran.log
    state = program.journal().state()
    assert state.error is not None
    assert (state.error.type, state.error.invocation) == ("ValueError", "flaky")
    assert "kitaru executions retry e1" in state.error.help


def test_a_failed_execution_goes_on_when_its_pipeline_runs_again(tmp_path: Path) -> None:
    program = make(tmp_path)
    assert program.run("one", topic="5").code == 1
    assert program.walk(topic="5") == ["one:go", "two:end"]
    assert result(program) == "done!"


def test_a_module_that_does_not_import_is_the_users_error(tmp_path: Path) -> None:
    program = make(tmp_path)
    (tmp_path / "project.py").write_text("import nothing_of_that_name\n")
    ran = program.run("one", topic="1")
    assert ran.code == 1
    assert "nothing_of_that_name" in ran.log and "project.py" in ran.log
    assert "kitaru/runtime" not in ran.log


def test_a_store_that_cannot_be_opened_is_the_environment(tmp_path: Path) -> None:
    program = make(tmp_path)
    (tmp_path / "store.db").write_text("this is no database" * 100)
    ran = program.run("one", topic="1")
    assert ran.code == 3
    assert "Traceback" not in ran.log


def test_a_plan_of_another_version_is_refused(tmp_path: Path) -> None:
    program = make(tmp_path)
    plan = tmp_path / "kitaru_build" / "plan.json"
    plan.write_text(plan.read_text().replace('"schema": 1', '"schema": 2'))
    ran = program.run("one", topic="1")
    assert ran.code == 3 and "plan schema 2" in ran.log


CAUGHT_SOURCE = SOURCE.replace("@checkpoint(retries=2)\n", "@checkpoint\n")
CAUGHT_STEPS = """\
def one(frame):
    topic = frame["topic"]
    try:
        value = flaky(2)
    except ValueError as error:
        value = repair()
    value = use(value)
    return "two", locals()


def two(frame):
    value = frame["value"]
    return None, value
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_caught_failure_is_one_at_every_kill_point(tmp_path: Path, moment: str) -> None:
    """Killed anywhere: either the failure was never gone past and the checkpoint runs again, or it
    is sealed and stays a failure. Never a mixture."""
    seen = set()
    for number in attempts():
        folder = tmp_path / str(number)
        blocks = (
            block("one", "region", ("two",), ("topic",)),
            block("two", "join", (None,), ("value",)),
        )
        steps = (step("one", "one"), step("two", "two"))
        program = Program(folder, CAUGHT_SOURCE, CAUGHT_STEPS, blocks, steps)
        finished = program.run("one", kill=f"{moment}:{number}").code == 0
        assert program.walk() == ["one:go", "two:end"]
        statuses = {r.id: r.status for r in program.journal().invocations()}
        if statuses["flaky"] == "completed":
            assert statuses == {"flaky": "completed", "use": "completed"}
            assert result(program) == "done!"
        else:
            assert statuses == {"flaky": "failed", "repair": "completed", "use": "completed"}
            assert result(program) == "repaired!"
        seen.add(statuses["flaky"])
        if finished:
            break
    assert seen == {"completed", "failed"}, "the kills must reach both sides of the seal"


def test_an_uncut_flow_runs_its_own_function(tmp_path: Path) -> None:
    blocks = (block("the_flow", "flow", (None,), ("topic",)),)
    program = Program(tmp_path, SOURCE, '"""Not cut."""\n', blocks, (step("all", "the_flow"),))
    assert program.walk(topic="1") == ["all:end"]
    assert result(program) == "done!"


SWALLOWS = """\
def one(frame):
    topic = frame["topic"]
    try:
        try:
            kitaru.wait(name="ok")
        finally:
            note("finally")
            repair()
    except:
        note("except")
    return "two", locals()


def two(frame):
    return None, use("ended")
"""


def swallowing(folder: Path) -> Program:
    blocks = (
        block("one", "region", ("two",), ("topic",)),
        block("two", "checkpoint", (None,), ()),
    )
    return Program(folder, SOURCE, SWALLOWS, blocks, (step("one", "one"), step("two", "two")))


def test_suspension_ends_the_process_without_unwinding(tmp_path: Path) -> None:
    program = swallowing(tmp_path)
    assert program.walk() == ["one:waiting"]
    assert program.calls() == []
    assert program.journal().invocations() == []
    program.journal().answer(WaitAnswer("ok", "value", True))
    assert program.walk() == ["one:go", "two:end"]
    assert program.calls() == ["finally", "repair", "use"]


def test_cancelling_ends_the_process_without_unwinding(tmp_path: Path) -> None:
    program = swallowing(tmp_path)
    program.walk()
    program.journal().answer(WaitAnswer("ok", "abort"))
    assert program.walk() == ["one:end", "two:skip"]
    assert program.calls() == []
    assert program.journal().state().status == "cancelled"


CONTESTED_SOURCE = (
    CAUGHT_SOURCE
    + """

def succeed_elsewhere(url):
    from kitaru.runtime.codec import digest_arguments
    from kitaru.runtime.journal.journal import Journal
    from kitaru.stores import open_store
    from kitaru.wire.records import InvocationRecord

    journal = Journal.open(open_store(url), "e1")
    digest = digest_arguments((2,), {}).digest
    value = journal.store_document("done elsewhere", "str")
    callee = "project.flaky"
    journal.record(
        InvocationRecord("flaky", "flaky", "checkpoint", callee, digest, "completed", value)
    )
"""
)


def test_a_body_that_saw_another_outcome_starts_again(tmp_path: Path) -> None:
    """It caught a failure, but another process recorded a value: nothing of its way is recorded."""
    url = f"sqlite:{tmp_path / 'store.db'}"
    steps_py = CAUGHT_STEPS.replace("repair()", f"succeed_elsewhere({url!r}) or repair()")
    blocks = (
        block("one", "region", ("two",), ("topic",)),
        block("two", "join", (None,), ("value",)),
    )
    steps = (step("one", "one"), step("two", "two"))
    program = Program(tmp_path, CONTESTED_SOURCE, steps_py, blocks, steps)
    process = program.start("one")
    _, log = process.communicate(timeout=240)
    assert process.returncode == 0, log
    assert program.walk() == ["one:go", "two:end"]
    assert result(program) == "done elsewhere!"
    ids = {record.id: record.status for record in program.journal().invocations()}
    assert ids == {"flaky": "completed", "use": "completed"}
    assert program.calls() == ["flaky", "use"]
