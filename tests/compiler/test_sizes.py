"""A long flow is cut like a short one."""

from __future__ import annotations

from tests.compiler.helpers import plan_of


def test_a_thousand_checkpoints_are_a_thousand_steps() -> None:
    body = "".join(f"    x = {name}(x)\n" for name in "abcde" * 200)
    plan = plan_of(f"@flow\ndef main(x: str):\n{body}    return x\n")
    assert len(plan.steps) == 1000
    assert all(step.exits == (following.name,) for step, following in zip(
        plan.steps, plan.steps[1:], strict=False
    ))  # fmt: skip
