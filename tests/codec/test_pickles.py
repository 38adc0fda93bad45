"""What has no exact form is pickled where that is allowed, loaded where that is, and never else."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from kitaru.errors import FlowError, PickleRefused, ValueNotEncodable
from kitaru.runtime.codec import (
    always,
    came_pickled,
    decode,
    decode_frame,
    encode,
    encode_frame,
)
from kitaru.wire import canonical, redaction

LOADED: list[str] = []
REGISTRY: list[int] = [1]


class Model:
    """Defines how it is copied, so that only a pickle can record it."""

    def __init__(self, *held: Any) -> None:
        self.held = held

    def __reduce__(self) -> Any:
        return _rebuilt, self.held


def _rebuilt(*held: Any) -> Model:
    LOADED.append("loaded")
    return Model(*held)


class Slotted:
    __slots__ = ("held",)

    def __reduce__(self) -> Any:
        return Slotted, ()


class OneWay:
    """Can be pickled, and its pickle cannot be loaded."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def again(value: Any) -> Any:
    return decode(json.loads(canonical.dumps(encode(value, may_pickle=always))), unpickle=True)


def test_only_what_has_no_exact_form_is_pickled() -> None:
    document = encode({"model": Model(1), "rows": (1, 2)}, may_pickle=always)
    assert [node[0] for node in document["nodes"]] == ["dict", "pickled", "tuple"]
    assert "pickle" not in encode((1, 2), may_pickle=always)
    back = again({"model": Model(1), "rows": (1, 2)})
    assert (type(back["model"]), back["model"].held, back["rows"]) == (Model, (1,), (1, 2))


def test_what_is_pickled_together_shares_what_it_shared() -> None:
    shared = Model("shared")
    first, second, third = again([Model(shared), Model(shared), shared])
    assert first.held[0] is second.held[0] is third


def test_a_pickle_is_loaded_only_where_that_is_allowed() -> None:
    document = encode([Model(1)], may_pickle=always)
    LOADED.clear()
    with pytest.raises(PickleRefused, match="holds a pickle"):
        decode(document)
    assert not LOADED
    decode(document, unpickle=True)
    assert LOADED


@pytest.mark.parametrize("rows", [[1], {1}, bytearray(b"1")])
def test_what_a_pickle_shares_with_the_rest_is_refused(rows: Any) -> None:
    with pytest.raises(ValueNotEncodable, match="held by what must be pickled") as caught:
        encode({"model": Model(rows), "rows": rows}, where="result", may_pickle=always)
    assert caught.value.path == 'result["rows"]'
    # What cannot change may become two.
    assert again({"model": Model("a text"), "rows": "a text"})["rows"] == "a text"


def test_what_can_neither_be_kept_nor_pickled_says_where_it_is() -> None:
    with pytest.raises(ValueNotEncodable, match="nor be pickled") as caught:
        encode([1, {"a": (n for n in ())}], where="result", may_pickle=always)
    assert caught.value.path == 'result[1]["a"]'
    with pytest.raises(ValueNotEncodable, match="cannot be loaded again"):
        encode(OneWay(), may_pickle=always)


def test_what_came_out_of_a_pickle_may_go_into_one_again() -> None:
    slotted = again([Slotted(), Model(1)])
    assert all(map(came_pickled, slotted))
    assert not came_pickled(Model(1))
    document = encode_frame({"model": slotted[1]}, {}, came_pickled)
    frame = decode_frame(document, {}, unpickle=True)
    assert frame["model"].held == (1,) and came_pickled(frame["model"])
    with pytest.raises(PickleRefused):
        decode_frame(document, {})
    with pytest.raises(ValueNotEncodable, match="model is a"):
        encode_frame({"model": Model(1)}, {}, came_pickled)


def test_a_pickle_that_holds_a_modules_own_object_does_not_cross() -> None:
    model = again(Model(1))
    model.held = (REGISTRY,)
    modules = {__name__: {"REGISTRY": REGISTRY}}
    with pytest.raises(ValueNotEncodable, match=re.escape("test_pickles.REGISTRY")):
        encode_frame({"model": model}, modules, came_pickled)


def test_a_pickled_key_of_a_dict() -> None:
    back = again({Model(1): [2]})
    assert [key.held for key in back] == [(1,)]


def test_a_secret_in_a_pickle_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", redaction.Known())
    redaction.register_value("API_KEY", "q7Zp2LxV9c")
    with pytest.raises(ValueNotEncodable, match="secret API_KEY"):
        encode({"client": Model("q7Zp2LxV9c")}, may_pickle=always)


def test_a_pickle_whose_class_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    document = encode(Model(1), may_pickle=always)
    monkeypatch.delitem(globals(), "_rebuilt")
    with pytest.raises(FlowError, match="cannot be loaded"):
        decode(document, unpickle=True)
