"""Profiles of targets: plain data that the compiler needs before it cuts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from kitaru.wire.plan import RetryMode

WaitMode = Literal["native", "suspended"]


@dataclass(frozen=True, slots=True)
class Profile:
    """What one target can express.

    `branches`: native conditions. `retry`: who starts a failed step again. `retry_pauses`: whether
    that waits as long before as it is told. `waits`: whether a node of its own asks and a step of
    its own goes on after the answer, or the run ends and another one goes on. `waits_need`: the
    project's option for the target without which waits are suspended. `max_depth`: how deep
    conditions may nest before the rest is left to guards. `start_seconds`: what one container start
    costs, low and high, in seconds. `fan_out`: how many nodes a list known only at run time may
    become, 0 where it cannot become nodes. `max_steps`: how many steps a document may have, None
    where that is not known; the last takes in the rest.
    """

    name: str
    branches: bool
    retry: RetryMode
    waits: WaitMode
    max_depth: int
    start_seconds: tuple[int, int]
    retry_pauses: bool = False
    fan_out: int = 0
    max_steps: int | None = None
    waits_need: str = ""

    def with_options(self, options: Mapping[str, str]) -> Profile:
        """Return the profile that holds where the project tells the target these options.

        get("sagemaker").profile.with_options({}).waits  # "suspended"
        """
        lacking = self.waits_need and self.waits_need not in options
        return replace(self, waits="suspended") if lacking else self
