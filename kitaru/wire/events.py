"""Names, ids and data of events, and the values that a waiting execution asks for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from kitaru.errors import UsageError
from kitaru.wire import canonical
from kitaru.wire.limits import MAX_EVENT_ID_CHARACTERS, MAX_NAME_CHARACTERS

_NAME = re.compile(rf"[A-Za-z_][A-Za-z0-9_.:-]{{0,{MAX_NAME_CHARACTERS - 1}}}", re.ASCII)
_DIGEST = 32
FAILED = "kitaru.execution.failed"
"""The event that an execution has failed."""
WAITING = "kitaru.execution.waiting"
"""The event that an execution asks a question."""
_RESERVED = "kitaru."
_MOST_PATHS = 10


def check_event_name(name: Any) -> str:
    """Return `name` if it is the name of an event, such as `invoice.created`.

    It starts with a letter or underscore and continues with letters, digits, `_ . : -`. It is
    ASCII and has at most 100 characters.

    Raises:
        UsageError: `name` is not a string, or is not valid.
    """
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise UsageError(
        f"{name!a} cannot be the name of an event.",
        help="Use a letter or underscore, then letters, digits, and _ . : -, at most "
        f"{MAX_NAME_CHARACTERS} characters, such as invoice.created",
    )


def check_sent_name(name: Any) -> str:
    """Return `name` if it is the name of an event that users send, as `check_event_name` does.

    Raises:
        UsageError: it is not valid, or begins with `kitaru.`
    """
    if check_event_name(name).startswith(_RESERVED):
        raise UsageError(
            f"{name} is an event of Kitaru.",
            help=f"Only @flow(on=…) may name it. Names that begin with {_RESERVED} are reserved: "
            "use another one, such as invoice.created",
        )
    return str(name)


def check_event_id(id: Any) -> str:
    """Return `id` if it is the id of an event: 1 to 200 characters in one line.

    Raises:
        UsageError: `id` is not such a string.
    """
    if isinstance(id, str) and 0 < len(id) <= MAX_EVENT_ID_CHARACTERS and id.isprintable():
        return id
    raise UsageError(
        f"{id!a} cannot be the id of an event.",
        help=f"Use 1 to {MAX_EVENT_ID_CHARACTERS} printable characters.",
    )


def event_digest(name: str, id: str) -> str:
    """Return the digest that identifies the event `id` of that name."""
    return _short(f"{name}\0{id}".encode("utf-8", "surrogatepass"))


def check_match(what: str, match: Any) -> dict[str, Any]:
    """Return the values that an event's data must have, by path, such as `{"order.id": 7}`.

    Args:
        what: the call and its argument, for the error.

    Raises:
        UsageError: it is not such a mapping of at most 10 paths to text, numbers, bools or None.
    """
    found = dict(match) if isinstance(match, Mapping) else {}
    is_valid = isinstance(match, Mapping) and len(found) <= _MOST_PATHS
    if is_valid and all(isinstance(path, str) and is_value(one) for path, one in found.items()):
        return found
    raise UsageError(
        f"{what}={match!r} is not valid.",
        help=f"Use at most {_MOST_PATHS} paths in the event's data, each with a string, a finite "
        'number, a bool or None: {"order.id": order_id}',
    )


def match_digest(match: Mapping[str, Any]) -> str:
    """Return the digest of values by path. JSON numbers that are equal have one digest."""
    return _short(canonical.dumps({path: _plain(value) for path, value in match.items()}))


def matches(match: Mapping[str, Any], data: Any) -> bool:
    """Return whether the data of an event has these values."""
    found = values_at(match, data)
    return found is not None and match_digest(found) == match_digest(match)


def values_at(paths: Mapping[str, Any] | list[str], data: Any) -> dict[str, Any] | None:
    """Return the values at these paths; None if one is absent, or is an object or a list."""
    found: dict[str, Any] = {}
    for path in paths:
        value = data
        for part in path.split("."):
            if not isinstance(value, dict) or part not in value:
                return None
            value = value[part]
        if not is_value(value):
            return None
        found[path] = value
    return found


def is_value(value: Any) -> bool:
    """Return whether an event can be selected by this value of its data."""
    if isinstance(value, float):
        return value - value == 0.0
    return value is None or isinstance(value, str | bool | int)


def _plain(value: Any) -> Any:
    # In JSON, 1 and 1.0 are the same number.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGEST]
