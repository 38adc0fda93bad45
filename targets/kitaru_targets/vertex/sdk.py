"""Construct a job from a document with the SDK of Vertex AI. Nothing is sent."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

SCHEDULE = "schedule.json"
_SAMPLES = {"STRING": "text", "NUMBER_INTEGER": 1, "NUMBER_DOUBLE": 0.5, "BOOLEAN": True}


def problems(path: Path) -> Iterator[str]:
    """Yield what the SDK says of a document, with a sample for each required parameter."""
    try:
        made = job(path, _samples(path))
        yield from _accelerators(made)
        if (schedule := path.with_name(SCHEDULE)).exists():
            options = json.loads(schedule.read_text(encoding="utf-8"))
            inspect.signature(made.create_schedule).bind(**options)
    except Exception as error:
        yield repr(error)


def _accelerators(job: Any) -> Iterator[str]:
    """Yield the types of accelerators that the service does not have."""
    known = import_module("google.cloud.aiplatform").gapic.AcceleratorType.__members__
    for name, executor in job.pipeline_spec["deploymentSpec"]["executors"].items():
        asked = executor["container"].get("resources", {}).get("accelerator", {})
        for field in ("type", "resourceType"):
            if field in asked and asked[field] not in known:
                yield f"{name}: there is no accelerator {asked[field]}"


def job(path: Path, given: Mapping[str, Any]) -> Any:
    """Return the job that the SDK makes of a document. Raises what the SDK raises."""
    aiplatform = import_module("google.cloud.aiplatform")
    nobody = import_module("google.auth.credentials").AnonymousCredentials()
    return aiplatform.PipelineJob(
        display_name="job",
        template_path=str(path),
        parameter_values=dict(given),
        pipeline_root="gs://bucket/root",
        enable_caching=False,
        project="project",
        location="europe-west4",
        credentials=nobody,
    )


def _samples(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    known = document["root"]["inputDefinitions"]["parameters"]
    return {n: _SAMPLES[p["parameterType"]] for n, p in known.items() if not p.get("isOptional")}
