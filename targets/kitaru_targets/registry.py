"""Decides which targets there are; one is imported when it is asked for."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from kitaru.errors import UsageError

from .base import Target

# By name, which is also the folder: title, document, and the family whose dry run understands it.
_TARGETS = {
    "airflow": ("Apache Airflow", "dag.py", "airflow"),
    "azureml": ("Azure Machine Learning", "pipeline.yaml", "azureml"),
    "kubeflow": ("Kubeflow Pipelines", "pipeline.yaml", "kfp-ir"),
    "sagemaker": ("Amazon SageMaker Pipelines", "pipeline.json", "sagemaker"),
    "vertex": ("Vertex AI Pipelines", "pipeline.yaml", "kfp-ir"),
}


def names() -> tuple[str, ...]:
    """Return the names of all targets, in alphabetical order."""
    return tuple(sorted(_TARGETS))


@cache
def get(name: str) -> Target:
    """Return the target called `name`; raise UsageError that lists the known ones.

    >>> get("vertex").document
    'pipeline.yaml'
    """
    if name not in _TARGETS:
        raise UsageError(f"unknown target {name!r}", help=f"targets are: {', '.join(names())}")
    title, document, family = _TARGETS[name]
    files = ("profile", "emit", "validate", "submit")
    profile, emit, validate, submit = (import_module(f".{name}.{f}", __package__) for f in files)
    return Target(
        name=name,
        title=title,
        profile=profile.PROFILE,
        document=document,
        family=family,
        emit=emit.emit,
        validate=validate.validate,
        submit=submit.submit,
        transport=profile.TRANSPORT,
        answered=getattr(submit, "answered", None),
        cancelled=getattr(submit, "cancelled", None),
        submitted_name=getattr(submit, "NAME_OPTION", ""),
    )
