"""Validate that Azure ML runs a document as intended.

The SDK's own validation does not detect a missing output of a job, a cycle, an undeclared input, a
value of the wrong type, or a word of a command that a shell would split.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import yaml

from kitaru_targets.azureml.emit import CODE, RUN, SCHEMA
from kitaru_targets.azureml.profile import LIMITS
from kitaru_targets.common import read

_NODE = re.compile(r"[a-z_][a-z\d_]*")
_INPUT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BINDING = re.compile(r"\$\{\{([^{}]*)\}\}")
_OF_PARENT = re.compile(r"parent\.inputs\.(\w+)")
_OF_JOB = re.compile(r"parent\.jobs\.(\w+)\.outputs\.(\w+)")
_OWN = re.compile(r"(inputs|outputs)\.(\w+)")
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_TOP = {
    "$schema", "type", "display_name", "description", "settings", "inputs", "jobs",
}  # fmt: skip
_SETTINGS = {"continue_on_step_failure": False, "force_rerun": True}
_OPERATORS = set(";|&<>()\n")


def validate(text: str) -> list[str]:
    """Return the faults of a document, empty if there are no faults."""
    if len(text) > LIMITS.document:
        return [f"the document has more than {LIMITS.document:,} characters"]
    try:
        document = read.parse(text)
    except (yaml.YAMLError, ValueError) as error:
        return [f"the document cannot be read: {error}"]
    if set(document) - {"tags"} != _TOP or not isinstance(document["jobs"], dict):
        return [f"the document does not have exactly {', '.join(sorted(_TOP))}"]
    return list(_problems(document))


def _problems(document: dict[str, Any]) -> Iterator[str]:
    if (document["$schema"], document["type"]) != (SCHEMA, "pipeline"):
        yield "is no pipeline job"
    tags = document.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(text, str) for text in tags.values()):
        yield "tags: not texts by name"
    for name, wanted in _SETTINGS.items():
        if document["settings"].get(name) is not wanted:
            yield f"settings: {name} is not {wanted}"
    for name, value in document["inputs"].items():
        if not _INPUT.fullmatch(name):
            yield f"input {name!r}: no name of an input"
        if not isinstance(value, (str, int, float, bool)) or value == "":
            yield f"input {name}: its value is empty, or no literal"
    outputs: dict[str, set[str]] = {}
    for number, (name, job) in enumerate(document["jobs"].items()):
        for problem in _job(job, document["inputs"], outputs):
            yield f"job {name}: {problem}"
        if not _NODE.fullmatch(name):
            yield f"job {name}: no engine takes this name"
        if number and not _reads_last(job, outputs):
            yield f"job {name}: does not come after the one before it"
        outputs[name] = set(job.get("component", {}).get("outputs", {}))
    yield from _expansions(document)


def _reads_last(job: dict[str, Any], outputs: dict[str, set[str]]) -> bool:
    """Check that each job reads the output of the previous job, which alone defines the order."""
    last = list(outputs)[-1]
    bindings = " ".join(str(value) for value in job.get("inputs", {}).values())
    return f"${{{{parent.jobs.{last}.outputs." in bindings


def _job(
    job: dict[str, Any], inputs: dict[str, Any], outputs: dict[str, set[str]]
) -> Iterator[str]:
    component = job.get("component", {})
    if job.get("type") != "command" or component.get("type") != "command":
        yield "is no command"
        return
    if component.get("is_deterministic") is not False:
        yield "the service would reuse it; only the journal decides what is skipped"
    environment = component.get("environment")
    if not (environment.get("image") if isinstance(environment, dict) else environment):
        yield "has neither an image nor an environment"
    if not isinstance(job.get("limits", {}).get("timeout"), int):
        yield "has no timeout"
    for name, value in job.get("environment_variables", {}).items():
        if not _VARIABLE.fullmatch(name) or not isinstance(value, str):
            yield f"{name!r} is no environment variable with a text"
    asked = component.get("inputs", {})
    for name in sorted(set(asked) ^ set(job.get("inputs", {}))):
        yield f"input {name} is {'missing' if name in asked else 'not declared'}"
    for name, binding in job.get("inputs", {}).items():
        if problem := _binding(binding, asked.get(name, {}).get("type"), inputs, outputs):
            yield f"input {name}: {problem}"
    if component.get("code", CODE) != CODE:
        yield "its code is not in the folder of the document"
    yield from _command(component)


def _binding(
    binding: Any, kind: str | None, inputs: dict[str, Any], outputs: dict[str, set[str]]
) -> str:
    whole = _BINDING.fullmatch(str(binding))
    inner = whole[1] if whole else ""
    if found := _OF_PARENT.fullmatch(inner):
        name = found[1]
        if name not in inputs:
            return f"the pipeline has no input {name}"
        types = _TYPES.get(kind or "", ())
        boolean = isinstance(inputs[name], bool) == (kind == "boolean")
        return "" if isinstance(inputs[name], types) and boolean else f"{name} is no {kind}"
    if found := _OF_JOB.fullmatch(inner):
        there = found[2] in outputs.get(found[1], set())
        return "" if there and kind == "uri_file" else f"nothing before writes {inner}"
    return f"{binding!r} is bound to nothing"


def _command(component: dict[str, Any]) -> Iterator[str]:
    command = component.get("command", "")
    for inner in _BINDING.findall(command):
        found = _OWN.fullmatch(inner)
        if not found or found[2] not in component.get(found[1], {}):
            yield f"its command mentions {inner!r}, which it does not have"
    if not command.endswith(f" --run {RUN}"):
        yield "its command does not name the run"
        return
    rest = command.removesuffix(f" --run {RUN}")
    if set(_bare(rest)) & (_OPERATORS | set('$`"\\*?[{~#!')):
        yield "its command holds something that a shell would take apart"
    elif shlex.split(rest)[0].rpartition("/")[2] not in ("python", "python3"):
        yield "its command starts something else than Python"


def _bare(command: str) -> str:
    """Return the parts of a command outside single quotes."""
    # `shlex` writes double quotes only around a single quote.
    pieces = command.replace("'\"'\"'", "").split("'")
    return "".join(pieces[::2])


def _expansions(document: dict[str, Any]) -> Iterator[str]:
    """Find `${{…}}` outside bindings and commands: the service expands it everywhere."""
    named = [document["display_name"], document["description"], *document["inputs"].values()]
    for job in document["jobs"].values():
        component = job.get("component", {})
        named += [job.get("display_name"), component.get("display_name")]
        named += [component.get("description"), str(component.get("environment"))]
        named += job.get("environment_variables", {}).values()
    for text in named:
        if "{{" in str(text):
            yield f"text that the engine would expand: {text!r}"
