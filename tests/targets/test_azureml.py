"""An Azure ML job runs every path of a flow, and no text reaches its shell unquoted."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path as File
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kitaru_compiler.diagnostics.model import SourceError
from kitaru_targets import registry
from kitaru_targets.azureml.dry_run import Call, interpret
from kitaru_targets.common import read, shell, yaml

from kitaru.errors import EnvironmentFailure, InputError, UsageError
from kitaru.wire.plan import OWN_DEFAULT, Parameter, Resources

from .conftest import REVIEW, Make
from .programs import WIRING, Do, If, Path, Played, Program, paths, plan
from .test_dry_run import Watched
from .test_sagemaker import line
from .test_tree import NAMES, build, programs

TARGET = registry.get("azureml")
PARAMETERS = (
    Parameter("topic", "positional_or_keyword", "str", "str", True, False),
    Parameter("rounds", "positional_or_keyword", "int", "int", False, True, 2),
    Parameter("share", "keyword_only", "float", "float", False, True, 0.5),
    Parameter("dry", "keyword_only", "bool", "bool", False, True, True),
)
Change = Callable[[dict[str, Any]], Any]


@cache
def document(program: Program) -> dict[str, Any]:
    text = TARGET.emit(plan(program), WIRING).text
    assert TARGET.validate(text) == []
    return read.parse(text)


def play(program: Program, path: Path, together: frozenset[str] = frozenset()) -> list[str]:
    """Play a path against the document; return the steps that started for nothing."""
    played = Played(path, together)
    interpret(document(program), {}, lambda call: played.start(call.step))
    assert played.ran == played.own, (path, together)
    return played.idle


def test_steps_follow_one_another_by_what_they_wrote() -> None:
    jobs = document((Do("a"), If(((Do("b"),), (Do("c"),))), Do("d")))["jobs"]
    after = [job["inputs"].get("after") for job in jobs.values()]
    assert after == [None, *(f"${{{{parent.jobs.{name}.outputs.outcome}}}}" for name in "abc")]


OPTIONS = {
    "compute": "cpu-cluster",
    "environment": "azureml:agents@latest",
    "identity": "user_identity",
    "max_seconds": "3600",
    "tags": "team=ml, cost-center=42",
}


def test_a_project_says_where_steps_run_and_as_whom() -> None:
    text = TARGET.emit(plan((Do("a"),), options=OPTIONS), WIRING).text
    assert TARGET.validate(text) == []
    found = read.parse(text)
    (job,) = found["jobs"].values()
    assert found["settings"]["default_compute"] == "azureml:cpu-cluster"
    assert found["tags"] == {"team": "ml", "cost-center": "42"}
    assert job["component"]["environment"] == "azureml:agents@latest"
    assert (job["identity"], job["limits"]) == ({"type": "user_identity"}, {"timeout": 3600})


def test_a_project_chooses_the_machine_of_steps_that_ask_for_nothing() -> None:
    steps = (Do("a"), Do("b", resources=Resources(cpu="16")))
    options = {"instance_type": "Standard_F2s_v2"}
    jobs = read.parse(TARGET.emit(plan(steps, options=options), WIRING).text)["jobs"]
    machines = [job["resources"]["instance_type"] for job in jobs.values()]
    assert machines == ["Standard_F2s_v2", "Standard_DS5_v2"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("instance_type", "F2s"),
        ("tags", "team"),
        ("environment", "agents"),
        ("environment", "azureml:${{parent}}:1"),
        ("compute", "a b"),
        ("identity", "root"),
        ("max_seconds", "0"),
        ("cluster", "x"),
    ],
)
def test_an_option_that_cannot_be_is_refused(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=name):
        TARGET.emit(plan((Do("a"),), options={name: text}), WIRING)


def test_a_step_that_is_not_selected_starts_and_finds_nothing_to_do() -> None:
    program = (Do("a", "maybe"), If(((Do("b", wait=True),), (Do("c"),))), Do("d"))
    for path in paths(program):
        visited = [name for name, _ in path]
        assert play(program, path) == [name for name in "abcd" if name not in visited], path


@settings(max_examples=60, deadline=None)
@given(programs(2), st.integers(0, 2**60))
def test_every_path_of_a_random_program_runs(shape: list[object], seed: int) -> None:
    program = (Do("first"), *build(shape, list(NAMES), last=False))
    for number, path in enumerate(list(paths(program))[:40]):
        play(program, path)
        names = [name for name, _ in path[1:]]
        play(program, path, frozenset(n for i, n in enumerate(names) if (seed >> (i + number)) & 1))


def test_a_step_after_a_failed_one_does_not_start() -> None:
    ran = interpret(document((Do("a"), Do("b"))), {}, lambda _: None)
    assert ran == ["a"]


def test_an_input_that_the_document_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="'zz'"):
        interpret(document((Do("a"),)), {"zz": "1"}, lambda _: None)


@pytest.mark.parametrize(
    ("asked", "machine"),
    [
        (Resources(cpu="3"), "Standard_DS3_v2"),
        (Resources(memory="60Gi"), "Standard_E8s_v3"),
        (Resources(gpu=2), "Standard_NC64as_T4_v3"),
    ],
)
def test_a_step_gets_the_first_machine_that_is_large_enough(asked: Resources, machine: str) -> None:
    (job,) = document((Do("a", resources=asked),))["jobs"].values()
    assert job["resources"] == {"instance_type": machine, "instance_count": 1}
    assert "resources" not in document((Do("a"),))["jobs"]["a"]


def test_what_is_beyond_a_limit_is_said_with_its_place() -> None:
    with pytest.raises(SourceError, match=r"flow\.py:10:1 Azure ML has no machine .*9Ti"):
        TARGET.emit(plan((Do("a", resources=Resources(memory="9Ti")),)), WIRING)


@pytest.mark.parametrize(("count", "fits"), [(10, True), (100, True), (800, True), (4_000, False)])
def test_a_document_too_large_for_the_service_is_said(count: int, fits: bool) -> None:
    wiring = replace(WIRING, command=("python3", "-c", f"{'x' * 2_500}"))
    if fits:
        assert TARGET.validate(TARGET.emit(line(count), wiring).text) == []
        return
    with pytest.raises(SourceError, match="takes a document of 4,194,304"):
        TARGET.emit(line(count), wiring)


def good() -> dict[str, Any]:
    program = (Do("a"), Do("b"))
    return read.parse(TARGET.emit(plan(program, parameters=PARAMETERS), WIRING).text)


def job(document: dict[str, Any], name: str = "a") -> dict[str, Any]:
    found: dict[str, Any] = document["jobs"][name]
    return found


def component(document: dict[str, Any], name: str = "a") -> dict[str, Any]:
    found: dict[str, Any] = job(document, name)["component"]
    return found


def insert(document: dict[str, Any], text: str) -> None:
    command = component(document)["command"]
    component(document)["command"] = command.replace("step --step", f"{text} step --step")


CHANGES: dict[str, tuple[Change, str]] = {
    "order lost": (
        lambda d: (job(d, "b")["inputs"].pop("after"), component(d, "b")["inputs"].pop("after")),
        "does not come after",
    ),
    "after nothing": (
        lambda d: job(d, "b")["inputs"].update(after="${{parent.jobs.zz.outputs.outcome}}"),
        "nothing before writes",
    ),
    "after itself": (
        lambda d: job(d, "b")["inputs"].update(after="${{parent.jobs.b.outputs.outcome}}"),
        "nothing before writes",
    ),
    "output unknown": (
        lambda d: job(d, "b")["inputs"].update(after="${{parent.jobs.a.outputs.zz}}"),
        "nothing before writes",
    ),
    "input unknown": (
        lambda d: job(d)["inputs"].update(topic="${{parent.inputs.zz}}"),
        "no input zz",
    ),
    "input missing": (lambda d: job(d)["inputs"].pop("topic"), "topic is missing"),
    "input extra": (
        lambda d: job(d)["inputs"].update(zz="${{parent.inputs.topic}}"),
        "zz is not declared",
    ),
    "input a literal": (lambda d: job(d)["inputs"].update(topic="owls"), "bound to nothing"),
    "another type": (lambda d: d["inputs"].update(rounds="two"), "rounds is no integer"),
    "boolean as number": (lambda d: d["inputs"].update(rounds=True), "rounds is no integer"),
    "number as boolean": (lambda d: d["inputs"].update(dry=1), "dry is no boolean"),
    "empty": (lambda d: d["inputs"].update(topic=""), "empty"),
    "command mentions nothing": (lambda d: insert(d, "'${{inputs.zz}}'"), "mentions 'inputs.zz'"),
    "command reads a parent": (lambda d: insert(d, "'${{parent.inputs.topic}}'"), "mentions"),
    "unquoted": (lambda d: insert(d, "${{inputs.topic}}"), "take apart"),
    "double quotes": (lambda d: insert(d, '"${{inputs.topic}}"'), "take apart"),
    "substitution": (lambda d: insert(d, "$(id)"), "take apart"),
    "second command": (lambda d: insert(d, "; id;"), "take apart"),
    "new line": (lambda d: insert(d, "\nid\n"), "take apart"),
    "other program": (
        lambda d: component(d).update(command=component(d)["command"].replace("python3", "sh", 1)),
        "something else than Python",
    ),
    "no run": (lambda d: component(d).update(command="python3 -c pass"), "does not name the run"),
    "reused": (lambda d: component(d).update(is_deterministic=True), "would reuse it"),
    "reuse allowed": (lambda d: d["settings"].update(force_rerun=False), "force_rerun"),
    "continues after a failure": (lambda d: d["settings"].update(continue_on_step_failure=True),
    "continue_on"), "no image": (lambda d: component(d).update(environment={}), "neither an image"),
    "no timeout": (lambda d: job(d).pop("limits"), "no timeout"),
    "variable": (lambda d: job(d)["environment_variables"].update({"A=B": "x"}), "no environment"),
    "variable of a number": (lambda d: job(d)["environment_variables"].update(A=1), "no environ"),
    "name": (lambda d: d["jobs"].update({"A-b": job(d)}), "no engine takes"),
    "no command": (lambda d: job(d).update(type="sweep"), "is no command"),
    "expander in a variable": (
        lambda d: job(d)["environment_variables"].update(A="${{parent.inputs.topic}}"),
        "would expand",
    ),
    "expander in a name": (lambda d: d.update(display_name="${{x}}"), "would expand"),
    "expander in an input": (lambda d: d["inputs"].update(topic="${{x}}"), "would expand"),
    "kind": (lambda d: d.update(type="command"), "no pipeline"),
    "part missing": (lambda d: d.pop("settings"), "does not have exactly"),
}  # fmt: skip


def test_a_good_document_has_no_problems() -> None:
    assert TARGET.validate(yaml.dump(good())) == []


@pytest.mark.parametrize("name", CHANGES)
def test_a_bad_document_is_found(name: str) -> None:
    change, expected = CHANGES[name]
    spec = good()
    change(spec)
    problems = TARGET.validate(yaml.dump(spec))
    assert any(expected in problem for problem in problems), problems


@pytest.mark.parametrize("text", ["{", "[]", "a: &x 1", " " * 4_194_305])
def test_text_that_is_no_document_is_a_problem(text: str) -> None:
    assert TARGET.validate(text) != []


HOSTILE = [
    "'; touch pwned; '",
    "$(touch pwned)",
    "`touch pwned`",
    "a\nb",
    "${{inputs.x}}",
    "%",
    "'",
]


@settings(max_examples=40, deadline=None)
@given(st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=("Cs",)))))
def test_an_encoded_text_is_one_word_of_a_shell(text: str) -> None:
    encoded = shell.encoded(text)
    assert "{{" not in encoded and "'" not in encoded
    assert shlex.split(f"'{encoded}'") == [encoded]
    command = "import sys,urllib.parse as p;print(ascii(p.unquote(sys.argv[1])))"
    if text in HOSTILE:
        line = f"python3 -c {shlex.quote(command)} '{encoded}'"
        said = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == ascii(text)


ALL_TYPES = """
    from kitaru import checkpoint, flow

    @checkpoint
    def show(*values: object) -> str:
        return repr(values)

    @flow
    def typed(
        s: str, n: int, x: float, b: bool, j: dict[str, list[int]], *, late: int = 2 + 3,
        text: str = "{{workflow.name}}", big: int = 2**60, opt: str | None = None,
        long: str = "owl" * 2_000, empty: str = "", none: str = "x", quoted: str = "it's $HOME",
        number: str = "007",
    ) -> str:
        return show(s, n, x, b, j, late, text, big, opt, long, empty, none, quoted, number)
