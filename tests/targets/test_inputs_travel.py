"""Inputs of every type, on every path: what plain Python is given is what a step is given.

Values are generated for a flow that takes one input of each type. Each travels as the command line
reads it, as `kitaru invoke` and a dry run carry it, and as the target's own document hands it to
the process of the first step, whose arguments are read here instead of being run. Numbers are made
doubles on the way, as engines make them.

    KITARU_EXAMPLES=2000 .venv/bin/pytest tests/targets/test_inputs_travel.py
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kitaru_compiler import compile_flow
from kitaru_targets import build, registry
from kitaru_targets.base import Target
from kitaru_targets.common import parameters
from kitaru_targets.upload import carry, upload
from pydantic import TypeAdapter

from kitaru.cli.values import parse_inputs
from kitaru.errors import InputError
from kitaru.runtime import __main__ as runtime
from kitaru.runtime.engine.inputs import bind_json
from kitaru.runtime.schema.annotations import hints_of
from kitaru.runtime.steps.program import inputs_of
from kitaru.stores import Store, open_store
from kitaru.wire.importing import import_path
from kitaru.wire.plan import Plan

TARGETS = (
    *("kubeflow", "vertex", "airflow", "sagemaker", "azureml", "stepfunctions", "kubernetes"),
    *("argo", "local"),
)
# What Linux takes as one argument or variable.
MOST = 128 * 1024
EXAMPLES = int(os.environ.get("KITARU_EXAMPLES", "5"))
SOURCE = """
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

from pydantic import BaseModel, Field
from kitaru import flow

START = 3


class Level(Enum):
    LOW = "low"
    HIGH = "high"


@dataclass
class Point:
    x: int
    label: str | None = None


class Order(BaseModel):
    ids: list[int]
    level: Level
    due: date | None = None
    at: Point | None = None


@flow
def main(
    number: int, text: str, share: float, on: bool,
    ids: list[int], table: dict[str, float], maybe: Optional[int], word: str | None,
    level: Level, either: Literal["a", 1, Level.LOW], day: date, moment: datetime,
    clock: time, took: timedelta, key: UUID, price: Decimal, where: Path, pair: tuple[int, str],
    point: Point, order: Order, orders: list[Order], count: Annotated[int, Field(ge=0)],
    group: set[int], some: int | str, named: dict[Level, list[date]], deep: list[dict[str, Any]],
    anything: Any, free,
    number_set: int = 7, text_set: str = "set", share_set: float = 0.5, on_set: bool = True,
    ids_set: list[int] = [1], number_own: int = START, text_own: str = f"{START}", late: str = "",
):
    return number
