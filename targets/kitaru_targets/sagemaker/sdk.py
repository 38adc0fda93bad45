"""Compare the requests that a pipeline makes with the API model of SageMaker, which botocore has.

The SDK of SageMaker writes documents, and reads none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

_SAMPLES = {"String": "text", "Integer": 1, "Float": 0.5, "Boolean": True}
_ROLE = "arn:aws:iam::123456789012:role/kitaru"


def problems(path: Path) -> Iterator[str]:
    """Yield what the API of SageMaker would refuse of the requests that a pipeline makes."""
    document = json.loads(path.read_text(encoding="utf-8"))
    model = import_module("botocore.session").get_session().get_service_model("sagemaker")
    outputs = {"ForEach.CurrentItem": "x" * 256}
    pipeline = {
        "PipelineName": "pipeline",
        "PipelineDefinition": json.dumps(document),
        "RoleArn": _ROLE,
        "ClientRequestToken": "x" * 32,
    }
    yield from _fits(pipeline, model.shape_for("CreatePipelineRequest"))
    values = {p["Name"]: p.get("DefaultValue", _SAMPLES[p["Type"]]) for p in document["Parameters"]}
    values |= {"kitaru_role": _ROLE, "kitaru_store": "s3://bucket/prefix", "kitaru_image": "image"}
    started = {
        "PipelineName": "pipeline",
        "ClientRequestToken": "x" * 32,
        "PipelineParameters": [{"Name": n, "Value": str(v)} for n, v in values.items()],
    }
    yield from _fits(started, model.shape_for("StartPipelineExecutionRequest"))
    for step in _flat(document["Steps"], "Callback"):
        answer = outputs[f"Steps.{step['Name']}.OutputParameters['answer']"] = "x" * 256
        sent = [{"Name": o["OutputName"], "Value": answer} for o in step["OutputParameters"]]
        success = {
            "CallbackToken": "a1b2c3d4e5",
            "OutputParameters": sent,
            "ClientRequestToken": "x" * 32,
        }
        yield from _fits(success, model.shape_for("SendPipelineExecutionStepSuccessRequest"))
        shown = {"SqsQueueUrl": step["SqsQueueUrl"], "OutputParameters": sent}
        yield from _fits(shown, model.shape_for("CallbackStepMetadata"))
    for step in _flat(document["Steps"], "Processing"):
        # The service names a job after the execution and the step.
        name = f"pipelines-2DRR2511NGO3-{step['Name']}"[:50] + "-aBcDeFgHiJ"
        request = {"ProcessingJobName": name, **_evaluated(step["Arguments"], values | outputs)}
        yield from _fits(request, model.shape_for("CreateProcessingJobRequest"))


def _flat(steps: list[dict[str, Any]], kind: str) -> Iterator[dict[str, Any]]:
    """Yield the steps of a kind, also from within conditions and fan-outs."""
    for step in steps:
        if step["Type"] == "Condition":
            yield from _flat([*step["Arguments"]["IfSteps"], *step["Arguments"]["ElseSteps"]], kind)
        elif step["Type"] == "ForEach":
            yield from _flat(step["Arguments"]["ForEachBody"], kind)
        elif step["Type"] == kind:
            yield step


def _evaluated(value: Any, values: dict[str, Any]) -> Any:
    match value:
        case {"Get": "Execution.PipelineExecutionId"}:
            return "2DRR2511NGO3"
        case {"Get": "Execution.PipelineName"}:
            return "pipeline"
        case {"Get": name} if name in values:
            return values[name]
        case {"Get": name}:
            return values[name.removeprefix("Parameters.")]
        case {"Std:Join": {"On": on, "Values": parts}}:
            return on.join(str(_evaluated(part, values)) for part in parts)
        case dict():
            return {key: _evaluated(item, values) for key, item in value.items()}
        case list():
            return [_evaluated(item, values) for item in value]
    return value


def _fits(request: Any, shape: Any) -> Iterator[str]:
    report = import_module("botocore.validate").ParamValidator().validate(request, shape)
    if report.has_errors():
        yield report.generate_report()
    yield from _within(request, shape, shape.name)


def _within(value: Any, shape: Any, place: str) -> Iterator[str]:
    """botocore itself looks at types and minimums alone."""
    rules = shape.metadata
    size = len(value) if isinstance(value, (str, list, dict)) else value
    if "max" in rules and size > rules["max"]:
        yield f"{place}: {size} is more than {rules['max']}"
    if isinstance(value, str):
        if "pattern" in rules and not re.fullmatch(_posix(rules["pattern"]), value):
            yield f"{place}: {value!r} does not match {rules['pattern']}"
        if getattr(shape, "enum", None) and value not in shape.enum:
            yield f"{place}: {value!r} is not one of {len(shape.enum)} values"
    match shape.type_name, value:
        case "structure", dict():
            for key, item in value.items():
                if key in shape.members:
                    yield from _within(item, shape.members[key], f"{place}.{key}")
        case "list", list():
            for item in value:
                yield from _within(item, shape.member, f"{place}[]")
        case "map", dict():
            for key, item in value.items():
                yield from _within(key, shape.key, f"{place}.key")
                yield from _within(item, shape.value, f"{place}.value")


def _posix(pattern: str) -> str:
    """Python's own module does not know the classes of characters that Java's does."""
    return pattern.replace(r"\p{L}\p{Z}\p{N}", r"\w\s")
