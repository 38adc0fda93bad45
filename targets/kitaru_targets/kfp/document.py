"""Turn a plan into a pipeline document of IR schema 2.1.0."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from kitaru.wire import amounts
from kitaru.wire.plan import BranchItem, FanItem, LayoutItem, Plan, Resources, Step
from kitaru_targets.base import ContainerSpec, Emission, Form
from kitaru_targets.common import parameters, variables, yaml
from kitaru_targets.common.node_names import slug
from kitaru_targets.kfp import conditions, task_groups

# Open-source Kubeflow resolves this only as the whole constant of a task input. It is passed as the
# input `run`, which the container's arguments read.
RUN_UUID = "{{$.pipeline_job_uuid}}"
SCHEMA_VERSION = "2.1.0"
_STEP_INPUTS = ("step", "run", "execution", "store")
# Only for the first step: the key of inputs in the store.
_STORED = "inputs"
# Servers read this part from a document of its own.
_SECOND = "platforms"
_STRING = {"parameterType": "STRING"}
_LIST = {"parameterType": "LIST"}
_TYPES: dict[parameters.Native, str] = {
    "string": "STRING",
    "integer": "NUMBER_INTEGER",
    "number": "NUMBER_DOUBLE",
    "boolean": "BOOLEAN",
}
# The resource of a GPU in Kubernetes.
_GPU = "nvidia.com/gpu"


def emit(
    plan: Plan,
    wiring: ContainerSpec,
    *,
    longest_name: int,
    longest_key: int,
    gpu: str = _GPU,
    second: Callable[[Iterable[str]], dict[str, Any]] = lambda _: {},
) -> Emission:
    """Return the document for a plan; raise UsageError if a name or value is not valid in it.

    `gpu` is the type of the accelerators. `second` returns what follows as a second document, from
    the names of the executors.
    """
    root = task_groups.build(plan, longest=longest_key)
    components = _Components(plan, wiring, gpu)
    document = {
        "pipelineInfo": _info(plan, longest_name),
        "schemaVersion": SCHEMA_VERSION,
        "sdkVersion": f"kitaru-{plan.kitaru}",
        "root": {
            "inputDefinitions": {"parameters": definitions(plan, wiring.store, wiring.execution)},
            "dag": _dag(root, components),
        },
        "components": components.definitions(root),
        "deploymentSpec": {"executors": components.executors()},
    }
    steps = {task.key: task.step.name for task in root.tasks()}
    groups = {group.key: group.span for group in root.groups() if group.span is not None}
    form = Form(
        document | second(components.executors()), partial(_dump, header=wiring.about.header)
    )
    return Emission(form.text(), steps, groups, form=form)


def _dump(document: dict[str, Any], *, header: Sequence[str]) -> str:
    """Return a pipeline as text; its part `platforms` is a document of its own."""
    first = {name: part for name, part in document.items() if name != _SECOND}
    second = {_SECOND: document[_SECOND]} if _SECOND in document else {}
    return yaml.dump_all({"pipeline": first, **({_SECOND: second} if second else {})}, header)


def _info(plan: Plan, longest: int) -> dict[str, str]:
    return {
        "name": slug(plan.flow, fallback="flow", longest=longest),
        "displayName": plan.flow,
        "description": f"{plan.flow} at {plan.file}:{plan.line}, compiled by Kitaru.",
    }


def definitions(plan: Plan, store: str, execution: str = "") -> dict[str, Any]:
    """Return the pipeline's `inputDefinitions.parameters`; raise UsageError on an invalid name."""
    declared = parameters.declared(plan, store, execution)
    return {parameter.name: _definition(parameter) for parameter in declared}


def _definition(parameter: parameters.Declared) -> dict[str, Any]:
    optional = {"isOptional": True, "defaultValue": parameter.default}
    return {
        "parameterType": _TYPES[parameter.type],
        **(optional if parameter.default is not None else {}),
        **({"description": parameter.description} if parameter.description else {}),
    }


def _resources(asked: Resources, gpu: str) -> dict[str, Any]:
    """Return an executor's `resources`, empty if the step requests none.

    Both the old numeric fields and the newer text fields are written, because servers read
    different ones.
    """
    found: dict[str, Any] = {}
    if asked.cpu:
        found |= {"cpuLimit": amounts.cores(asked.cpu), "resourceCpuLimit": asked.cpu}
    if asked.memory:
        gigabytes = amounts.size(asked.memory) / 10**9
        found |= {"memoryLimit": gigabytes, "resourceMemoryLimit": asked.memory}
    if asked.gpu:
        count = str(asked.gpu)
        old = {"type": gpu, "count": count}
        found["accelerator"] = old | {"resourceType": gpu, "resourceCount": count}
    return found


