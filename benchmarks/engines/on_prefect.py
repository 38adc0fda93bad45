"""Prefect: a flow of tasks with persisted results. A resume reruns the flow with these results.

Prefect starts a server for this process. The resources of the server are not counted.
"""

import os

from meter import COUNT, FOLDER, measure

os.environ["PREFECT_HOME"] = str(FOLDER)
os.environ["PREFECT_LOGGING_LEVEL"] = "CRITICAL"
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "180"
os.environ["DO_NOT_TRACK"] = "1"
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"

from prefect import flow, task
from prefect.cache_policies import INPUTS


@task(persist_result=True, cache_policy=INPUTS)
def step(number: int) -> int:
    return number + 1


@flow
def chain(count: int) -> int:
    number = 0
    for _ in range(count):
        number = step(number)
    return number


@flow
def nothing() -> None:
    """Start the server, which is not part of the measurement."""


nothing()
measure(lambda: chain(COUNT))
