"""A fan-out in real processes: promises, nodes that keep them, and who gathers what."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kitaru.runtime import codec
from kitaru.runtime.engine import promised_calls
from kitaru.runtime.steps.frames import promised_in
from kitaru.wire import keys
from kitaru.wire.plan import Resources
from tests.step.build import Program, Ran, block, step
from tests.waiting import attempts

SOURCE = """\
import threading
from pathlib import Path

from kitaru import checkpoint, flow

LOCK = threading.Lock()


def note(name):
    with Path("calls.txt").open("a") as file:
        file.write(name + "\\n")


@checkpoint
def split(topic):
    return topic.split(",") if topic else []


@checkpoint(retries=1)
def draft(part, lock=None):
    note(f"draft-{part}")
    if part == "bad" or (part == "once" and not Path("fixed").exists()):
        raise ValueError(f"{part} part")
    return part.upper()


@checkpoint
def publish(texts):
    note("publish")
    return "+".join(texts)


@flow
def the_flow(topic):
    ...
"""

STEPS = """\
def split(frame):
    topic = frame["topic"]
    parts = split(topic)
    return "submit", locals()


def submit(frame):
    parts = frame["parts"]
    handles = [draft.submit(part) for part in parts]
    return "gather", locals()


def gather(frame):
    handles = frame["handles"]
    texts = [handle.result() for handle in handles]
    return "publish", locals()


def publish(frame):
    texts = frame["texts"]
    return None, publish(texts)
"""

BAD = ("bad", "bad")
CATCHING = STEPS.replace(
    "    texts = [handle.result() for handle in handles]\n",
    """    texts = []
    for handle in handles:
        try:
            texts.append(handle.result())
        except ValueError as error:
            texts.append(str(error))
