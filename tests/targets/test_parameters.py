"""Inputs, resources, environment and names are written to a document correctly."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kitaru_targets import registry
from kitaru_targets.base import Transport
from kitaru_targets.common import parameters, read, variables
from kitaru_targets.common.node_names import KEY, MAX_KEY, Keys
from kitaru_targets.kfp import document

from kitaru.errors import InputError, UsageError
from kitaru.wire.plan import OWN_DEFAULT, Parameter, ParameterType, Plan, Resources

from .programs import WIRING, Do, plan


def parameter(kind: ParameterType, default: Any = None, *, name: str = "x") -> Parameter:
    has = default is not None
    return Parameter(name, "positional_or_keyword", kind, "", not has, has, default)


def with_parameters(*found: Parameter) -> Plan:
    return plan((Do("a"),), parameters=found)


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        ("str", "{{workflow.name}}"),
        ("json", {"a": "{{x}}"}),
        ("str", "a" * 3_000),
        ("str", "\ud800"),
        ("int", 2**60),
        ("int", True),
        ("float", float("inf")),
        ("float", "1"),
        ("bool", 1),
    ],
)
def test_a_default_that_cannot_stand_in_a_document_is_left_to_the_flow(
    kind: ParameterType, default: Any
) -> None:
    portable = parameters.portable(with_parameters(parameter(kind, default)), Transport())
    assert not portable.parameters[0].has_literal_default
    definition = document.definitions(portable, "")["x"]
    assert (definition["parameterType"], definition["defaultValue"]) == ("STRING", OWN_DEFAULT)


def test_an_empty_text_is_a_text_where_the_default_is_the_flows_own() -> None:
    long = parameters.portable(with_parameters(parameter("str", "a" * 3_000)), Transport())
    assert parameters.values(long, {"x": ""}) == {"x": ""}
    assert parameters.values(long, {}) == {}
    with pytest.raises(InputError, match="stands for the flow's own default"):
        parameters.values(long, {"x": OWN_DEFAULT})


def test_a_plain_default_stays() -> None:
    plain = with_parameters(parameter("str", "owls"), parameter("json", ["a"], name="y"))
    assert parameters.portable(plain, Transport()) == plain
    found = document.definitions(plain, "gs://b/p")
    assert found["x"] == {"parameterType": "STRING", "isOptional": True, "defaultValue": "owls"}
    assert found["y"]["defaultValue"] == '["a"]'
    assert found["kitaru_store"]["defaultValue"] == "gs://b/p"


def test_a_store_that_nobody_named_has_to_be_given() -> None:
    assert "isOptional" not in document.definitions(with_parameters(), "")["kitaru_store"]


@pytest.mark.parametrize("name", ["kitaru_execution", "kitaru_store", "größe"])
def test_an_input_that_cannot_be_a_parameter_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=rf"flow\.py:8: .*{name}"):
        document.definitions(with_parameters(parameter("str", name=name)), "")


@pytest.mark.parametrize(
    ("kind", "value"),
    [("int", True), ("int", 1.0), ("str", 1), ("bool", 1), ("float", "1")],
)
def test_a_value_of_another_type_is_refused(kind: ParameterType, value: Any) -> None:
    with pytest.raises(InputError, match="'x'"):
        parameters.values(with_parameters(parameter(kind)), {"x": value})


def test_text_that_no_command_line_carries_is_refused() -> None:
    for text in ("a\0b", "\udc80"):
        with pytest.raises(InputError, match="cannot be handed to a step"):
            parameters.values(with_parameters(parameter("str")), {"x": text})


def asked(resources: Resources) -> dict[str, Any]:
    spec = read.parse(
        document.emit(
            plan((Do("a", resources=resources),)), WIRING, longest_name=9, longest_key=9
        ).text
    )
    (executor,) = spec["deploymentSpec"]["executors"].values()
    return dict(executor["container"].get("resources", {}))


def test_resources_are_written_as_kfp_2_17_writes_them() -> None:
    assert asked(Resources("2", "4Gi", 1)) == {
        "cpuLimit": 2.0,
        "resourceCpuLimit": "2",
        "memoryLimit": 4.294967296,
        "resourceMemoryLimit": "4Gi",
        "accelerator": {
            "type": "nvidia.com/gpu",
            "count": "1",
            "resourceType": "nvidia.com/gpu",
            "resourceCount": "1",
        },
    }
    assert asked(Resources(cpu="500m"))["cpuLimit"] == 0.5
    assert asked(Resources()) == {}


@pytest.mark.parametrize(
    ("options", "expected"), [({}, "NVIDIA_TESLA_T4"), ({"accelerator": "NVIDIA_L4"}, "NVIDIA_L4")]
)
def test_vertex_names_its_own_accelerators(options: dict[str, str], expected: str) -> None:
    made = plan((Do("a", resources=Resources(gpu=2)),), options=options)
    spec = read.parse(registry.get("vertex").emit(made, WIRING).text)
    (executor,) = spec["deploymentSpec"]["executors"].values()
    gpu = executor["container"]["resources"]["accelerator"]
    assert gpu == {
        "type": expected, "count": "2", "resourceType": expected, "resourceCount": "2"
    }  # fmt: skip
    with pytest.raises(UsageError, match="accelerator cannot be 'nvidia"):
        registry.get("vertex").emit(made.replace(options={"accelerator": "nvidia-l4"}), WIRING)


@pytest.mark.parametrize("bad", [Resources(cpu="two"), Resources(memory="4 GB")])
def test_resources_that_mean_nothing_are_refused(bad: Resources) -> None:
    with pytest.raises(UsageError):
        asked(bad)


@pytest.mark.parametrize("name", ["A=B", "A\nB", "", "1A", "LD_PRELOAD", "PYTHONPATH", "PATH"])
def test_a_variable_that_changes_what_runs_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="nvironment variable"):
        variables.environment({name: "x"})


def test_every_step_hashes_alike() -> None:
    made = variables.environment({"B": "2", "A": "1"})
    assert list(made.items()) == [("A", "1"), ("B", "2"), ("PYTHONHASHSEED", "0")]


@given(st.lists(st.one_of(st.text(max_size=200), st.sampled_from(["a", "A", "a_", "a-driver"]))))
def test_every_text_becomes_a_key_of_its_own(texts: list[str]) -> None:
    keys = Keys()
    made = [keys.take(text, fallback="step") for text in texts]
    assert len(set(made)) == len(made)
    for key in made:
        assert KEY.fullmatch(key) and len(key) <= MAX_KEY and not key.endswith("-driver")


@pytest.mark.parametrize("number", [2**53, 2**53 + 1, -(2**60), 10**4_000])
def test_an_integer_that_a_double_may_round_goes_through_the_store(number: int) -> None:
    for one, left in ((parameter("int"), {"x": 0}), (parameter("int", 3), {})):
        carried = parameters.carried(with_parameters(one), {"x": number}, Transport())
        assert (carried.given, carried.stored) == (left, {"x": str(number)})
    exact = parameters.carried(with_parameters(parameter("int")), {"x": 2**53 - 1}, Transport())
    assert (exact.given, exact.stored) == ({"x": 2**53 - 1}, {})


def test_texts_that_are_too_long_alone_or_together_go_through_the_store() -> None:
    made = with_parameters(*(parameter("str", name=name) for name in "abcd"))
    transport = Transport(longest_input=1_000, longest_together=1_500, takes_empty=False)
    inputs = {"a": "x" * 1_001, "b": "y" * 900, "c": "z" * 800, "d": ""}
    carried = parameters.carried(made, inputs, transport)
    assert set(carried.stored) == {"a", "b", "d"}
    assert carried.given == {**dict.fromkeys("abd", OWN_DEFAULT), "c": inputs["c"]}


@pytest.mark.parametrize("number", [2**53 + 1, -(2**60)])
def test_an_integer_of_any_size_travels_as_text_where_the_parameter_is_one(number: int) -> None:
    own = Parameter("x", "positional_or_keyword", "int", "int", False, False, None)
    assert parameters.values(with_parameters(own), {"x": number}) == {"x": str(number)}
    of_json = with_parameters(parameter("json"))
    assert parameters.values(of_json, {"x": [number]}) == {"x": f"[{number}]"}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 10**400])
def test_a_number_that_is_not_finite_is_refused_by_name(number: float) -> None:
    with pytest.raises(InputError, match=r"input 'x' .* not finite"):
        parameters.values(with_parameters(parameter("float")), {"x": number})
    if isinstance(number, float):
        with pytest.raises(InputError, match=r"input 'x' .* not finite"):
            parameters.values(with_parameters(parameter("json")), {"x": {"a": [number]}})
