"""Check that a workflow template is one of ours, and that Argo runs it as intended.

Argo's schema and the vendors' models check types. They miss unknown fields, names of templates and
tasks that do not exist, circles, references to nothing, missing arguments and faulty conditions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping, Set
from typing import Any

import yaml

from kitaru_targets.argo import conditions, emit, profile
from kitaru_targets.argo.dags import ITEMS, NEXT, ROUND, SECONDS, STATUS
from kitaru_targets.common import read

_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
_REFERENCE = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_TERM = re.compile(
    r"(?P<one>[a-z][a-z0-9-]*)"
    r"|\((?P<fan>[a-z][a-z0-9-]*) \|\| (?P=fan)\.Failed \|\| (?P=fan)\.Errored\)"
)
_DURATION = re.compile(r"[0-9]+[smh]")
_NUMBER = re.compile(r"[0-9]+")
# By kind of object: the required fields, and further ones.
_FIELDS: dict[str, tuple[Set[str], Set[str]]] = {
    "document": ({"apiVersion", "kind", "metadata", "spec"}, set()),
    "spec": (
        {"entrypoint", "serviceAccountName", "parallelism", "podGC", "workflowMetadata",
         "podMetadata", "arguments", "templates"},
        {"synchronization", "ttlStrategy", "imagePullSecrets", "nodeSelector", "tolerations",
         "volumes"},
    ),
    "dag": ({"name", "dag"}, {"inputs"}),
    "suspend": ({"name", "inputs", "suspend"}, set()),
    "container": (
        {"name", "inputs", "container"},
        {"outputs", "retryStrategy", "activeDeadlineSeconds"},
    ),
    "task": ({"name", "template"}, {"depends", "when", "withParam", "arguments"}),
    "main": ({"image", "command", "args", "env"}, {"resources", "volumeMounts"}),
    "retryStrategy": ({"limit", "retryPolicy", "expression", "backoff"}, set()),
    "backoff": ({"duration", "factor", "cap"}, set()),
    "config map": ({"apiVersion", "kind", "metadata", "immutable", "data"}, set()),
}  # fmt: skip
_RUN = {"{{workflow.namespace}}", "{{workflow.name}}", "{{workflow.uid}}"}
_OUTPUTS = {NEXT, STATUS, ITEMS, SECONDS}


def validate(text: str) -> list[str]:
    """Return the faults of a document, empty if it is valid."""
    if len(text) > profile.MAX_DOCUMENT:
        return [f"the document has more than {profile.MAX_DOCUMENT:,} characters"]
    try:
        template, *further = read.parse_all(text)
    except (ValueError, yaml.YAMLError) as error:
        return [f"the document cannot be read: {error}"]
    try:
        return [*_template(template), *_further(template, further)]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        return [f"a part is not made as intended: {type(error).__name__}: {error}"]


def _fields(kind: str, found: Mapping[str, Any], name: str = "") -> Iterator[str]:
    required, further = _FIELDS[kind]
    lacking, unknown = required - {*found}, {*found} - required - further
    if lacking or unknown:
        place = f"{kind} {name}".strip()
        yield f"{place}: lacks {sorted(lacking)}, has the unknown {sorted(unknown)}"


def _template(document: Mapping[str, Any]) -> Iterator[str]:
    yield from _fields("document", document)
    spec = document["spec"]
    yield from _fields("spec", spec)
    if (document["apiVersion"], document["kind"]) != (emit.API, "WorkflowTemplate"):
        yield "it is no workflow template"
    name = document["metadata"]["name"]
    if not _NAME.fullmatch(name) or len(name) > profile.MAX_NAME:
        yield f"the cluster does not take the name {name!r}"
    if type(spec["parallelism"]) is not int or spec["parallelism"] < 1:
        yield f"runs {spec['parallelism']!r} pods at a time"
    templates = spec["templates"]
    names = [one["name"] for one in templates]
    for one in sorted({n for n in names if names.count(n) > 1 or not _NAME.fullmatch(n)}):
        yield f"template {one!r}: Argo does not take this name, or it is there twice"
    by_name = {one["name"]: one for one in templates}
    if "dag" not in by_name.get(spec["entrypoint"], {}):
        yield f"the entry point {spec['entrypoint']!r} is no template with tasks"
        return
    parameters = yield from _parameters(spec["arguments"]["parameters"])
    for one in templates:
        kinds = [kind for kind in ("dag", "suspend", "container") if kind in one]
        if len(kinds) != 1:
            yield f"template {one['name']}: it is {' and '.join(kinds) or 'nothing'}"
            continue
        yield from _fields(kinds[0], one, one["name"])
        check = {"dag": _dag, "suspend": _suspend, "container": _container}[kinds[0]]
        for problem in check(one, by_name, parameters):
            yield f"template {one['name']}: {problem}"
    yield from _nesting(by_name, spec["entrypoint"])


def _parameters(declared: list[dict[str, Any]]) -> Generator[str, None, Set[str]]:
    """Check the parameters of the run; return the references to them."""
    for one in declared:
        if {*one} - {"name", "value", "description"} or not _PARAMETER.fullmatch(one["name"]):
            yield f"parameter {one['name']!r}: Argo does not take it"
        for text in (one.get("value", ""), one.get("description", "")):
            if not isinstance(text, str) or "{{" in text:
                yield f"parameter {one['name']}: {text!r} is no plain text"
    return {f"{{{{workflow.parameters.{one['name']}}}}}" for one in declared}


def _inputs(template: Mapping[str, Any]) -> list[str]:
    return [one["name"] for one in template.get("inputs", {}).get("parameters", [])]


def _outputs(template: Mapping[str, Any]) -> Set[str]:
    return {one["name"] for one in template.get("outputs", {}).get("parameters", [])}


def _suspend(template: Mapping[str, Any], *_: Any) -> Iterator[str]:
    if template["suspend"] != {"duration": emit.DURATION} or _inputs(template) != [SECONDS]:
        yield "it waits for something else than an answer or the time that a step says"


def _dag(
    template: Mapping[str, Any], templates: Mapping[str, Any], parameters: Set[str]
) -> Iterator[str]:
    fans = any("withParam" in task for task in template["dag"]["tasks"])
    if {**template["dag"], "tasks": []} != {**({"failFast": False} if fans else {}), "tasks": []}:
        yield f"unknown fields beside its tasks: {sorted(template['dag'])}"
    before: dict[str, Set[str]] = {}
    here = {f"{{{{inputs.parameters.{name}}}}}" for name in _inputs(template)}
    always: dict[str, Mapping[str, Any]] = {}
    for task in template["dag"]["tasks"]:
        name = task["name"]
        if name in before or not _NAME.fullmatch(name):
            yield f"task {name!r}: Argo does not take this name, or it is there twice"
        for problem in _fields("task", task, name):
            yield problem
        above: set[str] = set()
        for term in task["depends"].split(" && ") if "depends" in task else []:
            match = _TERM.fullmatch(term)
            needed = (match["one"] or match["fan"]) if match else ""
            if needed not in before:
                yield f"task {name}: depends on {term!r}, which is no task before it"
                continue
            above |= {needed, *before[needed]}
        before[name] = above
        called = templates.get(task["template"])
        if called is None:
            yield f"task {name}: there is no template {task['template']!r}"
            continue
        # Only what a task before it certainly says, and only in the same template.
        said = {
            f"{{{{tasks.{other}.outputs.parameters.{output}}}}}"
            for other in above & always.keys()
            for output in _outputs(always[other])
        }
        for problem in _task(task, template, called, said | here, parameters):
            yield f"task {name}: {problem}"
        if "when" not in task and "withParam" not in task:
            always[name] = called


def _task(
    task: Mapping[str, Any],
    template: Mapping[str, Any],
    called: Mapping[str, Any],
    known: Set[str],
    parameters: Set[str],
) -> Iterator[str]:
    again = called["name"] == template["name"]
    if "when" in task:
        read_ = [*conditions.references(task["when"])]
        if unknown := {*read_} - known:
            yield f"its condition reads {min(unknown)}, which may not be there"
        if again and not task["when"].endswith(emit.LESS):
            yield "it runs its own template without an end"
    elif again:
        yield "it runs its own template without an end"
    each = task.get("withParam")
    if each is not None:
        items = known if each.startswith("{{") else {each} if _is_list(each) else set()
        if each not in items or "container" not in called:
            yield f"it runs for each of {each!r}, which is no list of a step before it"
    given = {one["name"]: one["value"] for one in task.get("arguments", {}).get("parameters", [])}
    if {*given} != {*_inputs(called)}:
        yield f"it gives {sorted(given)} to a template that takes {_inputs(called)}"
    for name, value in given.items():
        allowed = known | ({"{{item}}"} if each is not None else set())
        allowed |= {emit.AGAIN} if again and name == ROUND else set()
        if not isinstance(value, str) or {*_REFERENCE.findall(value)} - allowed - parameters:
            yield f"its argument {name} is {value!r}, which reads what may not be there"


def _is_list(text: str) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, list) and all(isinstance(one, str) for one in found)


def _container(
    template: Mapping[str, Any], templates: Mapping[str, Any], parameters: Set[str]
) -> Iterator[str]:
    container = template["container"]
    yield from _fields("main", container)
    known = {f"{{{{inputs.parameters.{name}}}}}" for name in _inputs(template)}
    texts = [container["image"], *container["command"], *container["args"]]
    for variable in container["env"]:
        match variable:
            case {"name": str(), "value": str(value), **rest} if not rest:
                texts.append(value)
            case {"name": str(), "valueFrom": {"secretKeyRef": {"name": str(), "key": str()}}}:
                pass
            case _:
                yield f"sets the variable {variable!r}"
    for text in texts:
        if not isinstance(text, str) or {*_REFERENCE.findall(text)} - known - parameters - _RUN:
            yield f"{text!r} reads what is not there"
    if not container["image"]:
        yield "its container has no image"
    if "--step={{inputs.parameters.step}}" not in container["args"]:
        yield "its container runs no step"
    for output in template.get("outputs", {}).get("parameters", []):
        path = f"{emit.FOLDER}/{output['name']}"
        if output["name"] not in _OUTPUTS or output["valueFrom"] != {"path": path}:
            yield f"its output {output['name']!r} is no outcome of a step"
        elif f"--{output['name']}-file={path}" not in container["args"]:
            yield f"its container does not write the output {output['name']}"
    seconds = template.get("activeDeadlineSeconds", 1)
    if type(seconds) is not int or seconds < 1:
        yield f"its pods may run for {seconds!r} seconds"
    if "retryStrategy" in template:
        yield from _retries(template["retryStrategy"])


def _retries(found: Mapping[str, Any]) -> Iterator[str]:
    yield from _fields("retryStrategy", found)
    backoff = found["backoff"]
    yield from _fields("backoff", backoff)
    numbers = (found["limit"], backoff["factor"])
    durations = (backoff["duration"], backoff["cap"])
    if not all(isinstance(n, str) and _NUMBER.fullmatch(n) for n in numbers):
        yield f"its retries have the numbers {numbers!r}"
    if not all(isinstance(d, str) and _DURATION.fullmatch(d) for d in durations):
        yield f"its retries pause for {durations!r}"
    if found["retryPolicy"] != "Always" or found["expression"] != emit.WORTH_RETRYING:
        yield "its retries are not those of a step"


def _nesting(templates: Mapping[str, Any], entrypoint: str) -> Iterator[str]:
    """Check that all templates are used, that none contains itself, and how deep they are."""
    depths: dict[str, int] = {}

    def depth(name: str, above: tuple[str, ...]) -> int:
        if name in above:
            raise ValueError(f"the template {name} contains itself")
        if name not in depths:
            tasks = templates.get(name, {}).get("dag", {}).get("tasks", [])
            inner = [task["template"] for task in tasks if task["template"] != name]
            depths[name] = 1 + max([0, *(depth(one, (*above, name)) for one in inner)])
        return depths[name]

    if depth(entrypoint, ()) + profile.MAX_ROUNDS > profile.MAX_STACK:
        yield f"its templates are {depths[entrypoint]} deep"
    for name in templates.keys() - depths.keys():
        yield f"template {name}: no task runs it"


def _further(template: Mapping[str, Any], further: list[dict[str, Any]]) -> Iterator[str]:
    mounted = [
        volume["configMap"]["name"]
        for volume in template["spec"].get("volumes", [])
        if "configMap" in volume
    ]
    for one in further:
        yield from _fields("config map", one)
        if (one["kind"], {*one["data"]}) != ("ConfigMap", {emit.PROGRAM_FILE}):
            yield "a further document is no config map with a program"
    if mounted != [one["metadata"]["name"] for one in further]:
        yield "the program that starts its steps is not beside it"
