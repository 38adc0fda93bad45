"""Run in its own environment: report how the SDK of SageMaker reads documents.

A job has the `path` of a document, and to run it in the SDK's local mode also `parameters` and the
`environment` of each step, else null. An answer is {"problems", "status", "started"}. The one
server it talks to is the S3 that the environment names.
"""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
# The SDK asks for a region when it is imported.
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

import botocore.session  # noqa: E402

# The SDK makes a session for each step, and each session would parse the same API models again.
botocore.session.create_loader = cache(botocore.session.create_loader)

import boto3  # noqa: E402
from botocore.validate import ParamValidator  # noqa: E402
from sagemaker.core.local import local_session  # noqa: E402
from sagemaker.core.processing import Processor  # noqa: E402
from sagemaker.core.shapes import (  # noqa: E402
    ProcessingInput,
    ProcessingOutput,
    ProcessingS3Input,
    ProcessingS3Output,
)
from sagemaker.core.telemetry import telemetry_logging  # noqa: E402
from sagemaker.core.workflow.conditions import ConditionEquals, ConditionIn  # noqa: E402
from sagemaker.core.workflow.execution_variables import ExecutionVariables  # noqa: E402
from sagemaker.core.workflow.functions import Join, JsonGet  # noqa: E402
from sagemaker.core.workflow.parameters import (  # noqa: E402
    ParameterBoolean,
    ParameterFloat,
    ParameterInteger,
    ParameterString,
)
from sagemaker.core.workflow.pipeline_context import (  # noqa: E402
    LocalPipelineSession,
    PipelineSession,
)
from sagemaker.core.workflow.properties import PropertyFile  # noqa: E402
from sagemaker.mlops.local.pipeline_entities import _LocalPipeline  # noqa: E402
from sagemaker.mlops.workflow.callback_step import (  # noqa: E402
    CallbackOutput,
    CallbackOutputTypeEnum,
    CallbackStep,
)
from sagemaker.mlops.workflow.condition_step import ConditionStep  # noqa: E402
from sagemaker.mlops.workflow.for_each_step import CurrentItem, ForEachStep  # noqa: E402
from sagemaker.mlops.workflow.pipeline import Pipeline  # noqa: E402
from sagemaker.mlops.workflow.retry import (  # noqa: E402
    SageMakerJobExceptionTypeEnum,
    SageMakerJobStepRetryPolicy,
)
from sagemaker.mlops.workflow.steps import ProcessingStep  # noqa: E402
from sagemaker_process import Process  # noqa: E402
from serving import serve  # noqa: E402

KINDS = {
    "String": ParameterString,
    "Integer": ParameterInteger,
    "Float": ParameterFloat,
    "Boolean": ParameterBoolean,
}
SAMPLES = {"String": "text", "Integer": 1, "Float": 0.5, "Boolean": True}
# What callbacks are given, and one node of a fan-out, by how it is referred to.
OUTPUTS: dict[str, str] = {"ForEach.CurrentItem": "x" * 256}
ROLE = "arn:aws:iam::123456789012:role/kitaru"


def main() -> None:
    # The SDK tells its maker what it is asked to do.
    telemetry_logging._send_telemetry_request = lambda *_, **__: None
    serve(answer)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    document = json.loads(Path(job["path"]).read_text())
    if job["parameters"] is None:
        problems = [*built_alike(document), *requests(document)]
        return {"problems": problems, "status": "", "started": []}
    return run(document, job["parameters"], job["environment"])


# The same pipeline, built by the SDK


