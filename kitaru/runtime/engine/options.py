"""Type checks for the options of `@flow` and `@checkpoint`, made when the decorator is applied."""

from __future__ import annotations

from typing import Any

from kitaru.errors import UsageError


def check_option(where: str, name: str, value: Any, *types: type) -> None:
    """Check that an option is None or of one of these types; a bool is not a number.

    Raises:
        UsageError: the option has another type.
    """
    if value is None or type(value) in types:
        return
    expected = " or ".join(each.__name__ for each in types)
    raise UsageError(
        f"{where}: {name}={value!r} is not {expected}.",
        help=f"`kitaru check FILE.py` reports each option of {where} that does not fit.",
    )
