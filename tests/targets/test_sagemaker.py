"""Decides that a SageMaker definition runs every path of a flow, and keeps the service's limits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kitaru_compiler import compile_flow
from kitaru_compiler.diagnostics.model import SourceError
from kitaru_targets import registry
from kitaru_targets.base import Wiring
from kitaru_targets.dry_run.sagemaker import Call, interpret

from kitaru.client import KitaruClient
from kitaru.errors import EnvironmentFailure, InputError, KitaruError, UsageError
from kitaru.stores import open_store
from kitaru.wire.plan import Parameter, Plan, Resources, StepItem

from .conftest import REVIEW, Make
from .programs import Do, If, Path, Played, Program, paths, plan
from .test_dry_run import Watched
from .test_tree import NAMES, build, programs

TARGET = registry.get("sagemaker")
WIRING = Wiring(
    "", ("python3", "-c", "pass"), ("/bundle", "step"), "s3://b/p", {}, bundle="bundle/x"
)
INPUT = Parameter("topic", "positional_or_keyword", "str", "str", True, False)
Change = Callable[[dict[str, Any]], Any]


@cache
def document(program: Program) -> dict[str, Any]:
    text = TARGET.emit(plan(program), WIRING).text
    assert TARGET.validate(text) == []
    found: dict[str, Any] = json.loads(text)
    return found


def play(program: Program, path: Path, together: frozenset[str] = frozenset()) -> list[str]:
    """Play a path against the document; return the steps that started for nothing."""
    played = Played(path, together)
    interpret(document(program), {}, "run-1", lambda call: played.start(call.step))
    assert played.ran == played.own, (path, together)
    return played.idle


def idle(*program: Do | If) -> dict[Path, list[str]]:
    return {path: play(program, path) for path in paths(program)}


def test_a_straight_line_is_a_chain() -> None:
    steps = document((Do("a"), Do("b"), Do("c")))["Steps"]
    assert [step.get("DependsOn") for step in steps] == [None, ["a"], ["b"]]
    assert {step["Type"] for step in steps} == {"Processing"}


def test_nothing_starts_behind_the_first_wait() -> None:
    program = (Do("a", "maybe"), Do("b", wait=True), Do("c"), Do("d", wait=True), Do("e"))
    for path, started in idle(*program).items():
        last = path[-1]
        expected = {"a": ["b"], "b": [], "d": ["e"]}.get(last[0], [])
        assert started == expected, path


def test_nothing_starts_behind_an_early_return_where_nothing_waits() -> None:
    for path, started in idle(Do("a", "maybe"), Do("b", "maybe"), Do("c"), Do("d")).items():
        assert started == {"a": [], "b": ["c", "d"]}.get(path[-1][0], []), path


def test_a_branch_at_the_end_starts_the_arm_that_was_taken() -> None:
    for path, started in idle(Do("a"), If(((Do("b"), Do("c")), (Do("d"),)))).items():
        assert started == [], path


def test_a_step_behind_a_branch_stands_behind_every_arm() -> None:
    program = (Do("a"), If(((Do("b"),), (Do("c"),))), Do("d"))
    steps = document(program)["Steps"]
    assert [step.get("DependsOn") for step in steps] == [None, ["a"], ["b"], ["c"]]
    for path, started in idle(*program).items():
        assert started == [name for name in "bc" if name not in dict(path)], path


def test_a_wait_inside_an_arm_is_noticed_by_the_step_behind_it() -> None:
    program = (Do("a"), If(((Do("b", wait=True),), (Do("c"),))), Do("d"), Do("e"))
    for path, started in idle(*program).items():
        waiting = path[-1] == ("b", "waiting")
        assert started == (["c", "d"] if waiting else [n for n in "bc" if n not in dict(path)])


@settings(max_examples=80, deadline=None)
@given(programs(2), st.integers(0, 2**60))
def test_every_path_of_a_random_program_runs(shape: list[object], seed: int) -> None:
    program = (Do("first"), *build(shape, list(NAMES), last=False))
    for number, path in enumerate(list(paths(program))[:40]):
        play(program, path)
        names = [name for name, _ in path[1:]]
        play(program, path, frozenset(n for i, n in enumerate(names) if (seed >> (i + number)) & 1))


def test_names_stay_unique_at_64_characters() -> None:
    long = "a" * 99
    steps = document((Do(f"{long}b"), Do(f"{long}c"), Do("z")))["Steps"]
    names = [step["Name"] for step in steps]
    assert len(set(names)) == 3 and max(map(len, names)) <= 64
    told = [step["Arguments"]["AppSpecification"]["ContainerArguments"] for step in steps]
    assert [t[t.index("--step") + 1] for t in told] == [f"{long}b", f"{long}c", "z"]


@pytest.mark.parametrize(
    ("asked", "machine"),
    [
        (Resources(), "ml.t3.medium"),
        (Resources(cpu="2500m"), "ml.c5.xlarge"),
        (Resources(cpu="2", memory="60Gi"), "ml.r5.2xlarge"),
        (Resources(gpu=1), "ml.g4dn.xlarge"),
        (Resources(gpu=2), "ml.g4dn.12xlarge"),
        (Resources(gpu=8, memory="700Gi"), "ml.g5.48xlarge"),
    ],
)
def test_a_step_gets_the_first_machine_that_is_large_enough(asked: Resources, machine: str) -> None:
    (step,) = document((Do("a", resources=asked),))["Steps"]
    cluster = step["Arguments"]["ProcessingResources"]["ClusterConfig"]
    assert cluster["InstanceType"] == machine


def inputs(count: int) -> tuple[Parameter, ...]:
    kind = "positional_or_keyword"
    return tuple(Parameter(f"p{n}", kind, "str", "str", True, False) for n in range(count))


def wired(**changes: Any) -> Wiring:
    values = {name: getattr(WIRING, name) for name in Wiring.__dataclass_fields__}
    return Wiring(**{**values, **changes})


LIMITS: dict[str, tuple[Program, tuple[Parameter, ...], Wiring, str]] = {
    "memory": ((Do("a", resources=Resources(memory="4Ti")),), (), WIRING, "no machine .*4Ti"),
    "inputs": ((Do("a"),), inputs(200), WIRING, "takes 200 pipeline parameters, and here are 205"),
    "variables": ((Do("a"),), inputs(100), WIRING, "takes 100 variables .* here are 101"),
    "value": ((Do("a"),), (), wired(environment={"A": "x" * 257}), "the value of A has 257"),
    "name": ((Do("a"),), (), wired(environment={"A" * 257: "x"}), "a variable's name has 257"),
    "image": ((Do("a"),), (), wired(image="x" * 256), "the image's name has 256"),
    "store": ((Do("a"),), (), wired(store="s3://" + "x" * 252), "the store's URL has 257"),
    "pins": ((Do("a"),), (), wired(leading=("a==1",) * 90), "takes 84 requirements"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_what_is_beyond_a_limit_is_said_with_its_place(name: str) -> None:
    program, parameters, wiring, expected = LIMITS[name]
    with pytest.raises(SourceError, match=expected) as raised:
        TARGET.emit(plan(program, parameters=parameters), wiring)
    assert {d.code for d in raised.value.diagnostics} == {"KIT606"}
    span = raised.value.diagnostics[0].span
    assert (span.file, span.line) == ("flow.py", 10 if name == "memory" else 8)


def test_everything_beyond_a_limit_is_said_at_once() -> None:
    wiring = wired(environment={"A": "x" * 257, "B": "x" * 257}, image="x" * 256)
    with pytest.raises(SourceError) as raised:
        TARGET.emit(plan((Do("a"),)), wiring)
    assert len(raised.value.diagnostics) == 3


def line(count: int) -> Plan:
    """Return the plan of a straight line of steps, one block each."""
    (step,), (block,) = (found := plan((Do("a"),))).steps, found.blocks
    names = [f"checkpoint_{n}" for n in range(count)]
    return found.replace(
        steps=tuple(replace(step, name=n, entry=n, blocks=(n,), exits=("x",)) for n in names),
        blocks=tuple(replace(block, name=n) for n in names),
        layout=tuple(StepItem(n) for n in names),
    )


@pytest.mark.parametrize(("count", "fits"), [(10, True), (100, True), (350, True), (1_000, False)])
def test_a_document_too_large_for_the_service_is_said(count: int, fits: bool) -> None:
    long = line(count)
    if fits:
        assert TARGET.validate(TARGET.emit(long, WIRING).text) == []
        return
    with pytest.raises(SourceError, match="takes a document of 1,048,576") as raised:
        TARGET.emit(long, WIRING)
    assert "--granularity single" in raised.value.diagnostics[0].help


PROGRAM = (Do("a", wait=True), If(((Do("b"),), (Do("c"),))), Do("d"))


def good() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(TARGET.emit(plan(PROGRAM, parameters=(INPUT,)), WIRING).text)
    return found


def first(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["Steps"][0]
    return found


def job(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = first(document)["Arguments"]
    return found


def branch(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["Steps"][1]["Arguments"]
    return found


def application(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job(document)["AppSpecification"]
    return found


def read(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = branch(document)["Conditions"][0]["LeftValue"]["Std:JsonGet"]
    return found


NESTED = {"Name": "x", "Type": "Condition", "Arguments": {}}
CHANGES: dict[str, tuple[Change, str]] = {
    "order lost": (lambda d: branch(d)["IfSteps"][1].pop("DependsOn"), "exactly the step before"),
    "order wrong": (lambda d: branch(d)["IfSteps"][2].update(DependsOn=["b"]), "exactly the step"),
    "waits for another branch": (
        lambda d: branch(d)["IfSteps"][0].update(DependsOn=["a"]),
        "exactly the step before",
    ),
    "something behind a condition": (lambda d: d["Steps"].append(first(d)), "behind a condition"),
    "a condition in a branch": (lambda d: branch(d)["IfSteps"].append(NESTED), "or around it"),
    "name twice": (lambda d: branch(d)["IfSteps"][0].update(Name="a"), "there twice"),
    "name with underscore": (lambda d: first(d).update(Name="a_b"), "no engine takes"),
    "long name": (lambda d: first(d).update(Name="a" * 65), "no engine takes"),
    "unknown type": (lambda d: first(d).update(Type="Lambda"), "unknown type"),
    "cached": (lambda d: first(d).update(CacheConfig={"Enabled": True}), "unknown fields"),
    "reads what nobody wrote": (
        lambda d: read(d)["PropertyFile"].update(Get="Steps.b.PropertyFiles.outcome"),
        "no step that always runs",
    ),
    "outcome not kept": (lambda d: first(d).pop("PropertyFiles"), "no step that always runs"),
    "outcome of nothing": (
        lambda d: first(d)["PropertyFiles"][0].update(OutputName="zz"),
        "which it does not write",
    ),
    "other path": (lambda d: read(d).update(Path="$.x"), "something else than an outcome"),
    "other test": (
        lambda d: branch(d)["Conditions"][0].update(Type="GreaterThan"),
        "of an unknown form",
    ),
    "compares with a number": (
        lambda d: branch(d)["Conditions"][0].update(RightValue={"Get": "Parameters.topic"}),
        "unknown form",
    ),
    "no branch": (lambda d: branch(d).update(IfSteps=[]), "has no branch"),
    "unknown parameter": (
        lambda d: job(d).update(RoleArn={"Get": "Parameters.zz"}),
        "'Parameters.zz', which is not there",
    ),
    "a step's property": (
        lambda d: job(d).update(RoleArn={"Get": "Steps.a.RoleArn"}),
        "which is not there",
    ),
    "another function": (
        lambda d: job(d).update(RoleArn={"Std:JsonGet": {}}),
        "uses Std:JsonGet",
    ),
    "no role": (lambda d: job(d).pop("RoleArn"), "no role"),
    "machine": (
        lambda d: job(d)["ProcessingResources"]["ClusterConfig"].update(InstanceType="ml.zz"),
        "runs on 'ml.zz'",
    ),
    "two machines": (
        lambda d: job(d)["ProcessingResources"]["ClusterConfig"].update(InstanceCount=2),
        "not one machine",
    ),
    "shell": (lambda d: application(d).update(ContainerEntrypoint=["/bin/sh"]), "shell"),
    "no command": (lambda d: application(d).update(ContainerEntrypoint=[]), "no command"),
    "no image": (lambda d: application(d).pop("ImageUri"), "no image"),
    "long argument": (
        lambda d: application(d)["ContainerArguments"].append("x" * 257),
        "does not take the argument",
    ),
    "line in an argument": (
        lambda d: application(d)["ContainerArguments"].append("a\nb"),
        "does not take the argument",
    ),
    "many arguments": (
        lambda d: application(d).update(ContainerArguments=["x"] * 101),
        "more than 100 arguments",
    ),
    "variable": (lambda d: job(d)["Environment"].update({"A=B": "x"}), "no name of an environment"),
    "number as variable": (lambda d: job(d)["Environment"].update(A=1), "no text"),
    "long variable": (lambda d: job(d)["Environment"].update(A="x" * 257), "too long"),
    "variable of a number": (
        lambda d: job(d)["Environment"].update(A={"Get": "Parameters.topic"}),
        "may be no text",
    ),
    "many variables": (
        lambda d: job(d)["Environment"].update({f"V{n}": "x" for n in range(100)}),
        "more than 100 variables",
    ),
    "place": (
        lambda d: job(d)["ProcessingInputs"][0]["S3Input"].update(LocalPath="/etc"),
        "to or from '/etc'",
    ),
    "default of another type": (
        lambda d: d["Parameters"][0].update(DefaultValue=1),
        "is no String",
    ),
    "empty default": (lambda d: d["Parameters"][0].update(DefaultValue=""), "does not fit"),
    "empty argument": (
        lambda d: application(d)["ContainerArguments"].append(""),
        "does not take the argument",
    ),
    "long default": (lambda d: d["Parameters"][0].update(DefaultValue="x" * 257), "does not fit"),
    "parameter of unknown type": (lambda d: d["Parameters"][0].update(Type="Text"), "unknown type"),
    "parameter twice": (lambda d: d["Parameters"].append(d["Parameters"][0]), "there twice"),
    "version": (lambda d: d.update(Version="2021"), "Version"),
    "part missing": (lambda d: d.pop("Metadata"), "does not have exactly"),
}  # fmt: skip


def test_a_good_document_has_no_problems() -> None:
    assert TARGET.validate(json.dumps(good())) == []


@pytest.mark.parametrize("name", CHANGES)
def test_a_bad_document_is_found(name: str) -> None:
    change, expected = CHANGES[name]
    spec = good()
    change(spec)
    problems = TARGET.validate(json.dumps(spec))
    assert any(expected in problem for problem in problems), problems


@pytest.mark.parametrize("text", ["{", "[]", '{"Steps": [], "Steps": []}', " " * 1_048_577])
def test_text_that_is_no_document_is_a_problem(text: str) -> None:
    assert TARGET.validate(text) != []


ALL_TYPES = """
    from kitaru import checkpoint, flow

    @checkpoint
    def show(*values: object) -> str:
        return repr(values)

    @flow
    def typed(
        s: str, n: int, x: float, b: bool, j: dict[str, list[int]], *, late: int = 2 + 3,
        text: str = "{{workflow.name}}", big: int = 2**60, opt: str | None = None,
        long: str = "owl" * 100, empty: str = "", none: str = "",
    ) -> str:
        return show(s, n, x, b, j, late, text, big, opt, long, empty, none)
