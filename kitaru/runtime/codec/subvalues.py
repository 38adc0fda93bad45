"""Documents of the parts of a recorded value, extracted from its document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kitaru.errors import RecordCorrupt
from kitaru.runtime import codec

_CONTAINERS = ("list", "tuple", "dict")


class _Shared(Exception):
    """Raised for a graph that is not a JSON tree: a part is shared or has a type of its own."""


def values_inside(document: Any, depth: int) -> Iterator[Any]:
    """Yield the documents of the items of a value's lists, tuples and dicts, `depth` levels deep.

    Each equals the output of `codec.encode` for that part. No class is needed.

    Example:
        >>> list(values_inside([1, [2, "a"]], 2))
        [1, [2, 'a'], 2, 'a']
    """
    if not codec.is_json(document):
        yield from _in_graph(document, depth)
        return
    is_text = isinstance(document, dict) and "$kitaru" in document
    try:
        level = [json.loads(document["text"]) if is_text else document]
    except (KeyError, TypeError, ValueError) as error:
        raise RecordCorrupt(f"A recorded value is damaged: {error}") from error
    for _ in range(depth):
        level = [part for value in level for part in _inside(value)]
        yield from map(codec.encode, level)


def field_of(document: Any, name: str) -> Any:
    """Return the document of an attribute of a recorded object, None if it does not exist."""
    if codec.is_json(document):
        return None
    tag, _, slots = _node(document["nodes"], document["root"])
    fields = dict(zip(slots[1::2], slots[2::2], strict=False)) if tag == "object" else {}
    return _document(document, fields[name]) if name in fields else None


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _in_graph(document: Any, depth: int) -> Iterator[Any]:
    level = [document["root"]]
    for _ in range(depth):
        level = [part for slot in level for part in _slots(document["nodes"], slot)]
        for slot in level:
            yield _document(document, slot)


def _slots(nodes: list[Any], slot: Any) -> list[Any]:
    tag, _, slots = _node(nodes, slot)
    if tag not in _CONTAINERS:
        return []
    return slots[1::2] if tag == "dict" else slots


def _document(document: Any, slot: Any) -> Any:
    try:
        return codec.encode(_tree(document["nodes"], slot, set()))
    except _Shared:
        part = _graph(document, slot)
        return {"$kitaru": codec.form_of(part["nodes"]), **part}


def _tree(nodes: list[Any], slot: Any, seen: set[int]) -> Any:
    """Return a slot's value as a JSON tree; raise _Shared if it is not a tree."""
    if not isinstance(slot, list):
        return slot
    tag, data, slots = _node(nodes, slot)
    if tag == "str" and isinstance(data, str):
        return data
    if tag not in ("list", "dict") or slot[0] in seen:
        raise _Shared
    seen.add(slot[0])
    if tag == "list":
        return [_tree(nodes, one, seen) for one in slots]
    if any(not isinstance(key, str) for key in slots[::2]):
        raise _Shared
    return {key: _tree(nodes, one, seen) for key, one in zip(slots[::2], slots[1::2], strict=True)}


def _graph(document: Any, root: Any) -> dict[str, Any]:
    """Return the part of a graph that is reachable from a slot, with its nodes renumbered."""
    nodes, looks = document["nodes"], dict(document.get("classes", ()))
    numbers: dict[int, int] = {}
    met: list[int] = []

    def renumbered(slot: Any) -> Any:
        if not isinstance(slot, list):
            return slot
        if slot[0] not in numbers:
            numbers[slot[0]] = len(met)
            met.append(slot[0])
        return [numbers[slot[0]]]

    start = renumbered(root)
    # The list grows during the loop: nodes referenced by a node are appended.
    found = [[*nodes[at][:2], *(list(map(renumbered, s)) for s in nodes[at][2:])] for at in met]
    classes = [[at, looks[old]] for at, old in enumerate(met) if old in looks]
    return {"nodes": found, "root": start} | ({"classes": classes} if classes else {})


def _node(nodes: list[Any], slot: Any) -> tuple[str, Any, list[Any]]:
    if not isinstance(slot, list):
        return "", None, []
    tag, data, *rest = nodes[slot[0]]
    return tag, data, rest[0] if rest else []
