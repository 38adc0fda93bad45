"""A state machine runs every path of a flow, and a faulty one is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from kitaru_compiler.diagnostics.model import SourceError
from kitaru_targets import registry
from kitaru_targets.stepfunctions import emit, profile
from kitaru_targets.stepfunctions.dry_run import Call, interpret
from kitaru_targets.stepfunctions.expressions import evaluate, parse

from kitaru.errors import InputError, UsageError
from kitaru.wire.plan import Parameter, Resources

from .programs import WIRING, Do, If, Path, Played, Program, fans, paths, plan
from .test_tree import NAMES, build, programs

TARGET = registry.get("stepfunctions")
OPTIONS = {"cluster": "agents", "subnets": "subnet-1a,subnet-2b", "security_groups": "sg-3c"}
STORED = replace(WIRING, store="s3://bucket/agents")


@cache
def document(program: Program, *, asks: bool = False) -> dict[str, Any]:
    made = plan(program, options=OPTIONS if asks else None)
    text = TARGET.emit(made, WIRING).text
    assert TARGET.validate(text) == []
    found: dict[str, Any] = json.loads(text)
    return found


def play(program: Program, path: Path, together: frozenset[str] = frozenset()) -> list[str]:
    """Play a path against the document; return the states that it entered."""
    made = plan(program)
    producers = {name: producer for name, (_, producer) in fans(made.layout).items()}
    played, said = Played(path, together, producers), {}

    def start(call: Call, attempt: int) -> bool:
        if "--item" in call.arguments:
            item = call.arguments[call.arguments.index("--item") + 1]
            played.make(call.step.removeprefix("each_"), item)
            return True
        found = dict(played.start(call.step))
        items = json.loads(found.pop("Output"))
        outcome: dict[str, Any] = {**found, **({"items": items} if items else {})}
        if outcome["status"] == "waiting":
            outcome |= {
                "execution": "e-1",
                "wait": {"name": "w", "step": call.step, "kind": "question"},
            }
        if "--outcome-key" in call.arguments:
            key = call.arguments[call.arguments.index("--outcome-key") + 1]
            said[key] = json.dumps(outcome)
        return True

    entered = interpret(document(program), {}, "run-1", start, said.get, lambda: False)
    assert played.ran == played.own, (path, together, entered)
    assert not played.idle, "no container starts for nothing"
    return entered


@settings(max_examples=60, deadline=None)
@given(shape=programs(2))
def test_every_path_of_a_program_runs_and_no_container_starts_for_nothing(
    shape: list[object],
) -> None:
    program = (Do("first"), *build(shape, list(NAMES), last=False))
    for path in list(paths(program))[:40]:
        entered = play(program, path)
        assert emit.ROUTE not in entered and emit.LOST not in entered, path


def test_a_branch_a_join_and_an_early_return_are_jumps() -> None:
    program = (Do("a"), If(((Do("b", "maybe"),), (Do("c"),))), Do("d"))
    ways = {tuple(name for name, _ in path): play(program, path) for path in paths(program)}
    assert set(ways) == {("a", "b", "d"), ("a", "b"), ("a", "c", "d")}
    shown = [name for name in ways["a", "c", "d"] if name in "abcd"]
    assert shown == ["a", "c", "d"]
    assert document(program)["States"]["c"]["Next"] == "d", "one exit: the outcome is not read"
    assert ways["a", "b"][-1] == emit.RETURNED


def test_control_that_continued_further_is_found() -> None:
    program = (Do("a", "maybe"), Do("b", "maybe"), Do("c"))
    path: Path = (("a", "go"), ("b", "go"), ("c", "end"))
    entered = play(program, path, frozenset({"b"}))
    assert [name for name in entered if name in ("a", "b", "c", emit.ROUTE)] == [
        "a", emit.ROUTE, "c"
    ]  # fmt: skip


def said(*outcomes: dict[str, Any], answers: int = 0) -> list[str]:
    """Run the machine of a wait, its steps saying these outcomes; return the states."""
    program = (Do("a", wait=True), Do("b", wait=True), Do("c"))
    left, keys, answered = list(outcomes), {}, iter(range(answers))

    def start(call: Call, attempt: int) -> bool:
        if "--outcome-key" in call.arguments:
            key = call.arguments[call.arguments.index("--outcome-key") + 1]
            keys[key] = json.dumps(left.pop(0))
        return True

    machine = document(program, asks=True)
    entered = interpret(
        machine, {}, "run-1", start, keys.get, lambda: next(answered, None) is not None
    )
    return [name for name in entered if not name.endswith(("-outcome", "-next"))][2:]


def waits(following: str, step: str) -> dict[str, Any]:
    asked = {"name": "ok", "step": step}
    return {"next": following, "status": "waiting", "execution": "e-1", "wait": asked}


GO = {"status": "go"}


def test_a_wait_is_a_state_and_the_next_step_takes_the_answer() -> None:
    done = said(waits("a_answer", "a_answer"), {"next": "b", **GO}, {"next": "c", **GO}, answers=1)
    assert done == ["a", "wait_a-wait", "a_answer", "b", "c", emit.RETURNED]


def test_without_an_answer_the_run_stays_at_the_wait() -> None:
    assert said(waits("a_answer", "a_answer")) == ["a", "wait_a-wait"]


def test_a_step_that_finds_no_answer_waits_again() -> None:
    again = waits("end", "a_answer")
    done = said(waits("a_answer", "a_answer"), again, {"next": "b", **GO}, {"next": "c", **GO},
                answers=2)  # fmt: skip
    assert done == [
        "a", "wait_a-wait", "a_answer", "wait_a-wait", "a_answer", "b", "c", emit.RETURNED
    ]  # fmt: skip


def test_a_wait_of_a_later_step_is_asked_by_the_process_that_continued() -> None:
    done = said(waits("b_answer", "b_answer"), {"next": "c", **GO}, answers=1)
    assert done == ["a", emit.ROUTE, "wait_b-wait", "b_answer", "c", emit.RETURNED]
    inside = said(waits("end", "a"), {"next": "b", **GO}, {"next": "c", **GO}, answers=1)
    assert inside[0] == "a" and inside[-1] == emit.RETURNED
    assert inside.count("a") == 2, "the same step again"


def test_a_journal_that_is_elsewhere_fails_the_run() -> None:
    assert said({"next": "end", "status": "skip"})[-1] == emit.LOST


def test_what_a_run_is_given_has_its_own_types() -> None:
    inputs = (
        Parameter("n", "keyword_only", "int", "int", True, False),
        Parameter("on", "keyword_only", "bool", "bool", False, True, True),
        Parameter("text", "keyword_only", "str", "str", False, True, ""),
    )
    machine = json.loads(TARGET.emit(plan((Do("a"),), parameters=inputs), WIRING).text)
    calls: list[Call] = []

    def start(call: Call, attempt: int) -> bool:
        calls.append(call)
        return True

    interpret(machine, {"n": 3}, "r", start, lambda _: None, lambda: False)
    (call,) = calls
    assert call.environment == {
        "KITARU_INPUT_n": "3", "KITARU_INPUT_on": "true", "KITARU_INPUT_text": ""
    }  # fmt: skip
    with pytest.raises(InputError, match="missing input 'n'"):
        interpret(machine, {}, "r", start, lambda _: None, lambda: False)
    with pytest.raises(InputError, match="unknown input 'm'"):
        interpret(machine, {"n": 1, "m": 2}, "r", start, lambda _: None, lambda: False)
    with pytest.raises(InputError, match="8,192"):
        interpret(machine, {"n": 1, "text": "x" * 8_192}, "r", start, lambda _: None, lambda: False)


def test_retries_and_sizes_are_those_of_the_step() -> None:
    program = (Do("a", retries=2, resources=Resources(cpu="500m", memory="3Gi")),)
    state = document(program)["States"]["a"]
    assert state["Retry"][-1]["MaxAttempts"] == 2
    assert state["Retry"][-1]["ErrorEquals"] == ["States.TaskFailed"]
    overrides = state["Parameters"]["Overrides"]
    assert (overrides["Cpu"], overrides["Memory"]) == ("1024", "3072")
    attempts: list[int] = []

    def start(call: Call, attempt: int) -> bool:
        attempts.append(attempt)
        return attempt == 3

    entered = interpret(document(program), {}, "r", start, lambda _: None, lambda: False)
    assert attempts == [1, 2, 3] and entered[-1] == emit.RETURNED
    with pytest.raises(SourceError):
        TARGET.emit(plan((Do("a", resources=Resources(gpu=1)),)), WIRING)


def test_the_bootstrap_is_once_and_the_options_are_defaults() -> None:
    made = plan((Do("a"), Do("b", "maybe"), Do("c")), options={**OPTIONS, "log_group": "/k"})
    found = TARGET.emit(made, replace(STORED, environment={"MODE": "x"}))
    task = json.loads(found.files[profile.TASK_DEFINITION])
    (container,) = task["containerDefinitions"]
    assert container["entryPoint"] == [*WIRING.command, *WIRING.leading]
    assert {"name": "MODE", "value": "x"} in container["environment"]
    assert container["logConfiguration"]["options"]["awslogs-group"] == "/k"
    assert WIRING.command[-1] not in found.text.split('"Command.$"')[0]
    given = json.loads(found.text)["States"][emit.DEFAULTS]["Result"]
    assert given["kitaru_subnets"] == ["subnet-1a", "subnet-2b"]
    assert (given["kitaru_bucket"], given["kitaru_prefix"]) == ("bucket", "agents/")
    with pytest.raises(UsageError, match="cluster cannot be"):
        TARGET.emit(plan((Do("a"),), options={"cluster": "a b"}), WIRING)


def test_more_calls_at_a_time_than_an_inline_map_takes_are_distributed() -> None:
    program = (Do("a"), Do("b", gathers=True))
    few, many = (
        json.loads(TARGET.emit(plan(program).replace(max_parallel=n), WIRING).text)["States"]
        for n in (profile.MAX_INLINE, profile.MAX_INLINE + 1)
    )
    assert few["each_b"]["ItemProcessor"]["ProcessorConfig"] == {"Mode": "INLINE"}
    assert many["each_b"]["ItemProcessor"]["ProcessorConfig"]["Mode"] == "DISTRIBUTED"
    assert many["each_b"]["ToleratedFailurePercentage"] == 100


@pytest.mark.parametrize(
    "text",
    ["$.a.[b", "$", "States.Format('{}')", "States.Array()", "States.Nothing($.a)", "'a'",
     "States.Format('{', $.a)", "States.JsonMerge($.a, $.b)", "States.Array($.a", "$.a $.b"],
)  # fmt: skip
def test_a_faulty_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_expressions_have_the_values_of_the_service() -> None:
    data = {"a": {"b": "x"}, "n": 2, "on": True}
    assert evaluate("States.Format('{}/{}-{}', $.a.b, $.n, $.on)", data, {}) == "x/2-true"
    assert evaluate("States.Array('--a', $.a.b, $$.E.Id)", data, {"E": {"Id": "i"}}) == [
        "--a", "x", "i"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="leads nowhere"):
        evaluate("$.a.c", data, {})


Fault = Callable[[dict[str, Any]], Any]


def task(states: dict[str, Any], name: str = "a") -> dict[str, Any]:
    found: dict[str, Any] = states[name]["Parameters"]
    return found


def reference(states: dict[str, Any], path: str) -> None:
    task(states)["Cluster.$"] = path


FAULTS: dict[str, Fault] = {
    "dangling next": lambda s: s["c"].update(Next="nowhere"),
    "dangling rule": lambda s: s["a-next"]["Choices"][0].update(Next="nowhere"),
    "unreachable": lambda s: s.update(x={"Type": "Succeed"}),
    "next and end": lambda s: s["c"].update(End=True),
    "neither": lambda s: s["c"].pop("Next"),
    "unknown field": lambda s: s["c"].update(Nxt="a"),
    "unknown type": lambda s: s["c"].update(Type="Parallel"),
    "long name": lambda s: s.update({"x" * 81: s.pop("c")}),
    "bad path": lambda s: reference(s, "$.given.[x"),
    "path to nothing": lambda s: reference(s, "$.gven.kitaru_cluster"),
    "unknown function": lambda s: reference(s, "States.Nothing($.run)"),
    "arguments": lambda s: reference(s, "States.Format('{}')"),
    "two of a name": lambda s: task(s).update(Cluster="x"),
    "literal": lambda s: task(s).update({"Cluster": task(s).pop("Cluster.$")}),
    "resource": lambda s: s["c"].update(Resource="arn:aws:states:::ecs:runTasks.sync"),
    "pattern": lambda s: s["c"].update(Resource="arn:aws:states:::ecs:runTask"),
    "type": lambda s: task(s).update(LaunchType=1),
    "no token": lambda s: task(s, "wait_a-wait")["Body"].pop("token.$"),
    "token elsewhere": lambda s: reference(s, "$$.Task.Token"),
    "no timeout": lambda s: s["wait_a-wait"].pop("TimeoutSecondsPath"),
    "long timeout": lambda s: s["c"].update(TimeoutSeconds=100_000_000),
    "all not last": lambda s: s["a-outcome"]["Retry"].append(s["c"]["Retry"][0]),
    "unknown error": lambda s: s["c"]["Retry"][0].update(ErrorEquals=["States.Tiemout"]),
    "negative": lambda s: s["c"]["Retry"][0].update(MaxAttempts=-1),
    "backoff": lambda s: s["c"]["Retry"][0].update(BackoffRate=0.5),
    "no rules": lambda s: s["a-next"].update(Choices=[]),
    "default": lambda s: s["a-next"].update(Default="c"),
    "rule": lambda s: s["a-next"]["Choices"][-1].update(NumericEquals=1),
    "unguarded wait": lambda s: s["a-next"]["Choices"][-1].update(Next="wait_a-wait"),
    "straight to a wait": lambda s: s["c"].update(Next="wait_a-wait"),
    "read too early": lambda s: s["read-inputs"].update(Next="a-next"),
    "outcome not kept": lambda s: s["a-outcome"].update(ResultPath="$.x"),
    "unknown outcome": lambda s: s["a-next"]["Choices"][-1].update(Variable="$.last.said.nxt"),
    "inputs": lambda s: s["read-inputs"]["Parameters"].pop("run.$"),
    "variable": lambda s: task(s)["Overrides"]["ContainerOverrides"][0].update(
        Environment=[{"Name": "PATH", "Value.$": "$.run"}]
    ),
    "command": lambda s: task(s)["Overrides"]["ContainerOverrides"][0].update(
        {"Command.$": "States.Array('sh')"}
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_machine_is_refused(name: str) -> None:
    text = json.dumps(document((Do("a", wait=True), Do("b", "maybe"), Do("c")), asks=True))
    found = json.loads(text)
    assert TARGET.validate(text) == []
    FAULTS[name](found["States"])
    assert TARGET.validate(json.dumps(found))


def test_a_faulty_fan_out_is_refused() -> None:
    text = json.dumps(document((Do("a"), Do("b", gathers=True))))
    for changed in (
        text.replace('"INLINE"', '"EXPRESS"'),
        text.replace('"$$.Map.Item.Value"', '"$$.Map.Item.Index"'),
        text.replace('"$.item"', '"$.last"').replace("$.item", "$.run"),
        text.replace('"MaxConcurrency": ', '"MaxConcurrency": 1000'),
        text.replace('"each_b-call": {', '"a": {').replace('"each_b-call"', '"a"'),
        "{}", "[]", "{", text.replace('"StartAt"', '"Starts"'), text + " " * 1_048_576,
    ):  # fmt: skip
        assert changed != text
        assert TARGET.validate(changed), changed[:200]
