"""Choose the retrying side: the orchestrator if it supports the policy, else the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kitaru.wire.plan import Step
from kitaru_compiler.cut.profile import Profile
from kitaru_compiler.ir.nodes import CheckpointOptions


def retrying(step: Step, options: Sequence[CheckpointOptions], profile: Profile) -> Step:
    """Return `step` with the maximum of the retries that its checkpoints request."""
    retries = max((asked.retries for asked in options), default=0)
    if not retries:
        return step
    delay = max(asked.retry_delay for asked in options)
    native = all(asked.native_retry for asked in options) and (profile.retry_pauses or not delay)
    return replace(
        step,
        retries=retries,
        retry_delay=delay,
        backoff=max(asked.backoff for asked in options),
        retry=profile.retry if native else "shim",
    )
