"""A fan-out on SageMaker is a ForEach, with valid lists and names."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kitaru_targets import registry
from kitaru_targets.common.node_names import Keys
from kitaru_targets.sagemaker.dry_run import Call, interpret

from kitaru.errors import InputError
from kitaru.wire.plan import FanItem, Plan

from .programs import Do, If, Program, plan
from .test_sagemaker import WIRING
from .test_sagemaker_callbacks import QUEUE

TARGET = registry.get("sagemaker")
LINE: Program = (Do("a"), Do("b", gathers=True), Do("c"))


def document(made: Plan) -> dict[str, Any]:
    text = TARGET.emit(made, WIRING).text
    assert TARGET.validate(text) == []
    found: dict[str, Any] = json.loads(text)
    return found


def made(**changes: Any) -> dict[str, Any]:
    return document(replace(plan(LINE), **changes))


class Fake:
    """A fake runtime whose first step says what nodes are to make."""

    def __init__(self, *items: str, failing: str = "") -> None:
        self.items, self.failing = items, failing
        self.made: list[str] = []
        self.steps: list[str] = []

    def __call__(self, call: Call) -> dict[str, str] | None:
        command = call.command
        if "--item" in command:
            item = command[command.index("--item") + 1]
            self.made.append(item)
            return None if item == self.failing else {}
        self.steps.append(call.step)
        outcome = {"next": "x", "status": "go"}
        if "--list" in command:
            name, _, gathering = command[command.index("--list") + 1].partition("=")
            assert gathering == "b"
            outcome[name] = json.dumps(self.items)
        return outcome


def test_nodes_stand_between_the_step_that_submits_and_the_one_that_gathers() -> None:
    a, each, b, c = made()["Steps"]
    assert [s["Type"] for s in (a, each, b, c)] == ["Processing", "ForEach", *["Processing"] * 2]
    assert (each["DependsOn"], b["DependsOn"]) == (["a"], [each["Name"]])
    assert each["Arguments"]["MaxConcurrency"] == 8
    (body,) = each["Arguments"]["ForEachBody"]
    assert "ProcessingOutputConfig" not in body["Arguments"] and "DependsOn" not in body


def test_each_item_of_the_list_is_made_before_the_next_step() -> None:
    fake = Fake("0", "1-3", "4")
    ran = interpret(made(), {}, "run", fake)
    assert sorted(fake.made) == ["0", "1-3", "4"]
    assert ran == ["a", "each-b-0", "each-b-1", "each-b-2", "b", "c"]


def test_nothing_runs_behind_a_node_that_failed() -> None:
    fake = Fake("0", "1", failing="1")
    interpret(made(), {}, "run", fake)
    assert fake.steps == ["a"]


@pytest.mark.parametrize("count", [0, 101])
def test_a_list_that_the_service_does_not_take_stops_the_run(count: int) -> None:
    with pytest.raises(InputError, match=f"1 to 100 items, not {count}"):
        interpret(made(), {}, "run", Fake(*map(str, range(count))))


def test_what_is_left_of_a_list_is_a_constant() -> None:
    items = ("1", "3-7")
    rest = replace(plan(LINE), layout=(FanItem("each_b", "", items), *plan(LINE).layout[2:]))
    each, *_ = document(rest)["Steps"]
    assert each["Arguments"]["IterableItems"] == [*items]


def test_at_most_fifty_run_at_a_time() -> None:
    assert made(max_parallel=99)["Steps"][1]["Arguments"]["MaxConcurrency"] == 50


def test_nodes_that_no_step_before_them_lists_are_left_to_whoever_gathers() -> None:
    fans = [
        replace(step, blocks=("elsewhere",)) if step.per_item else step for step in plan(LINE).steps
    ]
    assert "ForEach" not in json.dumps(made(steps=tuple(fans)))


def test_a_copy_behind_a_callback_has_nodes_of_its_own() -> None:
    program = (Do("a", wait=True), If(((Do("b"), Do("c", gathers=True)), ())), Do("d"))
    found = document(plan(program, options={"queue": QUEUE}))
    bodies = [
        step["Arguments"]["ForEachBody"][0]["Name"]
        for condition in found["Steps"][1:]
        for step in condition["Arguments"]["IfSteps"]
        if step["Type"] == "ForEach"
    ]
    assert bodies == ["each-c", "each-c-n2"]


def test_no_step_is_called_like_a_node() -> None:
    program = (Do("each_b_0"), Do("a"), Do("b", gathers=True))
    names = [step["Name"] for step in document(plan(program))["Steps"]]
    assert names[0] == "each-b-0"
    (body,) = document(plan(program))["Steps"][2]["Arguments"]["ForEachBody"]
    assert body["Name"] == "each-b-2"


@given(st.lists(st.tuples(st.sampled_from(["a", "a_2", "a_0", "a-n2", "a_2_1"]), st.booleans())))
def test_nodes_have_names_of_their_own(asked: list[tuple[str, bool]]) -> None:
    keys = Keys(longest=8)
    taken = [(keys.take(text, fallback="step", numbered=many), many) for text, many in asked]
    every = [f"{k}-{n}" for k, many in taken if many for n in range(100)] + [k for k, _ in taken]
    assert len(every) == len(set(every)) and max(map(len, every), default=0) <= 8


def each(found: dict[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = found["Steps"][1]["Arguments"]
    return arguments


def body(found: dict[str, Any]) -> dict[str, Any]:
    inner: dict[str, Any] = each(found)["ForEachBody"][0]
    return inner


CHANGES = {
    "nothing": (lambda d: each(d).update(IterableItems=[]), "takes 1 to 100 texts"),
    "many": (lambda d: each(d).update(IterableItems=["x"] * 101), "takes 1 to 100 texts"),
    "numbers": (lambda d: each(d).update(IterableItems=[1]), "takes 1 to 100 texts"),
    "elsewhere": (lambda d: each(d).update(IterableItems={"Get": "x"}), "from somewhere else"),
    "unwritten": (lambda d: d["Steps"][0].pop("PropertyFiles"), "no step before it has written"),
    "at a time": (lambda d: each(d).update(MaxConcurrency=51), "runs 51 at a time"),
    "two bodies": (lambda d: each(d)["ForEachBody"].append({}), "not one processing step"),
    "a wait": (lambda d: body(d).update(Type="Callback"), "not one processing step"),
    "read": (lambda d: body(d).update(PropertyFiles=[]), "is read by something"),
    "long": (lambda d: body(d).update(Name="x" * 62), "cannot be called"),
    "like a node": (lambda d: d["Steps"][3].update(Name="each-b-7"), "called like a node"),
    "field": (lambda d: each(d).update(Selector={}), "not made of a list"),
    "item outside": (
        lambda d: d["Steps"][2]["Arguments"].update(RoleArn={"Get": "ForEach.CurrentItem"}),
        "which is not there",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_bad_fan_out_is_found(name: str) -> None:
    change, expected = CHANGES[name]
    spec = made()
    change(spec)
    problems = TARGET.validate(json.dumps(spec))
    assert any(expected in problem for problem in problems), problems
