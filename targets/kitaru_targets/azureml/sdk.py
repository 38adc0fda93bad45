"""Load documents with the SDK of Azure ML. Nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

SCHEDULE = "schedule.yaml"


def problems(path: Path) -> Iterator[str]:
    """Yield what the SDK says of a document, and of the schedule beside it."""
    yield from _said(lambda: job(path, {}))
    if (beside := path.with_name(SCHEDULE)).exists():
        yield from _said(lambda: schedule(beside))


def job(path: Path, given: Mapping[str, Any]) -> Any:
    """Return the job that the SDK reads. Raises what the SDK raises."""
    values = [{f"inputs.{name}": value} for name, value in given.items()]
    return import_module("azure.ai.ml").load_job(str(path), params_override=values)


def schedule(path: Path) -> Any:
    """Return the schedule that the SDK reads. Raises what the SDK raises."""
    return import_module("azure.ai.ml.entities._load_functions").load_schedule(str(path))


def _said(load: Any) -> Iterator[str]:
    try:
        found = load()._validate()
    except Exception as error:
        yield repr(error)[:2_000]
        return
    if not found.passed:
        yield str(found.error_messages)
