"""Decides whether a document is one that SageMaker Pipelines runs as it is meant.

No tool of the vendor's checks a definition before the service does, and the service finds much of
it only when a step starts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from . import profile
from .emit import OUTCOME, RUN, VERSION

_NAME = re.compile(r"[a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,63}")
_PARAMETER = re.compile(r"[A-Za-z0-9_-]{1,256}")
_VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,255}")
_PATH = re.compile(rf"{profile.FOLDER}/(?:input|output)/[a-z]+")
_TYPES: dict[str, tuple[type, ...]] = {
    "String": (str,),
    "Integer": (int,),
    "Float": (int, float),
    "Boolean": (bool,),
}
_TOP = {"Version", "Metadata", "Parameters", "Steps"}
_STEP = {
    "Processing": {
        "Name", "Type", "Arguments", "DependsOn", "DisplayName", "Description", "PropertyFiles",
        "RetryPolicies",
    },
    "Condition": {"Name", "Type", "Arguments"},
}  # fmt: skip


def validate(text: str) -> list[str]:
    """Return what is wrong with a document, empty when nothing is."""
    if len(text) > profile.LIMITS.document:
        return [f"the document has more than {profile.LIMITS.document:,} characters"]
    try:
        document = json.loads(text, object_pairs_hook=_once)
    except ValueError as error:
        return [f"the document cannot be read: {error}"]
    if not isinstance(document, dict) or set(document) != _TOP:
        return [f"the document does not have exactly {', '.join(sorted(_TOP))}"]
    return list(_problems(document))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


@dataclass
class _Seen:
    """What stands before the place that is looked at: names, and outcomes that can be read."""

    parameters: frozenset[str]
    names: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)


def _problems(document: dict[str, Any]) -> Iterator[str]:
    if document["Version"] != VERSION:
        yield f"Version is {document['Version']!r}, not {VERSION!r}"
    yield from _parameters(document["Parameters"])
    seen = _Seen(frozenset(p.get("Name", "") for p in document["Parameters"]))
    yield from _chain(document["Steps"], seen, inside="")


def _parameters(declared: list[dict[str, Any]]) -> Iterator[str]:
    names = [parameter.get("Name", "") for parameter in declared]
    if len(names) > profile.LIMITS.parameters:
        yield f"more than {profile.LIMITS.parameters} parameters"
    for name in names:
        if not _PARAMETER.fullmatch(name) or names.count(name) > 1:
            yield f"parameter {name!r}: no name, or there twice"
    for parameter in declared:
        kind, default = parameter.get("Type"), parameter.get("DefaultValue")
        if kind not in _TYPES or set(parameter) - {"Name", "Type", "DefaultValue"}:
            yield f"parameter {parameter.get('Name')}: unknown type {kind!r}, or unknown fields"
        elif default is not None and (
            not isinstance(default, _TYPES[kind])
            or (isinstance(default, bool) != (kind == "Boolean"))
        ):
            yield f"parameter {parameter['Name']}: default {default!r} is no {kind}"
        elif isinstance(default, str) and not 0 < len(default) <= profile.MAX_TEXT:
            yield f"parameter {parameter['Name']}: its default does not fit where it is used"


def _chain(steps: list[dict[str, Any]], seen: _Seen, *, inside: str) -> Iterator[str]:
    """Each step depends on the one before it; a condition comes last, and there is only one."""
    before = ""
    for number, step in enumerate(steps, 1):
        name, kind = step.get("Name", ""), step.get("Type", "")
        if not _NAME.fullmatch(name) or name in seen.names:
            yield f"step {name!r}: no engine takes this name, or it is there twice"
        if kind not in _STEP or set(step) - _STEP[kind]:
            yield f"step {name}: unknown type {kind!r}, or unknown fields"
            continue
        if kind == "Condition":
            if inside or number < len(steps):
                yield f"step {name}: nothing can stand behind a condition, or around it"
            yield from _condition(step, seen)
        else:
            if step.get("DependsOn", []) != ([before] if before else []):
                yield f"step {name}: does not depend on exactly the step before it"
            for problem in _processing(step, seen):
                yield f"step {name}: {problem}"
            if not inside and step.get("PropertyFiles"):
                seen.files.add(f"Steps.{name}.PropertyFiles.{OUTCOME}")
        seen.names.add(name)
        before = name


def _condition(step: dict[str, Any], seen: _Seen) -> Iterator[str]:
    name, arguments = step["Name"], step["Arguments"]
    if set(arguments) != {"Conditions", "IfSteps", "ElseSteps"} or not arguments["IfSteps"]:
        yield f"step {name}: has no branch"
        return
    for test in arguments["Conditions"]:
        match test:
            case {"Type": "Equals", "LeftValue": value, "RightValue": str()} if len(test) == 3:
                words = [test["RightValue"]]
            case {"Type": "In", "QueryValue": value, "Values": [*words]} if len(test) == 3:
                pass
            case _:
                yield f"step {name}: a condition of an unknown form"
                continue
        if not words or not all(isinstance(word, str) for word in words):
            yield f"step {name}: compares with something else than words"
        match value:
            case {"Std:JsonGet": {"PropertyFile": {"Get": file}, "Path": "next" | "status"}}:
                if file not in seen.files:
                    yield f"step {name}: reads {file}, which no step that always runs has written"
            case _:
                yield f"step {name}: reads something else than an outcome"
    for branch in ("IfSteps", "ElseSteps"):
        yield from _chain(arguments[branch], seen, inside=branch)


def _processing(step: dict[str, Any], seen: _Seen) -> Iterator[str]:
    arguments = step["Arguments"]
    yield from _references(arguments, seen)
    yield from _container(arguments.get("AppSpecification", {}))
    yield from _environment(arguments.get("Environment", {}))
    yield from _paths(arguments, step.get("PropertyFiles", []))
    cluster = arguments.get("ProcessingResources", {}).get("ClusterConfig", {})
    known = {machine.name for machine in profile.LIMITS.machines}
    if cluster.get("InstanceType") not in known or cluster.get("InstanceCount") != 1:
        yield f"runs on {cluster.get('InstanceType')!r}, which is not one machine known here"
    if "RoleArn" not in arguments:
        yield "has no role"
    if "CacheConfig" in step:
        yield "the service would cache it; only the journal decides what is skipped"


def _references(value: Any, seen: _Seen) -> Iterator[str]:
    """Every `Get` names a parameter that is declared, or the run; nothing else is evaluated."""
    match value:
        case {"Get": name}:
            if len(value) > 1 or (value != RUN and not _declared(name, seen)):
                yield f"refers to {name!r}, which is not there"
        case {"Std:Join": {"On": str(), "Values": [*values]}} if len(value) == 1:
            yield from _references(values, seen)
        case dict():
            if functions := [key for key in value if key.startswith("Std:")]:
                yield f"uses {functions[0]} where it cannot be checked"
            for item in value.values():
                yield from _references(item, seen)
        case list():
            for item in value:
                yield from _references(item, seen)


def _declared(name: Any, seen: _Seen) -> bool:
    return isinstance(name, str) and name.removeprefix("Parameters.") in seen.parameters


def _container(application: dict[str, Any]) -> Iterator[str]:
    image, command = application.get("ImageUri"), application.get("ContainerEntrypoint", [])
    arguments = application.get("ContainerArguments", [])
    if not image or (isinstance(image, str) and len(image) > profile.LIMITS.image):
        yield "has no image, or one whose name is too long"
    if not command or not all(isinstance(part, str) for part in command):
        yield "has no command"
    elif command[0].rpartition("/")[2] in ("sh", "bash", "dash", "env"):
        yield "starts a shell"
    for what, parts in (("command", command), ("arguments", arguments)):
        if len(parts) > profile.MAX_ARGUMENTS:
            yield f"has more than {profile.MAX_ARGUMENTS} {what}"
        for part in parts:
            if isinstance(part, str) and (not 0 < len(part) <= profile.MAX_TEXT or "\n" in part):
                yield f"the service does not take the argument {part[:40]!r}…"


def _environment(variables: dict[str, Any]) -> Iterator[str]:
    if len(variables) > profile.LIMITS.variables:
        yield f"has more than {profile.LIMITS.variables} variables"
    for name, value in variables.items():
        if not _VARIABLE.fullmatch(name):
            yield f"{name!r} is no name of an environment variable"
        if not isinstance(value, (str, dict)):
            yield f"the value of {name} is no text"
        elif isinstance(value, str) and len(value) > profile.MAX_TEXT:
            yield f"the value of {name} is too long"
        elif isinstance(value, dict) and "Std:Join" not in value:
            yield f"the value of {name} may be no text when the step starts"


def _paths(arguments: dict[str, Any], files: list[dict[str, Any]]) -> Iterator[str]:
    inputs = arguments.get("ProcessingInputs", [])
    outputs = arguments.get("ProcessingOutputConfig", {}).get("Outputs", [])
    places = [item.get("S3Input", item.get("S3Output", {})) for item in [*inputs, *outputs]]
    for place in places:
        if not _PATH.fullmatch(place.get("LocalPath", "")) or "S3Uri" not in place:
            yield f"something is brought to or from {place.get('LocalPath')!r}"
    named = {item.get("OutputName") for item in outputs}
    for file in files:
        if file.get("OutputName") not in named:
            yield f"its outcome is read from {file.get('OutputName')!r}, which it does not write"
