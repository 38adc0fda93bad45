"""Write JSON documents, each part that fits on a line on one line, and read them back."""

from __future__ import annotations

import json
from typing import Any

_ROOM = 96


def dump(value: Any, indent: str = "") -> str:
    """Return a document as JSON, in its own order, without a final newline.

    >>> dump({"a": [1, "b"]})
    '{"a": [1, "b"]}'
    """
    flat = json.dumps(value, allow_nan=False)
    if len(indent) + len(flat) <= _ROOM or not value or not isinstance(value, (dict, list)):
        return flat
    inside = f"{indent} "
    if isinstance(value, dict):
        entries = [f"{json.dumps(key)}: {dump(item, inside)}" for key, item in value.items()]
    else:
        entries = [dump(item, inside) for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    body = ",\n".join(f"{inside}{entry}" for entry in entries)
    return f"{opening}\n{body}\n{indent}{closing}"


def dump_file(value: Any) -> str:
    """Return a document as the text of a file: as `dump`, with a final newline."""
    return f"{dump(value)}\n"


def parse(text: str) -> Any:
    """Return a document's content; raise ValueError if it is not valid or a key stands twice."""
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found