""",
)


def make(folder: Path, steps_py: str = STEPS, *, per_item: int = 10, **node: Any) -> Program:
    blocks = (
        block("split", "checkpoint", ("submit",), ("topic",)),
        block("submit", "fan", ("gather",), ("parts",)),
        block("gather", "gather", ("publish",), ("handles", "kept")),
        block("publish", "checkpoint", (None,), ("texts",)),
    )
    steps = (
        step("split", "split", "submit"),
        replace(
            step("draft", "gather", per_item=per_item, retries=1, retry="native", **node),
            blocks=("submit",),
        ),
        step("publish", "gather", "publish"),
    )
    return Program(folder, SOURCE, steps_py, blocks, steps)


def nodes(program: Program, items: list[str], **options: Any) -> list[Ran]:
    """Run each node as the orchestrator does: again, once, when it fails."""
    found = []
    for item in items:
        ran = program.run("draft", item=item, **options)
        found.append(program.run("draft", item=item, **options) if ran.code else ran)
    return found


def result(program: Program) -> Any:
    end = program.journal().end()
    assert end is not None and end.result is not None
    return codec.decode(program.journal().fetch(end.result))


def outcomes(program: Program) -> dict[str, str]:
    return {record.id: record.status for record in program.journal().invocations()}


def test_each_call_is_made_by_a_node_of_its_own(tmp_path: Path) -> None:
    program = make(tmp_path)
    ran = program.run("split", topic="a,b,c")
    assert (ran.next, ran.status, ran.items) == ("publish", "go", ["0", "1", "2"])
    assert program.calls() == []
    for number in (2, 0, 1):
        assert program.run("draft", item=str(number)).code == 0
    assert program.calls() == ["draft-c", "draft-a", "draft-b"]
    assert program.run("publish").status == "end"
    assert result(program) == "A+B+C"
    assert program.calls()[3:] == ["publish"]
    assert list(outcomes(program)) == ["split", "draft", "draft_2", "draft_3", "publish"]


def test_an_empty_list_has_no_nodes(tmp_path: Path) -> None:
    program = make(tmp_path)
    assert program.run("split", topic="").items == []
    assert program.run("publish").status == "end"
    assert result(program) == ""


@pytest.mark.parametrize("made", ["", "1", "012"])
def test_whoever_gathers_makes_the_calls_that_nobody_made(tmp_path: Path, made: str) -> None:
    program = make(tmp_path)
    program.run("split", topic="a,b,c")
    nodes(program, list(made))
    assert program.run("publish").status == "end"
    assert result(program) == "A+B+C"
    assert sorted(program.calls()) == ["draft-a", "draft-b", "draft-c", "publish"]


def test_a_list_longer_than_a_target_takes_is_shared_out(tmp_path: Path) -> None:
    program = make(tmp_path, per_item=2)
    items = program.run("split", topic="a,b,c,d,bad").items
    assert items == ["0-2", "3-4"]
    assert [ran.code for ran in nodes(program, items)] == [0, 0]
    assert sorted(program.calls()) == sorted(f"draft-{p}" for p in ("a", "b", "c", "d", *BAD))


class Kept:
    """A journal in which the promises called by some positions are kept."""

    def __init__(self, kept: set[int]) -> None:
        self._kept = {str(position) for position in kept}

    def recorded(self) -> set[str]:
        return self._kept


@given(st.integers(0, 3_000), st.sets(st.integers(0, 3_000)), st.integers(1, 100))
@example(9_000, {n for n in range(9_000) if n % 2}, 20)
def test_nodes_share_out_what_is_left(count: int, kept: set[int], most: int) -> None:
    promised = [{"id": str(position)} for position in range(count)]
    items = promised_calls.items(promised, Kept(kept), most)  # type: ignore[arg-type]
    assert len(items) <= most and all(len(item) <= 256 for item in items)
    made = [one["id"] for item in items for one in promised_calls.chosen(promised, item)]
    left = [one["id"] for one in promised if int(one["id"]) not in kept]
    # The gathering step makes the calls that no argument contains.
    short = all(len(item) < 240 for item in items)
    assert made == left if short else set(made) < set(left)
    assert len(made) == len(set(made))


def test_a_node_of_an_empty_list_has_nothing_to_do(tmp_path: Path) -> None:
    program = make(tmp_path)
    program.run("split", topic="a")
    ran = program.run("draft", item=promised_calls.NOTHING)
    assert (ran.code, program.calls()) == (0, [])


def test_a_producer_that_is_started_again_lists_what_is_left(tmp_path: Path) -> None:
    program = make(tmp_path)
    program.run("split", topic="a,b,c")
    nodes(program, ["1"])
    assert program.run("split", topic="a,b,c").items == ["0", "2"]


def test_a_failure_is_raised_where_it_is_asked_for(tmp_path: Path) -> None:
    program = make(tmp_path)
    program.run("split", topic="a,bad")
    assert program.run("draft", item="1").code == 1, "the orchestrator tries again"
    last = program.run("draft", item="1")
    assert last.code == 0 and "ValueError: bad part" in last.log
    assert program.run("publish").code == 1
    assert program.calls() == ["draft-bad", "draft-bad", "draft-a"]
    state = program.journal().state()
    assert state.error is not None
    assert (state.status, state.error.message) == ("failed", "bad part")
    assert state.error.invocation == "draft_2"
    assert "draft_2" not in outcomes(program), "an uncaught failure is no result"


def test_another_run_tries_again_what_failed(tmp_path: Path) -> None:
    program = make(tmp_path)
    program.run("split", topic="a,once")
    nodes(program, ["0", "1"])
    assert program.run("publish").code == 1
    (tmp_path / "fixed").touch()
    assert program.run("publish").code == 1, "this run gave up on it"
    assert program.run("split", topic="a,once", run_id="later").items == ["1"]
    assert nodes(program, ["1"], run_id="later")[0].code == 0
    assert program.run("publish", run_id="later").status == "end"
    assert result(program) == "A+ONCE"
    assert program.calls() == ["draft-a", "draft-once", "draft-once", "draft-once", "publish"]


def test_a_failure_that_the_flow_catches_is_a_result(tmp_path: Path) -> None:
    program = make(tmp_path, CATCHING)
    program.run("split", topic="bad,b")
    nodes(program, ["0", "1"])
    assert program.run("publish").status == "end"
    assert result(program) == "bad part+B"
    assert outcomes(program)["draft"] == "failed"
    assert program.calls() == ["draft-bad", "draft-bad", "draft-b", "publish"]


def test_a_failure_that_nobody_asks_for_fails_the_flow(tmp_path: Path) -> None:
    program = make(tmp_path, STEPS.replace("handle.result() for", "'x' for"))
    program.run("split", topic="bad,b")
    nodes(program, ["0", "1"])
    assert program.run("publish").code == 1
    assert program.journal().state().status == "failed"


def test_two_nodes_may_keep_one_promise(tmp_path: Path) -> None:
    program = make(tmp_path)
    program.run("split", topic="a,b")
    racing = [program.start("draft", item="0") for _ in range(4)]
    for process in racing:
        _, log = process.communicate(timeout=240)
        assert process.returncode == 0, log
    assert program.run("publish").status == "end"
    assert result(program) == "A+B"
    assert list(outcomes(program)) == ["split", "draft", "draft_2", "publish"]


@pytest.mark.parametrize("name", ["split", "draft", "publish"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_anywhere_and_started_again(tmp_path: Path, name: str, moment: str) -> None:
    for number in attempts():
        program = make(tmp_path / str(number), CATCHING)
        code, killed = 0, {name: f"{moment}:{number}"}
        code = program.run("split", topic="a,bad", kill=killed.get("split", "")).code
        items = program.run("split", topic="a,bad").items if code else ["0", "1"]
        if name == "draft":
            code = program.run("draft", item="0", kill=killed["draft"]).code
        assert all(ran.code == 0 for ran in nodes(program, items))
        if name == "publish":
            code = program.run("publish", kill=killed["publish"]).code
        program.run("publish")
        assert result(program) == "A+bad part", number
        made = program.calls()
        assert made.count("draft-a") <= 2 and made.count("publish") <= 2
        assert made.count("draft-bad") == 2
        if code == 0:
            break
    assert number > 3


KEPT = STEPS.replace('    return "gather"', '    kept = [threading.Lock()]\n    return "gather"')


def test_calls_run_here_when_the_variables_cannot_cross(tmp_path: Path) -> None:
    program = make(tmp_path, KEPT)
    ran = program.run("split", topic="a,b")
    assert (ran.status, ran.items) == ("end", [])
    assert "continues in this process" in ran.log
    assert result(program) == "A+B"
    assert program.run("draft", item="0").code == 0
    assert program.calls().count("draft-a") == 1


LOCKED = STEPS.replace("submit(part)", "submit(part, LOCK if part == 'b' else None)")


@pytest.mark.parametrize(
    "needs", [{"isolated": True}, {"resources": Resources(memory="4Gi")}], ids=str
)
@pytest.mark.parametrize("steps_py", [KEPT, LOCKED], ids=["variable", "argument"])
def test_calls_that_need_their_own_machine_do_not_run_here(
    tmp_path: Path, steps_py: str, needs: dict[str, Any]
) -> None:
    program = make(tmp_path, steps_py, **needs)
    ran = program.run("split", topic="a,b")
    assert ran.code == 1 and "the step draft needs" in ran.log
    assert program.calls() == []


def test_an_argument_that_cannot_be_recorded_keeps_its_call_here(tmp_path: Path) -> None:
    program = make(tmp_path, LOCKED)
    assert program.run("split", topic="a,b,c").items == ["0", "1"]
    assert program.calls() == ["draft-b"]
    nodes(program, ["0", "1"])
    assert program.run("publish").status == "end"
    assert result(program) == "A+B+C"


@pytest.mark.parametrize("look", ["handles[0].done()", "handles[0].result()", "draft(handles)"])
def test_whoever_looks_early_gets_its_answer(tmp_path: Path, look: str) -> None:
    wait = f"handles = [draft.submit(part) for part in parts]\n    while not {look}: pass"
    steps_py = STEPS.replace("handles = [draft.submit(part) for part in parts]", wait)
    steps_py = steps_py.replace("draft(handles)", "publish(handles)")
    program = make(tmp_path, steps_py)
    assert program.run("split", topic="a,b").items == []
    assert {"draft-a", "draft-b"} <= set(program.calls())
    assert program.run("publish").status == "end"
    assert result(program) == "A+B"


def test_calls_under_way_end_before_the_flow_fails(tmp_path: Path) -> None:
    program = make(tmp_path, STEPS.replace('    return "gather"', '    1 / 0\n    return "gather"'))
    assert program.run("split", topic="a,b").code == 1
    assert outcomes(program) == {"split": "completed", "draft": "completed", "draft_2": "completed"}


@pytest.mark.parametrize("item", ["", "7", "x", "0,9", "0-9", "1-0", "0--1"])
def test_a_node_that_is_told_nonsense_says_so(tmp_path: Path, item: str) -> None:
    program = make(tmp_path)
    program.run("split", topic="a")
    ran = program.run("draft", item=item)
    assert ran.code == 2 and "names none of the 1 calls" in ran.log
    assert program.calls() == []


def test_a_node_whose_arguments_are_lost_is_the_environments_failure(tmp_path: Path) -> None:
    program = make(tmp_path)
    program.run("split", topic="a" * 70_000)
    journal = program.journal()
    left = journal.exit("split")
    assert left is not None and left.frame is not None
    (promised,) = promised_in(journal.fetch(left.frame))
    path = program.url.removeprefix("sqlite:")
    with closing(sqlite3.connect(path)) as database, database:
        key = keys.blob(keys.home("e1"), promised["arguments"]["blob"])
        assert database.execute("delete from object where key = ?", (key,)).rowcount == 1
    assert program.run("draft", item="0").code == 3
    assert program.calls() == []


TWO = """\
def split(frame):
    topic = frame["topic"]
    parts = split(topic)
    return "submit", locals()


