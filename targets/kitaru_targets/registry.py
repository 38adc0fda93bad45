"""Decides which targets there are."""

from __future__ import annotations

from kitaru.errors import UsageError

from .airflow import emit as airflow_emit
from .airflow import profile as airflow_profile
from .airflow import submit as airflow_submit
from .airflow import validate as airflow_validate
from .azureml import emit as azureml_emit
from .azureml import profile as azureml_profile
from .azureml import submit as azureml_submit
from .azureml import validate as azureml_validate
from .base import Target
from .kubeflow import emit as kubeflow_emit
from .kubeflow import profile as kubeflow_profile
from .kubeflow import submit as kubeflow_submit
from .kubeflow import validate as kubeflow_validate
from .sagemaker import emit as sagemaker_emit
from .sagemaker import profile as sagemaker_profile
from .sagemaker import submit as sagemaker_submit
from .sagemaker import validate as sagemaker_validate
from .vertex import emit as vertex_emit
from .vertex import profile as vertex_profile
from .vertex import submit as vertex_submit
from .vertex import validate as vertex_validate

_TARGETS = (
    Target(
        name="airflow",
        title="Apache Airflow",
        profile=airflow_profile.PROFILE,
        document="dag.py",
        family="airflow",
        emit=airflow_emit.emit,
        validate=airflow_validate.validate,
        submit=airflow_submit.submit,
        transport=airflow_profile.TRANSPORT,
        answered=airflow_submit.answered,
    ),
    Target(
        name="kubeflow",
        title="Kubeflow Pipelines",
        profile=kubeflow_profile.PROFILE,
        document="pipeline.yaml",
        family="kfp-ir",
        emit=kubeflow_emit.emit,
        validate=kubeflow_validate.validate,
        submit=kubeflow_submit.submit,
    ),
    Target(
        name="vertex",
        title="Vertex AI Pipelines",
        profile=vertex_profile.PROFILE,
        document="pipeline.yaml",
        family="kfp-ir",
        emit=vertex_emit.emit,
        validate=vertex_validate.validate,
        submit=vertex_submit.submit,
    ),
    Target(
        name="sagemaker",
        title="Amazon SageMaker Pipelines",
        profile=sagemaker_profile.PROFILE,
        document="pipeline.json",
        family="sagemaker",
        emit=sagemaker_emit.emit,
        validate=sagemaker_validate.validate,
        submit=sagemaker_submit.submit,
        transport=sagemaker_profile.TRANSPORT,
    ),
    Target(
        name="azureml",
        title="Azure Machine Learning",
        profile=azureml_profile.PROFILE,
        document="pipeline.yaml",
        family="azureml",
        emit=azureml_emit.emit,
        validate=azureml_validate.validate,
        submit=azureml_submit.submit,
        transport=azureml_profile.TRANSPORT,
    ),
)


def names() -> tuple[str, ...]:
    """Return the names of all targets, in alphabetical order."""
    return tuple(sorted(target.name for target in _TARGETS))


def get(name: str) -> Target:
    """Return the target called `name`; raise UsageError that lists the known ones.

    >>> get("vertex").document
    'pipeline.yaml'
    """
    for target in _TARGETS:
        if target.name == name:
            return target
    raise UsageError(f"unknown target {name!r}", help=f"targets are: {', '.join(names())}")
