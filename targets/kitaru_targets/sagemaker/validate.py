"""Validate that SageMaker Pipelines runs a document as intended.

No tool of the vendor checks a definition before the service does, and the service detects many
faults only when a step starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kitaru_targets.common import json_format
from kitaru_targets.sagemaker import profile
from kitaru_targets.sagemaker.emit import ANSWER, ITEM, LIST, OUTCOME, PIPELINE, RUN, VERSION

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
    "ForEach": {"Name", "Type", "Arguments", "DependsOn", "DisplayName", "Description"},
    "Callback": {
        "Name", "Type", "Arguments", "DependsOn", "DisplayName", "Description", "SqsQueueUrl",
        "OutputParameters",
    },
}  # fmt: skip


# The words that a condition compares with, by the part of an outcome.
_Words = dict[str, set[str]]


def validate(text: str) -> list[str]:
    """Return the faults of a document, empty if it is valid."""
    if len(text) > profile.LIMITS.document:
        return [f"the document has more than {profile.LIMITS.document:,} characters"]
    try:
        document = json_format.parse(text)
    except ValueError as error:
        return [f"the document cannot be read: {error}"]
    if not isinstance(document, dict) or set(document) != _TOP:
        return [f"the document does not have exactly {', '.join(sorted(_TOP))}"]
    return list(_problems(document))


@dataclass
class _Seen:
    """The names and readable outcomes before the inspected place."""

    parameters: frozenset[str]
    names: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    answers: set[str] = field(default_factory=set)
    bodies: set[str] = field(default_factory=set)


def _problems(document: dict[str, Any]) -> Iterator[str]:
    if document["Version"] != VERSION:
        yield f"Version is {document['Version']!r}, not {VERSION!r}"
    yield from _parameters(document["Parameters"])
    seen = _Seen(frozenset(p.get("Name", "") for p in document["Parameters"]))
    yield from _chain(document["Steps"], seen, inside="")
    for name in seen.names:
        body, _, number = name.rpartition("-")
        if body in seen.bodies and number.isdecimal():
            yield f"step {name}: is called like a node of {body}"


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
    """Check that each step depends on the previous one, and that conditions come last, unnested.

    `inside` is the branch that contains the steps. `asked` is true in a run that has asked a
    question.
    """
    before = ""
    conditions: list[_Words] = []
    files: list[str] = []
    for step in steps:
        name, kind = step.get("Name", ""), step.get("Type", "")
        if not _is_name(name) or name in seen.names:
            yield f"step {name!r}: no engine takes this name, or it is there twice"
        if kind not in _STEP or set(step) - _STEP[kind]:
            yield f"step {name}: unknown type {kind!r}, or unknown fields"
            continue
        if kind == "Condition":
            if inside:
                yield f"step {name}: nothing can stand around a condition"
            yield from _condition(step, seen, conditions)
        else:
            if conditions:
                yield f"step {name}: nothing can stand behind a condition"
            elif step.get("DependsOn", []) != ([before] if before else []):
                yield f"step {name}: does not depend on exactly the step before it"
            if kind == "Callback" and (before or inside != "asked"):
                yield f"step {name}: would wait for ever in a run that has asked nothing"
            check = {"Callback": _callback, "ForEach": _each}.get(kind, _processing)
            for problem in check(step, seen):
                yield f"step {name}: {problem}"
            if step.get("PropertyFiles"):
                files.append(f"Steps.{name}.PropertyFiles.{OUTCOME}")
                seen.files.add(files[-1])
        seen.names.add(name)
        before = name
    # Steps outside of a branch cannot read its outputs.
    seen.files -= {*files} if inside else set()
    seen.answers.clear()


def _condition(step: dict[str, Any], seen: _Seen, others: list[_Words]) -> Iterator[str]:
    name, arguments = step["Name"], step["Arguments"]
    if set(arguments) != {"Conditions", "IfSteps", "ElseSteps"} or not arguments["IfSteps"]:
        yield f"step {name}: has no branch"
        return
    tested: _Words = {}
    for test in arguments["Conditions"]:
        yield from (f"step {name}: {problem}" for problem in _test(test, seen, tested))
    if others and not all(_exclude(tested, other) for other in others):
        yield f"step {name}: may hold together with a condition beside it"
    others.append(tested)
    asked = all(len(tested.get(path, ())) == 1 for path in ("next", "status"))
    waiting = asked and tested["status"] == {"waiting"}
    yield from _chain(arguments["IfSteps"], seen, inside="asked" if waiting else "IfSteps")
    yield from _chain(arguments["ElseSteps"], seen, inside="ElseSteps")
    if arguments["ElseSteps"] and len(others) > 1:
        yield f"step {name}: is reached in a run where the condition before it is true"


def _test(test: dict[str, Any], seen: _Seen, tested: _Words) -> Iterator[str]:
    """Add to `tested` the words with which a test compares each part of an outcome."""
    match test:
        case {"Type": "Equals", "LeftValue": value, "RightValue": str(word)} if len(test) == 3:
            words = [word]
        case {"Type": "In", "QueryValue": value, "Values": [*words]} if len(test) == 3:
            pass
        case _:
            yield "a condition of an unknown form"
            return
    if not words or not all(isinstance(word, str) for word in words):
        yield "compares with something else than words"
        return
    match value:
        case {"Std:JsonGet": {"PropertyFile": {"Get": file}, "Path": "next" | "status" as path}}:
            tested[path] = {*words}
            if file not in seen.files:
                yield f"reads {file}, which no step that always runs has written"
        case _:
            yield "reads something else than an outcome"


def _is_name(text: str) -> bool:
    # The pattern alone does not count hyphens.
    return len(text) <= profile.MAX_STEP_NAME and _NAME.fullmatch(text) is not None


def _exclude(one: _Words, other: _Words) -> bool:
    return any(one[path].isdisjoint(other[path]) for path in one.keys() & other.keys())


def _callback(step: dict[str, Any], seen: _Seen) -> Iterator[str]:
    """Check that a condition guards the callback, which would wait forever without a question."""
    yield from _references(step["Arguments"], seen)
    if not profile.OPTIONS[profile.QUEUE].takes(step["SqsQueueUrl"]):
        yield f"{step['SqsQueueUrl']!r} is no queue"
    if step["OutputParameters"] != [{"OutputName": ANSWER, "OutputType": "String"}]:
        yield "gives something else than one answer"
    seen.answers.add(f"Steps.{step['Name']}.OutputParameters['{ANSWER}']")


def _each(step: dict[str, Any], seen: _Seen) -> Iterator[str]:
    """Check the nodes of a fan-out: one processing step for each item of a list."""
    arguments = step["Arguments"]
    if set(arguments) != {"IterableItems", "MaxConcurrency", "ForEachBody"}:
        yield "is not made of a list, a number and a body"
        return
    match arguments["IterableItems"]:
        case [*items]:
            if not 0 < len(items) <= profile.MAX_ITEMS or not all(
                isinstance(i, str) for i in items
            ):
                yield f"takes 1 to {profile.MAX_ITEMS} texts"
        case {"Std:JsonGet": {"PropertyFile": {"Get": file}, "Path": str(path)}} if path.startswith(
            LIST
        ):
            if file not in seen.files:
                yield f"reads {file}, which no step before it has written"
        case _:
            yield "reads its list from somewhere else"
    if not 0 < arguments["MaxConcurrency"] <= profile.MAX_CONCURRENCY:
        yield f"runs {arguments['MaxConcurrency']!r} at a time"
    if [inner.get("Type") for inner in arguments["ForEachBody"]] != ["Processing"]:
        yield "its body is not one processing step"
        return
    (body,) = arguments["ForEachBody"]
    name = body["Name"]
    if name in seen.names or not _is_name(f"{name}-{profile.MAX_ITEMS - 1}"):
        yield f"its body cannot be called {name!r}"
    seen.names.add(name)
    seen.bodies.add(name)
    if set(body) - _STEP["Processing"] or {"DependsOn", "PropertyFiles"} & set(body):
        yield "its body depends on something, is read by something, or has unknown fields"
    seen.answers.add(ITEM["Get"])
    yield from _processing(body, seen)
    seen.answers.discard(ITEM["Get"])


def _processing(step: dict[str, Any], seen: _Seen) -> Iterator[str]:
    arguments = step["Arguments"]
    yield from _references(arguments, seen)
    yield from _container(arguments.get("AppSpecification", {}))
    yield from _environment(arguments.get("Environment", {}))
    yield from _paths(arguments, step.get("PropertyFiles", []))
    cluster = arguments.get("ProcessingResources", {}).get("ClusterConfig", {})
    machine = cluster.get("InstanceType")
    is_one = isinstance(machine, str) and profile.OPTIONS[profile.MACHINE].takes(machine)
    if not is_one or cluster.get("InstanceCount") != 1:
        yield f"runs on {machine!r}, which is not one machine"
    if "RoleArn" not in arguments:
        yield "has no role"
    if "CacheConfig" in step:
        yield "the service would cache it; only the journal decides what is skipped"


def _references(value: Any, seen: _Seen) -> Iterator[str]:
    """Check that every `Get` names a declared parameter or the run; no other is evaluated."""
    match value:
        case {"Get": name}:
            if len(value) > 1 or (value not in (PIPELINE, RUN) and not _known(name, seen)):
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


def _known(name: Any, seen: _Seen) -> bool:
    if not isinstance(name, str):
        return False
    return name in seen.answers or name.removeprefix("Parameters.") in seen.parameters


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
