"""What the services of AWS share: their SDK, and what each run needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kitaru.errors import UsageError
from kitaru_targets.common import parameters as names
from kitaru_targets.common import sdk
from kitaru_targets.common.options import check_run


def boto3(service: str) -> Any:
    """Return boto3; raise EnvironmentFailure if it is not installed."""
    return sdk.load("boto3", service, "boto3>=1.35")


def session(service: str, options: Mapping[str, str]) -> Any:
    """Return a session in the region of a run's options, else in that of the environment."""
    region = {"region_name": options["region"]} if "region" in options else {}
    return boto3(service).Session(**region)


def check(
    target: str,
    service: str,
    parameters: Mapping[str, Any],
    options: Mapping[str, str],
    known: Iterable[str],
) -> None:
    """Check the options and the store of a run.

    Raises:
        UsageError: an option is unknown, the role is missing, or the store is not in S3.
    """
    check_run(target, options, known)
    if "role" not in options:
        raise UsageError(
            f"{service} needs a role to run as, and none is named.",
            help="role=arn:aws:iam::ACCOUNT:role/NAME",
        )
    if not str(parameters.get(names.STORE, "s3://")).startswith("s3://"):
        raise UsageError(
            f"{service} cannot reach the store {parameters[names.STORE]}", help="use s3://…"
        )
