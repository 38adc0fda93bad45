"""Decides how a run is started on Vertex AI Pipelines: through its own SDK, imported here only.

Written against google-cloud-aiplatform 2.7. It was never run against a real service.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from kitaru.errors import EnvironmentFailure, UsageError

from ..base import Submitted

_JOB = ("project", "location", "pipeline_root", "job_id", "encryption_spec_key_name")
_RUN = ("service_account", "network")


def submit(document: str, parameters: Mapping[str, Any], options: Mapping[str, str]) -> Submitted:
    """Start a run of the document at path `document`.

    Options: `project`, `location` and `pipeline_root` (a `gs://` folder) of the job, `job_id`,
    `encryption_spec_key_name`, and the `service_account` and `network` it runs with.

    Raises:
        UsageError: an unknown option.
        EnvironmentFailure: the SDK is missing, or the service refused.
    """
    unknown = sorted(set(options) - {*_JOB, *_RUN})
    if unknown:
        raise UsageError(
            f"Unknown option {unknown[0]!r} for vertex.", help=f"known: {sorted((*_JOB, *_RUN))}"
        )
    try:
        aiplatform: Any = importlib.import_module("google.cloud.aiplatform")
    except ImportError as error:
        raise EnvironmentFailure(
            "Submitting to Vertex needs its SDK, which is not installed.",
            help="pip install google-cloud-aiplatform",
        ) from error
    try:
        job = aiplatform.PipelineJob(
            display_name=None,
            template_path=document,
            parameter_values=dict(parameters),
            enable_caching=False,
            **{k: options[k] for k in _JOB if k in options},
        )
        job.submit(**{k: options[k] for k in _RUN if k in options})
    except Exception as error:
        raise EnvironmentFailure(f"Vertex did not start the run: {error}") from error
    return Submitted(job.resource_name, job._dashboard_uri())
