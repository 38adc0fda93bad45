"""Compare two JSON values: list the changed paths, and diff long texts line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from difflib import unified_diff
from textwrap import TextWrapper
from typing import Any

from kitaru.wire.structs import Struct

_SHORT = 60
_WIDTH = 100
_ABSENT = object()


class Difference(Struct):
    """One difference between two values.

    `of` names the values, such as `result` or `prompt`. `path` is the location of the difference,
    such as `$.plan[2].title`, or `$` for the whole value. `old` and `new` are the parts at that
    path. One of them is None if `how` is `added` or `removed`. `lines` is the unified diff, without
    its header, of two texts of which one is long or has several lines. Long lines are wrapped for
    the diff.
    """

    of: str
    path: str
    how: str
    old: Any
    new: Any
    lines: tuple[str, ...] = ()


def differences(of: str, a: Any, b: Any) -> list[Difference]:
    """Return every difference between JSON `a` and JSON `b`, in the order of `a`.

    Example:
        differences("result", {"n": 1}, {"n": 2})    # $.n: 1 → 2
    """
    return list(_differences(of, "$", a, b))


def _differences(of: str, path: str, a: Any, b: Any) -> Iterator[Difference]:
    if a is _ABSENT or b is _ABSENT:
        how = "added" if a is _ABSENT else "removed"
        old, new = (None if one is _ABSENT else one for one in (a, b))
        yield Difference(of, path, how, old, new)
    elif isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            yield from _differences(of, _into(path, key), a.get(key, _ABSENT), b.get(key, _ABSENT))
    elif isinstance(a, list) and isinstance(b, list):
        for place in range(max(len(a), len(b))):
            old, new = (side[place] if place < len(side) else _ABSENT for side in (a, b))
            yield from _differences(of, f"{path}[{place}]", old, new)
    elif type(a) is not type(b) or a != b:
        yield Difference(of, path, "changed", a, b, tuple(_lines(a, b)))


def _into(path: str, key: str) -> str:
    return f"{path}.{key}" if key.isidentifier() else f"{path}[{json.dumps(key)}]"


def _lines(a: Any, b: Any) -> list[str]:
    texts = [one for one in (a, b) if isinstance(one, str)]
    if len(texts) < 2 or not any("\n" in text or len(text) > _SHORT for text in texts):
        return []
    found = unified_diff(_wrapped(a), _wrapped(b), n=1, lineterm="")
    return list(found)[2:] or [" only the line ends differ"]


def _wrapped(text: str) -> list[str]:
    """Return the lines of a text, with long paragraphs wrapped so that people can compare them."""
    wrap = TextWrapper(_WIDTH, drop_whitespace=False, replace_whitespace=False, expand_tabs=False)
    return [part for line in text.splitlines() for part in wrap.wrap(line) or [""]]