class Builder:
    """Builds the SDK's objects for what a document says."""

    def __init__(self, document: dict[str, Any], session: Any) -> None:
        self.document = document
        self.session = session
        self.parameters = {
            p["Name"]: KINDS[p["Type"]](name=p["Name"], default_value=p.get("DefaultValue"))
            for p in document["Parameters"]
        }
        self.files: dict[str, tuple[str, PropertyFile]] = {}
        self.callbacks: dict[str, CallbackStep] = {}

    def pipeline(self) -> Pipeline:
        return Pipeline(
            name="pipeline",
            parameters=list(self.parameters.values()),
            steps=[self.step(step) for step in self.document["Steps"]],
            pipeline_experiment_config=None,
            sagemaker_session=self.session,
        )

    def value(self, value: Any) -> Any:
        match value:
            case {"Get": "Execution.PipelineExecutionId"}:
                return ExecutionVariables.PIPELINE_EXECUTION_ID
            case {"Get": "Execution.PipelineName"}:
                return ExecutionVariables.PIPELINE_NAME
            case {"Get": "ForEach.CurrentItem"}:
                return CurrentItem()
            case {"Get": name} if name.startswith("Steps."):
                callback, _, rest = name.removeprefix("Steps.").partition(".OutputParameters['")
                return self.callbacks[callback].properties.Outputs[rest.removesuffix("']")]
            case {"Get": name}:
                return self.parameters[name.removeprefix("Parameters.")]
            case {"Std:Join": {"On": on, "Values": parts}}:
                return Join(on=on, values=[self.value(part) for part in parts])
            case {"Std:JsonGet": {"PropertyFile": {"Get": file}, "Path": path}}:
                step, property_file = self.files[file]
                return JsonGet(step_name=step, property_file=property_file, json_path=path)
        return value

    def step(self, step: dict[str, Any]) -> Any:
        makers = {
            "Condition": self.condition,
            "Callback": self.callback,
            "ForEach": self.each,
        }
        return makers.get(step["Type"], self.processing)(step)

    def each(self, step: dict[str, Any]) -> ForEachStep:
        arguments = step["Arguments"]
        return ForEachStep(
            name=step["Name"],
            iterable_items=self.value(arguments["IterableItems"]),
            max_concurrency=arguments["MaxConcurrency"],
            for_each_body=[self.step(inner) for inner in arguments["ForEachBody"]],
            display_name=step["DisplayName"],
            description=step["Description"],
            depends_on=step.get("DependsOn"),
        )

    def callback(self, step: dict[str, Any]) -> CallbackStep:
        made = CallbackStep(
            name=step["Name"],
            sqs_queue_url=step["SqsQueueUrl"],
            inputs={name: self.value(value) for name, value in step["Arguments"].items()},
            outputs=[
                CallbackOutput(item["OutputName"], CallbackOutputTypeEnum(item["OutputType"]))
                for item in step["OutputParameters"]
            ],
            display_name=step["DisplayName"],
            description=step["Description"],
            depends_on=step.get("DependsOn"),
        )
        self.callbacks[step["Name"]] = made
        return made

    def condition(self, step: dict[str, Any]) -> ConditionStep:
        arguments = step["Arguments"]
        return ConditionStep(
            name=step["Name"],
            conditions=[self.test(test) for test in arguments["Conditions"]],
            if_steps=[self.step(inner) for inner in arguments["IfSteps"]],
            else_steps=[self.step(inner) for inner in arguments["ElseSteps"]],
        )

    def test(self, test: dict[str, Any]) -> Any:
        if test["Type"] == "In":
            return ConditionIn(value=self.value(test["QueryValue"]), in_values=test["Values"])
        return ConditionEquals(left=self.value(test["LeftValue"]), right=test["RightValue"])

    def processing(self, step: dict[str, Any]) -> ProcessingStep:
        job = step["Arguments"]
        application, cluster = job["AppSpecification"], job["ProcessingResources"]["ClusterConfig"]
        processor = Processor(
            role=self.value(job["RoleArn"]),
            image_uri=self.value(application["ImageUri"]),
            instance_count=cluster["InstanceCount"],
            instance_type=cluster["InstanceType"],
            volume_size_in_gb=cluster["VolumeSizeInGB"],
            entrypoint=application["ContainerEntrypoint"],
            max_runtime_in_seconds=job["StoppingCondition"]["MaxRuntimeInSeconds"],
            env={name: self.value(value) for name, value in job["Environment"].items()},
            tags=job["Tags"],
            sagemaker_session=self.session,
        )
        arguments = processor.run(
            inputs=[self.brought(item) for item in job.get("ProcessingInputs", [])],
            outputs=[
                self.taken(item)
                for item in job.get("ProcessingOutputConfig", {}).get("Outputs", [])
            ],
            arguments=[self.value(part) for part in application["ContainerArguments"]],
        )
        files = [
            PropertyFile(f["PropertyFileName"], f["OutputName"], f["FilePath"])
            for f in step.get("PropertyFiles", [])
        ]
        for file in files:
            self.files[f"Steps.{step['Name']}.PropertyFiles.{file.name}"] = (step["Name"], file)
        return ProcessingStep(
            name=step["Name"],
            step_args=arguments,
            display_name=step["DisplayName"],
            description=step["Description"],
            property_files=files,
            depends_on=step.get("DependsOn"),
            retry_policies=[self.retry(policy) for policy in step["RetryPolicies"]],
        )

    def brought(self, item: dict[str, Any]) -> ProcessingInput:
        source = item["S3Input"]
        return ProcessingInput(
            input_name=item["InputName"],
            s3_input=ProcessingS3Input(
                s3_uri=self.value(source["S3Uri"]),
                local_path=source["LocalPath"],
                s3_data_type=source["S3DataType"],
                s3_input_mode=source["S3InputMode"],
                s3_data_distribution_type=source["S3DataDistributionType"],
                s3_compression_type=source["S3CompressionType"],
            ),
        )

    def taken(self, item: dict[str, Any]) -> ProcessingOutput:
        place = item["S3Output"]
        return ProcessingOutput(
            output_name=item["OutputName"],
            s3_output=ProcessingS3Output(
                s3_uri=self.value(place["S3Uri"]),
                local_path=place["LocalPath"],
                s3_upload_mode=place["S3UploadMode"],
            ),
        )

    @staticmethod
    def retry(policy: dict[str, Any]) -> SageMakerJobStepRetryPolicy:
        return SageMakerJobStepRetryPolicy(
            exception_types=[
                next(kind for kind in SageMakerJobExceptionTypeEnum if kind.value == name)
                for name in policy["ExceptionType"]
            ],
            interval_seconds=policy["IntervalSeconds"],
            backoff_rate=policy["BackoffRate"],
            max_attempts=policy["MaxAttempts"],
        )


