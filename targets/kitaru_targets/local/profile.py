"""The compiler's profile of a process on this machine."""

from __future__ import annotations

from kitaru_compiler.cut.profile import Profile

from kitaru_targets.base import Transport

# Some systems truncate or reject longer arguments of a process.
TRANSPORT = Transport(image="", inline=False, longest_input=4_096, takes_empty=False, local=True)

# What a step becomes, in the words of the orchestrator.
UNIT = "process"

PROFILE = Profile(
    name="local",
    branches=False,
    retry="shim",
    waits="suspended",
    max_depth=1,
    start_seconds=(0, 1),
    max_steps=1,
)