"""


@pytest.fixture
def run(tmp_path: Any) -> Watched:
    return Watched(tmp_path)


def test_inputs_of_every_type_and_length_arrive(make: Make, run: Watched) -> None:
    text = "a 'quote', \"two\",\n$(x) {{y}} ${{z}} é" + "\u2028 =" * 200
    given = {"s": text, "n": -3, "x": 1e-07, "b": True, "j": {"a": list(range(200))}}
    done = run(make(ALL_TYPES, "sagemaker"), **given, none="")
    values = (*given.values(), 5, "{{workflow.name}}", 2**60, None, "owl" * 100, "", "")
    assert done["result"] == repr(values)


def test_a_long_input_travels_through_the_store_and_a_short_one_does_not(
    make: Make, run: Watched
) -> None:
    built = make(REVIEW, "sagemaker")
    run(built, {"approve": True}, topic="o" * 256)
    assert not stored(run)
    run(built, {"approve": True}, topic="o" * 257)
    assert stored(run)


def stored(run: Watched) -> list[str]:
    store = open_store(run.url)
    found = store.list("inputs/")
    store.close()
    return found


def test_an_input_too_long_for_its_parameter_is_refused_before_anything_starts() -> None:
    calls: list[Call] = []
    given = {"topic": "o" * 257}
    with pytest.raises(InputError, match="takes 256 characters"):
        interpret(good(), given, "run", lambda call: calls.append(call))
    assert calls == []


def test_a_bundle_that_was_swapped_is_not_run(make: Make, run: Watched) -> None:
    built = make(REVIEW, "sagemaker")
    text = built.document.read_text()
    digest = built.bundle_digest.removeprefix("sha256:")
    other = ("0" if digest[0] != "0" else "1") + digest[1:]
    store = open_store(run.url)
    store.create(f"bundle/{other}", (built.directory / "bundle.zip").read_bytes())
    store.close()
    built.document.write_text(text.replace(digest, other))
    with pytest.raises(KitaruError, match="is not what was compiled"):
        run(built, topic="owls")


def test_a_document_cannot_hold_the_code(make: Make) -> None:
    with pytest.raises(UsageError, match="cannot hold the code"):
        make(REVIEW, "sagemaker", delivery="inline", image="i")


def test_a_wait_ends_the_run_and_its_answer_goes_on(make: Make, run: Watched) -> None:
    built = make(REVIEW, "sagemaker")
    waiting = run(built, topic="owls")
    assert (waiting["status"], run.steps) == ("waiting", [("draft", "waiting")])
    done = run(built, {"approve": True}, waiting["exec_id"], topic="owls")
    assert (done["result"], run.steps) == ("published: owls owls", [("publish", "end")])


def test_the_deployment_page_names_what_has_to_be_given(make: Make) -> None:
    page = (make(REVIEW, "sagemaker").directory / "DEPLOY.md").read_text()
    for word in ("kitaru_role", "kitaru_image", "kitaru_inputs", "Name=topic,Value=…"):
        assert word in page
    named = make(REVIEW, "sagemaker", image="registry/i:1", store="s3://bucket/p/")
    page = (named.directory / "DEPLOY.md").read_text()
    assert "kitaru_image" not in page
    assert "aws s3 cp bundle.zip s3://bucket/p/bundle/" in page


COUNTING = """
    from kitaru import checkpoint, flow

    @checkpoint
    def add(n: int) -> int:
        return n + 1

    @flow
    def counting(n: int) -> int:
        n = add(n)
        n = add(n)
        if n > 5:
            n = add(n)
        n = add(n)
        return n