def built_alike(document: dict[str, Any]) -> list[str]:
    """Report where the SDK's own definition of the same pipeline differs."""
    session = PipelineSession(boto3.Session(region_name="us-east-1"), default_bucket="bucket")
    made = json.loads(Builder(document, session).pipeline().definition())
    # Neither says anything of these; the SDK writes that down.
    assert (made.pop("PipelineExperimentConfig"), made.pop("MlflowConfig")) == (None, None)
    return list(differences(document, made, ""))


def differences(ours: Any, theirs: Any, place: str) -> Any:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({*ours, *theirs}):
            if key not in ours or key not in theirs:
                yield f"{place}/{key}: only {'ours' if key in ours else 'of the SDK'}"
            else:
                yield from differences(ours[key], theirs[key], f"{place}/{key}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(one, other, f"{place}/{number}")
    elif ours != theirs or type(ours) is not type(theirs):
        yield f"{place}: {ours!r}, and the SDK has {theirs!r}"


# What the service's API model says of the requests that the pipeline will make


def requests(document: dict[str, Any]) -> Any:
    model = botocore.session.get_session().get_service_model("sagemaker")
    pipeline = {
        "PipelineName": "pipeline",
        "PipelineDefinition": json.dumps(document),
        "RoleArn": ROLE,
        "ClientRequestToken": "x" * 32,
    }
    yield from fits(pipeline, model.shape_for("CreatePipelineRequest"))
    values = {p["Name"]: p.get("DefaultValue", SAMPLES[p["Type"]]) for p in document["Parameters"]}
    values |= {"kitaru_role": ROLE, "kitaru_store": "s3://bucket/prefix", "kitaru_image": "image"}
    started = {
        "PipelineName": "pipeline",
        "ClientRequestToken": "x" * 32,
        "PipelineParameters": [{"Name": n, "Value": str(v)} for n, v in values.items()],
    }
    yield from fits(started, model.shape_for("StartPipelineExecutionRequest"))
    for step in flat(document["Steps"], "Callback"):
        answer = OUTPUTS[f"Steps.{step['Name']}.OutputParameters['answer']"] = "x" * 256
        sent = [{"Name": o["OutputName"], "Value": answer} for o in step["OutputParameters"]]
        success = {
            "CallbackToken": "a1b2c3d4e5",
            "OutputParameters": sent,
            "ClientRequestToken": "x" * 32,
        }
        yield from fits(success, model.shape_for("SendPipelineExecutionStepSuccessRequest"))
        shown = {"SqsQueueUrl": step["SqsQueueUrl"], "OutputParameters": sent}
        yield from fits(shown, model.shape_for("CallbackStepMetadata"))
    for step in flat(document["Steps"], "Processing"):
        # The service names a job after the execution and the step.
        name = f"pipelines-2DRR2511NGO3-{step['Name']}"[:50] + "-aBcDeFgHiJ"
        request = {"ProcessingJobName": name, **evaluated(step["Arguments"], values)}
        yield from fits(request, model.shape_for("CreateProcessingJobRequest"))


def flat(steps: list[dict[str, Any]], kind: str) -> Any:
    """Yield the steps of a kind, also from within conditions and fan-outs."""
    for step in steps:
        if step["Type"] == "Condition":
            yield from flat([*step["Arguments"]["IfSteps"], *step["Arguments"]["ElseSteps"]], kind)
        elif step["Type"] == "ForEach":
            yield from flat(step["Arguments"]["ForEachBody"], kind)
        elif step["Type"] == kind:
            yield step


def evaluated(value: Any, values: dict[str, Any]) -> Any:
    match value:
        case {"Get": "Execution.PipelineExecutionId"}:
            return "2DRR2511NGO3"
        case {"Get": "Execution.PipelineName"}:
            return "pipeline"
        case {"Get": name} if name in OUTPUTS:
            return OUTPUTS[name]
        case {"Get": name}:
            return values[name.removeprefix("Parameters.")]
        case {"Std:Join": {"On": on, "Values": parts}}:
            return on.join(str(evaluated(part, values)) for part in parts)
        case dict():
            return {key: evaluated(item, values) for key, item in value.items()}
        case list():
            return [evaluated(item, values) for item in value]
    return value


def fits(request: Any, shape: Any) -> Any:
    report = ParamValidator().validate(request, shape)
    if report.has_errors():
        yield report.generate_report()
    yield from within(request, shape, shape.name)


def within(value: Any, shape: Any, place: str) -> Any:
    """botocore itself looks at types and minimums alone."""
    rules = shape.metadata
    size = len(value) if isinstance(value, (str, list, dict)) else value
    if "max" in rules and size > rules["max"]:
        yield f"{place}: {size} is more than {rules['max']}"
    if isinstance(value, str):
        if "pattern" in rules and not re.fullmatch(posix(rules["pattern"]), value):
            yield f"{place}: {value!r} does not match {rules['pattern']}"
        if getattr(shape, "enum", None) and value not in shape.enum:
            yield f"{place}: {value!r} is not one of {len(shape.enum)} values"
    match shape.type_name, value:
        case "structure", dict():
            for key, item in value.items():
                if key in shape.members:
                    yield from within(item, shape.members[key], f"{place}.{key}")
        case "list", list():
            for item in value:
                yield from within(item, shape.member, f"{place}[]")
        case "map", dict():
            for key, item in value.items():
                yield from within(key, shape.key, f"{place}.key")
                yield from within(item, shape.value, f"{place}.value")


def posix(pattern: str) -> str:
    """Python's own module does not know the classes of characters that Java's does."""
    return pattern.replace(r"\p{L}\p{Z}\p{N}", r"\w\s")


# The SDK's local mode, with a process in place of a container


def run(
    document: dict[str, Any], parameters: dict[str, Any], environment: dict[str, str]
) -> dict[str, Any]:
    local_session._SageMakerContainer = Process
    Process.environment, Process.started = environment, []
    # The session of the import has not seen the environment of this request.
    boto3.setup_default_session()
    session = LocalPipelineSession(boto3.Session(), default_bucket="bucket")
    pipeline = Builder(document, session).pipeline()
    local = _LocalPipeline(pipeline=pipeline, local_session=session)
    execution = local.start(PipelineParameters=parameters)
    said = execution.describe()
    reason = said.get("FailureReason", "")
    return {
        "problems": [reason] if reason else [],
        "status": said["PipelineExecutionStatus"],
        "started": Process.started,
        "run": execution.pipeline_execution_name,
    }


if __name__ == "__main__":
    main()
