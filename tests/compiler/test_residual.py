"""Residual plans: the remaining steps after a wait or a crash."""

from __future__ import annotations

from kitaru_compiler.residual import residual

from kitaru.wire.plan import BranchItem, Plan, StepItem, WaitItem
from tests.compiler.helpers import plan_of

REPORT = """
@flow
def main(topic: str):
    notes = a(topic)
    if len(notes) < 20:
        return "nothing found"
    text = b(notes)
    ok = kitaru.wait(name="ok", schema=bool)
    return c(text) if ok else text
"""


def names(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps]


def test_after_a_wait_one_container_does_the_rest() -> None:
    left = residual(plan_of(REPORT), "ok", "sha256:1")
    assert names(left) == ["c"]
    assert left.steps[0].entry == "ok"
    assert left.steps[0].exits == (None,)
    assert left.layout == (StepItem("c"),)
    assert left.residual_of == "sha256:1"


def test_after_a_crash_the_step_that_had_begun_comes_first() -> None:
    left = residual(plan_of(REPORT), "b", "sha256:1")
    assert names(left) == ["b", "c"]
    assert left.layout == (StepItem("b"), WaitItem("ok"), StepItem("c"))


def test_two_ways_on_from_a_wait_keep_their_steps() -> None:
    plan = plan_of("""
@flow
def main(topic: str):
    a(topic)
    if kitaru.wait(name="ok", schema=bool):
        x = b(topic)
    else:
        x = c(topic)
    return d(x)
""")
    left = residual(plan, "ok", "sha256:1")
    assert names(left) == ["ok", "b", "c", "d"]
    branch = left.layout[1]
    assert isinstance(branch, BranchItem) and branch.decider == "ok"


def test_from_within_an_arm_the_other_arm_is_gone() -> None:
    plan = plan_of("""
@flow
def main(topic: str):
    a(topic)
    if topic:
        x = b(topic)
        y = c(x)
    else:
        y = d(topic)
    return e(y)
""")
    left = residual(plan, "c", "sha256:1")
    assert names(left) == ["c", "e"]


def test_a_residual_of_a_residual_names_the_original() -> None:
    once = residual(plan_of(REPORT), "b", "sha256:1")
    assert residual(once, "ok", "sha256:2").residual_of == "sha256:1"
