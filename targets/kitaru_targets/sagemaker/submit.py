"""Decides how a run is started on SageMaker Pipelines: through boto3, imported here only.

Written against boto3 1.44. It was never run against the real service.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kitaru.errors import EnvironmentFailure, UsageError
from kitaru.wire.canonical import sha256

from ..base import Submitted
from ..common import parameters as names
from ..common.keys import slug
from .emit import IMAGE, ROLE
from .profile import MAX_PIPELINE_NAME

_OPTIONS = frozenset({"role", "image", "region", "pipeline_name", "parallel_steps"})
NAME_OPTION = "pipeline_name"
# The service takes longer definitions from S3 alone.
_MOST_INLINE = 100 * 1024


def submit(document: str, parameters: Mapping[str, Any], options: Mapping[str, str]) -> Submitted:
    """Create or update the pipeline of the document at path `document`, and start it.

    Options: `role` (ARN; pipeline and steps run as it), `image` (in Amazon ECR), `region`,
    `pipeline_name` (default: the flow's), and `parallel_steps`, how many run at once at most.

    Raises:
        UsageError: an unknown option, no role, or a store that is not in S3.
        EnvironmentFailure: the SDK is missing, or the service refused.
    """
    _check(parameters, options)
    try:
        boto3: Any = importlib.import_module("boto3")
    except ImportError as error:
        raise EnvironmentFailure(
            "submitting to SageMaker needs its SDK, which is not installed",
            help="pip install boto3",
        ) from error
    region = {"region_name": options["region"]} if "region" in options else {}
    try:
        return _started(boto3.Session(**region), Path(document), parameters, options)
    except Exception as error:
        raise EnvironmentFailure(f"SageMaker did not start the run: {error}") from error


def _check(parameters: Mapping[str, Any], options: Mapping[str, str]) -> None:
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise UsageError(
            f"unknown option {unknown[0]!r} for sagemaker", help=f"known: {sorted(_OPTIONS)}"
        )
    if "role" not in options:
        raise UsageError(
            "SageMaker needs a role to run as, and none is named",
            help="role=arn:aws:iam::ACCOUNT:role/NAME",
        )
    if not str(parameters.get(names.STORE, "s3://")).startswith("s3://"):
        raise UsageError(
            f"SageMaker cannot reach the store {parameters[names.STORE]}", help="use s3://…"
        )


def _started(
    session: Any, document: Path, parameters: Mapping[str, Any], options: Mapping[str, str]
) -> Submitted:
    client = session.client("sagemaker")
    flow = json.loads((document.parent / "lock.json").read_text(encoding="utf-8"))["flow"]
    name = options.get("pipeline_name") or slug(flow, fallback="flow", longest=MAX_PIPELINE_NAME)
    common: dict[str, Any] = {"PipelineName": name}
    if "parallel_steps" in options:
        most = int(options["parallel_steps"])
        common["ParallelismConfiguration"] = {"MaxParallelExecutionSteps": most}
    definition = _definition(session, document, parameters)
    pipeline = {**common, **definition, "RoleArn": options["role"]}
    try:
        client.update_pipeline(**pipeline)
    except client.exceptions.ResourceNotFound:
        client.create_pipeline(**pipeline, Tags=[{"Key": "kitaru:flow", "Value": flow}])
    image = {IMAGE: options["image"]} if "image" in options else {}
    given = {**parameters, ROLE: options["role"], **image}
    started = client.start_pipeline_execution(
        **common,
        # The service takes no empty texts: what is not given has a default.
        PipelineParameters=[
            {"Name": name, "Value": _text(value)}
            for name, value in sorted(given.items())
            if value != ""
        ],
    )
    return Submitted(started["PipelineExecutionArn"], "")


def _definition(session: Any, document: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    data = document.read_bytes()
    if len(data) < _MOST_INLINE:
        return {"PipelineDefinition": data.decode()}
    bucket, _, prefix = str(parameters[names.STORE]).removeprefix("s3://").partition("/")
    digest = sha256(data).removeprefix("sha256:")
    key = "/".join(part for part in (prefix, "native", f"{digest}.json") if part)
    session.client("s3").put_object(Bucket=bucket, Key=key, Body=data)
    return {"PipelineDefinitionS3Location": {"Bucket": bucket, "ObjectKey": key}}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
