"""Tags of executions: short names and values by which people find them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru.errors import UsageError
from kitaru.wire.names import check_name

_MOST = 50
_LONGEST = 200


def check_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Return tags with their values as strings.

    Raises:
        UsageError: a name is not valid, a value is not a string, number or bool, or is empty or
            too long, or there are too many.

    Example:
        >>> check_tags({"customer": "acme", "priority": 1})
        {'customer': 'acme', 'priority': '1'}
    """
    if len(tags) > _MOST:
        raise UsageError(f"{len(tags)} tags are too many: an execution has at most {_MOST}.")
    return {check_name("tag", name): _value(name, value) for name, value in tags.items()}


def _value(name: str, value: Any) -> str:
    if isinstance(value, str | int | float | bool):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if 0 < len(text) <= _LONGEST and text.isprintable():
            return text
    raise UsageError(
        f"The tag {name} cannot have this value.",
        help=f"Use a string of one line with 1 to {_LONGEST} characters, a number or a bool.",
    )
