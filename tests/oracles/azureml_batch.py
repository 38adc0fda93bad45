"""Run in its own environment: report how the SDK of Azure ML reads documents.

A job has the `path` of a document and the `arguments` of a run, or `is_schedule` and the `path` of
a schedule. An answer is {"problems", "inputs", "jobs"}: what the SDK found, and the inputs and
commands as it would send them; or {"problems", "trigger", "steps"}. Nothing is sent anywhere.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

from azure.ai.ml import load_job  # noqa: E402
from azure.ai.ml.entities._load_functions import load_schedule  # noqa: E402
from serving import serve  # noqa: E402


def answer(job: dict[str, Any]) -> dict[str, Any]:
    if job.get("is_schedule"):
        schedule = load_schedule(job["path"])
        trigger, steps = schedule.trigger, schedule.create_job.jobs
        found = schedule._validate()
        return {
            "problems": [] if found.passed else [str(found.error_messages)],
            "trigger": [trigger.type, trigger.expression, trigger.time_zone],
            "steps": [*steps],
        }
    values = [{f"inputs.{name}": value} for name, value in job["arguments"].items()]
    try:
        loaded = load_job(job["path"], params_override=values)
        found = loaded._validate()
    except Exception as error:
        return {"problems": [repr(error)[:2_000]], "inputs": {}, "jobs": {}}
    sent = loaded._to_rest_object().as_dict()["properties"]
    return {
        "problems": [] if found.passed else [str(found.error_messages)],
        "inputs": {name: item["value"] for name, item in sent["inputs"].items()},
        "jobs": {name: node.component.command for name, node in loaded.jobs.items()},
    }


if __name__ == "__main__":
    serve(answer)
