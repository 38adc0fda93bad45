"""The registry of targets. A target is imported when it is used."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kitaru.errors import UsageError
from kitaru.wire.names import suggestion
from kitaru_targets import plugins
from kitaru_targets.base import Execute, Target

if TYPE_CHECKING:
    from kitaru_targets.dry_run.process import Machine

# By name, which is also the folder: title and document.
_TARGETS = {
    "airflow": ("Apache Airflow", "dag.py"),
    "argo": ("Argo Workflows", "workflow.yaml"),
    "azureml": ("Azure Machine Learning", "pipeline.yaml"),
    "kubeflow": ("Kubeflow Pipelines", "pipeline.yaml"),
    "kubernetes": ("Kubernetes", "job.yaml"),
    "sagemaker": ("Amazon SageMaker Pipelines", "pipeline.json"),
    "stepfunctions": ("AWS Step Functions", "state-machine.json"),
    "vertex": ("Vertex AI Pipelines", "pipeline.yaml"),
}
# This machine: a process runs the flow, without an orchestrator.
LOCAL = "local"
_KNOWN = {**_TARGETS, LOCAL: ("a process on this machine", "process.json")}


def names() -> tuple[str, ...]:
    """Return the names of the supported orchestrators, sorted."""
    return tuple(sorted(_TARGETS))


def is_own(name: str) -> bool:
    """Return whether a target is Kitaru's own. A name in a record loads no other distribution."""
    return name in _KNOWN


@cache
def get(name: str) -> Target:
    """Return the target called `name`: `local`, an orchestrator, or that of another distribution.

    Raises:
        UsageError: no target has this name, or several distributions provide it.
        EnvironmentFailure: the distribution that provides it is broken.

    >>> get("vertex").document
    'pipeline.yaml'
    """
    if name not in _KNOWN:
        return _brought(name)
    title, document = _KNOWN[name]
    files = ("profile", "emit", "validate", "submit")
    profile, emit, validate, submit = (import_module(f".{name}.{f}", __package__) for f in files)
    return Target(
        name=name,
        title=title,
        profile=profile.PROFILE,
        document=document,
        emit=emit.emit,
        validate=validate.validate,
        submit=submit.submit,
        execute=_execute(name),
        guide=lambda values: _rendered(f"deploy_{name}.md.j2", values),
        transport=profile.TRANSPORT,
        answered=getattr(submit, "answered", None),
        cancelled=getattr(submit, "cancelled", None),
        has_ended=getattr(submit, "has_ended", None),
        submitted_name=getattr(submit, "NAME_OPTION", ""),
        run_option=getattr(submit, "RUN_OPTION", ""),
        connection=getattr(submit, "CONNECTION", ()),
        further=getattr(profile, "FURTHER", ()),
        runs_whole=profile.PROFILE.is_whole,
        answered_by_token=getattr(submit, "ANSWERED_BY_TOKEN", False),
        starts=getattr(emit, "starts", None),
        unit=getattr(profile, "UNIT", "container"),
        schedules=getattr(profile, "SCHEDULES", None),
        options=getattr(profile, "OPTIONS", {}),
        limits_runs=getattr(profile, "LIMITS_RUNS", ""),
    )


def _rendered(template: str, values: Mapping[str, Any]) -> str:
    from kitaru_templates.render import render

    return render(template, values)


def _brought(name: str) -> Target:
    found = [one for one in plugins.installed() if one.name == name]
    if not found:
        known = [LOCAL, *names(), *(one.name for one in plugins.installed())]
        listed = f"targets are: {', '.join(known)}"
        raise UsageError(f"Unknown target {name!r}.", help=suggestion(name, known, listed))
    return plugins.load(found)


@cache
def _execute(name: str) -> Execute:
    def execute(text: str, given: Mapping[str, Any], run_id: str, machine: Machine) -> None:
        import_module(f".{name}.dry_run", __package__).execute(text, given, run_id, machine)

    return execute
