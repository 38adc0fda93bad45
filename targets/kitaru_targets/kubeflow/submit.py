"""Start a run on Kubeflow Pipelines with its own SDK, which is imported only here.

Written against kfp 2.17. It was never run against a real service.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kitaru.errors import EnvironmentFailure
from kitaru_targets.base import Submitted
from kitaru_targets.common import sdk
from kitaru_targets.common.options import check_run

# The option for the name of a run to start once: the service itself accepts any name twice.
RUN_OPTION = "once"
_RUN = ("namespace", "experiment_name", "service_account", "run_name")
_OPTIONS = frozenset({"host", RUN_OPTION, *_RUN})


def submit(document: str, parameters: Mapping[str, Any], options: Mapping[str, str]) -> Submitted:
    """Start a run of the document at path `document`.

    Options: `host` and `namespace` of the API server (default: those that the SDK finds), and
    `experiment_name`, `service_account` and `run_name` of the run. `once` is also a run's name: an
    existing run with that name is not started again.

    Raises:
        UsageError: an option is unknown.
        EnvironmentFailure: the SDK is missing, or the service refused.
    """
    check_run("kubeflow", options, _OPTIONS)
    kfp = sdk.load("kfp", "Kubeflow", "kfp==2.17.0")
    connection = {k: options[k] for k in ("host", "namespace") if k in options}
    run = {k: options[k] for k in _RUN if k in options}
    once = options.get(RUN_OPTION, "")
    try:
        client = kfp.Client(**connection)
        found = _found(client, once, options.get("namespace")) if once else None
        if found is not None:
            return Submitted(found.run_id, "")
        run = {"run_name": once, **run} if once else run
        started = client.create_run_from_pipeline_package(
            document, arguments=dict(parameters), enable_caching=False, **run
        )
    except Exception as error:
        raise EnvironmentFailure(f"Kubeflow did not start the run: {error}") from error
    return Submitted(started.run_id, getattr(started, "run_url", "") or "")


def _found(client: Any, name: str, namespace: str | None) -> Any:
    """Return the run of that name; None if there is no such run."""
    equal = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    listed = client.list_runs(filter=json.dumps({"predicates": [equal]}), namespace=namespace)
    return next(iter(listed.runs or ()), None)
