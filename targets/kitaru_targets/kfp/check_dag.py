"""Check the graphs of a document: order, inputs, conditions, nesting, loops."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from kitaru.wire.structs import Struct
from kitaru_targets.common.node_names import KEY, MAX_KEY, RESERVED_SUFFIX
from kitaru_targets.kfp import conditions

# `kfp.local` extracts the task's name from the input's name.
_FOUND = re.compile(r"pipelinechannel--[a-z0-9-]+-Output")
_MAX_DEPTH = 95


class _Dag(Struct):
    name: str
    component: dict[str, Any]
    components: dict[str, Any]

    @property
    def tasks(self) -> dict[str, Any]:
        return dict(self.component["dag"].get("tasks", {}))

    @property
    def inputs(self) -> dict[str, Any]:
        return dict(self.component.get("inputDefinitions", {}).get("parameters", {}))

    def called(self, task: str) -> dict[str, Any]:
        """Return the component that a task runs; empty if it has no component."""
        name = self.tasks.get(task, {}).get("componentRef", {}).get("name", "")
        return dict(self.components.get(name, {}))

    def outputs(self, task: str) -> dict[str, Any]:
        return dict(self.called(task).get("outputDefinitions", {}).get("parameters", {}))


def problems(spec: dict[str, Any]) -> Iterator[str]:
    """Yield the faults of the graphs of a document."""
    components = spec["components"]
    dags = {"root": spec["root"]} | {n: c for n, c in components.items() if "dag" in c}
    if "dag" not in spec["root"]:
        yield "root: has no dag"
        return
    yield from _unique(dags)
    yield from _nesting(spec)
    for name, component in dags.items():
        dag = _Dag(name, component, components)
        yield from _order(dag)
        yield from _dag_outputs(dag)
        for key, task in dag.tasks.items():
            for problem in _task(dag, key, task):
                yield f"{name}, task {key}: {problem}"


def _unique(dags: dict[str, Any]) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name, component in dags.items():
        for key in component["dag"].get("tasks", {}):
            if key in seen:
                yield f"{name}, task {key}: there is one of that name in {seen[key]}"
            seen[key] = name


def _nesting(spec: dict[str, Any]) -> Iterator[str]:
    """Check that each group occurs in one place, not in itself, and not too deep."""
    callers: dict[str, int] = {}
    pending = [(spec["root"], 0)]
    while pending:
        component, depth = pending.pop()
        if depth > _MAX_DEPTH:
            yield f"groups nest deeper than {_MAX_DEPTH}"
            return
        for task in component["dag"].get("tasks", {}).values():
            name = task.get("componentRef", {}).get("name", "")
            called = spec["components"].get(name, {})
            callers[name] = callers.get(name, 0) + 1
            if "dag" in called and callers[name] == 1:
                pending.append((called, depth + 1))
            elif "dag" in called:
                yield f"{name}: runs in more than one place"
    for name in spec["components"]:
        if name not in callers:
            yield f"{name}: no task runs it"


def _order(dag: _Dag) -> Iterator[str]:
    """Check that a task depends only on earlier siblings, which excludes cycles."""
    before: set[str] = set()
    for key, task in dag.tasks.items():
        for needed in task.get("dependentTasks", []):
            if needed not in before:
                yield f"{dag.name}, task {key}: depends on {needed}, which does not stand before it"
        before.add(key)


def _dag_outputs(dag: _Dag) -> Iterator[str]:
    selected = dag.component["dag"].get("outputs", {}).get("parameters", {})
    declared = dag.component.get("outputDefinitions", {}).get("parameters", {})
    if set(selected) != set(declared):
        yield f"{dag.name}: declared outputs {sorted(declared)}, selected {sorted(selected)}"
    for name, selection in selected.items():
        source = selection.get("valueFromParameter", {})
        task = source.get("producerSubtask", "")
        if source.get("outputParameterKey") not in dag.outputs(task):
            yield f"{dag.name}: output {name} comes from nowhere"
        elif "triggerPolicy" in dag.tasks[task]:
            yield f"{dag.name}: output {name} comes from a task that may be skipped"


def _task(dag: _Dag, key: str, task: dict[str, Any]) -> Iterator[str]:
    called = dag.called(key)
    if not KEY.fullmatch(key) or len(key) > MAX_KEY or key.endswith(RESERVED_SUFFIX):
        yield "no engine takes this name"
    if task.get("taskInfo", {}).get("name") != key:
        yield "its label has to be its name"
    if not called:
        yield "runs a component that does not exist"
        return
    if "dag" not in called and task.get("cachingOptions") != {}:
        yield "the engine would cache it; only the journal decides what is skipped"
    if "dag" in called and "retryPolicy" in task:
        yield "only a container can be retried"
    if "dag" not in called and "triggerPolicy" in task:
        yield "only a group can be conditional"
    yield from _inputs(dag, key, task, called)
    yield from _condition(dag, task)
    yield from _skipped(dag, task)
    yield from loop_problems(task, called)


def _inputs(dag: _Dag, key: str, task: dict[str, Any], called: dict[str, Any]) -> Iterator[str]:
    declared = called.get("inputDefinitions", {}).get("parameters", {})
    given = task.get("inputs", {}).get("parameters", {})
    by_iterator = {task.get("parameterIterator", {}).get("itemInput")} & set(declared)
    for name in sorted(set(declared) ^ {*given, *by_iterator}):
        yield f"input {name} is {'missing' if name in declared else 'not declared'}"
    for name, source in given.items():
        kind = _source_type(dag, task, source)
        wanted = declared.get(name, {}).get("parameterType")
        if kind.startswith("?"):
            yield f"input {name}: {kind[1:]}"
        elif wanted and kind != wanted:
            yield f"input {name}: is a {wanted}, and gets a {kind}"


def _source_type(dag: _Dag, task: dict[str, Any], source: dict[str, Any]) -> str:
    """Return the type of an input's source, or `?` and the fault."""
    match source:
        case {"runtimeValue": {"constant": str()}}:
            return "STRING"
        case {"componentInputParameter": name} if name in dag.inputs:
            return str(dag.inputs[name].get("parameterType"))
        case {"componentInputParameter": name}:
            return f"?{dag.name} has no input {name}"
        case {"taskOutputParameter": {"producerTask": producer, "outputParameterKey": output}}:
            if output not in dag.outputs(producer):
                return f"?there is no output {output} of a task {producer} here"
            if producer not in task.get("dependentTasks", []):
                return f"?comes from {producer}, which it does not depend on"
            return str(dag.outputs(producer)[output].get("parameterType"))
    return f"?comes from an unknown source {sorted(source)}"


