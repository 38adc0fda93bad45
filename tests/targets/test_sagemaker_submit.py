"""Decides that a submission to SageMaker makes requests that the service's API model takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from kitaru_targets import registry

from kitaru.errors import EnvironmentFailure, UsageError

from .conftest import REVIEW, Make

TARGET = registry.get("sagemaker")
ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/review/execution/2DRR2511NGO3"
ROLE = "arn:aws:iam::123456789012:role/kitaru"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Stand in for the service: requests have to fit its API model; answers are given."""
    boto3 = pytest.importorskip("boto3")
    stub = pytest.importorskip("botocore.stub")
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    client = boto3.client("sagemaker", region_name="us-east-1", **keys)
    monkeypatch.setattr(boto3.Session, "client", lambda self, name: client)
    with stub.Stubber(client) as stubbed:
        yield stubbed
        stubbed.assert_no_pending_responses()


@pytest.mark.parametrize("there", [True, False])
def test_a_pipeline_is_updated_or_else_created_and_started(
    make: Make, service: Any, there: bool
) -> None:
    built = make(REVIEW, "sagemaker", store="s3://bucket/prefix")
    definition = {"PipelineDefinition": built.document.read_text(), "RoleArn": ROLE}
    pipeline = {
        "PipelineName": "review",
        "ParallelismConfiguration": {"MaxParallelExecutionSteps": 2},
    }
    arn = {"PipelineArn": ARN.partition("/execution")[0]}
    if there:
        service.add_response("update_pipeline", arn, pipeline | definition)
    else:
        service.add_client_error("update_pipeline", "ResourceNotFound")
        tags = {"Tags": [{"Key": "kitaru:flow", "Value": "review"}]}
        service.add_response("create_pipeline", arn, pipeline | definition | tags)
    values = {"kitaru_image": "i", "kitaru_role": ROLE, "topic": "owls", "words": "3"}
    parameters = [{"Name": name, "Value": values[name]} for name in sorted(values)]
    started = pipeline | {"PipelineParameters": parameters}
    service.add_response("start_pipeline_execution", {"PipelineExecutionArn": ARN}, started)
    found = TARGET.submit(
        str(built.document),
        {"topic": "owls", "words": 3, "kitaru_execution": ""},
        {"role": ROLE, "image": "i", "region": "us-east-1", "parallel_steps": "2"},
    )
    assert found.run_id == ARN


def test_a_service_that_refuses_is_an_environment_failure(make: Make, service: Any) -> None:
    service.add_client_error("update_pipeline", "AccessDeniedException", "not yours")
    options = {"role": ROLE, "region": "us-east-1"}
    with pytest.raises(EnvironmentFailure, match="not yours"):
        TARGET.submit(str(make(REVIEW, "sagemaker").document), {"topic": "owls"}, options)


@pytest.mark.parametrize(
    ("options", "store", "expected"),
    [
        ({"role": ROLE, "colour": "red"}, "s3://b/p", "'colour'"),
        ({}, "s3://b/p", "needs a role"),
        ({"role": ROLE}, "gs://b/p", "cannot reach the store"),
    ],
)
def test_what_cannot_be_submitted_is_said(
    options: dict[str, str], store: str, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        TARGET.submit("pipeline.json", {"kitaru_store": store}, options)


def test_a_missing_sdk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(EnvironmentFailure, match="not installed"):
        TARGET.submit("pipeline.json", {}, {"role": ROLE})