"""


def test_what_comes_after_the_last_step_that_fits_runs_in_it(
    make: Make, run: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(TARGET, profile=replace(TARGET.profile, max_steps=3))
    monkeypatch.setattr(registry, "_TARGETS", (small,))
    built = make(COUNTING, "sagemaker")
    assert [step.name for step in built.plan.steps] == ["add", "add_2"]
    done = run(built, n=5)
    assert (done["result"], [step for step, _ in run.steps]) == (9, ["add", "add_2"])
    records = KitaruClient(run.url).executions.get(done["exec_id"]).invocations
    assert [record.id for record in records] == ["add", "add_2", "add_3", "add_4"]


def test_the_first_call_that_does_not_fit_is_named(tmp_path: Any) -> None:
    (tmp_path / "flow.py").write_text(dedent(COUNTING))
    profile = replace(TARGET.profile, max_steps=3)
    (note,) = compile_flow(tmp_path / "flow.py", profile=profile).diagnostics
    assert (note.code, note.span.line) == ("KIT607", 13)
    assert "sagemaker takes 3 steps" in note.message


ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/review/execution/2DRR2511NGO3"
ROLE = "arn:aws:iam::123456789012:role/kitaru"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Stand in for the service: requests have to fit its API model; answers are given."""
    boto3 = pytest.importorskip("boto3")
    stub = pytest.importorskip("botocore.stub")
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    client = boto3.client("sagemaker", region_name="us-east-1", **keys)
    monkeypatch.setattr(boto3.Session, "client", lambda self, name: client)
    with stub.Stubber(client) as stubbed:
        yield stubbed
        stubbed.assert_no_pending_responses()


