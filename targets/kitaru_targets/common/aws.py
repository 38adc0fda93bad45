"""What the services of AWS share: their SDK, and what each run needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kitaru.errors import UsageError
from kitaru_targets.common import parameters as names
from kitaru_targets.common import sdk
from kitaru_targets.common.options import Option, check_run, several

SUBNETS, GROUPS, TAGS = "subnets", "security_groups", "tags"
NETWORK = {
    SUBNETS: Option("ids of subnets, separated by commas", several("subnet-[0-9a-f]{1,25}")),
    GROUPS: Option("ids of security groups, separated by commas", several("sg-[0-9a-f]{1,29}")),
}
KEY = Option(
    "the ARN of a KMS key, or of an alias: arn:aws:kms:REGION:ACCOUNT:key/ID",
    r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(?:key/[A-Za-z0-9-]{1,64}|alias/[A-Za-z0-9/_-]{1,250})",
)
TAG = Option(
    "tags: KEY=VALUE, KEY=VALUE",
    several(r"(?!aws:)[A-Za-z0-9_.:/+@-]{1,128}=[A-Za-z0-9_.:/+@-]{0,256}"),
)


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
