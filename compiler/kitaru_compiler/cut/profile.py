"""Target profiles: the facts about a target that the compiler needs before it cuts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from kitaru.wire.plan import RetryMode
from kitaru.wire.structs import Struct

WaitMode = Literal["native", "suspended"]


class Profile(Struct):
    """The capabilities of one target.

    Attributes:
        branches: whether the document can have native conditions.
        retry: who starts a failed step again.
        retry_pauses: whether the orchestrator pauses before a retry for as long as requested.
        waits: `native` if a node of the document waits and another step continues after the answer;
            `suspended` if the run ends at a wait and another run continues.
        waits_inside: whether a run stays open at a native wait inside a step, such as one in a
            loop, and the same step starts again after the answer.
        timers: whether a run stays open at a `kitaru.sleep` and continues by itself when it ends.
        waits_need: the project's option for the target without which waits are suspended.
        max_depth: how deep conditions may nest. Deeper ones are decided by guards.
        start_seconds: estimated start time of one container: low and high, in seconds.
        fan_out: maximum number of nodes for a list that is known only at run time; 0 if the target
            cannot create nodes from a list.
        max_steps: maximum number of steps in a document, None if unknown. The last step contains
            all further ones.
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
    waits_inside: bool = False
    timers: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether a flow is one step, at any granularity."""
        return self.max_steps == 1

    def with_options(self, options: Mapping[str, str]) -> Profile:
        """Return the profile that applies if the project sets these options for the target.

        get("sagemaker").profile.with_options({}).waits  # "suspended"
        """
        lacking = self.waits_need and self.waits_need not in options
        return replace(self, waits="suspended") if lacking else self
