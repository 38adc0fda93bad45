"""Check that a state machine is one of ours, and that the service would run it as intended.

The vendors' validators check fields and transitions. None of them sees a path that leads nowhere,
an unknown resource, a token that is never passed, or a wait that no rule guards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kitaru_targets.common import json_format
from kitaru_targets.stepfunctions import emit, profile
from kitaru_targets.stepfunctions.expressions import Path, parse, paths

_NAME = re.compile(rf"[A-Za-z0-9_-]{{1,{profile.MAX_NAME}}}", re.ASCII)
_COMMON = {"Type", "Comment"}
# By type: the required fields, and further ones.
_FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "Pass": ({"Next"}, {"Result", "ResultPath", "Parameters"}),
    "Task": (
        {"Resource", "Parameters", "ResultPath", "Retry"},
        {"Next", "End", "TimeoutSeconds", "TimeoutSecondsPath", "ResultSelector", "Catch"},
    ),
    "Wait": ({"TimestampPath", "Next"}, set()),
    "Choice": ({"Choices", "Default"}, set()),
    "Map": (
        {"ItemsPath", "ItemSelector", "MaxConcurrency", "ItemProcessor", "ResultPath", "Catch",
         "Next"},
        {"ToleratedFailurePercentage"},
    ),
    "Succeed": (set(), set()),
    "Fail": ({"Error", "Cause"}, set()),
}  # fmt: skip
_ERRORS = {"States.ALL", "States.TaskFailed", "States.Timeout", *emit.FAULTS, *emit.S3_FAULTS}
_RETRY = {"ErrorEquals", "IntervalSeconds", "MaxAttempts", "BackoffRate", "MaxDelaySeconds"}
# What a state may read, in addition to `$.given`: the run's values, and what the last step said.
_RUN = {"$.run", "$.native"}
_SAID = {"next", "status", "items", "execution", "wait"}
_TESTED = {
    f"$.last.said.{name}"
    for name in ("next", "status", "items", "wait.step", "wait.kind", "wait.until")
}
# The rule that leads to a state that asks, and the one that leads to a state that sleeps.
_ASKED = {"Variable": "$.last.said.status", "StringEquals": "waiting"}
_SLEEPS = {"Variable": emit.UNTIL, "IsPresent": True}
_CONTEXT = {
    "$$.Execution.Id", "$$.Execution.Name", "$$.Execution.Input", "$$.Execution.StartTime",
    "$$.StateMachine.Name", "$$.State.EnteredTime",
}  # fmt: skip
_TOKEN = "$$.Task.Token"
_ITEM = "$$.Map.Item.Value"
_PARAMETER = re.compile(r"\$\.given\.[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def validate(text: str) -> list[str]:
    """Return the faults of a state machine, empty if it is valid."""
    if len(text) > profile.LIMITS.document:
        return [f"the document has more than {profile.LIMITS.document:,} characters"]
    try:
        document = json_format.parse(text)
    except ValueError as error:
        return [f"the document cannot be read: {error}"]
    if not isinstance(document, dict) or set(document) != {"Comment", "StartAt", "States"}:
        return ["the document does not have exactly Comment, StartAt, States"]
    try:
        return list(_problems(document))
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        return [f"a state is not made as intended: {type(error).__name__}: {error}"]


def _problems(document: dict[str, Any]) -> Iterator[str]:
    states: dict[str, Any] = document["States"]
    names = [*states]
    for state in states.values():
        if state.get("Type") == "Map":
            names += [*state["ItemProcessor"]["States"]]
    for name in names:
        if not _NAME.fullmatch(name) or names.count(name) > 1:
            yield f"state {name!r}: the service does not take this name, or it is there twice"
    yield from _machine(document, inside=False)
    yield from _beginning(document)
    yield from _reads(states)


def _machine(machine: Mapping[str, Any], *, inside: bool) -> Iterator[str]:
    """Check the fields of all states, and that each is reached and leads to another one."""
    states = machine["States"]
    reached = {machine["StartAt"]}
    for name, state in states.items():
        kind = state.get("Type")
        if kind not in _FIELDS:
            yield f"state {name}: unknown type {kind!r}"
            continue
        required, further = _FIELDS[kind]
        lacking, unknown = required - {*state}, {*state} - required - further - _COMMON
        if lacking or unknown:
            yield f"state {name}: lacks {sorted(lacking)}, has the unknown {sorted(unknown)}"
            continue
        if kind == "Task" and ("Next" in state) == ("End" in state):
            yield f"state {name}: needs either Next or End"
        reached |= {*_following(state)}
        check = {"Task": _task, "Choice": _choice, "Map": _map, "Wait": _wait}.get(kind)
        for problem in check(state, inside) if check else ():
            yield f"state {name}: {problem}"
        for problem in _expressions(state, inside):
            yield f"state {name}: {problem}"
    for name in sorted(reached - {*states}):
        yield f"there is no state {name!r}"
    for name in sorted({*states} - reached):
        yield f"state {name}: nothing leads to it"
    ends = any(s.get("Type") in ("Succeed", "Fail") or "End" in s for s in states.values())
    if not ends:
        yield "no state ends"


def _following(state: Mapping[str, Any]) -> Iterator[str]:
    yield from (rule["Next"] for rule in state.get("Choices", []))
    yield from (state[key] for key in ("Next", "Default") if key in state)
    yield from (catch["Next"] for catch in state.get("Catch", []))


def _beginning(document: Mapping[str, Any]) -> Iterator[str]:
    states = document["States"]
    first, second = states.get(emit.DEFAULTS, {}), states.get(emit.START, {})
    if document["StartAt"] != emit.DEFAULTS or first.get("Next") != emit.START:
        yield "the run does not begin with its inputs"
    if first.get("ResultPath") != "$.defaults" or {*second.get("Parameters", {})} != {
        "given.$", "run.$", "native.$"
    }:  # fmt: skip
        yield "the run's values are not put together as intended"


def _task(state: Mapping[str, Any], inside: bool) -> Iterator[str]:
    resource, given = state["Resource"], state["Parameters"]
    yield from _retries(state["Retry"])
    yield from _caught(state)
    for name in ("TimeoutSeconds",):
        if not 0 < state.get(name, 1) <= profile.MAX_SECONDS:
            yield f"{name} is {state[name]!r}"
    if resource != emit.ASK and _TOKEN in json.dumps(given):
        yield "passes a token, and waits for none"
    if resource == emit.RUN_TASK:
        yield from _run_task(state, given, inside)
    elif inside:
        yield f"{resource!r} cannot be in a Map"
    elif resource == emit.READ:
        if {*given} != {"Bucket.$", "Key.$"}:
            yield "reads no outcome"
        if state["ResultPath"] != "$.last" or "ResultSelector" not in state:
            yield "does not keep the outcome that it reads"
    elif resource == emit.ASK:
        if {*given} != {"Bucket.$", "Key.$", "Body"} or given["Body"].get("token.$") != _TOKEN:
            yield "asks without passing its token on"
        if state.get("TimeoutSecondsPath") != emit.SECONDS or "Catch" not in state:
            yield "would wait for ever if its token were lost"
    else:
        yield f"unknown resource {resource!r}"


def _run_task(state: Mapping[str, Any], given: Mapping[str, Any], inside: bool) -> Iterator[str]:
    if {*given} != {"Cluster.$", "TaskDefinition.$", "LaunchType", "NetworkConfiguration",
                    "Overrides"} or given["LaunchType"] != "FARGATE":  # fmt: skip
        yield "starts no task as intended"
        return
    if state["ResultPath"] is not None or "TimeoutSeconds" not in state or "Catch" in state:
        yield "keeps the task's own data, has no timeout, or catches a failure"
    (container,) = given["Overrides"]["ContainerOverrides"]
    if {*given["Overrides"]} - {"ContainerOverrides", "Cpu", "Memory"} or (
        {*container} - {"Name", "Command.$", "Environment"} or container["Name"] != emit.CONTAINER
    ):
        yield "overrides something else than the arguments and the size of a task"
    words = container["Command.$"]
    if not words.startswith("States.Array('--step', '") or ("$.item" in words) != inside:
        yield "its arguments name no step, or an item outside of a Map"
    for variable in container.get("Environment", []):
        if {*variable} != {"Name", "Value.$"} or not re.fullmatch(
            rf"{emit.INPUT_VARIABLE}\w+", variable["Name"], re.ASCII
        ):
            yield f"sets the variable {variable.get('Name')!r}"


def _retries(retries: list[dict[str, Any]]) -> Iterator[str]:
    for retry in retries:
        if {*retry} != _RETRY or not {*retry["ErrorEquals"]} <= _ERRORS:
            yield f"retries on {retry.get('ErrorEquals')!r}, which is no error known here"
            return
        numbers = (retry["IntervalSeconds"], retry["MaxAttempts"], retry["MaxDelaySeconds"])
        if not all(type(n) is int and 0 < n <= profile.MAX_SECONDS for n in numbers):
            yield f"retries with {numbers}"
        elif retry["BackoffRate"] < 1 or retry["MaxDelaySeconds"] <= retry["IntervalSeconds"]:
            yield "its pauses do not grow"
    yield from _last([retry["ErrorEquals"] for retry in retries])


def _caught(state: Mapping[str, Any]) -> Iterator[str]:
    caught = [catch["ErrorEquals"] for catch in state.get("Catch", [])]
    for errors in caught:
        if not {*errors} <= _ERRORS:
            yield f"catches {errors!r}"
    yield from _last(caught)


def _last(errors: list[list[str]]) -> Iterator[str]:
    for number, some in enumerate(errors, 1):
        if "States.ALL" in some and (len(some) > 1 or number < len(errors)):
            yield "States.ALL is not alone and last"


def _choice(state: Mapping[str, Any], inside: bool) -> Iterator[str]:
    if inside or not state["Choices"]:
        yield "has no rules, or is in a Map"
    if state["Default"] not in (emit.ROUTE, emit.LOST):
        yield "goes somewhere without a reason"
    for rule in state["Choices"]:
        tests = rule["And"] if "And" in rule else [{k: v for k, v in rule.items() if k != "Next"}]
        for test in tests:
            words = {*test} - {"Variable"}
            if words not in ({"StringEquals"}, {"IsPresent"}) or "Variable" not in test:
                yield f"has a rule of an unknown form: {sorted(test)}"
            elif test["Variable"] not in _TESTED:
                yield f"decides by {test['Variable']!r}, which no step says"
        if set(rule) - {"And", "Next"} and "And" in rule:
            yield "has a rule of an unknown form"


def _wait(state: Mapping[str, Any], inside: bool) -> Iterator[str]:
    if inside or state["TimestampPath"] != emit.UNTIL:
        yield "sleeps in a Map, or until a moment that no step says"


def _map(state: Mapping[str, Any], inside: bool) -> Iterator[str]:
    if inside:
        yield "a Map cannot be in a Map"
        return
    processor = state["ItemProcessor"]
    mode = processor["ProcessorConfig"]
    many = mode == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    if not many and mode != {"Mode": "INLINE"}:
        yield f"runs in the unknown mode {mode!r}"
    most = profile.MAX_DISTRIBUTED if many else profile.MAX_INLINE
    if not 0 < state["MaxConcurrency"] <= most:
        yield f"runs {state['MaxConcurrency']!r} at a time"
    if state["ItemSelector"] != {"item.$": _ITEM, "run.$": "$.run", "given.$": "$.given"}:
        yield "its items are not given what they need"
    if state["ItemsPath"] != "$.last.said.items" or state["ResultPath"] is not None:
        yield "takes its list from somewhere else, or keeps results"
    yield from _caught(state)
    yield from _machine(processor, inside=True)


def _expressions(value: Any, inside: bool, key: str = "") -> Iterator[str]:
    """Check every expression, and that every path begins with something that a run has."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name == "ItemProcessor" or key in ("Result", "defaults"):
                continue
            if f"{name}.$" in value:
                yield f"{name} is there twice, as a text and as an expression"
            yield from _expressions(item, inside, "" if name != "Result" else "Result")
            if name.endswith(".$"):
                yield from _expression(item, inside)
    elif isinstance(value, list) and key != "Result":
        for item in value:
            yield from _expressions(item, inside)


