"""The compiler's profile of AWS Step Functions, and the limits of a state machine."""

from __future__ import annotations

from kitaru_compiler.cut.profile import Profile

from kitaru_targets.base import Transport
from kitaru_targets.common import schedules
from kitaru_targets.common.aws import NETWORK
from kitaru_targets.common.limits import Limits, Machine
from kitaru_targets.common.options import Option

# The name of a state, a state machine or an execution. States are named after a step of at most
# `MAX_STEP_NAME` characters, and what they do for it.
MAX_NAME = 80
MAX_STEP_NAME = 70
# Maximum number of concurrent iterations of an inline Map. A distributed Map has more.
MAX_INLINE = 40
MAX_DISTRIBUTED = 10_000
MAX_SECONDS = 99_999_999
# Characters of all arguments and variables that a state adds to a task definition.
MAX_OVERRIDES = 8_192

# The file beside the state machine: how the container of every step starts.
TASK_DEFINITION = "task-definition.json"
FURTHER = (TASK_DEFINITION,)

CLUSTER = "cluster"
PUBLIC, TASK_ROLE, EXECUTION_ROLE = "public_ip", "task_role", "execution_role"
LOGS, SECONDS, WAIT_SECONDS = "log_group", "max_seconds", "wait_seconds"
SCHEDULER_ROLE, MACHINE = "scheduler_role", "state_machine"
_NUMBER = r"[1-9][0-9]{0,7}"
_ROLE = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,200}"
OPTIONS = {
    CLUSTER: Option(
        "the name or the ARN of an ECS cluster",
        r"[A-Za-z0-9_-]{1,255}|arn:aws[a-z-]*:ecs:[a-z0-9-]+:[0-9]{12}:cluster/[A-Za-z0-9_-]{1,255}",
    ),
    **NETWORK,
    PUBLIC: Option("ENABLED if tasks get a public address, else DISABLED", r"ENABLED|DISABLED"),
    TASK_ROLE: Option("the ARN of the role that the flow's code runs as", _ROLE),
    EXECUTION_ROLE: Option("the ARN of the role that pulls the image and writes logs", _ROLE),
    SCHEDULER_ROLE: Option("the ARN of the role with which a schedule starts runs", _ROLE),
    MACHINE: Option(
        "the ARN of the state machine that a schedule starts",
        r"arn:aws[a-z-]*:states:[a-z0-9-]+:[0-9]{12}:stateMachine:[A-Za-z0-9_-]{1,80}",
    ),
    LOGS: Option("the name of a CloudWatch log group", r"[A-Za-z0-9_/.#-]{1,512}"),
    SECONDS: Option("how long a step may run, in seconds: a whole number", _NUMBER, MAX_SECONDS),
    WAIT_SECONDS: Option(
        "after how many seconds a wait looks for its answer by itself: a whole number",
        _NUMBER,
        MAX_SECONDS,
    ),
}

SCHEDULES = schedules.AWS

# What a step becomes, in the words of the orchestrator.
UNIT = "task"

PROFILE = Profile(
    name="stepfunctions",
    branches=True,
    retry="native",
    retry_pauses=True,
    waits="native",
    waits_inside=True,
    timers=True,
    # A state machine is flat: a branch is a jump.
    max_depth=1_000,
    start_seconds=(20, 60),
    fan_out=1_000,
    # Each step takes up to 2.5 KB of the 1 MB of a definition, and a wait 1 KB.
    max_steps=300,
)

TRANSPORT = Transport(
    # All overrides of a task have at most 8,192 characters.
    longest_input=2_000,
    longest_together=4_000,
)


def _fargate() -> tuple[Machine, ...]:
    """Return the sizes of Fargate by cores, then by memory in GiB."""
    steps = {1: range(2, 9), 2: range(4, 17), 4: range(8, 31), 8: range(16, 61, 4),
             16: range(32, 121, 8)}  # fmt: skip
    return tuple(
        Machine(f"{cores * 1024}/{memory * 1024}", cores, memory, 0)
        for cores, memories in steps.items()
        for memory in memories
    )


LIMITS = Limits(title="AWS Step Functions", document=1_048_576, machines=_fargate())
