"""The compiler's profile of Airflow 3."""

from __future__ import annotations

from kitaru_compiler.cut.profile import Profile

from kitaru_targets.base import Schedules, Transport
from kitaru_targets.common import kubernetes
from kitaru_targets.common.options import Option

# Steps run in pods if an image is set, otherwise as processes of Airflow's own workers.
TRANSPORT = Transport(image="", local=True, pods=True)

# Maximum length of the id of a DAG or a task.
MAX_NAME = 250

# Maximum number of tasks mapped from one list, unless `max_map_length` is set otherwise.
MAX_MAPPED = 1_024

# What a step becomes, in the words of the orchestrator.
UNIT = "task"

# A run that waits is still running, so Airflow counts it.
SCHEDULES = Schedules("the DAG", "dag.py", ("queue", "allow"), ("last",))

_ANY = r"(?s:.*)"
TASK_OPTIONS = {
    "pool": Option("the name of a pool", _ANY),
    "queue": Option("the queue of the workers that run the tasks", _ANY),
    "executor": Option("the name or the alias of an executor", _ANY),
    "owner": Option("whom Airflow shows as the owner of the tasks", _ANY),
}
POD_OPTIONS = {
    "namespace": Option("the namespace of the pods", _ANY),
    "service_account_name": Option("the service account of the pods", _ANY),
}
OPTIONS = {
    **TASK_OPTIONS,
    **POD_OPTIONS,
    **kubernetes.OPTIONS,
}

# How the document says how many runs of a flow there are at once.
LIMITS_RUNS = "`max_active_runs`"

PROFILE = Profile(
    name="airflow",
    branches=True,
    retry="native",
    waits="native",
    timers=True,
    # Tasks form a chain, so branches may nest as deeply as in Python.
    max_depth=90,
    start_seconds=(1, 20),
    fan_out=MAX_MAPPED,
)