class _Profile(NamedTuple):
    """The data that distinguishes one component and its container from another."""

    is_first: bool
    makes_list: bool
    is_item: bool
    resources: Resources

    @property
    def base(self) -> str:
        return f"kitaru-{'start' if self.is_first else 'item' if self.is_item else 'step'}"

    @property
    def inputs(self) -> tuple[str, ...]:
        return (*_STEP_INPUTS, "item") if self.is_item else _STEP_INPUTS

    @property
    def outputs(self) -> dict[str, str]:
        """The options that name the files of a step's outputs, by output."""
        if self.is_item:
            return {}
        made = {task_groups.LIST: "items"} if self.makes_list else {}
        return {"next": "next", "status": "status", **made}


class _Components:
    """One component and executor per profile of a step; the first step has the flow's inputs."""

    def __init__(self, plan: Plan, wiring: ContainerSpec, gpu: str) -> None:
        self._plan = plan
        self._gpu = gpu
        self._wiring = wiring
        self._first = plan.blocks[0].name
        self._producers = frozenset(_producers(plan.layout))
        self._names: dict[_Profile, str] = {}
        for step in plan.steps:
            self.name(step)

    def is_first(self, step: Step) -> bool:
        return step.entry == self._first

    def name(self, step: Step) -> str:
        is_producer, is_item = step.name in self._producers, step.per_item > 0
        profile = _Profile(self.is_first(step), is_producer, is_item, step.resources)
        if profile not in self._names:
            number = sum(1 for other in self._names if other.base == profile.base) + 1
            self._names[profile] = profile.base if number == 1 else f"{profile.base}-{number}"
        return self._names[profile]

    def about(self, step: Step) -> str:
        return self._wiring.about.step(step)

    def inputs(self) -> list[str]:
        return [parameter.name for parameter in self._plan.parameters]

    def definitions(self, root: task_groups.Group) -> dict[str, Any]:
        shared = {f"comp-{name}": self._component(p) for p, name in self._names.items()}
        groups = [group for group in root.groups() if group is not root]
        return {**shared, **{f"comp-{group.key}": _group(group, self) for group in groups}}

    def executors(self) -> dict[str, Any]:
        return {f"exec-{name}": self._executor(p) for p, name in self._names.items()}

    def _component(self, profile: _Profile) -> dict[str, Any]:
        types: dict[str, Any] = dict.fromkeys(profile.inputs, _STRING)
        if profile.is_first:
            root = definitions(self._plan, self._wiring.store)
            for name in self.inputs():
                types[_own(name)] = {"parameterType": root[name]["parameterType"]}
            if self.inputs():
                types[_STORED] = _STRING
        component = {
            "executorLabel": f"exec-{self._names[profile]}",
            "inputDefinitions": {"parameters": types},
        }
        if profile.outputs:
            outputs = {name: _type(name) for name in profile.outputs}
            component["outputDefinitions"] = {"parameters": outputs}
        return component

    def _executor(self, profile: _Profile) -> dict[str, Any]:
        container = {
            "image": self._wiring.image,
            "command": [*self._wiring.command],
            "args": [*self._wiring.leading, *self._arguments(profile)],
            "env": [
                {"name": name, "value": value}
                for name, value in variables.environment(self._wiring.environment).items()
            ],
        }
        asked = _resources(profile.resources, self._gpu)
        return {"container": {**container, **({"resources": asked} if asked else {})}}

    def _arguments(self, profile: _Profile) -> list[str]:
        arguments = []
        for name in profile.inputs:
            arguments += [f"--{name}", _placeholder(name)]
        for name, option in profile.outputs.items():
            file = f"{{{{$.outputs.parameters['{name}'].output_file}}}}"
            arguments += [f"--{option}-file", file]
        if profile.is_first:
            for name in self.inputs():
                arguments += ["--input", f"{name}={_placeholder(_own(name))}"]
            if self.inputs():
                arguments += ["--inputs-key", _placeholder(_STORED)]
        return arguments


def _producers(items: Iterable[LayoutItem]) -> Iterator[str]:
    for item in items:
        match item:
            case FanItem(producer=producer):
                yield producer
            case BranchItem(arms=arms):
                for arm in arms:
                    yield from _producers(arm)


def _type(output: str) -> dict[str, str]:
    return _LIST if output == task_groups.LIST else _STRING


def _own(name: str) -> str:
    """Return the name of a flow's input in the first step, next to `step`, `run` and so on."""
    return f"input_{name}"


def _placeholder(name: str) -> str:
    return f"{{{{$.inputs.parameters['{name}']}}}}"


