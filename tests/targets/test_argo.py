"""A workflow template waits, repeats and refuses as intended; `test_tree` plays its branches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler.diagnostics.model import SourceError
from kitaru_targets import registry
from kitaru_targets.argo import conditions, emit, profile
from kitaru_targets.argo.dry_run import Call, State, interpret
from kitaru_targets.common import parameters, read, yaml

from kitaru.errors import InputError, UsageError
from kitaru.wire import structs
from kitaru.wire.plan import BranchItem, Parameter, Resources

from .programs import WIRING, Do, If, Program, plan

TARGET = registry.get("argo")
# Waits have steps of their own.
ASKS = {"service_account": "flows"}


@cache
def text_of(program: Program, *, asks: bool = True) -> str:
    text = TARGET.emit(plan(program, options=ASKS if asks else None), WIRING).text
    assert TARGET.validate(text) == []
    return text


def said(
    program: Program, *outcomes: tuple[str, str], answers: int = 0, asks: bool = True
) -> list[str]:
    """Run a program whose steps say these outcomes; return the tasks that succeeded."""
    left: Iterator[tuple[str, str]] = iter(outcomes)
    answered = iter(range(answers))

    def run(call: Call) -> Mapping[str, str]:
        following, status = next(left)
        return {"next": following, "status": status, "items": "[]", "seconds": "60"}

    document = read.parse(text_of(program, asks=asks))
    ended = interpret(document, {}, "run-1", run, lambda: next(answered, None) is not None)
    assert next(left, None) is None, ended
    return [name for name, state in ended if state == "Succeeded"]


LINE: Program = (Do("a", wait=True), Do("b"), Do("c"))


def test_a_wait_is_a_suspended_node_and_the_next_step_reads_the_answer() -> None:
    done = said(LINE, ("a_answer", "waiting"), ("b", "go"), ("c", "go"), ("end", "end"), answers=1)
    assert done == ["a", "wait-a", "a-answer", "b", "c"]
    assert said(LINE, ("a_answer", "waiting")) == ["a"], "without an answer, the run stays"


def test_an_answer_that_is_there_before_the_question_suspends_nothing() -> None:
    done = said(LINE, ("b", "go"), ("b", "go"), ("c", "go"), ("end", "end"))
    assert done == ["a", "a-answer", "b", "c"]


def test_a_wait_in_an_arm_is_asked_by_the_step_before_the_branch() -> None:
    program = (Do("a"), If(((Do("b", wait=True), Do("c")), ())), Do("d"))
    done = said(
        program, ("b", "go"), ("b_answer", "waiting"), ("c", "go"), ("d", "go"), ("end", "end"),
        answers=1,
    )  # fmt: skip
    assert done == ["a", "b", "wait-b", "b-answer", "c", "then-after-a", "d"]
    assert said(program, ("d", "go"), ("end", "end")) == ["a", "d"]


def test_a_wait_that_one_of_several_steps_asks_is_found_by_the_step_that_reads_it() -> None:
    branch = If(((Do("b", wait=True),), (Do("c"),)))
    made = plan((Do("a"), branch, Do("d")), options=ASKS)
    # The wait of b's arm moves behind the branch, where c asks it as well.
    (first, fork, last) = made.layout
    assert isinstance(fork, BranchItem)
    wait, reader = fork.arms[0][1:]
    arms = (fork.arms[0][:1], fork.arms[1])
    steps = tuple(
        structs.replace(s, blocks=("c", "wait_b")) if s.name == "c" else s for s in made.steps
    )
    moved = made.replace(
        layout=(first, structs.replace(fork, arms=arms), wait, reader, last), steps=steps
    )
    text = TARGET.emit(moved, WIRING).text
    assert TARGET.validate(text) == []
    outcomes = iter([("c", "go"), ("b_answer", "waiting"), ("end", "waiting"), ("d", "go"),
                     ("end", "end")])  # fmt: skip
    answers = iter([True])

    def run(call: Call) -> Mapping[str, str]:
        following, status = next(outcomes)
        return {"next": following, "status": status, "seconds": "60"}

    ended = interpret(read.parse(text), {}, "r", run, lambda: next(answers, False))
    done = [name for name, state in ended if state == "Succeeded"]
    assert done == [
        "a", "c", "b-answer", "b-answer-wait", "b-answer", "b-answer-again", "b-answer-rounds", "d",
    ]  # fmt: skip


def test_a_wait_inside_a_step_repeats_the_step_up_to_a_limit() -> None:
    program = (Do("a", wait=True), Do("b"))
    waits = [("end", "waiting")] * 3
    done = said(program, *waits, ("b", "go"), ("end", "end"), answers=3, asks=False)
    assert done.count("a") == 4 and done[-1] == "b"
    for_ever = [("end", "waiting")] * (profile.MAX_ROUNDS)
    done = said(program, *for_ever, ("end", "skip"), answers=100, asks=False)
    assert done.count("a") == profile.MAX_ROUNDS, "the run ends, and the execution waits"


def test_forty_early_returns_nest_less_deep_than_the_controller_allows() -> None:
    program = tuple(Do(f"s{n}", "maybe", wait=True) for n in range(80))
    text = text_of(program)
    assert text.count("after-s") // 3 >= profile.MAX_DEPTH - 1
    ways = [(f"s{n + 1}", "go") for n in range(79)]
    done = said(tuple(Do(f"s{n}", "maybe") for n in range(80)), *ways, ("end", "end"))
    assert [name for name in done if name.startswith("s")] == [f"s{n}" for n in range(80)]


def test_inputs_are_texts_and_braces_go_through_the_store() -> None:
    inputs = (
        Parameter("n", "keyword_only", "int", "int", True, False),
        Parameter("on", "keyword_only", "bool", "bool", False, True, True),
        Parameter("text", "keyword_only", "str", "str", False, True, ""),
    )
    made = plan((Do("a"),), parameters=inputs)
    document = read.parse(TARGET.emit(made, WIRING).text)
    calls: list[Call] = []

    def run(call: Call) -> Mapping[str, str]:
        calls.append(call)
        return {"next": "end", "status": "end"}

    interpret(document, {"n": 3}, "r", run, lambda: False)
    found = {k: v for k, v in calls[0].environment.items() if k.startswith("KITARU_")}
    assert found == {"KITARU_INPUT_n": "3", "KITARU_INPUT_on": "true", "KITARU_INPUT_text": ""}
    assert calls[0].argument("run") == "dry-run/r/r"
    with pytest.raises(InputError, match="missing input 'n'"):
        interpret(document, {}, "r", run, lambda: False)
    with pytest.raises(InputError, match="unknown input 'm'"):
        interpret(document, {"n": 1, "m": 2}, "r", run, lambda: False)
    carried = parameters.carried(made, {"n": 1, "text": "{{workflow.uid}}"}, TARGET.transport)
    assert carried.stored == {"text": "{{workflow.uid}}"}


def test_retries_and_sizes_are_those_of_the_step() -> None:
    program = (Do("a"), Do("b", retries=2, resources=Resources(cpu="500m", memory="3Gi", gpu=1)))
    templates = {one["name"]: one for one in read.parse(text_of(program))["spec"]["templates"]}
    kind = templates["step-with-retries"]
    assert kind["retryStrategy"]["limit"] == "2"
    asked = {"cpu": "500m", "memory": "3Gi", "nvidia.com/gpu": "1"}
    assert kind["container"]["resources"] == {"requests": asked, "limits": asked}
    attempts: list[int] = []

    def run(call: Call) -> Mapping[str, str] | None:
        attempts.append(call.attempt)
        done = len(attempts) in (1, 4)
        return {"next": "b" if len(attempts) == 1 else "end", "status": "go"} if done else None

    states = interpret(read.parse(text_of(program)), {}, "r", run, lambda: False)
    assert attempts == [1, 1, 2, 3] and dict(states)["b"] == "Succeeded"


def test_a_step_that_fails_ends_the_run() -> None:
    ended: list[tuple[str, State]] = interpret(
        read.parse(text_of(LINE)), {}, "r", lambda call: None, lambda: False
    )
    assert dict(ended) == {
        "a": "Failed", "wait-a": "Omitted", "a-answer": "Omitted", "b": "Omitted", "c": "Omitted"
    }  # fmt: skip


def test_what_a_project_sets_is_in_the_template() -> None:
    chosen = {
        "service_account": "agents", "semaphore": "limits/agents", "max_seconds": "600",
        "keep_seconds": "86400", "labels": "team=ml", "annotations": "a.org/b=c",
        "node_selector": "pool=gpu", "tolerations": "spot:NoSchedule",
        "image_pull_secrets": "registry", "secret_volumes": "tls:/etc/tls",
    }  # fmt: skip
    made = plan((Do("a"),), options=chosen).replace(secrets={"KEY": "k8s:openai/api-key"})
    text = TARGET.emit(made, replace(WIRING, environment={"MODE": "x"})).text
    assert TARGET.validate(text) == []
    spec = read.parse(text)["spec"]
    (container,) = (one["container"] for one in spec["templates"] if "container" in one)
    assert spec["serviceAccountName"] == "agents"
    semaphore = {"configMapKeyRef": {"name": "limits", "key": "agents"}}
    assert spec["synchronization"] == {"semaphores": [semaphore]}
    assert spec["ttlStrategy"] == {"secondsAfterCompletion": 86_400}
    assert spec["podMetadata"]["labels"]["team"] == "ml"
    assert spec["podMetadata"]["annotations"] == {"a.org/b": "c"}
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["tolerations"][0]["key"] == "spot"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["templates"][-1]["activeDeadlineSeconds"] == 600
    variables = {one["name"]: one for one in container["env"]}
    assert variables["MODE"]["value"] == "x"
    key = {"secretKeyRef": {"name": "openai", "key": "api-key"}}
    assert variables["KEY"] == {"name": "KEY", "valueFrom": key}
    assert container["volumeMounts"][0]["mountPath"] == "/etc/tls"
    with pytest.raises(UsageError, match="semaphore cannot be"):
        TARGET.emit(plan((Do("a"),), options={"semaphore": "limits"}), WIRING)
    with pytest.raises(UsageError, match="Argo would replace"):
        TARGET.emit(made, replace(WIRING, environment={"MODE": "{{x}}"}))


def test_a_document_that_no_cluster_stores_is_refused() -> None:
    long = Parameter("text", "keyword_only", "str", "str", False, True, "x" * profile.MAX_DOCUMENT)
    with pytest.raises(SourceError):
        TARGET.emit(plan((Do("a"),), parameters=(long,)), WIRING)


def test_words_of_conditions_are_no_names_of_tasks() -> None:
    done = said((Do("matches"), Do("nil")), ("nil", "go"), ("end", "end"))
    assert done == ["matches-2", "nil-2"]


def test_the_program_is_once_in_a_config_map(tmp_path: Path) -> None:
    from .test_documents import compiled

    made = compiled(tmp_path, "argo")
    text = made.document.read_text()
    template, program = read.parse_all(text)
    assert program["metadata"]["name"] == emit.program_name()
    assert text.count("import importlib.metadata") == 1
    assert emit.program_name() in str(template["spec"]["volumes"])
    share = len(program["data"][emit.PROGRAM_FILE].splitlines()) / len(text.splitlines())
    assert share <= 0.35


Fault = Callable[[dict[str, Any]], Any]
# A wait, a branch, a fan-out and a step with retries.
WHOLE: Program = (
    Do("a", "maybe", wait=True),
    If(((Do("b"), Do("c")), (Do("d"),))),
    Do("e", retries=1),
    Do("f", gathers=True),
)


def tasks(found: dict[str, Any], template: int = 0) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = found["spec"]["templates"][template]["dag"]["tasks"]
    return listed


def template(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = (one for one in found["spec"]["templates"] if one["name"] == name)
    assert isinstance(one, dict)
    return one


FAULTS: dict[str, Fault] = {
    "unknown field of a task": lambda d: tasks(d)[0].update(wen="x"),
    "unknown field of the spec": lambda d: d["spec"].update(entrypont="x"),
    "entry point": lambda d: d["spec"].update(entrypoint="x"),
    "entry point is no dag": lambda d: d["spec"].update(entrypoint="step"),
    "dangling template": lambda d: tasks(d)[0].update(template="x"),
    "dangling depends": lambda d: tasks(d)[1].update(depends="x"),
    "depends is no expression": lambda d: tasks(d)[1].update(depends="a &&"),
    "depends on itself": lambda d: tasks(d)[1].update(depends=tasks(d)[1]["name"]),
    "circle": lambda d: tasks(d)[0].update(depends=tasks(d)[1]["name"]),
    "when reads an unknown output": lambda d: tasks(d)[1].update(
        when="'{{tasks.a.outputs.parameters.nxt}}' == 'b'"
    ),
    "when is no expression": lambda d: tasks(d)[1].update(when="a is b"),
    "argument missing": lambda d: tasks(d)[0].pop("arguments"),
    "argument unknown": lambda d: tasks(d)[0]["arguments"]["parameters"].append(
        {"name": "x", "value": "y"}
    ),
    "argument reads nothing": lambda d: tasks(d)[0]["arguments"]["parameters"][0].update(
        value="{{tasks.b.outputs.parameters.next}}"
    ),
    "argument is a number": lambda d: tasks(d)[0]["arguments"]["parameters"][0].update(value=3),
    "underscore in a name": lambda d: tasks(d)[0].update(name="a_b"),
    "two tasks of one name": lambda d: tasks(d).append(dict(tasks(d)[0])),
    "task without a name": lambda d: tasks(d)[0].pop("name"),
    "retry limit is a number": lambda d: template(d, "step-with-retries")["retryStrategy"].update(
        limit=2
    ),
    "retry limit is a word": lambda d: template(d, "step-with-retries")["retryStrategy"].update(
        limit="two"
    ),
    "retry policy": lambda d: template(d, "step-with-retries")["retryStrategy"].update(
        retryPolicy="Never"
    ),
    "pause": lambda d: template(d, "step-with-retries")["retryStrategy"]["backoff"].update(
        duration="soon"
    ),
    "suspend for a time": lambda d: template(d, "wait-for-answer").update(
        suspend={"duration": "1h"}
    ),
    "parameter is a number": lambda d: d["spec"]["arguments"]["parameters"][0].update(value=3),
    "parameter is a reference": lambda d: d["spec"]["arguments"]["parameters"][0].update(
        value="{{workflow.uid}}"
    ),
    "container without an image": lambda d: template(d, "step")["container"].pop("image"),
    "empty image": lambda d: template(d, "step")["container"].update(image=""),
    "dag and container": lambda d: template(d, "step").update(dag={"tasks": []}),
    "neither": lambda d: template(d, "step").pop("container"),
    "variable is a number": lambda d: template(d, "step")["container"]["env"][0].update(value=0),
    "argument of a container": lambda d: template(d, "step")["container"]["args"].append(
        "{{inputs.parameters.x}}"
    ),
    "no step": lambda d: template(d, "step")["container"].update(args=["sh"]),
    "output is not written": lambda d: template(d, "step")["outputs"]["parameters"][0].update(
        valueFrom={"path": "/x"}
    ),
    "long name": lambda d: d["metadata"].update(name="x" * 53),
    "kind": lambda d: d.update(kind="Workflow"),
    "parallelism": lambda d: d["spec"].update(parallelism=0),
    "unused template": lambda d: d["spec"]["templates"].append({"name": "x", "suspend": {}}),
    "two templates of a name": lambda d: d["spec"]["templates"].append(
        {"name": "wait-for-answer", "suspend": {}}
    ),
    "runs itself": lambda d: tasks(d, 1)[0].update(template=d["spec"]["templates"][1]["name"]),
    "list is no list": lambda d: [
        task.update(withParam="{}") for t in d["spec"]["templates"] if "dag" in t
        for task in t["dag"]["tasks"] if "withParam" in task
    ],
    "list of another step": lambda d: [
        task.update(withParam="{{tasks.x.outputs.parameters.items}}")
        for t in d["spec"]["templates"] if "dag" in t
        for task in t["dag"]["tasks"] if "withParam" in task
    ],
    "no program": lambda d: d["spec"].update(
        volumes=[{"name": "kitaru-start", "configMap": {"name": "x"}}]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_template_is_refused(name: str) -> None:
    found = read.parse(text_of(WHOLE))
    before = yaml.dump(found)
    FAULTS[name](found)
    assert yaml.dump(found) != before
    assert TARGET.validate(yaml.dump(found))


def test_a_condition_asks_no_task_that_may_be_skipped() -> None:
    found = read.parse(text_of((Do("a"), If(((Do("b"),), (Do("c"),))), Do("d"))))
    assert [task["name"] for task in tasks(found)] == ["a", "b", "c", "d"]
    for asked, faults in ("a", 0), ("b", 1):
        tasks(found)[3]["when"] = f"'{{{{tasks.{asked}.outputs.parameters.next}}}}' == 'd'"
        assert len(TARGET.validate(yaml.dump(found))) == faults


def test_a_faulty_document_is_refused() -> None:
    text = text_of(WHOLE)
    for faulty in ("", "[]", "a: 1", text + "---\na: 1\n", text + "#" * profile.MAX_DOCUMENT):
        assert TARGET.validate(faulty)


def test_conditions_are_read_as_they_are_written() -> None:
    value = "{{tasks.a.outputs.parameters.next}}"
    one = conditions.Comparison("a", "next", ("b", "c"), value=value)
    none = conditions.Comparison("a", "next", ("d", "e"), negated=True, value=value)
    text = conditions.write([one, none])
    assert text == (
        f"('{value}' == 'b' || '{value}' == 'c') && '{value}' != 'd' && '{value}' != 'e'"
    )
    for word, expected in {"b": True, "c": True, "d": False, "f": False}.items():
        assert conditions.holds(text, {value: word}.__getitem__) is expected
    assert {*conditions.references(text)} == {value}
