"""The signatures that the compiler reads in Kitaru's source are those that Python has."""

from __future__ import annotations

import importlib
import inspect
import typing
from typing import Any

import pytest
from kitaru_compiler.frontend.api import UNKNOWN, Api, Callable_, Class, Instance

import kitaru
from kitaru.checkpoints import Checkpoint, CheckpointOptions
from kitaru.flows import Flow, FlowOptions

KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: "positional_only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional_or_keyword",
    inspect.Parameter.KEYWORD_ONLY: "keyword_only",
}
API = Api()
MODULES = (
    "", "memory", "errors", "model_calls", "config", "flows", "checkpoints", "primitives", "client",
)  # fmt: skip
# Objects that a user holds, by the dotted name of their class.
CLASSES = (
    "flows.Flow",
    "local_flow.Runner",
    "handle.Handle",
    "checkpoints.Checkpoint",
    "runtime.engine.futures.Future",
    "runtime.engine.futures.Futures",
    "client.KitaruClient",
    "client.Executions",
    "memory.Memories",
    "runtime.executions.deployments.Deployments",
)


def expected(function: Any, *, bound: bool) -> list[tuple[str, str, bool]]:
    """Return the parameters of a callable as Python sees them: name, kind, required."""
    parameters = [*inspect.signature(function).parameters.values()][bound:]
    found = [(p.name, KINDS[p.kind], p.default is p.empty) for p in parameters if p.kind in KINDS]
    for parameter in parameters:
        if parameter.kind is not parameter.VAR_KEYWORD:
            continue
        scope = vars(importlib.import_module(function.__module__))
        options = typing.get_args(eval(str(parameter.annotation), scope))
        if options and typing.is_typeddict(options[0]):
            found += [(name, "keyword_only", False) for name in options[0].__annotations__]
    return found


def read(member: Any) -> list[tuple[str, str, bool]]:
    signature = API.signature(member)
    assert signature is not None
    return [(a.name, a.kind, a.required) for a in signature.arguments]


def public_functions(module: Any) -> dict[str, Any]:
    """Return the public functions of a module; bound methods are functions to the reader, too."""
    return {
        name: value
        for name in dir(module)
        if not name.startswith("_")
        and (inspect.isfunction(value := getattr(module, name)) or inspect.ismethod(value))
        and value.__module__.startswith("kitaru")
    }


@pytest.mark.parametrize("name", MODULES)
def test_functions_of_modules(name: str) -> None:
    module = importlib.import_module(f"kitaru.{name}".rstrip("."))
    functions = public_functions(module)
    for each, function in functions.items():
        dotted = f"{name}.{each}".lstrip(".")
        member = Api().attribute(_module(name), each)
        assert isinstance(member, Callable_), dotted
        assert read(member) == expected(function, bound=False), dotted


def _module(name: str) -> Any:
    from kitaru_compiler.frontend.api import Module

    return Module(f"kitaru.{name}".rstrip("."))


@pytest.mark.parametrize("name", CLASSES)
def test_methods_of_classes(name: str) -> None:
    module, _, cls_name = name.rpartition(".")
    cls = getattr(importlib.import_module(f"kitaru.{module}"), cls_name)
    instance = Instance(Class(f"kitaru.{module}", cls_name))
    for each, value in inspect.getmembers(cls, inspect.isfunction):
        if each.startswith("_"):
            continue
        member = API.attribute(instance, each)
        assert isinstance(member, Callable_), each
        bound = not isinstance(inspect.getattr_static(cls, each), staticmethod)
        assert read(member) == expected(value, bound=bound), f"{name}.{each}"
    assert API.attribute(instance, "no_such_attribute") is None


def test_every_public_name_is_known_and_no_other() -> None:
    for name in kitaru.__all__:
        assert API.member(name) is not None, name
    assert API.member("KitaruClient.executions") is not None
    for name in ("nothing", "memory.nothing", "errors.Nothing", "runtime.engine.nothing"):
        assert API.member(name) is None, name
    assert API.attribute(UNKNOWN, "anything") is UNKNOWN


def test_what_a_call_gives_is_followed() -> None:
    client = API.result(API.member("KitaruClient"))  # type: ignore[arg-type]
    executions = API.attribute(client, "executions")
    assert executions == Instance(Class("kitaru.client", "Executions"))
    resume = API.attribute(executions, "resume")  # type: ignore[arg-type]
    assert API.result(resume) == Instance(Class("kitaru.handle", "Handle"))  # type: ignore[arg-type]


@pytest.mark.parametrize(("cls", "options"), [(Checkpoint, CheckpointOptions), (Flow, FlowOptions)])
def test_the_options_of_a_decorator_are_those_that_editors_complete(cls: Any, options: Any) -> None:
    taken = [*inspect.signature(cls).parameters][1:]
    assert sorted(taken) == sorted(options.__annotations__)
