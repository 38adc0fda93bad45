"""Run in its own environment: report how the SDK of Azure ML reads documents.

A job has the `path` of a document and the `arguments` of a run, or `is_schedule`, the `path` of a
schedule and its `document`. An answer is {"problems", "inputs", "jobs"}: what the SDK found, and
the inputs and commands as it would send them; or {"problems", "trigger", "steps"}. Nothing is sent.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

import azure.ai.ml  # noqa: E402, F401 - imported once, for all requests
from serving import product, serve  # noqa: E402


def answer(job: dict[str, Any]) -> dict[str, Any]:
    if job.get("is_schedule"):
        schedule = product("azureml").schedule(Path(job["path"]))
        trigger, steps = schedule.trigger, schedule.create_job.jobs
        return {
            "problems": [*product("azureml").problems(Path(job["document"]))],
            "trigger": [trigger.type, trigger.expression, trigger.time_zone],
            "steps": [*steps],
        }
    try:
        loaded = product("azureml").job(Path(job["path"]), job["arguments"])
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
