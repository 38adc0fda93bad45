"""A SageMaker definition runs every path of a flow, within the service's limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kitaru_compiler import compile_flow
from kitaru_compiler.diagnostics.model import SourceError
from kitaru_targets import registry
from kitaru_targets.base import ContainerSpec
from kitaru_targets.sagemaker.dry_run import Call, interpret

from kitaru.client import KitaruClient
from kitaru.errors import InputError, KitaruError, UsageError
from kitaru.runtime.engine.promised_calls import NOTHING
from kitaru.stores import open_store
from kitaru.wire.plan import Parameter, Plan, Resources, StepItem

from .conftest import REVIEW, Make
from .programs import Do, If, Path, Played, Program, fans, paths, plan
from .test_dry_run import Watched
from .test_tree import NAMES, build, programs

TARGET = registry.get("sagemaker")
WIRING = ContainerSpec(
    "", ("python3", "-c", "pass"), ("/bundle", "step"), "s3://b/p", {}, bundle="bundle/x"
)


@cache
def document(program: Program) -> dict[str, Any]:
    text = TARGET.emit(plan(program), WIRING).text
    assert TARGET.validate(text) == []
    found: dict[str, Any] = json.loads(text)
    return found


def play(program: Program, path: Path, together: frozenset[str] = frozenset()) -> list[str]:
    """Play a path against the document; return the steps that started for nothing."""
    played = Played(path, together, producers(program))
    interpret(document(program), {}, "run-1", lambda call: start(played, call))
    assert played.ran == played.own, (path, together)
    return played.idle


def producers(program: Program) -> dict[str, str]:
    """Return, by the step that gathers calls, the one that submits them."""
    return {name: producer for name, (_, producer) in fans(plan(program).layout).items()}


def start(played: Played, call: Call) -> Mapping[str, str]:
    """Return what a step, or a node of a fan-out, says when the document starts it now."""
    options = list(pairwise(call.command))
    for item in (text for name, text in options if name == "--item"):
        gatherer = call.step.removeprefix("each_")
        return played.make(gatherer, item) if item != NOTHING else {}
    said = played.start(call.step)
    lists = [text.split("=") for name, text in options if name == "--list"]
    empty = json.dumps([NOTHING])
    return {
        **said,
        **{n: said["Output"] if said["next"] == s and said["Output"] != "[]" else empty
           for n, s in lists},
    }  # fmt: skip


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


def test_the_early_return_that_saves_the_most_steps_is_a_condition() -> None:
    for path, started in idle(Do("a", "maybe"), Do("b", "maybe"), Do("c"), Do("d")).items():
        assert started == {"a": ["b"]}.get(path[-1][0], []), path


def test_a_branch_at_the_end_starts_the_arm_that_was_taken() -> None:
    for path, started in idle(Do("a"), If(((Do("b"), Do("c")), (Do("d"),)))).items():
        assert started == [], path


def test_a_step_behind_a_branch_is_in_the_condition_of_every_arm() -> None:
    program = (Do("a"), If(((Do("b"),), (Do("c"),))), Do("d"))
    first, *conditions = document(program)["Steps"]
    assert first["Name"] == "a"
    arms = [[step["Name"] for step in one["Arguments"]["IfSteps"]] for one in conditions]
    assert arms == [["b", "d"], ["c", "d-2"], ["d-3"]]
    for path, started in idle(*program).items():
        assert started == [], path


def test_a_process_that_does_the_work_of_an_arm_continues_behind_it() -> None:
    program = (Do("a"), If(((Do("b"), Do("c")), (Do("d"),))), Do("e"))
    path: Path = (("a", "go"), ("b", "go"), ("c", "go"), ("e", "end"))
    assert play(program, path, frozenset("b")) == ["b"]
    assert play(program, path, frozenset("bc")) == []


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


def wired(**changes: Any) -> ContainerSpec:
    values = {name: getattr(WIRING, name) for name in ContainerSpec.__dataclass_fields__}
    return ContainerSpec(**{**values, **changes})


LIMITS: dict[str, tuple[Program, tuple[Parameter, ...], ContainerSpec, str]] = {
    "memory": ((Do("a", resources=Resources(memory="4Ti")),), (), WIRING, "no machine .*4Ti"),
    "inputs": ((Do("a"),), inputs(200), WIRING, "takes 200 pipeline parameters, and here are 205"),
    "variables": ((Do("a"),), inputs(100), WIRING, "takes 100 variables .* here are 101"),
    "value": ((Do("a"),), (), wired(environment={"A": "x" * 257}), "the value of A has 257"),
    "name": ((Do("a"),), (), wired(environment={"A" * 257: "x"}), "a variable's name has 257"),
    "image": ((Do("a"),), (), wired(image="x" * 256), "the image's name has 256"),
    "store": ((Do("a"),), (), wired(store="s3://" + "x" * 252), "the store's URL has 257"),
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
        steps=tuple(
            replace(step, name=n, entry=n, blocks=(n,), exits=(after,))
            for n, after in zip(names, [*names[1:], None], strict=True)
        ),
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
    asked = Parameter("topic", "positional_or_keyword", "str", "str", True, False)
    made = json.loads(TARGET.emit(plan((Do("a"),), parameters=(asked,)), WIRING).text)
    with pytest.raises(InputError, match="accepts 256 characters"):
        interpret(made, {"topic": "o" * 257}, "run", lambda call: calls.append(call))
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
    with pytest.raises(KitaruError, match="changed after it was compiled"):
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
    monkeypatch.setattr(registry, "get", lambda name: small)
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