"""


@pytest.fixture
def run(tmp_path: File) -> Watched:
    return Watched(tmp_path)


@pytest.mark.parametrize(
    "text", ["'; touch pwned; '$(touch pwned)`touch pwned` ${{x}} \n é", "o" * 5_000]
)
def test_inputs_of_every_type_and_length_arrive(make: Make, run: Watched, text: str) -> None:
    given = {"s": text, "n": -3, "x": 1e-07, "b": False, "j": {"a": list(range(200))}}
    done = run(make(ALL_TYPES, "azureml"), **given, none="")
    values = (*given.values(), 5, "{{workflow.name}}", 2**60, None, "owl" * 2_000, "", "")
    assert done["result"] == repr((*values, "it's $HOME", "007"))
    assert not list(File().glob("pwned"))


def test_an_input_nobody_gave_is_missing_where_it_has_no_default(make: Make, run: Watched) -> None:
    built = make(REVIEW, "azureml")
    calls: list[Call] = []
    interpret(read.parse(built.document.read_text()), {}, lambda call: calls.append(call))
    assert f"--input 'topic={OWN_DEFAULT}'" in calls[0].command


def test_a_run_without_a_name_of_its_own_does_not_start(make: Make, tmp_path: File) -> None:
    built = make(REVIEW, "azureml", store=f"sqlite:{tmp_path / 'x.db'}")
    command = read.parse(built.document.read_text())["jobs"]["draft"]["component"]["command"]
    alone = {"PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=alone)
    assert done.returncode != 0 and "AZUREML_ROOT_RUN_ID" in done.stderr


def test_a_wait_ends_the_run_and_its_answer_goes_on(make: Make, run: Watched) -> None:
    built = make(REVIEW, "azureml")
    waiting = run(built, topic="owls")
    assert (waiting["status"], run.steps[0]) == ("waiting", ("draft", "waiting"))
    done = run(built, {"approve": True}, waiting["exec_id"], topic="owls")
    assert (done["result"], run.steps) == ("published: owls owls", [("publish", "end")])


def test_the_deployment_page_names_what_has_to_be_given(make: Make) -> None:
    page = (make(REVIEW, "azureml").directory / "DEPLOY.md").read_text()
    for word in ("--set inputs.kitaru_store=az://", "--set inputs.topic=…", "kitaru_inputs"):
        assert word in page


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"colour": "red"}, "'colour'"), ({}, "needs the option 'subscription_id'")],
)
def test_a_wrong_option_is_said(options: dict[str, str], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        TARGET.submit("pipeline.yaml", {}, options)


def test_a_missing_sdk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "azure.ai.ml", None)
    options = dict.fromkeys(("subscription_id", "resource_group_name", "workspace_name"), "x")
    with pytest.raises(EnvironmentFailure, match="not installed"):
        TARGET.submit("pipeline.yaml", {}, options)
