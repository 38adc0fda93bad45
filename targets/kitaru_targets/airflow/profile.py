"""The compiler's profile of Airflow 3."""

from __future__ import annotations

from kitaru_compiler.cut.profile import Profile

from kitaru_targets.base import Transport

# Steps run in pods where an image is named, else as processes of Airflow's own workers.
TRANSPORT = Transport(image="", local=True)

# Of a DAG's and a task's id.
MAX_NAME = 250

# Of the tasks that Airflow makes of one list, unless its `max_map_length` says otherwise.
MAX_MAPPED = 1_024

PROFILE = Profile(
    name="airflow",
    branches=True,
    retry="native",
    waits="native",
    # Tasks stand in a row: branches nest no deeper than Python does.
    max_depth=90,
    start_seconds=(1, 20),
    fan_out=MAX_MAPPED,
)
