"""Write the document for SageMaker: a chain of processing steps that check their guards.

A step that depends on a step of a branch that was not taken never runs, and no step can depend on a
condition: there is no join. The steps are therefore in program order, each depending on the
previous one, up to a step that conditions read. The later steps are in one condition for each arm,
with a copy of the steps behind all arms (`Chain.ways`), and once more after each wait for which the
run stays open (`Chain.asks`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kitaru.errors import UsageError
from kitaru.wire.plan import OWN_DEFAULT, Plan, Resources, Span, Step
from kitaru_targets.base import ContainerSpec, Emission, Form
from kitaru_targets.common import (
    aws,
    chain,
    json_format,
    limits,
    options,
    parameters,
    schedules,
    variables,
)
from kitaru_targets.common.node_names import Keys, slug
from kitaru_targets.sagemaker import profile
from kitaru_targets.sagemaker.profile import (
    FOLDER,
    LIMITS,
    MAX_DESCRIPTION,
    MAX_STEP_NAME,
    TRANSPORT,
)

VERSION = "2020-12-01"
ROLE, IMAGE = "kitaru_role", "kitaru_image"
INPUT_VARIABLE = "KITARU_INPUT_"
OUTCOME = "outcome"
OUTCOME_FILE = "outcome.json"
ANSWER = "answer"
LIST = "list_"
ITEM = {"Get": "ForEach.CurrentItem"}
PIPELINE = {"Get": "Execution.PipelineName"}
RUN = {"Get": "Execution.PipelineExecutionId"}
_TYPES: dict[parameters.Native, str] = {
    "string": "String",
    "integer": "Integer",
    "number": "Float",
    "boolean": "Boolean",
}
_VOLUME_GIGABYTES = 30
# The service's default limit for the run time of a job.
_DAY_SECONDS = 86_400
# A retried step starts again and reuses the records in the journal. Faults of the service and
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


def emit(plan: Plan, wiring: ContainerSpec) -> Emission:
    """Return `pipeline.json` for a plan.

    Raises:
        SourceError: a part exceeds a limit of the service.
        UsageError: a name, or one of the project's options for the target, is not valid in it.
    """
    options.check("sagemaker", plan.options, profile.OPTIONS)
    if (aws.SUBNETS in plan.options) != (aws.GROUPS in plan.options):
        raise UsageError(
            "[tool.kitaru.sagemaker] in pyproject.toml: a network needs both "
            f"{aws.SUBNETS} and {aws.GROUPS}.",
            help="Set both, or remove both.",
        )
    limits.check(plan, wiring, _declared(plan, wiring), LIMITS)
    emitter = _Emitter(plan, wiring)
    document = {
        "Version": VERSION,
        "Metadata": {"Origin": " ".join(wiring.about.header)} if wiring.about.header else {},
        "Parameters": [_parameter(p) for p in _declared(plan, wiring)],
        "Steps": emitter.steps(),
    }
    form = Form(document, json_format.dump_file)
    text = form.text()
    limits.check_size(plan, text, LIMITS)
    files = _schedule(plan, wiring)
    return Emission(text, emitter.nodes, emitter.groups, tuple(emitter.asking), files, form)


def _schedule(plan: Plan, wiring: ContainerSpec) -> dict[str, str]:
    """Return the schedule that starts the pipeline, by the name of its file."""
    planned = schedules.native(plan, wiring)
    if planned is None:
        return {}
    role, _ = schedules.aws_options(plan, "sagemaker", profile.SCHEDULER_ROLE, profile.ROLE)
    if not wiring.image:
        raise UsageError(
            f"{plan.file}:{plan.line}: a run of {plan.flow} by schedule is given no {IMAGE}.",
            help="Compile with --image.",
        )
    execution = schedules.aws_execution(plan)
    call = {
        "PipelineName": slug(plan.flow, fallback="flow"),
        "PipelineParameters": [{"Name": parameters.EXECUTION, "Value": execution}],
        # The service starts one run for each token, which has 32 characters or more.
        "ClientRequestToken": f"kitaru-{execution}",
    }
    action = f"arn:{role.split(':')[1]}:scheduler:::aws-sdk:sagemaker:startPipelineExecution"
    made = schedules.aws_schedule(plan, planned, role, action, call)
    return {schedules.AWS_FILE: made}


def starts(plan: Plan) -> tuple[int, int]:
    """Return how many jobs start in a row at most, and how many of them find nothing to do."""
    found = chain.Chain(plan)
    name = _decider(plan, found)
    return found.started(name), found.idle(name)


def _decider(plan: Plan, found: chain.Chain) -> str | None:
    most = profile.PROFILE.max_steps
    assert most is not None
    return found.decider(most, asking=profile.QUEUE in plan.options)


def _declared(plan: Plan, wiring: ContainerSpec) -> tuple[parameters.Declared, ...]:
    role = plan.options.get(profile.ROLE)
    own = [parameters.Declared(ROLE, "string", role, "ARN of the role that the steps run as.")]
    if not wiring.image:
        own.append(parameters.Declared(IMAGE, "string", None, "An image in Amazon ECR."))
    return (*parameters.declared(plan, wiring.store, wiring.execution), *own)


def _parameter(declared: parameters.Declared) -> dict[str, Any]:
    # The service accepts no empty texts.
    value = OWN_DEFAULT if declared.default == "" else declared.default
    default = {} if value is None else {"DefaultValue": value}
    return {"Name": declared.name, "Type": _TYPES[declared.type], **default}


class _Emitter:
    def __init__(self, plan: Plan, wiring: ContainerSpec) -> None:
        self._plan = plan
        self._wiring = wiring
        self._environment = variables.environment(wiring.environment)
        self._keys = Keys(longest=MAX_STEP_NAME)
        self._key = {step.name: self._take(step) for step in plan.steps}
        self.nodes: dict[str, str] = {}
        self.groups: dict[str, Any] = {}
        self.asking: list[str] = []
        self._fans = chain.fans(plan.layout)
        self._order = chain.Chain(plan)
        # Steps that run in any case, regardless of conditions.
        self._always: list[dict[str, Any]] = []

    def steps(self) -> list[dict[str, Any]]:
        """Return the chain, which ends in the conditions, if any."""
        order, asking = self._order.order, profile.QUEUE in self._plan.options
        name = _decider(self._plan, self._order)
        if name is None:
            return self._chain(order)
        ways = self._order.ways(name)
        behind = {step for way in ways for step in way.then}
        self._always = self._chain([step for step in order if step not in behind])
        decider = next(s for s in self._always if self.nodes.get(s["Name"]) == name)
        decider["PropertyFiles"] = [_PROPERTY_FILE]
        most = profile.PROFILE.max_steps or 0
        room = most - len(self._plan.steps) - chain.copies(ways)
        asks = self._asks(name, room) if asking else ()
        return [
            *self._always,
            *(self._way(name, way) for way in ways),
            *map(self._asked, asks),
        ]

    def _asks(self, decider: str, most: int) -> tuple[chain.Ask, ...]:
        """Return the waits for which the run stays open: none if the copies would be too many."""
        asks = self._order.asks(decider)
        return asks if sum(len(ask.then) + 1 for ask in asks) <= most else ()

    def _chain(self, names: Sequence[str], before: str = "") -> list[dict[str, Any]]:
        """Return steps, each after the previous one, and the first after `before`, if any."""
        steps: list[dict[str, Any]] = []
        for step in map(self._plan.step, names):
            made = self._each(step, steps) if step.per_item else self._step(step)
            if made:
                made |= {"DependsOn": [before]} if before else {}
                before = made["Name"]
                steps.append(made)
        return steps

    def _each(self, step: Step, before: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        """Return the nodes of a fan-out, None if no step `before` them creates their list."""
        item = self._fans[step.name]
        items: Any = [*item.items]
        if item.producer:
            producer = self._producer(step, before)
            if producer is None:
                return None
            items = _listed(producer, self._key[step.name], self._gathering(step))
        body = self._step(step)
        key = self._group(f"each-{body['Name']}", step.span)
        parallel = min(self._plan.max_parallel, profile.MAX_CONCURRENCY)
        return {
            "Name": key,
            "Type": "ForEach",
            "Arguments": {
                "IterableItems": items,
                "MaxConcurrency": parallel,
                "ForEachBody": [body],
            },
            "DisplayName": key,
            "Description": body["Description"],
        }

    def _gathering(self, fan: Step) -> str:
        entries = {step.entry: step.name for step in self._plan.steps if not step.per_item}
        return entries[fan.entry]

    def _producer(self, fan: Step, before: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        """Return the last step whose process submits the calls, possibly that of a later step."""
        made: dict[str, Any]
        for made in reversed([*self._always, *before]):
            name = self.nodes.get(made["Name"])
            if name and {*fan.blocks} <= {*self._plan.step(name).blocks}:
                return made
        return None

    def _way(self, decider: str, way: chain.Way) -> dict[str, Any]:
        test = _test(self._key[decider], "next", way.words)
        key = self._group(way.name or f"after-{self._key[decider]}", way.span)
        return _condition(key, [test], self._chain(way.then), [])

    def _asked(self, ask: chain.Ask) -> dict[str, Any]:
        """Return the wait's callback and the steps after it, for a run in which it was asked."""
        decider, taker = self._key[ask.decider], ask.then[0]
        tests = [_test(decider, "status", ("waiting",)), _test(decider, "next", (taker,))]
        callback = self._callback(ask)
        first, *rest = self._chain(ask.then, before=callback["Name"])
        answer = {"Get": f"Steps.{callback['Name']}.OutputParameters['{ANSWER}']"}
        first["Arguments"]["AppSpecification"]["ContainerArguments"] += ["--answer", answer]
        key = self._group(f"asks-{callback['Name']}", ask.span)
        return _condition(key, tests, [callback, first, *rest], [])

    def _callback(self, ask: chain.Ask) -> dict[str, Any]:
        key = self._group(ask.block, ask.span)
        self.asking.append(key)
        return {
            "Name": key,
            "Type": "Callback",
            "Arguments": {
                "flow": self._plan.flow,
                "wait": ask.block,
                "pipeline": PIPELINE,
                "run": RUN,
                "execution": _get(parameters.EXECUTION),
                "store": _get(parameters.STORE),
            },
            "DisplayName": key,
            "Description": _place(f"{ask.span.file}:{ask.span.line}"),
            "SqsQueueUrl": self._plan.options[profile.QUEUE],
            "OutputParameters": [{"OutputName": ANSWER, "OutputType": "String"}],
        }

    def _group(self, text: str, span: Span) -> str:
        key = self._keys.take(text, fallback="wait")
        self.groups[key] = span
        return key

    def _step(self, step: Step) -> dict[str, Any]:
        key = self._key[step.name]
        if key in self.nodes:
            key = self._take(step)
        self.nodes[key] = step.name
        return {
            "Name": key,
            "Type": "Processing",
            "Arguments": self._arguments(step, key),
            "DisplayName": key,
            "Description": _place(self._wiring.about.step(step)),
            "RetryPolicies": _RETRIES,
        }

    def _take(self, step: Step) -> str:
        # The service names the nodes of a ForEach by its body and their number.
        return self._keys.take(step.name, fallback="step", numbered=step.per_item > 0)

    def _arguments(self, step: Step, key: str) -> dict[str, Any]:
        wiring, machine = self._wiring, self._machine(step)
        has_disk = profile.HAS_OWN_DISK.match(machine)
        inputs = {"ProcessingInputs": [_brought(wiring.bundle)]} if wiring.bundle else {}
        return {
            "ProcessingResources": {
                "ClusterConfig": {
                    "InstanceType": machine,
                    "InstanceCount": 1,
                    "VolumeSizeInGB": self._number(profile.VOLUME, _VOLUME_GIGABYTES),
                    **({} if has_disk else self._option(profile.VOLUME_KEY, "VolumeKmsKeyId")),
                }
            },
            "AppSpecification": {
                "ImageUri": wiring.image or _get(IMAGE),
                "ContainerEntrypoint": [*wiring.command],
                "ContainerArguments": [*wiring.leading, *self._told(step)],
            },
            "RoleArn": _get(ROLE),
            **inputs,
            **({} if step.per_item else self._outputs(key)),
            "Environment": {**self._environment, **self._inputs(step)},
            "StoppingCondition": {
                "MaxRuntimeInSeconds": self._number(profile.SECONDS, _DAY_SECONDS),
            },
            **self._network(),
            "Tags": [{"Key": name, "Value": value} for name, value in self._tags().items()],
        }

    def _machine(self, step: Step) -> str:
        machine = limits.machine(step.resources, LIMITS)
        assert machine is not None, "the limits are checked first"
        chosen = self._plan.options.get(profile.MACHINE)
        return chosen if chosen and step.resources == Resources() else machine.name

    def _outputs(self, key: str) -> dict[str, Any]:
        outcome = {
            "OutputName": OUTCOME,
            "S3Output": {
                "S3Uri": _joined("/", _get(parameters.STORE), "native", RUN, key),
                "LocalPath": f"{FOLDER}/output/{OUTCOME}",
                "S3UploadMode": "EndOfJob",
            },
        }
        encrypted = self._option(profile.OUTPUT_KEY, "KmsKeyId")
        return {"ProcessingOutputConfig": {"Outputs": [outcome], **encrypted}}

    def _network(self) -> dict[str, Any]:
        groups, subnets = (
            options.parts(self._plan.options.get(name, "")) for name in (aws.GROUPS, aws.SUBNETS)
        )
        network = {"SecurityGroupIds": [*groups], "Subnets": [*subnets]}
        if not subnets:
            return {}
        # A step reads and writes its store over the network.
        return {"NetworkConfig": {"EnableNetworkIsolation": False, "VpcConfig": network}}

    def _tags(self) -> dict[str, str]:
        given = options.pairs(self._plan.options.get(aws.TAGS, ""))
        return {"kitaru:flow": self._plan.flow, **given}

    def _option(self, option: str, field: str) -> dict[str, str]:
        """Return a field with the value of an option, without the option nothing."""
        given = self._plan.options
        return {field: given[option]} if option in given else {}

    def _number(self, option: str, default: int) -> int:
        return int(self._plan.options.get(option, default))

    def _told(self, step: Step) -> list[Any]:
        """Return the arguments of the step runtime."""
        told: list[Any] = ["--step", step.name, "--run", _joined("/", PIPELINE, RUN)]
        told += ["--store", _get(parameters.STORE), "--execution", _get(parameters.EXECUTION)]
        if step.per_item:
            return [*told, "--item", ITEM]
        told += ["--outcome-file", f"{FOLDER}/output/{OUTCOME}/{OUTCOME_FILE}"]
        if self._is_first(step) and self._plan.parameters:
            told += ["--inputs-env", INPUT_VARIABLE, "--inputs-key", _get(parameters.INPUTS)]
        return told

    def _inputs(self, step: Step) -> dict[str, Any]:
        if not self._is_first(step):
            return {}
        names = [parameter.name for parameter in self._plan.parameters]
        # A variable's value must be text, and joining converts a number to text.
        return {f"{INPUT_VARIABLE}{name}": _joined("", _get(name)) for name in names}

    def _is_first(self, step: Step) -> bool:
        return step.entry == self._plan.blocks[0].name