def _condition(dag: _Dag, task: dict[str, Any]) -> Iterator[str]:
    if "triggerPolicy" not in task:
        return
    given = task.get("inputs", {}).get("parameters", {})
    try:
        comparisons = conditions.read(task["triggerPolicy"].get("condition", ""))
    except ValueError as error:
        yield str(error)
        return
    for name in (comparison.name for comparison in comparisons):
        _, sibling, output = name.split("--")
        if name not in given:
            yield f"its condition reads {name}, which is not among its inputs"
        elif name not in dag.inputs and output not in dag.outputs(sibling):
            yield f"its condition reads {name}, which is neither passed in nor a sibling's output"


def _skipped(dag: _Dag, task: dict[str, Any]) -> Iterator[str]:
    """Check that only a condition depends on a skipped task; the engine drops other dependents."""
    condition = task.get("triggerPolicy", {}).get("condition", "")
    for needed in task.get("dependentTasks", []):
        conditional = "triggerPolicy" in dag.tasks.get(needed, {})
        if conditional and f"pipelinechannel--{needed}--" not in condition:
            yield f"depends on {needed}, which may be skipped"


def loop_problems(task: dict[str, Any], called: dict[str, Any]) -> Iterator[str]:
    """Yield the faults of the iteration of `task` over its component, if it has one."""
    iterator = task.get("parameterIterator")
    if "artifactIterator" in task or (iterator is None and "iteratorPolicy" in task):
        yield "only a list of texts can be iterated over"
    if iterator is None:
        return
    declared = called.get("inputDefinitions", {}).get("parameters", {})
    given = task.get("inputs", {}).get("parameters", {})
    if "dag" not in called or "triggerPolicy" in task:
        yield "only an unconditional group can be iterated over"
    item = iterator.get("itemInput")
    if declared.get(item, {}).get("parameterType") != "STRING" or item in given:
        yield f"its item {item} is no text input that only the iterator gives"
    limit = task.get("iteratorPolicy", {}).get("parallelismLimit")
    if type(limit) is not int or limit < 1:
        yield f"runs {limit!r} at a time"
    yield from _list(iterator.get("items", {}), given, declared)


def _list(items: dict[str, Any], given: dict[str, Any], declared: dict[str, Any]) -> Iterator[str]:
    match items:
        case {"inputParameter": str(name)}:
            if name not in given or declared.get(name, {}).get("parameterType") != "LIST":
                yield f"iterates over {name}, which is no list that it is given"
            elif not _FOUND.fullmatch(name):
                yield f"local runners do not find the list {name}"
        case {"raw": str(raw)}:
            if not _is_list_of_texts(raw):
                yield f"iterates over {raw}, which is no list of texts"
        case _:
            yield f"iterates over {sorted(items)}"


def _is_list_of_texts(raw: str) -> bool:
    try:
        texts = json.loads(raw)
    except ValueError:
        return False
    return isinstance(texts, list) and all(isinstance(text, str) for text in texts)
