"""The compiler's profile of a shell: commands in sequence, nothing else."""

from __future__ import annotations

from kitaru_compiler.cut.profile import Profile
from kitaru_targets.base import Transport

# There is no container: a step runs with the Python that the machine has.
TRANSPORT = Transport(image="")

PROFILE = Profile(
    name="shell",
    branches=False,
    retry="shim",
    waits="suspended",
    max_depth=0,
    start_seconds=(0, 1),
)