"""
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
INTS = st.one_of(
    st.integers(),
    st.sampled_from([0, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63, 2**64 + 1, 10**300]),
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
LONG = st.sampled_from(["", "a" * 2_001, "é" * 70_000, "\\n'\"${{x}}" * 300, "{" * 140_000])
TEXT = TEXTS | LONG | st.sampled_from(["007", "1e3", "true", "null", "kitaru", "%41", "{{x}}", " "])
JSON = st.recursive(
    st.none() | st.booleans() | INTS | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def inputs(module: ModuleType) -> st.SearchStrategy[dict[str, Any]]:
    """Values for each input without a default, and for some of the others."""
    found = strategies(module)
    defaults = {name for name in found if name.endswith(("_set", "_own")) or name == "late"}
    return st.fixed_dictionaries(
        {name: one for name, one in found.items() if name not in defaults},
        optional={name: one for name, one in found.items() if name in defaults},
    )


def strategies(module: ModuleType) -> dict[str, st.SearchStrategy[Any]]:
    point = st.builds(module.Point, INTS, st.none() | TEXTS)
    levels = st.sampled_from(module.Level)
    order = st.builds(
        module.Order,
        ids=st.lists(INTS, max_size=3), level=levels, due=st.none() | st.dates(),
        at=st.none() | point,
    )  # fmt: skip
    return {
        "number": INTS, "text": TEXT, "share": FLOATS, "on": st.booleans(),
        "ids": st.lists(INTS, max_size=4), "table": st.dictionaries(TEXTS, FLOATS, max_size=3),
        "maybe": st.none() | INTS, "word": st.none() | TEXT,
        "level": levels, "either": st.sampled_from(["a", 1, module.Level.LOW]), "day": st.dates(),
        "moment": st.datetimes().map(lambda m: m.replace(fold=0)),
        "clock": st.times().map(lambda m: m.replace(fold=0)),
        "took": st.timedeltas(), "key": st.uuids(),
        "price": st.decimals(allow_nan=False, allow_infinity=False), "where": st.just(Path("/a b")),
        "pair": st.tuples(INTS, TEXTS), "point": point, "order": order,
        "orders": st.lists(order, max_size=2) | st.builds(lambda o: [o] * 500, order),
        "group": st.frozensets(INTS, max_size=1).map(set), "some": INTS | TEXTS,
        "named": st.dictionaries(levels, st.lists(st.dates(), max_size=2)),
        "deep": st.lists(st.dictionaries(TEXTS, JSON, max_size=2), max_size=2),
        "count": INTS.map(abs), "anything": JSON, "free": JSON,
        "number_set": INTS, "text_set": TEXT, "share_set": FLOATS, "on_set": st.booleans(),
        "ids_set": st.lists(INTS, max_size=4), "number_own": INTS, "text_own": TEXT, "late": TEXT,
    }  # fmt: skip


class Stopped(Exception):
    """The first step was about to start."""


@dataclass
class Machine:
    """Reads what the first step is started with, and starts nothing."""

    folder: Path
    words: list[str]
    environment: Mapping[str, str]
    further: Mapping[str, str]

    def answered(self) -> bool:
        return False

    def run(self, start: Any) -> Any:
        words = start.command(self.folder)
        self.words = shlex.split(words[2]) if words[0] == "bash" else words
        self.environment = start.environment
        raise Stopped


@dataclass
class Prepared:
    build: build.Build
    document: str


@pytest.fixture(scope="module")
def flow_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("project") / "all_inputs.py"
    path.write_text(SOURCE, "utf-8")
    return path


@pytest.fixture(scope="module")
def module(flow_file: Path) -> ModuleType:
    return import_path(flow_file, "all_inputs")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = open_store(f"sqlite:{tmp_path_factory.mktemp('store') / 'k.db'}")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def prepared(
    flow_file: Path, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Prepared]:
    found = {}
    for name in TARGETS:
        target: Target = registry.get(name)
        compilation = compile_flow(flow_file, "main", profile=target.profile)
        made = build.write(compilation, target, tmp_path_factory.mktemp(name), store=store.url)
        upload(made, store)
        found[name] = Prepared(made, made.document.read_text("utf-8"))
    return found


def arrived(
    one: Prepared, inputs: Mapping[str, Any], store: Store, folder: Path, flow: Any
) -> dict[str, Any]:
    """Return what the first step's process calls the flow with."""
    given = carry(one.build, inputs, store)
    # An engine's numbers are doubles.
    given = {
        name: int(float(value)) if type(value) is int else value for name, value in given.items()
    }
    further = {name: one.build.read(name).decode() for name in one.build.target.further}
    machine = Machine(folder, [], {}, further)
    with pytest.raises(Stopped):
        one.build.target.execute(
            one.document,
            given | {parameters.STORE: store.url, parameters.EXECUTION: "x"},
            "run-1",
            machine,  # type: ignore[arg-type]
        )
    variables = [f"{name}={value}" for name, value in machine.environment.items()]
    assert all(len(text.encode()) < MOST for text in (*machine.words, *variables))
    options = machine.words[machine.words.index("step") + 1 :]
    request = runtime._request(
        runtime._parser().parse_args(["step", "--plan", "plan.json", *options])
    )
    plan = one.build.plan
    with patch.dict(os.environ, machine.environment):
        return dict(inputs_of(plan, flow, request.given.read(plan, store)).arguments)


