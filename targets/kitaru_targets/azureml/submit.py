"""Start a run on Azure ML with its own SDK, which is imported only here.

Written against azure-ai-ml 1.35. It was never run against the real service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru.errors import EnvironmentFailure, UsageError
from kitaru_targets.base import Submitted
from kitaru_targets.common import sdk
from kitaru_targets.common.options import check_run

_SDK = ("azure-ai-ml>=1.20", "azure-identity>=1.15")
_WORKSPACE = ("subscription_id", "resource_group_name", "workspace_name")
# The option for a job name, which the workspace accepts only once.
RUN_OPTION = "once"
_OPTIONS = frozenset({*_WORKSPACE, "compute", "experiment_name", RUN_OPTION})


def submit(document: str, parameters: Mapping[str, Any], options: Mapping[str, str]) -> Submitted:
    """Start a run of the document at path `document`.

    Options: `subscription_id`, `resource_group_name` and `workspace_name`, all required, and
    `compute` (a cluster's name; default: serverless) and `experiment_name`. `once` names the job:
    an existing job with that name is not started again.

    Raises:
        UsageError: an option is unknown, or one of the workspace's options is missing.
        EnvironmentFailure: the SDK is missing, or the service refused.
    """
    check_run("azureml", options, _OPTIONS)
    missing = [name for name in _WORKSPACE if name not in options]
    if missing:
        raise UsageError(
            f"Azure ML needs the option {missing[0]!r}.",
            help=f"--set {missing[0]}=…",
        )
    ml = sdk.load("azure.ai.ml", "Azure ML", *_SDK)
    identity = sdk.load("azure.identity", "Azure ML", *_SDK)
    try:
        job = ml.load_job(source=document, params_override=_overrides(parameters, options))
        workspace = {name: options[name] for name in _WORKSPACE}
        client = ml.MLClient(credential=identity.DefaultAzureCredential(), **workspace)
        named = {k: options[k] for k in ("experiment_name",) if k in options}
        started = _created(client, job, options.get(RUN_OPTION, ""), named)
    except Exception as error:
        raise EnvironmentFailure(f"Azure ML did not start the run: {error}") from error
    return Submitted(started.name, started.studio_url or "")


def _created(client: Any, job: Any, once: str, named: Mapping[str, str]) -> Any:
    try:
        return client.jobs.create_or_update(job=job, **named)
    except Exception:
        # A started job cannot be changed, so it is the job that was to be started.
        if not once:
            raise
        try:
            return client.jobs.get(once)
        except Exception:
            pass
        raise


def _overrides(parameters: Mapping[str, Any], options: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the values of `--set`: the passed inputs and the compute."""
    # The SDK drops empty strings. An input that is not passed has a default.
    values: list[dict[str, Any]] = [
        {f"inputs.{name}": value} for name, value in parameters.items() if value != ""
    ]
    if "compute" in options:
        values.append({"settings.default_compute": f"azureml:{options['compute']}"})
    if RUN_OPTION in options:
        values.append({"name": options[RUN_OPTION]})
    return values
