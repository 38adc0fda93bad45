"""Every path through a flow runs in the document, in order, and little else runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from kitaru_targets import registry
from kitaru_targets.argo import dry_run as argo
from kitaru_targets.common import read
from kitaru_targets.kfp.dry_run import interpret

from kitaru.wire.plan import BranchItem, FanItem, LayoutItem, StepItem

from .programs import WIRING, Do, If, Path, Played, Program, fans, paths, plan

# Both have groups of tasks with conditions, and engines of their own rules.
TARGETS = ["vertex", "argo"]


@cache
def document(target: str, program: Program) -> dict[str, Any]:
    made = registry.get(target)
    text = made.emit(plan(program), WIRING).text
    assert made.validate(text) == []
    return read.parse(text)


def play(
    program: Program, path: Path, together: frozenset[str] = frozenset(), target: str = "vertex"
) -> Played:
    producers = {name: producer for name, (_, producer) in fans(plan(program).layout).items()}
    played = Played(path, together, producers)
    if target == "argo":
        states = dict(argo.interpret(document(target, program), {}, "run-1", pods(played), nobody))
    else:
        states = dict(interpret(document(target, program), {}, "run-1", played))
    assert not {"failed", "blocked", "Failed", "Omitted"} & {*states.values()}
    assert played.ran == played.own, (target, path, together)
    gathered = [name for name in played.own if name in producers]
    assert sorted(played.items) == sorted((name, item) for name in gathered for item in "01")
    return played


def pods(played: Played) -> argo.Run:
    """Return how pods of Argo play a path."""

    def run(call: argo.Call) -> Mapping[str, str]:
        if item := call.argument("item"):
            return played.make(call.step.removeprefix("each_"), item)
        said = played.start(call.step)
        return {
            "next": said["next"],
            "status": said["status"],
            "items": said["Output"],
            "seconds": "60",
        }

    return run


def nobody() -> bool:
    return False


def idle(*program: Do | If, targets: Sequence[str] = TARGETS) -> list[tuple[Path, list[str]]]:
    """Return each path with the steps that start for nothing on it."""
    return [
        (path, play(program, path, target=target).idle)
        for target in targets
        for path in paths(program)
    ]


def test_a_straight_line_runs_every_step_once() -> None:
    assert idle(Do("a"), Do("b"), Do("c")) == [((("a", "go"), ("b", "go"), ("c", "end")), [])] * 2


def test_nothing_starts_behind_an_early_return_or_a_wait() -> None:
    for path, started in idle(Do("a", "maybe"), Do("b", wait=True), Do("c"), Do("d")):
        assert started == [], path


def test_only_the_arm_that_was_taken_starts() -> None:
    program = (Do("a"), If(((Do("b"), Do("c")), (Do("d"),), ())), Do("e"))
    for path, started in idle(*program):
        assert started == [], path


def test_an_arm_that_certainly_ends_needs_no_gate() -> None:
    for path, started in idle(Do("a"), If(((Do("b", "always"),), ())), Do("c")):
        assert started == [], path


def test_an_arm_that_may_end_costs_one_gate_at_most() -> None:
    program = (Do("a", "maybe"), If(((Do("b", wait=True),), (Do("c"),))), Do("d"), Do("e"))
    for path, started in idle(*program, targets=["vertex"]):
        assert started in ([], ["d"]), path
        assert started == (["d"] if path[-1] == ("b", "waiting") else []), path
    for _, started in idle(*program, targets=["argo"]):
        assert started == [], "the run stays at the wait"


def test_an_end_deep_inside_an_arm_stops_what_follows() -> None:
    arm = (Do("x"), If(((Do("y", "maybe"),), ())))
    for path, started in idle(Do("a"), If((arm, ())), Do("e"), Do("f")):
        assert started in ([], ["e"]), path


def test_an_else_if_chain_is_flat() -> None:
    program = (Do("a"), If(((Do("b"),), (If(((Do("c"),), (Do("d"),))),))), Do("e"))
    text = registry.get("kubeflow").emit(plan(program), WIRING).text
    assert text.count("triggerPolicy:") == 3
    groups = [name for name, c in read.parse(text)["components"].items() if "dag" in c]
    assert len(groups) == 4
    for path, started in idle(*program):
        assert started == [], path


def test_a_branch_that_several_steps_decide_is_left_to_the_guards() -> None:
    program = (Do("a"), If(((Do("b"),), (Do("c"),))), If(((Do("d"),), (Do("e"),))), Do("f"))
    for path, started in idle(*program):
        assert started == [name for name in "de" if name not in dict(path)], path


def test_an_end_under_a_guard_still_stops_what_follows() -> None:
    inner = (Do("x"), If(((Do("y", "always"),), ())))
    program = (Do("a"), If(((Do("b"),), (Do("c"),))), If((inner, ())), Do("e"), Do("f"))
    for path, started in idle(*program):
        assert "f" not in started, path


def test_the_number_of_waits_adds_no_depth() -> None:
    program = tuple(Do(f"s{n}", wait=True) for n in range(40))
    spec = read.parse(registry.get("kubeflow").emit(plan(program), WIRING).text)
    segments = [c for c in spec["components"].values() if "dag" in c]
    assert len(segments) == 39
    assert all(len(c["dag"]["tasks"]) == 1 for c in segments)


def test_the_nodes_of_a_fan_out_stand_between_its_producer_and_the_next_step() -> None:
    program = (
        Do("a", "maybe"),
        Do("b", wait=True, gathers=True),
        If(((Do("c", gathers=True), Do("d", gathers=True)), (Do("e", gathers=True),), ())),
        Do("f", gathers=True),
    )
    assert fans(plan(program).layout).keys() == set("bcde"), "several steps lead to f"
    for path, started in idle(*program, targets=["vertex"]):
        assert started == [], path
    for path, started in idle(*program, targets=["argo"]):
        assert started == (["b"] if len(path) > 2 else []), "b says after its wait what is next"


def test_a_fan_out_whose_items_are_known_needs_no_producer() -> None:
    known = plan((Do("a"), Do("b", gathers=True)))
    layout = (FanItem("each_b", "", ("3", "5,6")), StepItem("b"))
    rest = known.replace(layout=layout, steps=known.steps[1:])
    for name in ("kubeflow", "vertex"):
        target = registry.get(name)
        text = target.emit(rest, WIRING).text
        assert target.validate(text) == []
        played = Played((("b", "end"),))
        interpret(read.parse(text), {}, "run-1", played)
        assert sorted(played.items) == [("b", "3"), ("b", "5,6")]
        assert played.ran == ["b"]


def decided(layout: tuple[LayoutItem, ...]) -> bool:
    branches = [item for item in layout if isinstance(item, BranchItem)]
    return all(b.decider and all(decided(arm) for arm in b.arms) for b in branches)


NAMES = [f"s{n}" for n in range(60)]


def programs(depth: int) -> st.SearchStrategy[list[object]]:
    ends = st.sampled_from(["no", "no", "no", "maybe"])
    rarely = st.sampled_from([False, False, False, True])
    step = st.tuples(ends, rarely, rarely)
    if depth == 0:
        return st.lists(step, max_size=2)
    arms = st.lists(programs(depth - 1), min_size=1, max_size=3)
    return st.lists(st.one_of(step, arms), max_size=3)


def build(shape: list[object], names: list[str], last: bool) -> Program:
    items: list[Do | If] = []
    for item in shape:
        if isinstance(item, tuple):
            items.append(Do(names.pop(0), item[0], item[1], gathers=item[2]))
        else:
            assert isinstance(item, list)
            items.append(If(tuple(build(arm, names, last=True) for arm in item)))
    ends = last and items and isinstance(items[-1], Do) and int(items[-1].name[1:]) % 3 == 0
    if ends:
        items[-1] = replace(items[-1], end="always")
    return tuple(items)


@settings(max_examples=80, deadline=None)
@given(programs(2), st.randoms(use_true_random=False))
def test_every_path_of_a_random_program_runs(shape: list[object], random: object) -> None:
    program = (Do("first"), *build(shape, list(NAMES), last=False))
    waiting = {step.name for step in plan(program).steps if step.may_wait}
    for path in list(paths(program))[:40]:
        names = [name for name, _ in path[1:]]
        together = frozenset(n for n in names if random.random() < 0.3)  # type: ignore[attr-defined]
        for target in TARGETS:
            started = play(program, path, target=target).idle
            if target == "argo":
                # A step that decides after its wait starts once more, to say what is next.
                for name in waiting & {*started}:
                    started.remove(name)
            # A level of branches costs one gate at most, unless guards stand in for conditions.
            assert len(started) <= 2 or not decided(plan(program).layout), path
            play(program, path, together, target)
