"""Check documents for errors that the vendors' own tools do not find.

Parsers, loaders and local runners accept a missing dependency, an undeclared input, a wrong
placeholder or a condition on a missing output. A cluster fails on it or, worse, silently drops the
task. Every emitted document is checked here before it is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from kitaru_targets.common import read
from kitaru_targets.common.node_names import KEY
from kitaru_targets.kfp import check_dag
from kitaru_targets.kfp.document import RUN_UUID, SCHEMA_VERSION

_PLACEHOLDER = re.compile(
    r"\{\{\$\.(inputs|outputs)\.parameters\['([A-Za-z_][A-Za-z0-9_-]*)'\](\.output_file)?\}\}"
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOP = frozenset(
    {"pipelineInfo", "schemaVersion", "sdkVersion", "root", "components", "deploymentSpec"}
)
_DEFAULTS: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
}


# Yields the faults of the documents after the first one, from the executors of the first.
Others = Callable[[Sequence[dict[str, Any]], Mapping[str, Any]], Iterator[str]]


def no_others(found: Sequence[dict[str, Any]], _: Mapping[str, Any]) -> Iterator[str]:
    """Yield a fault if there is another document, which the SDK of Vertex does not read."""
    if found:
        yield "there is a second document"


def document(
    text: str, *, longest_name: int, most_bytes: int, others: Others = no_others
) -> list[str]:
    """Return the faults in a document's text with their locations; empty if it is valid."""
    if len(text.encode()) > most_bytes:
        return [f"the document has more than {most_bytes:,} bytes"]
    try:
        documents = read.parse_all(text)
    except (yaml.YAMLError, ValueError) as error:
        return [f"the document cannot be read: {error}"]
    if not documents:
        return ["there is no document"]
    spec, *rest = documents
    found = list(_problems(spec, longest_name))
    return found or [*others(rest, spec["deploymentSpec"]["executors"])]


def _problems(spec: dict[str, Any], longest_name: int) -> Iterator[str]:
    if missing := _TOP - set(spec):
        yield f"missing {', '.join(sorted(missing))}"
        return
    yield from _head(spec, longest_name)
    yield from _parameters(spec["root"])
    yield from _executors(spec)
    yield from _expansions(spec, "")
    yield from check_dag.problems(spec)


def _head(spec: dict[str, Any], longest: int) -> Iterator[str]:
    name = spec["pipelineInfo"].get("name", "")
    if spec["schemaVersion"] != SCHEMA_VERSION:
        yield f"schemaVersion is {spec['schemaVersion']!r}, not {SCHEMA_VERSION!r}"
    if not KEY.fullmatch(name) or len(name) > longest:
        yield f"pipelineInfo.name {name!r} is not a name of at most {longest} characters"
    if extra := set(spec) - _TOP - {"defaultPipelineRoot"}:
        yield f"unknown {', '.join(sorted(extra))}"


def _parameters(root: dict[str, Any]) -> Iterator[str]:
    for name, definition in root.get("inputDefinitions", {}).get("parameters", {}).items():
        kind = definition.get("parameterType")
        if kind not in _DEFAULTS:
            yield f"parameter {name}: unknown type {kind!r}"
        elif "defaultValue" in definition:
            value = definition["defaultValue"]
            if not isinstance(value, _DEFAULTS[kind]) or (
                isinstance(value, bool) and kind != "BOOLEAN"
            ):
                yield f"parameter {name}: default {value!r} is no {kind}"
            if not definition.get("isOptional"):
                yield f"parameter {name}: has a default and is not optional"


def _executors(spec: dict[str, Any]) -> Iterator[str]:
    executors = spec["deploymentSpec"].get("executors", {})
    users: dict[str, list[str]] = {label: [] for label in executors}
    for name, component in spec["components"].items():
        label = component.get("executorLabel")
        if ("dag" in component) == (label is not None):
            yield f"{name}: needs either a dag or an executor"
        elif label is not None and label not in executors:
            yield f"{name}: there is no executor {label}"
        elif label is not None:
            users[label].append(name)
            yield from _placeholders(name, component, executors[label].get("container", {}))
    yield from _interfaces(spec, users)
    for label, executor in executors.items():
        if not users[label]:
            yield f"{label}: no component uses it"
        yield from _container(label, executor.get("container", {}))


def _interfaces(spec: dict[str, Any], users: dict[str, list[str]]) -> Iterator[str]:
    """Find conflicting interfaces: the backend stores one interface per container hash."""
    seen: dict[str, tuple[str, Any]] = {}
    for label, names in users.items():
        container = json.dumps(spec["deploymentSpec"]["executors"][label], sort_keys=True)
        for name in names:
            component = spec["components"][name]
            interface = [component.get(part) for part in ("inputDefinitions", "outputDefinitions")]
            first, expected = seen.setdefault(container, (name, interface))
            if interface != expected:
                yield f"{name} and {first}: equal containers with different inputs or outputs"


def _container(label: str, container: dict[str, Any]) -> Iterator[str]:
    if not container.get("image"):
        yield f"{label}: has no image"
    command = container.get("command")
    if not command or not all(isinstance(a, str) for a in [*command, *container.get("args", [])]):
        yield f"{label}: command and arguments have to be lists of strings"
    elif command[0].rpartition("/")[2] in ("sh", "bash", "dash", "env"):
        yield f"{label}: starts a shell"
    for variable in container.get("env", []):
        if not _VARIABLE.fullmatch(variable.get("name", "")):
            yield f"{label}: {variable.get('name')!r} is no name of an environment variable"
        if not isinstance(variable.get("value"), str):
            yield f"{label}: the value of {variable.get('name')} is no string"


def _placeholders(name: str, component: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    written = set()
    for argument in [*container.get("command", []), *container.get("args", [])]:
        for kind, parameter, file in _PLACEHOLDER.findall(argument):
            declared = component.get(f"{kind[:-1]}Definitions", {}).get("parameters", {})
            if parameter not in declared:
                yield f"{name}: an argument mentions {kind[:-1]} {parameter!r}, not declared"
            if (kind == "outputs") != bool(file):
                yield f"{name}: wrong placeholder for {kind[:-1]} {parameter!r}"
            written |= {parameter} if kind == "outputs" else set()
    for output in component.get("outputDefinitions", {}).get("parameters", {}):
        if output not in written:
            yield f"{name}: nobody writes its output {output!r}"


def _expansions(value: Any, place: str) -> Iterator[str]:
    """Find double braces in user text: engines expand their content everywhere."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _expansions(key, f"{place}.{key}")
            yield from _expansions(item, f"{place}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _expansions(item, f"{place}[{index}]")
    elif isinstance(value, str) and "{{" in value and not _allowed(value, place):
        yield f"{place[1:]}: text that the engine would expand"


def _allowed(value: str, place: str) -> bool:
    if place.endswith(".runtimeValue.constant"):
        return value == RUN_UUID
    in_container = re.search(r"\.container\.(args|command)\[\d+\]$", place)
    return bool(in_container) and "{{" not in _PLACEHOLDER.sub("", value)