def _expression(text: Any, inside: bool) -> Iterator[str]:
    try:
        found = parse(text)
    except (ValueError, TypeError) as error:
        yield f"has a faulty expression: {error}"
        return
    for path in paths(found):
        if not _is_known(path, inside):
            yield f"reads {path.text}, which is not there"


def _is_known(path: Path, inside: bool) -> bool:
    text = path.text
    if inside and text.startswith("$.last"):
        return False
    return (
        text in (_RUN | _CONTEXT | {_TOKEN, _ITEM, "$.defaults", "$.Body", "$.given"})
        or _PARAMETER.fullmatch(text) is not None
        or (inside and text == "$.item")
        or (text.startswith("$.last.said.") and path.parts[2] in _SAID)
    )


def _reads(states: Mapping[str, Any]) -> Iterator[str]:
    """Check that each state that reads what a step said follows a state that keeps it.

    A wait follows a rule about a waiting step only: no other outcome names a wait.
    """
    before: dict[str, list[str]] = {name: [] for name in states}
    for name, state in states.items():
        for after in _following(state):
            before.setdefault(after, []).append(name)
    keeps = {name for name, state in states.items() if state.get("ResultPath") == "$.last"}
    has = {*states} - {emit.DEFAULTS}
    while True:
        lost = {n for n in has if not all(b in keeps or b in has for b in before[n])}
        if not lost:
            break
        has -= lost
    for name, state in states.items():
        if "$.last" in json.dumps({**state, "ResultPath": None}) and name not in has:
            yield f"state {name}: reads what a step said before one has said anything"
        if state.get("Resource") == emit.ASK:
            for other in before[name]:
                yield from _guarded(other, states[other], name, _ASKED)
        if state["Type"] == "Wait":
            for other in before[name]:
                yield from _guarded(other, states[other], name, _SLEEPS)


def _guarded(
    name: str, state: Mapping[str, Any], ask: str, needed: Mapping[str, Any]
) -> Iterator[str]:
    for rule in state.get("Choices", []):
        if rule["Next"] != ask:
            continue
        tests = rule.get("And", [rule])
        if not any({k: v for k, v in test.items() if k != "Next"} == needed for test in tests):
            yield f"state {name}: waits for something that no step has said"
    if state["Type"] != "Choice":
        yield f"state {name}: waits for something that no step has said"