def _group(group: task_groups.Group, components: _Components) -> dict[str, Any]:
    types = {"execution": _STRING, "store": _STRING}
    types |= {channel.name: _type(channel.output) for channel in group.channels}
    if group.loop:
        types[_item(group)] = _STRING
    component: dict[str, Any] = {"inputDefinitions": {"parameters": types}}
    if group.exposes:
        outputs = {name: _type(name) for name in group.exposes}
        component["outputDefinitions"] = {"parameters": outputs}
    return {**component, "dag": _dag(group, components)}


def _dag(group: task_groups.Group, components: _Components) -> dict[str, Any]:
    dag: dict[str, Any] = {
        "tasks": {
            child.key: _step_task(child, group, components)
            if isinstance(child, task_groups.Task)
            else _group_task(child, group)
            for child in group.children
        }
    }
    if group.exposes:
        dag["outputs"] = {"parameters": {n: _exposed(t, n) for n, t in group.exposes.items()}}
    return dag


def _exposed(task: str, output: str) -> dict[str, Any]:
    return {"valueFromParameter": {"producerSubtask": task, "outputParameterKey": output}}


def _step_task(
    task: task_groups.Task, group: task_groups.Group, components: _Components
) -> dict[str, Any]:
    inputs = {"step": _constant(task.step.name), "run": _constant(RUN_UUID), **_context(group)}
    if components.is_first(task.step):
        inputs |= {_own(name): _parent(name) for name in components.inputs()}
        if components.inputs():
            inputs[_STORED] = _parent(parameters.INPUTS)
    if group.loop:
        inputs["item"] = _parent(_item(group))
    body = {
        "componentRef": {"name": f"comp-{components.name(task.step)}"},
        "cachingOptions": {},
        "inputs": {"parameters": inputs},
    }
    if task.step.retry == "native" and task.step.retries:
        body["retryPolicy"] = {
            "maxRetryCount": task.step.retries,
            "backoffDuration": f"{math.ceil(task.step.retry_delay)}s",
            "backoffFactor": float(task.step.backoff),
            "backoffMaxDuration": "3600s",
        }
    return yaml.Noted(components.about(task.step), _task(task.key, task.needs, body))


def _group_task(child: task_groups.Group, group: task_groups.Group) -> dict[str, Any]:
    inputs = _context(group) | {c.name: _channel(c, group) for c in child.channels}
    body: dict[str, Any] = {
        "componentRef": {"name": f"comp-{child.key}"},
        "inputs": {"parameters": inputs},
    }
    if child.tests:
        body["triggerPolicy"] = {"condition": conditions.write(list(child.tests))}
    if child.loop:
        body |= _iterator(child, child.loop)
    made = _task(child.key, child.needs, body)
    return yaml.Noted(_purpose(child), made) if _purpose(child) else made


def _purpose(group: task_groups.Group) -> str:
    place = f"{group.span.file}:{group.span.line}" if group.span else ""
    match group.kind:
        case "branch" | "arm":
            return f"{place} - {group.when}" if group.when else place
        case "loop":
            return f"{place} - once for each item"
    return f"{place} - the steps after it, if the flow continues"


def _iterator(group: task_groups.Group, loop: task_groups.Loop) -> dict[str, Any]:
    items = {"raw": json.dumps(loop.items)}
    if loop.channel:
        items = {"inputParameter": loop.channel.name}
    return {
        "parameterIterator": {"itemInput": _item(group), "items": items},
        "iteratorPolicy": {"parallelismLimit": loop.parallel},
    }


def _item(group: task_groups.Group) -> str:
    """Return the input through which a loop passes an item to its body."""
    channel = group.loop.channel if group.loop else None
    return f"{channel.name if channel else f'pipelinechannel--{group.key}'}-loop-item"


def _task(key: str, needs: tuple[str, ...], body: dict[str, Any]) -> dict[str, Any]:
    # Label and key are equal, because engines before 2.5 look up producers by the label.
    after = {"dependentTasks": [*needs]} if needs else {}
    return {"taskInfo": {"name": key}, **after, **body}


def _context(group: task_groups.Group) -> dict[str, Any]:
    """Pass on the inputs of every step, from the pipeline's parameters or the group's inputs."""
    if group.kind == "root":
        return {"execution": _parent(parameters.EXECUTION), "store": _parent(parameters.STORE)}
    return {"execution": _parent("execution"), "store": _parent("store")}


def _channel(channel: task_groups.Channel, group: task_groups.Group) -> dict[str, Any]:
    if any(child.key == channel.task for child in group.children):
        source = {"producerTask": channel.task, "outputParameterKey": channel.output}
        return {"taskOutputParameter": source}
    return _parent(channel.name)


def _constant(value: str) -> dict[str, Any]:
    return {"runtimeValue": {"constant": value}}


def _parent(name: str) -> dict[str, Any]:
    return {"componentInputParameter": name}