def submit(frame):
    parts = frame["parts"]
    handles = [draft.submit(part) for part in parts]
    kept = [threading.Lock()]
    return "gather", locals()


def gather(frame):
    handles = frame["handles"]
    texts = [handle.result() for handle in handles]
    return "submit_2", locals()


def submit_2(frame):
    texts = frame["texts"]
    handles = [draft.submit(text) for text in texts]
    return "gather_2", locals()


def gather_2(frame):
    handles = frame["handles"]
    return None, [handle.result() for handle in handles]
"""


def test_a_list_is_given_to_the_nodes_of_its_own_fan_out(tmp_path: Path) -> None:
    """Nodes of the first list have nothing to do if its step continued to submit the second."""
    blocks = (
        block("split", "checkpoint", ("submit",), ("topic",)),
        block("submit", "fan", ("gather",), ("parts",)),
        block("gather", "gather", ("submit_2",), ("handles", "kept")),
        block("submit_2", "fan", ("gather_2",), ("texts",)),
        block("gather_2", "gather", (None,), ("handles",)),
    )
    steps = (
        step("split", "split", "submit"),
        replace(step("first", "gather", per_item=10), blocks=("submit",)),
        step("middle", "gather", "submit_2"),
        replace(step("second", "gather_2", per_item=10), blocks=("submit_2",)),
        step("last", "gather_2"),
    )
    program = Program(tmp_path, SOURCE, TWO, blocks, steps)
    ran = program.run("split", topic="a,b")
    assert (ran.next, ran.status, ran.items) == ("last", "go", [])
    ran = program.run("middle")
    assert (ran.next, ran.status, ran.items) == ("last", "go", ["0", "1"])
    assert [program.run("second", item=item).code for item in ran.items] == [0, 0]
    assert program.run("last").status == "end"
    assert result(program) == ["A", "B"]
    assert sorted(program.calls()) == ["draft-A", "draft-B", "draft-a", "draft-b"]