def as_written(values: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON that somebody writes for typed values."""
    return {
        name: TypeAdapter(hints.get(name, Any)).dump_python(value, mode="json")
        for name, value in values.items()
    }


def as_typed(written: Mapping[str, Any], texts: set[str]) -> list[str]:
    return [
        f"{name}={json.dumps(value, ensure_ascii=False) if name not in texts else value}"
        for name, value in written.items()
    ]


def same(a: Any, b: Any) -> bool:
    return bool(a == b) and repr(a) == repr(b)


@settings(
    max_examples=EXAMPLES,
    # A failure names the input; to make all the others smaller takes minutes.
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_every_input_arrives_as_plain_python_has_it(
    data: st.DataObject,
    module: ModuleType,
    store: Store,
    prepared: dict[str, Prepared],
    tmp_path_factory: pytest.TempPathFactory,
    inputs: st.SearchStrategy[dict[str, Any]],
) -> None:
    values = data.draw(inputs)
    function = module.main.function
    written = as_written(values, hints_of(function))
    expected = {**dict(bind_json("main", function, written).arguments)}
    for name, value in values.items():
        assert same(expected[name], value), name
    plan = prepared["vertex"].build.plan
    texts = {p.name for p in plan.parameters if p.type == "str"}
    typed = parse_inputs(as_typed(written, texts), None, texts=texts)
    assert same(typed, written)
    file = tmp_path_factory.mktemp("inputs") / "inputs.json"
    file.write_text(json.dumps(written, ensure_ascii=False), "utf-8")
    assert same(parse_inputs([], str(file), texts=texts), written)
    for name, one in prepared.items():
        found = arrived(one, written, store, file.parent, module.main)
        for key, value in expected.items():
            assert same(found[key], value), (name, key)


@pytest.mark.parametrize("text", ["9007199254740993", "9.007199254740992e+15", "-9007199254740992"])
def test_an_integer_that_an_engine_may_have_rounded_is_refused(
    text: str, module: ModuleType, prepared: dict[str, Prepared], store: Store
) -> None:
    from kitaru.runtime.steps.inputs import InputSource

    plan = prepared["kubeflow"].build.plan
    for name in ("number", "number_set"):
        with pytest.raises(InputError, match=f"input '{name}' .* another integer"):
            InputSource({name: text}).read(plan, store)
    assert InputSource({"number_own": text}).read(plan, store) == {"number_own": text}


def test_a_pipeline_from_before_that_cannot_read_the_store_is_refused(
    prepared: dict[str, Prepared], store: Store, tmp_path: Path
) -> None:
    made = prepared["vertex"].build
    older = tmp_path / "pipeline.yaml"
    older.write_text(
        prepared["vertex"].document.replace(parameters.INPUTS, "x").replace("--inputs-key", "x")
    )
    names = [p.name for p in made.plan.parameters if p.required]
    simple = {n: p for n, p in as_simple(made.plan).items() if n in names}
    built = replace(made, document=older)
    assert parameters.INPUTS not in carry(built, simple, store)
    with pytest.raises(InputError, match=r"'number' .* no kitaru_inputs"):
        carry(built, simple | {"number": 2**60}, store)


def as_simple(plan: Plan) -> dict[str, Any]:
    """Return some short value for each input that fits its annotation as far as that is read."""
    kinds = {"str": "a", "int": 1, "float": 0.5, "bool": True}
    own: dict[str, Any] = {
        "ids": [], "table": {}, "group": [], "named": {}, "deep": [], "orders": [], "either": "a",
        "maybe": None, "word": None,
    }  # fmt: skip
    return {p.name: own.get(p.name, kinds.get(p.type, 1)) for p in plan.parameters}
