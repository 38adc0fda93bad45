"""Formats of times: sortable UTC strings, and microseconds in index keys.

Clocks order listings and are shown to people. Nothing else may depend on them.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST = 10**16 - 1


def now() -> str:
    """Return this moment as `2026-11-22T03:08:00.123456Z`."""
    return _text(datetime.now(UTC))


def ago(age: timedelta) -> str:
    """Return the moment `age` ago in the format of `now`."""
    return _text(datetime.now(UTC) - age)


def later(moment: str, seconds: float) -> str:
    """Return the moment `seconds` after `moment`, both in the format of `now`."""
    return _text(datetime.fromisoformat(moment) + timedelta(seconds=seconds))


def written(moment: datetime) -> str:
    """Return a moment in the format of `now`; without a time zone, it is local time."""
    return _text(moment.astimezone(UTC))


def now_milliseconds() -> int:
    """Return milliseconds since 1970, never negative, even if the clock is wrong."""
    return max(0, time.time_ns() // 1_000_000)


def invert(moment: str) -> str:
    """Return 16 digits for a moment in the format of `now`; later moments sort first.

    Moments outside the years 1970 to 2286 count as the nearest one inside.
    """
    microseconds = (datetime.fromisoformat(moment) - _EPOCH) // _MICROSECOND
    return f"{_LAST - max(0, min(microseconds, _LAST)):016d}"


def uninvert(digits: str) -> str:
    """Return the moment that was passed to `invert`."""
    return _text(_EPOCH + (_LAST - int(digits)) * _MICROSECOND)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
