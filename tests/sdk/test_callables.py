"""What may be a checkpoint, and which keywords of a call reach its function."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import UsageError


def base(a: int, b: int = 1) -> int:
    return a + b


def passing(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Adder:
    def __call__(self, a: int) -> int:
        return a + 1

    def method(self, a: int) -> int:
        return a + 2


@checkpoint
def done(value: int) -> int:
    return value


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (functools.partial(base, 1), "partial"),
        (functools.partial(functools.partial(base, 1), 2), "partial"),
        (functools.lru_cache(base), "lru_cache_wrapper"),
        (functools.partialmethod(base, 1), "partialmethod"),
        (len, "builtin_function_or_method"),
        ([].append, "builtin_function_or_method"),
        (Adder(), "Adder"),
        (Adder, "class"),
        (staticmethod(base), "staticmethod"),
        (classmethod(base), "classmethod"),
        (done, "checkpoint"),
    ],
)
def test_a_callable_without_code_of_its_own_is_refused_at_once(made: Any, kind: str) -> None:
    for decorate in (checkpoint, checkpoint(name="made")):
        with pytest.raises(UsageError, match=f"not this .*{kind}") as caught:
            decorate(made)
        assert caught.value.help


bound = checkpoint(name="bound")(Adder().method)
lambdas = checkpoint(name="lambdas")(lambda a: a + 3)
wrapped = checkpoint(passing(base))


@flow
def callables(x: int) -> list[int]:
    return [bound(x), lambdas(x), wrapped(x, id="named")]


def test_functions_made_in_other_ways_are_checkpoints() -> None:
    handle = callables.run(1)
    assert handle.wait(60) == [3, 4, 2]
    ids = [one.id for one in KitaruClient().executions.get(handle.exec_id).invocations]
    assert ids == ["bound", "lambdas", "named"]


@checkpoint
def any_keyword(path: str, **params: object) -> list[object]:
    return [path, *sorted(params.items())]


@checkpoint
@passing
def any_wrapped(**params: object) -> list[object]:
    return sorted(params.items())


@checkpoint
@passing
def own_id(id: int, after: str = "") -> list[object]:
    return [id, after]


@flow
def keywords(user: int) -> list[Any]:
    return [
        any_keyword("/user", id=user, full=True),
        any_keyword("/user", id=user, after="x"),
        any_keyword.submit("/user", id="same").result(),
        *any_keyword.map(["/a", "/b"], id="same").result(),
        any_wrapped(id=user),
        own_id(id=user, after="x"),
    ]


def test_any_keyword_of_a_function_that_takes_any_is_its_own() -> None:
    handle = keywords.run(42)
    assert handle.wait(60) == [
        ["/user", ("full", True), ("id", 42)],
        ["/user", ("after", "x"), ("id", 42)],
        ["/user", ("id", "same")],
        ["/a", ("id", "same")],
        ["/b", ("id", "same")],
        [("id", 42)],
        [42, "x"],
    ]
    ids = [one.id for one in KitaruClient().executions.get(handle.exec_id).invocations]
    assert ids[:3] == ["any_keyword", "any_keyword_2", "any_keyword_3"]