@pytest.mark.parametrize("there", [True, False])
def test_a_pipeline_is_updated_or_else_created_and_started(
    make: Make, service: Any, there: bool
) -> None:
    built = make(REVIEW, "sagemaker", store="s3://bucket/prefix")
    definition = {"PipelineDefinition": built.document.read_text(), "RoleArn": ROLE}
    pipeline = {
        "PipelineName": "review",
        "ParallelismConfiguration": {"MaxParallelExecutionSteps": 2},
    }
    arn = {"PipelineArn": ARN.partition("/execution")[0]}
    if there:
        service.add_response("update_pipeline", arn, pipeline | definition)
    else:
        service.add_client_error("update_pipeline", "ResourceNotFound")
        tags = {"Tags": [{"Key": "kitaru:flow", "Value": "review"}]}
        service.add_response("create_pipeline", arn, pipeline | definition | tags)
    values = {"kitaru_image": "i", "kitaru_role": ROLE, "topic": "owls", "words": "3"}
    parameters = [{"Name": name, "Value": values[name]} for name in sorted(values)]
    started = pipeline | {"PipelineParameters": parameters}
    service.add_response("start_pipeline_execution", {"PipelineExecutionArn": ARN}, started)
    found = TARGET.submit(
        str(built.document),
        {"topic": "owls", "words": 3, "kitaru_execution": ""},
        {"role": ROLE, "image": "i", "region": "us-east-1", "parallel_steps": "2"},
    )
    assert found.run_id == ARN


def test_a_service_that_refuses_is_an_environment_failure(make: Make, service: Any) -> None:
    service.add_client_error("update_pipeline", "AccessDeniedException", "not yours")
    options = {"role": ROLE, "region": "us-east-1"}
    with pytest.raises(EnvironmentFailure, match="not yours"):
        TARGET.submit(str(make(REVIEW, "sagemaker").document), {"topic": "owls"}, options)


@pytest.mark.parametrize(
    ("options", "store", "expected"),
    [
        ({"role": ROLE, "colour": "red"}, "s3://b/p", "'colour'"),
        ({}, "s3://b/p", "needs a role"),
        ({"role": ROLE}, "gs://b/p", "cannot reach the store"),
    ],
)
def test_what_cannot_be_submitted_is_said(
    options: dict[str, str], store: str, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        TARGET.submit("pipeline.json", {"kitaru_store": store}, options)


def test_a_missing_sdk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(EnvironmentFailure, match="not installed"):
        TARGET.submit("pipeline.json", {}, {"role": ROLE})
