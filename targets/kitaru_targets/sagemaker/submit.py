"""Start runs and deliver answers on SageMaker Pipelines with boto3, which is imported only here.

Written against boto3 1.44. It was never run against the real service.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kitaru.errors import EnvironmentFailure
from kitaru.wire.canonical import sha256
from kitaru.wire.plan import OWN_DEFAULT
from kitaru.wire.records import ExecutionRecord
from kitaru_targets import lock
from kitaru_targets.base import NotReached, Submitted
from kitaru_targets.common import aws
from kitaru_targets.common import parameters as names
from kitaru_targets.common.node_names import slug
from kitaru_targets.sagemaker.emit import ANSWER, IMAGE, ROLE
from kitaru_targets.sagemaker.profile import MAX_PIPELINE_NAME

# The option for the token of a start request, which the service accepts only once.
RUN_OPTION = "once"
_OPTIONS = frozenset({"role", "image", "region", "pipeline_name", "parallel_steps", RUN_OPTION})
NAME_OPTION = "pipeline_name"
# The service accepts longer definitions only from S3.
_MOST_INLINE = 100 * 1024


def submit(document: str, parameters: Mapping[str, Any], options: Mapping[str, str]) -> Submitted:
    """Create or update the pipeline of the document at path `document`, and start it.

    Options: `role` (ARN; the pipeline and its steps run as it), `image` (in Amazon ECR), `region`,
    `pipeline_name` (default: the flow's name), and `parallel_steps`, the maximum number of
    concurrent steps. `once` is a name: the same name addresses the same run.

    Raises:
        UsageError: an option is unknown, the role is missing, or the store is not in S3.
        EnvironmentFailure: the SDK is missing, or the service refused.
    """
    aws.check("sagemaker", "SageMaker", parameters, options, _OPTIONS)
    session = aws.session("SageMaker", options)
    try:
        return _started(session, Path(document), parameters, options)
    except Exception as error:
        raise EnvironmentFailure(f"SageMaker did not start the run: {error}") from error


def answered(
    record: ExecutionRecord, wait: str, value: Any, options: Mapping[str, str], looks: int = 1
) -> bool:
    """Continue the callbacks of an execution's waiting runs; return False if no run is open.

    The callbacks are only notified. Steps read the answer from the journal. The account and the
    region are those of the environment, as for the AWS command line. `options` is empty.

    Raises:
        EnvironmentFailure: the SDK is missing, the service refused, or a run has not reached its
            wait yet. The answer is recorded, and the same answer may be sent again.
    """
    del wait, value, options, looks
    by_hand = _by_hand(record)
    with _connected("The answer is recorded, but SageMaker was not told of it", by_hand) as client:
        runs = list(_open_runs(client, record))
        tokens = [token for run in runs for token in _tokens(client, run)]
        for token in tokens:
            given = [{"Name": ANSWER, "Value": OWN_DEFAULT}]
            client.send_pipeline_execution_step_success(CallbackToken=token, OutputParameters=given)
    if runs and not tokens:
        raise NotReached(
            "The answer is recorded, but no step of SageMaker's run waits for it yet.", help=by_hand
        )
    return bool(tokens)


def cancelled(record: ExecutionRecord, options: Mapping[str, str]) -> bool:
    """Stop the runs of an execution and their waiting callbacks; return False if no run is open.

    Raises the EnvironmentFailure of `answered`; the execution is cancelled anyway.
    """
    del options
    with _connected("The execution is cancelled, but not its run on SageMaker") as client:
        runs = list(_open_runs(client, record))
        for run in runs:
            client.stop_pipeline_execution(PipelineExecutionArn=run)
            # A stopped run leaves its callback waiting.
            for token in _tokens(client, run):
                reason = f"{record.exec_id} is cancelled"
                client.send_pipeline_execution_step_failure(
                    CallbackToken=token, FailureReason=reason
                )
    return bool(runs)


@contextmanager
def _connected(failed: str, help: str = "") -> Iterator[Any]:
    """Yield a client of the service; its errors become EnvironmentFailures with these texts."""
    boto3 = aws.boto3("SageMaker")
    try:
        yield boto3.Session().client("sagemaker")
    except Exception as error:
        raise EnvironmentFailure(f"{failed}: {error}", help=help) from error


def _by_hand(record: ExecutionRecord) -> str:
    return (
        "Give the same answer again, or tell it by hand: the token of the step that waits is in\n"
        f"  aws sagemaker list-pipeline-executions --pipeline-name {_pipeline(record)}\n"
        "  aws sagemaker list-pipeline-execution-steps --pipeline-execution-arn ARN\n"
        "  aws sagemaker send-pipeline-execution-step-success --callback-token TOKEN "
        f"--output-parameters Name={ANSWER},Value={OWN_DEFAULT}"
    )


def _pipeline(record: ExecutionRecord) -> str:
    return record.run.partition("/")[0]


def _open_runs(client: Any, record: ExecutionRecord) -> Iterator[str]:
    """Yield the runs of an execution: its first run, and later runs of the pipeline."""
    pipeline = _pipeline(record)
    # The first step starts some time after its run.
    since = datetime.fromisoformat(record.started_at) - timedelta(days=1)
    pages = client.get_paginator("list_pipeline_executions")
    for page in pages.paginate(PipelineName=pipeline, CreatedAfter=since):
        for found in page["PipelineExecutionSummaries"]:
            arn = found["PipelineExecutionArn"]
            first = f"{pipeline}/{arn.rpartition('/')[2]}" == record.run
            if found["PipelineExecutionStatus"] == "Executing" and (
                first or _execution(client, arn) == record.exec_id
            ):
                yield arn


def _execution(client: Any, run: str) -> str:
    pages = client.get_paginator("list_pipeline_parameters_for_execution")
    found = {
        parameter["Name"]: parameter["Value"]
        for page in pages.paginate(PipelineExecutionArn=run)
        for parameter in page["PipelineParameters"]
    }
    return str(found.get(names.EXECUTION, ""))


def _tokens(client: Any, run: str) -> Iterator[str]:
    """Yield the tokens of the callbacks at which a run waits."""
    pages = client.get_paginator("list_pipeline_execution_steps")
    for page in pages.paginate(PipelineExecutionArn=run):
        for step in page["PipelineExecutionSteps"]:
            callback = step.get("Metadata", {}).get("Callback")
            if callback and step["StepStatus"] == "Executing":
                yield callback["CallbackToken"]


def _started(
    session: Any, document: Path, parameters: Mapping[str, Any], options: Mapping[str, str]
) -> Submitted:
    client = session.client("sagemaker")
    flow = lock.read(document.parent).flow
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
    # 32 to 128 characters.
    digest = sha256(options[RUN_OPTION].encode()) if RUN_OPTION in options else ""
    once = {"ClientRequestToken": digest.removeprefix("sha256:")} if digest else {}
    started = client.start_pipeline_execution(
        **common,
        **once,
        # The service accepts no empty texts. A missing parameter has a default.
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
