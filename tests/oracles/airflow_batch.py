"""Run in its own environment: report how Airflow reads DAG files.

A job has the `path` of a file, and `conf` to start it with. An answer is {"problems", "dag",
"schedule", "tasks", "params", "bytes", "again"}: what Airflow keeps of the file, the values of its
parameters, and whether two readings are one version.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp()
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "True"

from airflow.dag_processing.dagbag import DagBag  # noqa: F401 - imported once, for all requests
from airflow.sdk.definitions.param import process_params
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DataInterval, TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable
from serving import product, serve


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    serve(answer)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    read, path = product("airflow"), Path(job["path"])
    if problems := [*read.problems(path)]:
        return {"problems": problems}
    dag = read.dag(path)
    kept, again = (DagSerialization.to_dict(one) for one in (dag, read.dag(path)))
    first = dag.topological_sort()[0]
    for task in dag.tasks:
        if task.is_mapped:
            # What a worker does for each item of a list.
            assert task.unmap({"item": "7"}).item == "7"
    try:
        params = process_params(dag, first, job["conf"], suppress_exception=False)
    except ParamValidationError as error:
        return {"problems": [str(error)]}
    return {
        "problems": [],
        "dag": dag.dag_id,
        "schedule": schedule(DagSerialization.from_dict(kept)),
        "tasks": [[t.task_id, t.task_type, sorted(t.downstream_task_ids)] for t in dag.tasks],
        "params": params,
        "bytes": len(json.dumps(kept)),
        "again": kept == again,
    }


def schedule(dag: Any) -> Any:
    """Return what the scheduler does with a DAG that starts by itself, None for others."""
    timetable = dag.timetable
    if not isinstance(timetable, CronTriggerTimetable):
        return None
    restriction = TimeRestriction(dag.start_date, None, dag.catchup)
    began = datetime.now(UTC)
    first = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    ticks, last = [], datetime(2026, 10, 24, 0, tzinfo=UTC)
    for _ in range(2):
        found = timetable.next_dagrun_info(
            last_automated_data_interval=DataInterval.exact(last),
            restriction=TimeRestriction(None, None, catchup=True),
        )
        last = found.run_after
        ticks.append(last.isoformat())
    return {
        "summary": timetable.summary,
        "most_runs": dag.max_active_runs,
        "starts_in_the_past": first.run_after < began,
        "ticks": ticks,
    }


if __name__ == "__main__":
    main()
