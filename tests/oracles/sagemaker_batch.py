"""Run in its own environment: report how the SDK of SageMaker reads documents.

A job has the `path` of a document, and to run it in the SDK's local mode also `parameters` and the
`environment` of each step, else null. An answer is {"problems", "status", "started"}. The one
server it talks to is the S3 that the environment names.
"""

from __future__ import annotations

import json
import logging
import os
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
from sagemaker.core.local import local_session  # noqa: E402
from sagemaker.core.network import NetworkConfig  # noqa: E402
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
from serving import product, serve  # noqa: E402

KINDS = {
    "String": ParameterString,
    "Integer": ParameterInteger,
    "Float": ParameterFloat,
    "Boolean": ParameterBoolean,
}


def main() -> None:
    # The SDK tells its maker what it is asked to do.
    telemetry_logging._send_telemetry_request = lambda *_, **__: None
    serve(answer)


def answer(job: dict[str, Any]) -> dict[str, Any]:
    document = json.loads(Path(job["path"]).read_text())
    if job["parameters"] is None:
        problems = [*built_alike(document), *product("sagemaker").problems(Path(job["path"]))]
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
            volume_kms_key=cluster.get("VolumeKmsKeyId"),
            output_kms_key=job.get("ProcessingOutputConfig", {}).get("KmsKeyId"),
            network_config=self.network(job.get("NetworkConfig")),
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

    @staticmethod
    def network(config: dict[str, Any] | None) -> NetworkConfig | None:
        if config is None:
            return None
        network = config["VpcConfig"]
        return NetworkConfig(
            config["EnableNetworkIsolation"],
            security_group_ids=network["SecurityGroupIds"],
            subnets=network["Subnets"],
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
