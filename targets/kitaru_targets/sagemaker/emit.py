"""Decides the document for SageMaker Pipelines: a chain of processing steps that ask their guards.

A step that depends on one of a branch that was not taken never runs, and nothing can depend on a
condition: there is no join. So the steps stand in program order, each depending on the one before,
and at most one condition, with nothing behind it, spares the rest their containers (`chain.split`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from kitaru.wire.plan import OWN_DEFAULT, Plan, Step

from ..base import Emission, Wiring
from ..common import chain, limits, lines, parameters, resources
from ..common.keys import Keys
from .profile import FOLDER, LIMITS, MAX_DESCRIPTION, MAX_STEP_NAME, TRANSPORT

VERSION = "2020-12-01"
ROLE, IMAGE = "kitaru_role", "kitaru_image"
INPUT_VARIABLE = "KITARU_INPUT_"
OUTCOME = "outcome"
OUTCOME_FILE = "outcome.json"
RUN = {"Get": "Execution.PipelineExecutionId"}
_TYPES: dict[parameters.Native, str] = {
    "string": "String",
    "integer": "Integer",
    "number": "Float",
    "boolean": "Boolean",
}
_VOLUME_GIGABYTES = 30
# The longest that the service itself lets a job run when nothing is said.
_DAY_SECONDS = 86_400
# What is retried starts again and finds in the journal what was done. Faults of the service and
# throttling are retried by default.
_RETRIES = [
    {
        "ExceptionType": [
            "SageMaker.JOB_INTERNAL_ERROR",
            "SageMaker.CAPACITY_ERROR",
            "SageMaker.RESOURCE_LIMIT",
        ],
        "IntervalSeconds": 60,
        "BackoffRate": 2.0,
        "MaxAttempts": 5,
    },
]


def emit(plan: Plan, wiring: Wiring) -> Emission:
    """Return `pipeline.json` for a plan.

    Raises:
        SourceError: something is larger than the service takes.
        UsageError: a name cannot stand in the document.
    """
    limits.check(plan, wiring, _declared(plan, wiring), LIMITS)
    emitter = _Emitter(plan, wiring)
    document = {
        "Version": VERSION,
        "Metadata": {},
        "Parameters": [_parameter(p) for p in _declared(plan, wiring)],
        "Steps": emitter.steps(),
    }
    text = f"{lines.dump(document)}\n"
    limits.check_size(plan, text, LIMITS)
    return Emission(text, emitter.nodes, emitter.groups)


def _declared(plan: Plan, wiring: Wiring) -> tuple[parameters.Declared, ...]:
    own = [
        parameters.Declared(ROLE, "string", None, "ARN of the role that the steps run as."),
        parameters.Declared(parameters.INPUTS, "string", "", "Key of inputs that are too long."),
    ]
    if not wiring.image:
        own.append(parameters.Declared(IMAGE, "string", None, "An image in Amazon ECR."))
    return (*parameters.declared(plan, wiring.store, wiring.execution), *own)


def _parameter(declared: parameters.Declared) -> dict[str, Any]:
    # The service takes no empty texts.
    value = OWN_DEFAULT if declared.default == "" else declared.default
    default = {} if value is None else {"DefaultValue": value}
    return {"Name": declared.name, "Type": _TYPES[declared.type], **default}


class _Emitter:
    def __init__(self, plan: Plan, wiring: Wiring) -> None:
        self._plan = plan
        self._wiring = wiring
        self._environment = resources.environment(wiring.environment)
        self._keys = Keys(longest=MAX_STEP_NAME)
        self._key = {s.name: self._keys.take(s.name, fallback="step") for s in plan.steps}
        self.nodes = {key: name for name, key in self._key.items()}
        self.groups: dict[str, Any] = {}

    def steps(self) -> list[dict[str, Any]]:
        """Return the chain, which ends in the condition where there is one."""
        split = chain.split(self._plan)
        if split is None:
            return self._chain(chain.steps_in(self._plan.layout))
        behind = {*split.then, *split.otherwise}
        before = [n for n in chain.steps_in(self._plan.layout) if n not in behind]
        return [*self._chain(before, read=split.decider), self._condition(split)]

    def _chain(self, names: Sequence[str], read: str = "") -> list[dict[str, Any]]:
        """Return steps, each after the one before; a condition reads the outcome of `read`."""
        steps = [self._step(self._plan.step(name)) for name in names]
        for before, step in pairwise(steps):
            step["DependsOn"] = [before["Name"]]
        for name, step in zip(names, steps, strict=True):
            if name == read:
                step["PropertyFiles"] = [_PROPERTY_FILE]
        return steps

    def _condition(self, split: chain.Split) -> dict[str, Any]:
        key = self._keys.take(f"after-{self._key[split.decider]}", fallback="after")
        self.groups[key] = split.span
        file = {"Get": f"Steps.{self._key[split.decider]}.PropertyFiles.{OUTCOME}"}
        value = {"Std:JsonGet": {"PropertyFile": file, "Path": split.output}}
        test = {"Type": "In", "QueryValue": value, "Values": [*split.words]}
        if len(split.words) == 1:
            test = {"Type": "Equals", "LeftValue": value, "RightValue": split.words[0]}
        return {
            "Name": key,
            "Type": "Condition",
            "Arguments": {
                "Conditions": [test],
                "IfSteps": self._chain(split.then),
                "ElseSteps": self._chain(split.otherwise),
            },
        }

    def _step(self, step: Step) -> dict[str, Any]:
        return {
            "Name": self._key[step.name],
            "Type": "Processing",
            "Arguments": self._arguments(step),
            "DisplayName": self._key[step.name],
            "Description": _place(f"{step.span.file}:{step.span.line}"),
            "RetryPolicies": _RETRIES,
        }

    def _arguments(self, step: Step) -> dict[str, Any]:
        wiring = self._wiring
        machine = limits.machine(step.resources, LIMITS)
        assert machine is not None, "the limits are checked first"
        inputs = {"ProcessingInputs": [_brought(wiring.bundle)]} if wiring.bundle else {}
        return {
            "ProcessingResources": {
                "ClusterConfig": {
                    "InstanceType": machine.name,
                    "InstanceCount": 1,
                    "VolumeSizeInGB": _VOLUME_GIGABYTES,
                }
            },
            "AppSpecification": {
                "ImageUri": wiring.image or _get(IMAGE),
                "ContainerEntrypoint": [*wiring.command],
                "ContainerArguments": [*wiring.leading, *self._told(step)],
            },
            "RoleArn": _get(ROLE),
            **inputs,
            "ProcessingOutputConfig": {"Outputs": [_outcome(self._key[step.name])]},
            "Environment": {**self._environment, **self._inputs(step)},
            "StoppingCondition": {"MaxRuntimeInSeconds": _DAY_SECONDS},
            "Tags": [{"Key": "kitaru:flow", "Value": self._plan.flow}],
        }

    def _told(self, step: Step) -> list[Any]:
        """Return the arguments of the step runtime."""
        told: list[Any] = ["--step", step.name, "--run", RUN, "--store", _get(parameters.STORE)]
        told += ["--execution", _get(parameters.EXECUTION)]
        told += ["--outcome-file", f"{FOLDER}/output/{OUTCOME}/{OUTCOME_FILE}"]
        if self._is_first(step):
            told += ["--inputs-env", INPUT_VARIABLE, "--inputs-key", _get(parameters.INPUTS)]
        return told

    def _inputs(self, step: Step) -> dict[str, Any]:
        if not self._is_first(step):
            return {}
        names = [parameter.name for parameter in self._plan.parameters]
        # Only text can stand for a variable's value: joining makes text of a number.
        return {f"{INPUT_VARIABLE}{name}": _joined("", _get(name)) for name in names}

    def _is_first(self, step: Step) -> bool:
        return step.entry == self._plan.blocks[0].name


_PROPERTY_FILE = {
    "PropertyFileName": OUTCOME,
    "OutputName": OUTCOME,
    "FilePath": OUTCOME_FILE,
}


def _brought(bundle: str) -> dict[str, Any]:
    return {
        "InputName": "kitaru",
        "S3Input": {
            "S3Uri": _joined("/", _get(parameters.STORE), bundle),
            "LocalPath": TRANSPORT.folder,
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
            "S3CompressionType": "None",
        },
    }


def _outcome(key: str) -> dict[str, Any]:
    return {
        "OutputName": OUTCOME,
        "S3Output": {
            "S3Uri": _joined("/", _get(parameters.STORE), "native", RUN, key),
            "LocalPath": f"{FOLDER}/output/{OUTCOME}",
            "S3UploadMode": "EndOfJob",
        },
    }


def _place(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:MAX_DESCRIPTION]


def _get(name: str) -> dict[str, str]:
    return {"Get": f"Parameters.{name}"}


def _joined(on: str, *values: Any) -> dict[str, Any]:
    return {"Std:Join": {"On": on, "Values": [*values]}}
