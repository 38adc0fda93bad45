"""Limits of flows that the service of a target keeps as well.

A place of a limit belongs to a run only while it works: one that waits for an answer or sleeps has
none. A service counts such runs, too, and knows neither keys nor priorities. So a document has a
limit only if it means the same, and a run that somebody starts on the service then waits for its
place instead of failing.
"""

from __future__ import annotations

from kitaru.wire.flow_limits import FlowLimits
from kitaru.wire.plan import Plan
from kitaru_targets.base import ContainerSpec


def runs_at_once(plan: Plan, wiring: ContainerSpec) -> int:
    """Return how many runs of a flow its service may run at once, 0 if it must not count them.

    A residual pipeline has no limit: its execution has a place already, or asks for one.
    """
    waits = any(block.may_wait for block in plan.blocks) or any(
        step.may_wait for step in plan.steps
    )
    if not plan.limits or wiring.execution or waits:
        return 0
    limits = FlowLimits.from_json(plan.limits)
    every = (*limits.concurrency, *limits.rate_limit)
    if limits.priority or any(one.when_full != "queue" for one in every):
        return 0
    return min((one.most for one in limits.concurrency if not one.key), default=0)
