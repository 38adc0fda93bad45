"""Decides which targets there are; one is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from kitaru.errors import UsageError

from .base import Target


def _airflow() -> Target:
    from .airflow import emit, profile, submit, validate

    return Target(
        name="airflow",
        title="Apache Airflow",
        profile=profile.PROFILE,
        document="dag.py",
        family="airflow",
        emit=emit.emit,
        validate=validate.validate,
        submit=submit.submit,
        transport=profile.TRANSPORT,
    )


def _azureml() -> Target:
    from .azureml import emit, profile, submit, validate

    return Target(
        name="azureml",
        title="Azure Machine Learning",
        profile=profile.PROFILE,
        document="pipeline.yaml",
        family="azureml",
        emit=emit.emit,
        validate=validate.validate,
        submit=submit.submit,
        transport=profile.TRANSPORT,
    )


def _kubeflow() -> Target:
    from .kubeflow import emit, profile, submit, validate

    return Target(
        name="kubeflow",
        title="Kubeflow Pipelines",
        profile=profile.PROFILE,
        document="pipeline.yaml",
        family="kfp-ir",
        emit=emit.emit,
        validate=validate.validate,
        submit=submit.submit,
    )


def _sagemaker() -> Target:
    from .sagemaker import emit, profile, submit, validate

    return Target(
        name="sagemaker",
        title="Amazon SageMaker Pipelines",
        profile=profile.PROFILE,
        document="pipeline.json",
        family="sagemaker",
        emit=emit.emit,
        validate=validate.validate,
        submit=submit.submit,
        transport=profile.TRANSPORT,
    )


def _vertex() -> Target:
    from .vertex import emit, profile, submit, validate

    return Target(
        name="vertex",
        title="Vertex AI Pipelines",
        profile=profile.PROFILE,
        document="pipeline.yaml",
        family="kfp-ir",
        emit=emit.emit,
        validate=validate.validate,
        submit=submit.submit,
    )


_MAKERS: dict[str, Callable[[], Target]] = {
    "airflow": _airflow,
    "azureml": _azureml,
    "kubeflow": _kubeflow,
    "sagemaker": _sagemaker,
    "vertex": _vertex,
}


def names() -> tuple[str, ...]:
    """Return the names of all targets, in alphabetical order."""
    return tuple(sorted(_MAKERS))


@cache
def get(name: str) -> Target:
    """Return the target called `name`; raise UsageError that lists the known ones.

    >>> get("vertex").document
    'pipeline.yaml'
    """
    if name not in _MAKERS:
        raise UsageError(f"unknown target {name!r}", help=f"targets are: {', '.join(names())}")
    return _MAKERS[name]()
