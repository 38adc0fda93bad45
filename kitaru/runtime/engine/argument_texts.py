"""Readable arguments in records, so that a later run can report which argument differs.

A record identifies its arguments by one digest. The digest shows that something differs, but not
what. The record therefore also stores small arguments as JSON under their parameter names, with
secrets masked. For a large argument it stores a digest of its own. Only error messages use this
data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kitaru.errors import ValueNotEncodable
from kitaru.runtime import codec
from kitaru.runtime.engine.calls import Call
from kitaru.runtime.journal.to_json import as_json
from kitaru.wire.redaction import MASK, is_secret_name, redacted, redacted_json

_SHOWN_CHARACTERS = 1000
# Above this size, encoding the arguments a second time is too expensive.
_SHOWN_BYTES = 256 * 1024
_DIGEST = "$digest"


def arguments_of(call: Call) -> dict[str, Any]:
    """Return the arguments of a call by name, as stored in its record, or nothing."""
    # The `capture` option alone decides where the texts of model calls are stored.
    if call.spec.kind in ("llm", "log") or call.size > _SHOWN_BYTES:
        return {}
    shown = {name: _shown(name, value) for name, value in labelled(call)}
    # Most calls contain no secret. One check of the whole is cheaper than one per string.
    text = json.dumps(shown)
    return shown if redacted(text) == text else redacted_json(shown)


def labelled(call: Call) -> Iterator[tuple[str, Any]]:
    """Yield each argument of a call with its parameter name; extra arguments are named `#3`."""
    code = getattr(call.spec.function, "__code__", None)
    code = getattr(getattr(call.spec.function, "__wrapped__", None), "__code__", code)
    names = code.co_varnames[: code.co_argcount] if code is not None else ()
    labels = [*names, *(f"#{n + 1}" for n in range(len(names), len(call.args)))]
    yield from zip(labels, call.args, strict=False)
    yield from call.kwargs.items()


def _shown(name: str, value: Any) -> Any:
    if is_secret_name(name):
        return MASK
    try:
        shown = as_json(codec.encode(value))
        if len(json.dumps(shown)) <= _SHOWN_CHARACTERS:
            return _without_named(shown)
    except (ValueNotEncodable, ValueError, RecursionError):
        pass
    return {_DIGEST: codec.digest_arguments((value,), {}).digest.removeprefix("sha256:")[:12]}


def _without_named(value: Any) -> Any:
    """Return JSON with the values masked whose names mark them as secrets."""
    if isinstance(value, list):
        return [_without_named(item) for item in value]
    if isinstance(value, dict):
        return {k: MASK if is_secret_name(k) else _without_named(v) for k, v in value.items()}
    return value


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the arguments in which two calls differ, one or more lines for each.

    Example:
        changes({"topic": "owls"}, {"topic": "cats"})    # ['topic: "owls" is now "cats"']
    """
    from kitaru.runtime.journal.json_diff import differences

    lines: list[str] = []
    for name in {**before, **now}:
        if name not in now:
            lines.append(f"{name}: {_text(before[name])} is not passed any more")
        elif name not in before:
            lines.append(f"{name}: {_text(now[name])} was not passed")
        elif _DIGEST in (*_keys(before[name]), *_keys(now[name])):
            if before[name] != now[name]:
                lines.append(f"{name} differs; it is too large to be shown")
        else:
            for one in differences(name, before[name], now[name]):
                where = name + one.path.removeprefix("$")
                if one.how == "changed" and one.lines:
                    lines += [f"{where}:", *(f"    {line}" for line in one.lines)]
                elif one.how == "changed":
                    lines.append(f"{where}: {_text(one.old)} is now {_text(one.new)}")
                else:
                    lines.append(f"{where}: {_text(one.old or one.new)} was {one.how}")
    return lines


def _keys(value: Any) -> list[str]:
    return list(value) if isinstance(value, dict) else []


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