_PROPERTY_FILE = {
    "PropertyFileName": OUTCOME,
    "OutputName": OUTCOME,
    "FilePath": OUTCOME_FILE,
}


def _test(decider: str, output: str, words: Sequence[str]) -> dict[str, Any]:
    """Return a test of whether an output of a step is one of several words."""
    file = {"Get": f"Steps.{decider}.PropertyFiles.{OUTCOME}"}
    value = {"Std:JsonGet": {"PropertyFile": file, "Path": output}}
    if len(words) == 1:
        return {"Type": "Equals", "LeftValue": value, "RightValue": words[0]}
    return {"Type": "In", "QueryValue": value, "Values": [*words]}


def _condition(key: str, tests: list[Any], then: list[Any], otherwise: list[Any]) -> dict[str, Any]:
    arguments = {"Conditions": tests, "IfSteps": then, "ElseSteps": otherwise}
    return {"Name": key, "Type": "Condition", "Arguments": arguments}


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


def _listed(producer: dict[str, Any], fan: str, gathering: str) -> dict[str, Any]:
    """Return the reader of a fan-out's list, and make its producer write the list."""
    name = LIST + fan.replace("-", "_")
    producer["PropertyFiles"] = [_PROPERTY_FILE]
    told = producer["Arguments"]["AppSpecification"]["ContainerArguments"]
    told += ["--list", f"{name}={gathering}"]
    file = {"Get": f"Steps.{producer['Name']}.PropertyFiles.{OUTCOME}"}
    return {"Std:JsonGet": {"PropertyFile": file, "Path": name}}


def _place(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:MAX_DESCRIPTION]


def _get(name: str) -> dict[str, str]:
    return {"Get": f"Parameters.{name}"}


def _joined(on: str, *values: Any) -> dict[str, Any]:
    return {"Std:Join": {"On": on, "Values": [*values]}}
