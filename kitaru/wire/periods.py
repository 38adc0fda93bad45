"""Periods of time as people write them: `90d`, `12h`, `30m`."""

from __future__ import annotations

from datetime import timedelta

from kitaru.errors import UsageError

_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def parse_period(text: str) -> timedelta:
    """Return a period such as `90d`, `12h` or `30m`.

    Raises:
        UsageError: the text is not a number of days, hours or minutes, or there are too many.

    Example:
        >>> parse_period("12h")
        datetime.timedelta(seconds=43200)
    """
    number, unit = text[:-1], text[-1:]
    try:
        if number.isdecimal() and unit in _UNITS:
            return timedelta(**{_UNITS[unit]: int(number)})
    except OverflowError:
        pass
    raise UsageError(f"{text!r} is not a number of days, hours or minutes, such as 90d.")
