"""What cannot cross a cut stays in one process; what crosses comes out the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kitaru.runtime import codec
from kitaru.wire.plan import Resources
from kitaru.wire.records import WaitAnswer
from tests.step.build import Program, block, step
from tests.waiting import attempts

HEAD = """\
import threading
from pathlib import Path

import kitaru
from kitaru import checkpoint, flow

SEEN = []
EMPTY = object()


def note(name):
    with Path("calls.txt").open("a") as file:
        file.write(name + "\\n")


@checkpoint
def a(value):
    note("a")
    return value


@checkpoint
def b(value):
    note("b")
    return value


@checkpoint
def c(value):
    note("c")
    return value


@checkpoint
def broken(value):
    note("broken")
    raise ValueError(value)


@flow
def the_flow(topic: str):
    return None
"""


def make(folder: Path, steps_py: str, *live: tuple[str, ...], **options: Any) -> Program:
    """Return a program of blocks `one`, `two`, `three`, a step each, with the given live names."""
    names = ("one", "two", "three")
    kinds = options.pop("kinds", ("checkpoint", "checkpoint", "checkpoint"))
    blocks = tuple(
        block(name, kind, (), names_live, line=10 * number)
        for number, (name, kind, names_live) in enumerate(
            zip(names, kinds, live, strict=True), start=1
        )
    )
    steps = options.pop("steps", tuple(step(name, name) for name in names))
    return Program(folder, HEAD, steps_py, blocks, steps, **options)


def result(program: Program) -> Any:
    journal = program.journal()
    end = journal.end()
    assert end is not None and end.result is not None
    return codec.decode(journal.fetch(end.result))


LOCK = """\
def one(frame):
    topic = frame["topic"]
    lock = threading.Lock()
    x = a(topic)
    return "two", locals()


def two(frame):
    x = frame["x"]
    lock = frame["lock"]
    with lock:
        y = b(x)
    return "three", locals()


def three(frame):
    y = frame["y"]
    return None, c(y)
"""


def test_a_variable_that_cannot_cross_keeps_the_process(tmp_path: Path) -> None:
    program = make(tmp_path, LOCK, ("topic",), ("x", "lock"), ("y",))
    assert program.walk() == ["one:go", "two:go", "three:end"]
    assert program.calls() == ["a", "b", "c"]
    left = program.journal().exit("one")
    assert left is not None and left.next == "three"
    (note,) = left.notes
    assert (note["variable"], note["type"], note["line"]) == ("lock", "lock", 20)
    assert program.journal().frame_pointer("two") == {"passed": "three"}


def test_a_block_passed_by_names_the_step_that_has_work(tmp_path: Path) -> None:
    program = make(tmp_path, LOCK, ("topic",), ("x", "lock"), ("y",))
    program.run("one")
    assert (program.run("two").next, program.calls()) == ("three", ["a", "b"])


@pytest.mark.parametrize("options", [{"isolated": True}, {"resources": Resources(gpu=1)}])
def test_a_step_that_must_be_its_own_cannot_be_passed(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    steps = (step("one", "one"), step("two", "two", **options), step("three", "three"))
    program = make(tmp_path, LOCK, ("topic",), ("x", "lock"), ("y",), steps=steps)
    ran = program.run("one")
    assert ran.code == 1
    assert "lock" in ran.log and "project.py:20" in ran.log
    assert program.journal().state().status == "failed"


def test_one_with_plain_resources_may_run_where_there_are_more(tmp_path: Path) -> None:
    first = step("one", "one", resources=Resources(gpu=1))
    steps = (first, step("two", "two"), step("three", "three"))
    program = make(tmp_path, LOCK, ("topic",), ("x", "lock"), ("y",), steps=steps)
    assert program.walk() == ["one:go", "two:go", "three:end"]


CHANGED_GLOBAL = """\
def one(frame):
    topic = frame["topic"]
    x = a(topic)
    SEEN.append(x)
    return "two", locals()


def two(frame):
    x = frame["x"]
    y = b(x)
    return "three", locals()


def three(frame):
    y = frame["y"]
    return None, [c(y), SEEN]
"""


def test_a_changed_global_keeps_the_process_to_the_end(tmp_path: Path) -> None:
    program = make(tmp_path, CHANGED_GLOBAL, ("topic",), ("x",), ("y",))
    assert program.walk() == ["one:end", "two:skip", "three:skip"]
    assert result(program) == ["kayaks", ["kayaks"]]
    left = program.journal().exit("one")
    assert left is not None and {note["variable"] for note in left.notes} == {"SEEN"}


GRAPH = """\
def one(frame):
    topic = frame["topic"]
    xs = [a(topic)]
    ys = xs
    xs.append(ys)
    gone = EMPTY
    return "two", locals()


def two(frame):
    xs = frame["xs"]
    ys = frame["ys"]
    gone = frame["gone"]
    if "never" in frame:
        never = frame["never"]
    z = b(1)
    try:
        never
    except UnboundLocalError as error:
        told = str(error)
    return "three", locals()


