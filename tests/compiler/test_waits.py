"""On a target with native waits, a separate step continues after the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from textwrap import dedent, indent

from kitaru_compiler import compile_flow
from kitaru_compiler.compile import ANY_TARGET
from kitaru_compiler.cut.profile import Profile
from kitaru_compiler.residual import residual

from kitaru.wire.plan import BranchItem, Granularity, Plan, StepItem, WaitItem

NATIVE = replace(ANY_TARGET, waits="native")


def compiled(
    folder: Path, body: str, granularity: Granularity = "checkpoint", profile: Profile = NATIVE
) -> Plan:
    head = "import kitaru\nfrom kitaru import checkpoint, flow\n\n"
    calls = "".join(f"@checkpoint\ndef {name}(x): return x\n\n" for name in "abc")
    source = f"{head}{calls}@flow\ndef asking(x):\n{indent(dedent(body), '    ')}\n"
    (folder / "asking.py").write_text(source)
    return compile_flow(folder / "asking.py", granularity=granularity, profile=profile).plan


def shape(plan: Plan) -> list[tuple[str, str, tuple[str | None, ...]]]:
    return [(step.name, step.entry, step.exits) for step in plan.steps]


TWO = """
    x = a(x)
    ok = kitaru.wait(name="ok", schema=bool)
    return b(x) if ok else x
"""


def test_a_wait_has_a_step_that_goes_on_after_it(tmp_path: Path) -> None:
    plan = compiled(tmp_path, TWO)
    assert shape(plan) == [
        ("a", "start", ("b", None)),
        ("ok_answer", "ok", ("b", None)),
        ("b", "b", (None,)),
    ]
    assert plan.step("a").may_wait and "ok" in plan.step("a").blocks, "it asks, and may continue"
    wait, after = plan.layout[1:3]
    assert (wait, after) == (WaitItem("ok"), StepItem("ok_answer"))


def test_the_answer_may_be_there_before_the_question(tmp_path: Path) -> None:
    plan = compiled(tmp_path, 'x = kitaru.wait(name="w")\ny = kitaru.wait(name="v")\nreturn b(y)')
    assert shape(plan) == [
        ("start", "start", ("b",)),
        ("w_answer", "w", ("b",)),
        ("v_answer", "v", ("b",)),
        ("b", "b", (None,)),
    ]


def test_without_other_cuts_there_are_those_of_the_waits(tmp_path: Path) -> None:
    plan = compiled(tmp_path, TWO, "single")
    assert shape(plan) == [("start", "start", (None,)), ("ok_answer", "ok", (None,))]
    assert {"a", "b"} <= set(plan.step("start").blocks)


def test_waits_in_the_arms_of_a_branch(tmp_path: Path) -> None:
    body = """
        if a(x):
            y = kitaru.wait(name="left")
        else:
            y = kitaru.wait(name="right")
        return b(y)
    """
    branch = compiled(tmp_path, body).layout[1]
    assert isinstance(branch, BranchItem)
    assert branch.arms == (
        (WaitItem("left"), StepItem("left_answer")),
        (WaitItem("right"), StepItem("right_answer")),
    )


def test_a_step_that_takes_an_answer_has_a_name_of_its_own(tmp_path: Path) -> None:
    body = """
        x = kitaru.wait(name="ok")
        y = kitaru.wait(name="ok_answer")
        return a(x)
    """
    plan = compiled(tmp_path, body)
    assert [step.name for step in plan.steps] == ["start", "ok_answer_2", "ok_answer_answer", "a"]


def test_a_wait_in_a_region_has_none(tmp_path: Path) -> None:
    plan = compiled(tmp_path, 'while a(x):\n    x = kitaru.wait(name="again")\nreturn b(x)')
    assert [step.name for step in plan.steps] == ["a_wait", "b"]
    assert plan.steps[0].may_wait


def test_what_is_left_after_an_answer_is_one_step(tmp_path: Path) -> None:
    left = residual(compiled(tmp_path, TWO), "ok", "sha256:0")
    assert shape(left) == [("b", "ok", (None,))]
    two = 'x = kitaru.wait(name="w")\ny = kitaru.wait(name="v")\nreturn b(y)'
    left = residual(compiled(tmp_path, two), "w", "sha256:0")
    assert shape(left) == [
        ("w_answer", "w", ("b",)),
        ("v_answer", "v", ("b",)),
        ("b", "b", (None,)),
    ]


AWAITS = """
    x = a(x)
    paid = kitaru.wait_event("invoice.paid", match={"order": x})
    return b(x), paid
"""
SLEEPS = """
    start = kitaru.now()
    x = a(x)
    kitaru.sleep(3600, name="nap")
    return b(x), start
"""


def test_a_sleep_ends_the_run_where_waits_do(tmp_path: Path) -> None:
    plan = compiled(tmp_path, SLEEPS, profile=replace(ANY_TARGET, waits="suspended"))
    assert [(one.name, one.kind) for one in plan.blocks if one.calls] == [
        ("now", "memory"), ("a", "checkpoint"), ("nap", "wait"), ("b", "checkpoint"),
    ]  # fmt: skip
    assert WaitItem("nap") in plan.layout


def test_a_sleep_is_no_question_for_a_person(tmp_path: Path) -> None:
    plan = compiled(tmp_path, SLEEPS)
    assert plan.layout == (StepItem("a"), StepItem("b"))
    assert "sleep" in [call for name in plan.step("a").blocks for call in plan.block(name).calls]
    assert plan.step("a").may_wait


def test_a_wait_for_an_event_is_cut_as_a_sleep_is(tmp_path: Path) -> None:
    plan = compiled(tmp_path, AWAITS, profile=replace(ANY_TARGET, waits="suspended"))
    assert [(one.name, one.kind) for one in plan.blocks if one.calls] == [
        ("a", "checkpoint"), ("wait_event", "wait"), ("b", "checkpoint"),
    ]  # fmt: skip
    asked = compiled(tmp_path, AWAITS)
    assert asked.layout == (StepItem("a"), StepItem("b"))
    assert asked.step("a").may_wait
