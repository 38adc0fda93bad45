"""Decides what a plan looks like as a pipeline document of IR schema 2.1.0."""

from __future__ import annotations

from typing import Any

from kitaru.wire.plan import Plan, Resources, Step

from ..base import Emission, Wiring
from . import conditions, parameters, resources, tree, yaml
from .keys import slug

# Open-source Kubeflow resolves this only as the whole constant of a task input: it travels as the
# input `run`, and the container's arguments read that.
RUN_UUID = "{{$.pipeline_job_uuid}}"
SCHEMA_VERSION = "2.1.0"
_STEP_INPUTS = ("step", "run", "execution", "store")
_OUTPUTS = ("next", "status")
_STRING = {"parameterType": "STRING"}


def emit(plan: Plan, wiring: Wiring, *, longest_name: int, longest_key: int) -> Emission:
    """Return the document for a plan; raise UsageError when a name or value cannot stand in it."""
    root = tree.build(plan, longest=longest_key)
    components = _Components(plan, wiring)
    document = {
        "pipelineInfo": _info(plan, longest_name),
        "schemaVersion": SCHEMA_VERSION,
        "sdkVersion": f"kitaru-{plan.kitaru}",
        "root": {
            "inputDefinitions": {
                "parameters": parameters.definitions(plan, wiring.store, wiring.execution)
            },
            "dag": _dag(root, components),
        },
        "components": components.definitions(root),
        "deploymentSpec": {"executors": components.executors()},
    }
    steps = {task.key: task.step.name for task in root.tasks()}
    groups = {group.key: group.span for group in root.groups() if group.span is not None}
    return Emission(yaml.dump(document), steps, groups)


def _info(plan: Plan, longest: int) -> dict[str, str]:
    return {
        "name": slug(plan.flow, fallback="flow", longest=longest),
        "displayName": plan.flow,
        "description": f"{plan.flow} at {plan.file}:{plan.line}, compiled by Kitaru.",
    }


class _Components:
    """One component and executor per resource profile, and one for the step with the inputs."""

    def __init__(self, plan: Plan, wiring: Wiring) -> None:
        self._plan = plan
        self._wiring = wiring
        self._first = plan.blocks[0].name
        self._names: dict[tuple[bool, Resources], str] = {}
        for step in plan.steps:
            self._name(step)

    def is_first(self, step: Step) -> bool:
        return step.entry == self._first

    def name(self, step: Step) -> str:
        return self._name(step)

    def inputs(self) -> list[str]:
        return [parameter.name for parameter in self._plan.parameters]

    def definitions(self, root: tree.Group) -> dict[str, Any]:
        shared = {f"comp-{name}": self._component(key) for key, name in self._names.items()}
        groups = [group for group in root.groups() if group is not root]
        return {**shared, **{f"comp-{group.key}": _group(group, self) for group in groups}}

    def executors(self) -> dict[str, Any]:
        return {f"exec-{name}": self._executor(key) for key, name in self._names.items()}

    def _name(self, step: Step) -> str:
        key = (self.is_first(step), step.resources)
        if key not in self._names:
            base = "kitaru-start" if key[0] else "kitaru-step"
            number = sum(1 for first, _ in self._names if first == key[0]) + 1
            self._names[key] = base if number == 1 else f"{base}-{number}"
        return self._names[key]

    def _component(self, key: tuple[bool, Resources]) -> dict[str, Any]:
        types: dict[str, Any] = dict.fromkeys(_STEP_INPUTS, _STRING)
        if key[0]:
            root = parameters.definitions(self._plan, self._wiring.store)
            for name in self.inputs():
                types[_own(name)] = {"parameterType": root[name]["parameterType"]}
        return {
            "executorLabel": f"exec-{self._names[key]}",
            "inputDefinitions": {"parameters": types},
            "outputDefinitions": {"parameters": dict.fromkeys(_OUTPUTS, _STRING)},
        }

    def _executor(self, key: tuple[bool, Resources]) -> dict[str, Any]:
        container = {
            "image": self._wiring.image,
            "command": [*self._wiring.command],
            "args": [*self._wiring.leading, *self._arguments(first=key[0])],
            "env": resources.environment(self._wiring.environment),
        }
        asked = resources.emit(key[1])
        return {"container": {**container, **({"resources": asked} if asked else {})}}

    def _arguments(self, *, first: bool) -> list[str]:
        arguments = []
        for name in _STEP_INPUTS:
            arguments += [f"--{name}", _placeholder(name)]
        for name in _OUTPUTS:
            arguments += [f"--{name}-file", f"{{{{$.outputs.parameters['{name}'].output_file}}}}"]
        if first:
            for name in self.inputs():
                arguments += ["--input", f"{name}={_placeholder(_own(name))}"]
        return arguments


