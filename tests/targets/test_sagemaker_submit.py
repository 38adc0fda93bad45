"""A submission to SageMaker makes requests that the service's API model accepts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kitaru_targets import registry
from kitaru_targets.upload import upload

from kitaru.errors import EnvironmentFailure, UsageError
from kitaru.ops.notify import Notice, notify_answer
from kitaru.runtime.journal.journal import Journal
from kitaru.stores.memory import MemoryStore
from kitaru.wire.records import ExecutionRecord, StoredValue

from .conftest import REVIEW, Make
from .test_sagemaker_callbacks import QUEUE

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


RECORD = ExecutionRecord(
    exec_id="review-2drr2511ngo3-x", flow="review", module="flow", file="flow.py", mode="deployed",
    inputs=StoredValue(), inputs_digest="",
    started_at="2026-11-22T06:00:00.000000Z", target="sagemaker", run="review/2DRR2511NGO3",
)  # fmt: skip
TOKEN = "a1b2c3d4e5"
SUCCESS = {
    "CallbackToken": TOKEN,
    "OutputParameters": [{"Name": "answer", "Value": "kitaru:default"}],
}


def runs(service: Any, **status: str) -> None:
    """Set the runs of the pipeline."""
    found = [
        {"PipelineExecutionArn": ARN.replace("2DRR2511NGO3", run), "PipelineExecutionStatus": how}
        for run, how in status.items()
    ]
    since = datetime(2026, 11, 21, 6, tzinfo=UTC)
    asked = {"PipelineName": "review", "CreatedAfter": since}
    service.add_response("list_pipeline_executions", {"PipelineExecutionSummaries": found}, asked)


def works_on(service: Any, run: str, execution: str) -> None:
    arn = {"PipelineExecutionArn": ARN.replace("2DRR2511NGO3", run)}
    found = {"PipelineParameters": [{"Name": "kitaru_execution", "Value": execution}]}
    service.add_response("list_pipeline_parameters_for_execution", found, arn)


def steps(service: Any, run: str, *callbacks: str) -> None:
    """Set the steps of a run: one that is done, and callbacks in these states."""
    made = [{"StepName": "draft", "StepStatus": "Succeeded", "Metadata": {"ProcessingJob": {}}}]
    made += [
        {"StepName": "ok", "StepStatus": how, "Metadata": {"Callback": {"CallbackToken": TOKEN}}}
        for how in callbacks
    ]
    arn = {"PipelineExecutionArn": ARN.replace("2DRR2511NGO3", run)}
    service.add_response("list_pipeline_execution_steps", {"PipelineExecutionSteps": made}, arn)


def test_a_callback_of_the_executions_own_run_is_told_that_there_is_an_answer(service: Any) -> None:
    runs(service, **{"2DRR2511NGO3": "Executing"})
    steps(service, "2DRR2511NGO3", "Succeeded", "Executing")
    service.add_response("send_pipeline_execution_step_success", {}, SUCCESS)
    assert TARGET.answered and TARGET.answered(RECORD, "approve", True, {})


def test_a_later_run_of_the_execution_is_told_and_no_other_one(service: Any) -> None:
    runs(service, **{"2DRR2511NGO3": "Succeeded", "other": "Executing", "later": "Executing"})
    works_on(service, "other", "kitaru:default")
    works_on(service, "later", RECORD.exec_id)
    # What is listed is asked of one run after the other.
    steps(service, "later", "Executing")
    service.add_response("send_pipeline_execution_step_success", {}, SUCCESS)
    assert TARGET.answered and TARGET.answered(RECORD, "approve", True, {})


def test_an_execution_whose_runs_are_over_goes_on_in_another_way(service: Any) -> None:
    runs(service, **{"2DRR2511NGO3": "Succeeded"})
    assert TARGET.answered and not TARGET.answered(RECORD, "approve", True, {})


def test_a_run_that_does_not_wait_yet_is_told_later(service: Any) -> None:
    runs(service, **{"2DRR2511NGO3": "Executing"})
    steps(service, "2DRR2511NGO3")
    assert TARGET.answered
    with pytest.raises(EnvironmentFailure, match=r"recorded, but no step .* waits") as raised:
        TARGET.answered(RECORD, "approve", True, {})
    assert "Give the same answer again" in raised.value.help
    assert "--output-parameters Name=answer,Value=kitaru:default" in raised.value.help


def test_a_service_that_cannot_be_told_loses_no_answer(service: Any) -> None:
    service.add_client_error("list_pipeline_executions", "AccessDeniedException", "not yours")
    assert TARGET.answered
    with pytest.raises(EnvironmentFailure, match=r"is recorded, .* not yours") as raised:
        TARGET.answered(RECORD, "approve", True, {})
    assert "list-pipeline-executions --pipeline-name review" in raised.value.help


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


def test_the_run_of_a_cancelled_execution_is_stopped_with_its_callback(service: Any) -> None:
    runs(service, **{"2DRR2511NGO3": "Executing"})
    arn = {"PipelineExecutionArn": ARN}
    service.add_response("stop_pipeline_execution", arn, arn)
    steps(service, "2DRR2511NGO3", "Executing")
    failure = {"CallbackToken": TOKEN, "FailureReason": f"{RECORD.exec_id} is cancelled"}
    service.add_response("send_pipeline_execution_step_failure", {}, failure)
    assert TARGET.cancelled and TARGET.cancelled(RECORD, {})
    runs(service, **{"2DRR2511NGO3": "Stopped"})
    assert not TARGET.cancelled(RECORD, {})


@pytest.mark.parametrize(("queue", "told"), [(f'queue = "{QUEUE}"', True), ("", False)])
def test_the_command_line_tells_runs_that_may_be_open(
    make: Make, service: Any, tmp_path: Path, queue: str, told: bool
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "pyproject.toml").write_text(f"[tool.kitaru.sagemaker]\n{queue}\n")
    built = make(REVIEW, "sagemaker")
    store = MemoryStore()
    upload(built, store)
    journal = Journal.create(store, replace(RECORD, bundle_digest=built.bundle_digest))
    if told:
        runs(service, **{"2DRR2511NGO3": "Executing"})
        steps(service, "2DRR2511NGO3", "Executing")
        service.add_response("send_pipeline_execution_step_success", {}, SUCCESS)
    expected = Notice("Amazon SageMaker Pipelines", "told") if told else None
    assert notify_answer(journal, "approve", True) == expected


def test_a_dry_run_is_nothing_that_the_service_knows(service: Any) -> None:
    journal = Journal.create(MemoryStore(), replace(RECORD, mode="dry-run"))
    assert notify_answer(journal, "approve", True) is None
