"""Format JSON documents: each part that fits on a line is written on one line."""

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