def _own(name: str) -> str:
    """Return what the flow's input is called in the first step, beside `step`, `run` and so on."""
    return f"input_{name}"


def _placeholder(name: str) -> str:
    return f"{{{{$.inputs.parameters['{name}']}}}}"


def _group(group: tree.Group, components: _Components) -> dict[str, Any]:
    names = ["execution", "store", *(channel.name for channel in group.channels)]
    component: dict[str, Any] = {
        "inputDefinitions": {"parameters": dict.fromkeys(names, _STRING)},
    }
    if group.exposes:
        outputs = dict.fromkeys(group.exposes, _STRING)
        component["outputDefinitions"] = {"parameters": outputs}
    return {**component, "dag": _dag(group, components)}


def _dag(group: tree.Group, components: _Components) -> dict[str, Any]:
    dag: dict[str, Any] = {
        "tasks": {
            child.key: _step_task(child, group, components)
            if isinstance(child, tree.Task)
            else _group_task(child, group)
            for child in group.children
        }
    }
    if group.exposes:
        dag["outputs"] = {"parameters": {n: _exposed(t, n) for n, t in group.exposes.items()}}
    return dag


def _exposed(task: str, output: str) -> dict[str, Any]:
    return {"valueFromParameter": {"producerSubtask": task, "outputParameterKey": output}}


def _step_task(task: tree.Task, group: tree.Group, components: _Components) -> dict[str, Any]:
    inputs = {"step": _constant(task.step.name), "run": _constant(RUN_UUID), **_context(group)}
    if components.is_first(task.step):
        inputs |= {_own(name): _parent(name) for name in components.inputs()}
    body = {
        "componentRef": {"name": f"comp-{components.name(task.step)}"},
        "cachingOptions": {},
        "inputs": {"parameters": inputs},
    }
    if task.step.retry == "native" and task.step.retries:
        body["retryPolicy"] = {
            "maxRetryCount": task.step.retries,
            "backoffDuration": "0s",
            "backoffFactor": 2.0,
            "backoffMaxDuration": "3600s",
        }
    return _task(task.key, task.needs, body)


def _group_task(child: tree.Group, group: tree.Group) -> dict[str, Any]:
    inputs = _context(group) | {c.name: _channel(c, group) for c in child.channels}
    body: dict[str, Any] = {
        "componentRef": {"name": f"comp-{child.key}"},
        "inputs": {"parameters": inputs},
    }
    if child.tests:
        body["triggerPolicy"] = {"condition": conditions.write(list(child.tests))}
    return _task(child.key, child.needs, body)


def _task(key: str, needs: tuple[str, ...], body: dict[str, Any]) -> dict[str, Any]:
    # Label and key are the same: engines before 2.5 look producers up by the label.
    after = {"dependentTasks": [*needs]} if needs else {}
    return {"taskInfo": {"name": key}, **after, **body}


def _context(group: tree.Group) -> dict[str, Any]:
    """Pass on what every step needs, from the pipeline's parameters or from the group's inputs."""
    if group.kind == "root":
        return {"execution": _parent(parameters.EXECUTION), "store": _parent(parameters.STORE)}
    return {"execution": _parent("execution"), "store": _parent("store")}


def _channel(channel: tree.Channel, group: tree.Group) -> dict[str, Any]:
    if any(child.key == channel.task for child in group.children):
        source = {"producerTask": channel.task, "outputParameterKey": channel.output}
        return {"taskOutputParameter": source}
    return _parent(channel.name)


def _constant(value: str) -> dict[str, Any]:
    return {"runtimeValue": {"constant": value}}


def _parent(name: str) -> dict[str, Any]:
    return {"componentInputParameter": name}