def three(frame):
    xs = frame["xs"]
    ys = frame["ys"]
    gone = frame["gone"]
    return None, [xs is ys, xs[1] is xs, gone is EMPTY, c(1)]
"""


def test_frames_keep_sharing_cycles_and_sentinels(tmp_path: Path) -> None:
    program = make(tmp_path, GRAPH, ("topic",), ("xs", "ys", "gone", "never"), ("xs", "ys", "gone"))
    assert program.walk() == ["one:go", "two:go", "three:end"]
    assert result(program) == [True, True, True, 1]


NUMBERED = """\
def one(frame):
    topic = frame["topic"]
    x = [a(1), a(2)]
    return "two", locals()


def two(frame):
    x = frame["x"]
    y = [a(3), a(4, id="mine")]
    return "three", locals()


def three(frame):
    x = frame["x"]
    y = frame["y"]
    return None, x + y + [a(5)]
"""


def test_ids_do_not_depend_on_the_cut(tmp_path: Path) -> None:
    program = make(tmp_path, NUMBERED, ("topic",), ("x",), ("x", "y"))
    program.walk()
    ids = [record.id for record in program.journal().invocations()]
    assert ids == ["a", "a_2", "a_3", "mine", "a_4"]
    assert result(program) == [1, 2, 3, 4, 5]


FUTURES = """\
def one(frame):
    topic = frame["topic"]
    first = a.submit([1])
    seen = first.result()
    seen.append(2)
    bad = broken.submit("no")
    return "two", locals()


def two(frame):
    first = frame["first"]
    bad = frame["bad"]
    same = first.result() is first.result()
    value = b(first.result())
    return "three", locals()


def three(frame):
    value = frame["value"]
    bad = frame["bad"]
    try:
        bad.result()
    except ValueError as error:
        return None, [value, str(error)]
    return None, "not raised"
"""


def test_futures_cross_with_their_value_or_failure(tmp_path: Path) -> None:
    program = make(tmp_path, FUTURES, ("topic",), ("first", "bad"), ("value", "bad"))
    assert program.walk() == ["one:go", "two:go", "three:end"]
    assert result(program) == [[1, 2], "no"]
    assert program.calls().count("broken") == 1


UNREAD = FUTURES.replace("bad.result()", "None")


def test_a_failure_that_nobody_reads_fails_the_run(tmp_path: Path) -> None:
    program = make(tmp_path, UNREAD, ("topic",), ("first", "bad"), ("value", "bad"))
    assert [program.run(name).code for name in ("one", "two", "three")] == [0, 0, 1]
    state = program.journal().state()
    assert state.status == "failed" and state.error is not None
    assert (state.error.type, state.error.message) == ("ValueError", "no")


PASSED_WAIT = """\
def one(frame):
    topic = frame["topic"]
    x = a(topic)
    kept = (i for i in [1])
    return "two", locals()


def two(frame):
    x = frame["x"]
    if "kept" in frame:
        kept = frame["kept"]
    next(kept)
    ok = kitaru.wait(name="ok")
    return "wait", locals()


def wait(frame):
    x = frame["x"]
    sure = kitaru.wait(name="sure")
    return "three", locals()


def three(frame):
    x = frame["x"]
    return None, c(x)
"""


def test_a_cut_that_was_left_out_before_a_wait_is_told_after_it(tmp_path: Path) -> None:
    blocks = (
        block("one", "checkpoint", ("two",), ("topic",)),
        block("two", "region", ("wait",), ("x", "kept")),
        block("wait", "wait", ("three",), ("x",)),
        block("three", "checkpoint", (None,), ("x",)),
    )
    steps = (step("one", "one"), step("two", "two", "wait"), step("three", "three"))
    program = Program(tmp_path, HEAD, PASSED_WAIT, blocks, steps)
    assert program.walk() == ["one:waiting"]
    assert program.journal().exit("one") is None, "a wait in a region replays from the entry"
    program.journal().answer(WaitAnswer("ok", "value", True))
    assert program.walk() == ["one:waiting"]
    left = program.journal().exit("one")
    assert left is not None and (left.status, left.next) == ("waiting", "wait")
    program.journal().answer(WaitAnswer("sure", "value", True))
    assert program.walk() == ["one:go", "two:go", "three:end"]
    assert program.calls() == ["a", "c"]
    assert program.journal().frame_pointer("two") == {"passed": "three"}


def test_a_frame_whose_pointer_was_lost_is_found_again(tmp_path: Path) -> None:
    """Killed after the exit and before the pointer, the step that is run again writes it."""
    steps_py = LOCK.replace("threading.Lock()", "None").replace("with lock:", "if 1:")
    for number in attempts():
        program = make(tmp_path / str(number), steps_py, ("topic",), ("x", "lock"), ("y",))
        program.run("one", kill=f"after:{number}")
        if program.has_begun() and program.journal().exit("one") is not None:
            break
    assert program.journal().frame_pointer("two") is None
    assert program.walk() == ["one:go", "two:go", "three:end"]
    assert program.calls() == ["a", "b", "c"]
