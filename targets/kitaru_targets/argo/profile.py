"""The compiler's profile of Argo Workflows, and the options of a project for it."""

from __future__ import annotations

from kitaru_compiler.cut.profile import Profile

from kitaru_targets.base import Schedules, Transport
from kitaru_targets.common import kubernetes
from kitaru_targets.common.limits import Limits
from kitaru_targets.common.options import Option

# A schedule adds a suffix to the name of a template, and an object has at most 63 characters.
MAX_NAME = 52
# Names of tasks and templates become parts of the names of pods.
MAX_KEY = 63
# The controller runs templates inside templates to this depth. Each round of a wait adds one.
MAX_STACK = 100
MAX_DEPTH = 50
MAX_ROUNDS = 40
# An object in etcd has at most 1.5 MB, and its status takes as much as its specification.
MAX_DOCUMENT = 512 * 1024
MAX_SECONDS = 99_999_999

SERVICE_ACCOUNT, SEMAPHORE = "service_account", "semaphore"
SECONDS, KEEP_SECONDS = "max_seconds", "keep_seconds"
_OBJECT = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_NUMBER = r"[1-9][0-9]{0,7}"
OPTIONS = {
    **kubernetes.OPTIONS,
    SERVICE_ACCOUNT: Option("the service account of the pods", _OBJECT),
    SEMAPHORE: Option(
        "how many runs there are at a time, in a config map: CONFIGMAP/KEY",
        rf"{_OBJECT}/[A-Za-z0-9_.-]{{1,253}}",
    ),
    SECONDS: Option("how long a step may run, in seconds: a whole number", _NUMBER, MAX_SECONDS),
    KEEP_SECONDS: Option(
        "after how many seconds an ended run is deleted: a whole number", _NUMBER, MAX_SECONDS
    ),
}

# The file beside the template: the CronWorkflow. A run that waits is still running.
SCHEDULE = "schedule.yaml"
SCHEDULES = Schedules("a CronWorkflow", SCHEDULE, ("skip", "allow"), ("last", "none"))

# What a step becomes, in the words of the orchestrator.
UNIT = "task (one pod)"

# How the document says how many runs of a flow there are at once.
LIMITS_RUNS = "a mutex (for `concurrency=1`)"

PROFILE = Profile(
    name="argo",
    branches=True,
    retry="native",
    retry_pauses=True,
    waits="native",
    waits_inside=True,
    timers=True,
    # A branch of several steps is a template inside a template.
    max_depth=40,
    start_seconds=(5, 20),
    # Each node takes about 1.5 KB of the status of the run.
    fan_out=300,
    max_steps=300,
)

# The controller replaces `{{…}}` in the values of parameters, too.
TRANSPORT = Transport(longest_together=64_000, pods=True, takes_braces=False)

LIMITS = Limits(title="Argo Workflows", document=MAX_DOCUMENT, machines=())
