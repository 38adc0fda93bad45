"""The compiler's profile of Vertex AI Pipelines."""

from __future__ import annotations

from kitaru_compiler.cut.profile import Profile

from kitaru_targets.base import Schedules, Transport
from kitaru_targets.common.options import Option

# A job id has at most 128 characters, and the SDK appends a time stamp to the pipeline's name.
MAX_NAME = 113

# The service chooses a machine that has the accelerator, the CPUs and the memory of a step.
ACCELERATOR, DEFAULT_ACCELERATOR = "accelerator", "NVIDIA_TESLA_T4"
OPTIONS = {
    ACCELERATOR: Option(
        "the type of the accelerator of steps that ask for a GPU: NVIDIA_TESLA_T4, NVIDIA_L4",
        r"[A-Z][A-Z0-9]*(_[A-Z0-9]+){1,8}",
    ),
}

# What a step becomes, in the words of the orchestrator.
UNIT = "task (one custom job)"

PROFILE = Profile(
    name="vertex",
    branches=True,
    retry="native",
    retry_pauses=True,
    waits="suspended",
    max_depth=40,
    start_seconds=(60, 120),
    # Each node is two or three nodes of the engine's own graph, which fails beyond a few hundred.
    fan_out=100,
)

# The options of the schedule that the SDK creates.
SCHEDULE = "schedule.json"
SCHEDULES = Schedules(
    "a schedule of Vertex AI", SCHEDULE, ("skip", "queue", "allow"), ("none",), ends_at_waits=True
)

TRANSPORT = Transport()
