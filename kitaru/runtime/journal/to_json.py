"""Convert a recorded value to JSON, from its document alone and without imports."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

from kitaru.errors import RecordCorrupt
from kitaru.runtime.codec.builtin_types import load_text, to_base64
from kitaru.wire.chunked_bytes import Part

_ELIDED = "…"
_MAX_DEPTH = 200
# JSON has no sharing: 40 nested lists, each of which contains the next one twice, would become
# 2**40 lists. Shared parts are repeated until the repetitions reach about this many characters.
# Each part is shown once in any case.
_MAX_REPEATED = 1024 * 1024
_CONTAINER, _SLOT = 64, 8


def as_json(document: Any) -> Any:
    """Convert a codec document to readable JSON.

    Models and dataclasses become objects, tuples and sets become arrays, dates and similar values
    become strings. An object with a codec is shown as its JSON view, other objects in their encoded
    form. Cycles and values nested over 200 levels deep are shown as `…`. So are repeated parts once
    all repetitions exceed 1 MiB. Raises RecordCorrupt if the document is damaged.

    Example:
        >>> as_json(codec.encode({"pair": (1, 2)}))
        {'pair': [1, 2]}
    """
    form = document.get("$kitaru") if isinstance(document, dict) else None
    if form is None:
        return document
    try:
        if form == "json/1":
            return json.loads(document["text"])
        return _Graph(document["nodes"]).slot(document["root"])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise RecordCorrupt(f"A recorded value is damaged: {error}") from error


class _Graph:
    def __init__(self, nodes: list[Any]) -> None:
        self._nodes = nodes
        self._open: set[int] = set()
        self._seen: set[int] = set()
        self._repeated = 0

    def slot(self, slot: Any) -> Any:
        """Return an atom unchanged, and the JSON of the referenced node for a reference."""
        if not isinstance(slot, list):
            return slot
        index = slot[0]
        if index in self._open or len(self._open) >= _MAX_DEPTH:
            return _ELIDED
        tag, data, *rest = self._nodes[index]
        slots = rest[0] if rest else []
        if index in self._seen:
            size = len(data) if isinstance(data, str) else 0
            self._repeated += _CONTAINER + _SLOT * len(slots) + size
            if self._repeated > _MAX_REPEATED:
                return _ELIDED
        self._seen.add(index)
        self._open.add(index)
        try:
            return _SHOWN.get(tag, _other)(self, data, slots)
        finally:
            self._open.discard(index)

    def key(self, slot: Any) -> str:
        shown = self.slot(slot)
        return shown if isinstance(shown, str) else json.dumps(shown)


def _shown_bytes(data: Any) -> Any:
    if type(data) is list:
        return [_shown_bytes(each) for each in data]
    return to_base64(data.join()) if type(data) is Part else data


def _text(_: _Graph, data: Any, __: list[Any]) -> Any:
    return load_text(data)


def _array(graph: _Graph, _: Any, slots: list[Any]) -> Any:
    return [graph.slot(slot) for slot in slots]


def _dict(graph: _Graph, _: Any, slots: list[Any]) -> Any:
    return {graph.key(k): graph.slot(v) for k, v in zip(slots[::2], slots[1::2], strict=True)}


def _object(graph: _Graph, _: Any, slots: list[Any]) -> Any:
    fields = zip(slots[1::2], slots[2::2], strict=True)
    return {name: graph.slot(v) for name, v in fields if not str(name).startswith("__pydantic_")}


def _namedtuple(graph: _Graph, _: Any, slots: list[Any]) -> Any:
    return _array(graph, None, slots[1:])


def _own(graph: _Graph, data: list[Any], slots: list[Any]) -> Any:
    view = data[3:]
    return view[0] if view else graph.slot(slots[0])


def _float(_: _Graph, data: str, __: list[Any]) -> Any:
    return str(struct.unpack(">d", bytes.fromhex(data))[0])


def _name(_: _Graph, data: list[str], __: list[Any]) -> Any:
    return ".".join(data)


def _pickled(_: _Graph, data: list[Any], __: list[Any]) -> Any:
    return f"<pickle of {data[1]}>"


def _other(graph: _Graph, data: Any, slots: list[Any]) -> Any:
    return _shown_bytes(data) if data is not None else _array(graph, None, slots)


_SHOWN: dict[str, Callable[[_Graph, Any, list[Any]], Any]] = {
    **dict.fromkeys(("list", "tuple", "set", "frozenset"), _array),
    "dict": _dict,
    "object": _object,
    "namedtuple": _namedtuple,
    "float": _float,
    "str": _text,
    "name": _name,
    "pickled": _pickled,
    "codec": _own,
}
