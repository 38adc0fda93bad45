"""Start a run on Vertex AI Pipelines with its own SDK, which is imported only here.

Written against google-cloud-aiplatform 2.7. It was never run against a real service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru.errors import EnvironmentFailure
from kitaru_targets.base import Submitted
from kitaru_targets.common import sdk
from kitaru_targets.common.options import check_run, pairs

_JOB = ("project", "location", "pipeline_root", "job_id", "encryption_spec_key_name")
_RUN = ("service_account", "network")
_LABELS = "labels"
# The option for a job id, which the service accepts only once.
RUN_OPTION = "once"
_CONFLICT = 409


def submit(document: str, parameters: Mapping[str, Any], options: Mapping[str, str]) -> Submitted:
    """Start a run of the document at path `document`.

    Options: `project`, `location` and `pipeline_root` (a `gs://` folder) of the job, `job_id`,
    `encryption_spec_key_name`, its `service_account` and `network`, and its `labels` as
    `KEY=VALUE, KEY=VALUE`. `once` is also a `job_id`:
    an existing job with that id is not started again.

    Raises:
        UsageError: an option is unknown.
        EnvironmentFailure: the SDK is missing, or the service refused.
    """
    once = options.get(RUN_OPTION, "")
    check_run("vertex", {*options} - {RUN_OPTION}, (*_JOB, *_RUN, _LABELS))
    aiplatform = sdk.load("google.cloud.aiplatform", "Vertex", "google-cloud-aiplatform>=1.100")
    chosen = {k: options[k] for k in _JOB if k in options}
    try:
        job = aiplatform.PipelineJob(
            display_name=None,
            template_path=document,
            parameter_values=dict(parameters),
            enable_caching=False,
            **({"job_id": once} if once else {}) | chosen,
            **({"labels": pairs(options[_LABELS])} if _LABELS in options else {}),
        )
        if not _began(job, {k: options[k] for k in _RUN if k in options}, once):
            place = f"projects/{job.project}/locations/{job.location}"
            return Submitted(f"{place}/pipelineJobs/{once}", "")
    except Exception as error:
        raise EnvironmentFailure(f"Vertex did not start the run: {error}") from error
    return Submitted(job.resource_name, job._dashboard_uri())


def _began(job: Any, options: Mapping[str, str], once: str) -> bool:
    """Start a job; return False if a job with the id `once` already exists."""
    try:
        job.submit(**options)
    except Exception as error:
        if once and getattr(error, "code", None) == _CONFLICT:
            return False
        raise
    return True
