"""A frame is one graph: variables share what they shared, module objects stay themselves."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kitaru.errors import FlowError, RecordCorrupt, ValueNotEncodable
from kitaru.runtime.codec import (
    Modules,
    decode_frame,
    digest_arguments,
    encode_frame,
    set_future_factory,
    shares_mutable,
)
from kitaru.runtime.engine.futures import Future
from kitaru.wire import canonical

MISSING = object()
REGISTRY: dict[str, Any] = {"a": 1, "deep": [1]}


@dataclass
class Item:
    held: Any


def helper() -> None:
    """Stand for a function of the flow's module."""


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held


class Tool:
    """Stand for a decorated function, which carries the name of what it wraps."""

    def __init__(self, function: Any) -> None:
        self.__module__, self.__qualname__ = function.__module__, "wrapped"


wrapped = Tool(helper)


HERE = {__name__: globals()}


def again(variables: dict[str, Any], modules: Modules = HERE) -> Any:
    return decode_frame(json.loads(canonical.dumps(encode_frame(variables, modules))), modules)


def test_variables_share() -> None:
    shared = [1]
    found = again({"a": shared, "b": {"x": shared}, "c": (shared,)})
    assert found["a"] is found["b"]["x"] is found["c"][0]


def test_plain_frames_stay_readable() -> None:
    assert encode_frame({"b": 1, "a": {"x": "y"}}, HERE) == {"a": {"x": "y"}, "b": 1}
    assert list(again({"d": {"b": 1, "a": 2}})["d"]) == ["b", "a"]


def test_module_objects_keep_their_identity() -> None:
    found = again({"m": MISSING, "r": [REGISTRY], "f": helper, "c": Item, "t": {"k": wrapped}})
    assert found["m"] is MISSING and found["r"][0] is REGISTRY
    assert found["f"] is helper and found["c"] is Item and found["t"]["k"] is wrapped


def test_a_wrapper_of_another_module_goes_by_its_name() -> None:
    found = again({"tools": {"a": wrapped}}, {})
    assert found["tools"]["a"] is wrapped


def test_the_other_process_has_its_own_global() -> None:
    document = encode_frame({"r": REGISTRY, "deep": REGISTRY["deep"]}, HERE)
    other = {"REGISTRY": {"other": 1, "deep": []}}
    found = decode_frame(document, {__name__: other})
    assert found["r"] is other["REGISTRY"] and found["deep"] is other["REGISTRY"]["deep"]
    for gone in ({__name__: {}}, {__name__: {"REGISTRY": {}}}):
        with pytest.raises(FlowError, match="REGISTRY"):
            decode_frame(document, gone)


def test_a_module_that_the_other_process_has_not_imported_yet_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lazily_imported.py").write_text("def go(x): return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    lazy = importlib.import_module("lazily_imported")
    document = encode_frame({"go": lazy.go}, {"lazily_imported": vars(lazy)})
    del sys.modules["lazily_imported"]
    assert decode_frame(document, {})["go"] is sys.modules["lazily_imported"].go


def test_path_begins_with_the_variable() -> None:
    with pytest.raises(ValueNotEncodable) as caught:
        encode_frame({"fine": 1, "box": [Item(object())]}, HERE)
    assert caught.value.path == "box[0].held"
    assert caught.value.message.startswith("box[0].held is a builtins.object")


def test_futures_come_from_the_factory() -> None:
    execution: Any = None
    future: Future[int] = Future(execution, "draft_2")
    document = encode_frame({"a": [future], "b": future}, HERE)
    token = set_future_factory(lambda id: Future(execution, id))
    try:
        found = decode_frame(document, HERE)
    finally:
        token.var.reset(token)
    assert found["a"][0] is found["b"] and found["b"].id == "draft_2"


def test_a_future_carries_the_value_the_body_holds() -> None:
    execution: Any = None
    asked: Future[Any] = Future(execution, "draft")
    value = [1]
    asked.set_frame_state([value])
    document = encode_frame({"f": asked, "v": value}, HERE)
    token = set_future_factory(lambda id: Future(execution, id, settled=True))
    try:
        found = decode_frame(document, HERE)
    finally:
        token.var.reset(token)
    assert found["f"].result() is found["v"] == [1]


def test_a_future_without_a_factory_is_told() -> None:
    execution: Any = None
    future: Future[int] = Future(execution, "draft")
    document = encode_frame({"f": future}, HERE)
    with pytest.raises(RecordCorrupt, match="future"):
        decode_frame(document, HERE)


def digest(*args: Any, **kwargs: Any) -> str:
    return digest_arguments(args, kwargs).digest


def test_digest_is_by_value() -> None:
    shared = [1]
    pair = (1, 2)
    assert digest(shared, shared) == digest([1], [1])
    assert digest((pair, pair)) == digest(((1, 2), (1, 2)))
    assert digest({"x", "y", "z"}, (1,)) == digest({"z", "y", "x"}, (1,))
    assert digest(a=1, b=2) == digest(b=2, a=1)
    assert digest(Item([1])) == digest(Item([1]))


def test_digest_tells_apart() -> None:
    values: list[Any] = [
        1, True, 1.0, "1", None, [1], (1,), {1}, frozenset([1]), {"a": 1}, {1: "a"}, b"1",
        bytearray(b"1"), [[1]], [], (), {}, "", Item(1), Item((1,)), {"a": 1, "b": 2},
        {"b": 2, "a": 1}, 0.0, -0.0, helper, Item, [1, 2], [2, 1], ((1,), 2), (1, (2,)),
    ]  # fmt: skip
    digests = [digest(value) for value in values]
    assert len(set(digests)) == len(values)
    assert digest(1, 2) != digest([1, 2]) and digest(1) != digest(x=1)


def test_digest_of_a_value_that_repeats_itself() -> None:
    value: Any = [1]
    for _ in range(100):
        value = [value, value]
    assert digest(value) == digest(value)
    cycle: list[Any] = [1]
    cycle.append(cycle)
    assert digest(cycle) != digest([1, [1]])


def test_opaque_parts_count_by_class_and_are_named() -> None:
    found = digest_arguments((1, [object()]), {"client": object()})
    assert set(found.opaque) == {"args[1][0]", 'kwargs["client"]'} and found.has_opaque
    assert found.digest == digest(1, [object()], client=object())
    assert not digest_arguments(([1],), {}).has_opaque


def test_shared_mutables() -> None:
    inner = [1]
    assert shares_mutable({"a": inner}, ([inner],))
    assert shares_mutable([Item(inner)], {"x": (inner,)})
    assert not shares_mutable([1], [[1]])
    assert not shares_mutable("text", ["text"])
    both = ((1, 2), "x")
    assert not shares_mutable([both], [both])
    assert shares_mutable(Slotted(inner), [inner])
