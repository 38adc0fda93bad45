"""Decides how a run is started on Kubeflow Pipelines: through its own SDK, imported here only.

Written against kfp 2.17. It was never run against a real service.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from kitaru.errors import EnvironmentFailure, UsageError

from ..base import Submitted

_OPTIONS = frozenset({"host", "namespace", "experiment_name", "service_account", "run_name"})


def submit(document: str, parameters: Mapping[str, Any], options: Mapping[str, str]) -> Submitted:
    """Start a run of the document at path `document`.

    Options: `host` and `namespace` of the API server (default: what the SDK finds), and
    `experiment_name`, `service_account`, `run_name` of the run.

    Raises:
        UsageError: an unknown option.
        EnvironmentFailure: the SDK is missing, or the service refused.
    """
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise UsageError(
            f"Unknown option {unknown[0]!r} for kubeflow.", help=f"known: {sorted(_OPTIONS)}"
        )
    try:
        kfp: Any = importlib.import_module("kfp")
    except ImportError as error:
        raise EnvironmentFailure(
            "Submitting to Kubeflow needs its SDK, which is not installed.",
            help="pip install 'kfp==2.17.0'",
        ) from error
    connection = {k: options[k] for k in ("host", "namespace") if k in options}
    run = {k: options[k] for k in sorted(_OPTIONS - {"host"}) if k in options}
    try:
        started = kfp.Client(**connection).create_run_from_pipeline_package(
            document, arguments=dict(parameters), enable_caching=False, **run
        )
    except Exception as error:
        raise EnvironmentFailure(f"Kubeflow did not start the run: {error}") from error
    return Submitted(started.run_id, getattr(started, "run_url", "") or "")
