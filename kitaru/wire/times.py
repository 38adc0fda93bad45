"""Formats of times: sortable UTC strings, and microseconds in index keys.

Clocks order listings, are shown to people, and say when a deadline has passed. What is true is
decided by records alone.
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


def seconds_since(moment: str) -> float:
    """Return the seconds that have passed since `moment`, which is in the format of `now`."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def seconds_until(moment: str) -> float:
    """Return the seconds until `moment`, which is in the format of `now`; negative if it passed."""
    return -seconds_since(moment)


def later(moment: str, seconds: float) -> str:
    """Return the moment `seconds` after `moment`, both in the format of `now`."""
    return _text(datetime.fromisoformat(moment) + timedelta(seconds=seconds))


def written(moment: datetime) -> str:
    """Return a moment in the format of `now`; without a time zone, it is local time.

    Moments before 1970 count as 1970, which is before every record.
    """
    try:
        utc = moment.astimezone(UTC)
    except (OverflowError, ValueError):
        # In UTC, it is in no year from 1 to 9999.
        utc = moment.replace(tzinfo=UTC)
    return _text(max(utc, _EPOCH))


def whole_seconds(moment: str) -> str:
    """Return a moment in the format of `now` as `2026-11-22T03:08:01Z`, rounded up.

    >>> whole_seconds("2026-11-22T03:08:00.123456Z")
    '2026-11-22T03:08:01Z'
    """
    exact = datetime.fromisoformat(moment)
    up = timedelta(microseconds=-exact.microsecond % 1_000_000)
    return (exact + up).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_milliseconds() -> int:
    """Return milliseconds since 1970, never negative, even if the clock is wrong."""
    return max(0, time.time_ns() // 1_000_000)


def invert(moment: str) -> str:
    """Return 16 digits for a moment in the format of `now`; later moments sort first.

    Moments outside the years 1970 to 2286 count as the nearest one inside.
    """
    return f"{_LAST - int(digits(moment)):016d}"


def digits(moment: str) -> str:
    """Return 16 digits for a moment in the format of `now`; earlier moments sort first."""
    microseconds = (datetime.fromisoformat(moment) - _EPOCH) // _MICROSECOND
    return f"{max(0, min(microseconds, _LAST)):016d}"


def uninvert(inverted: str) -> str:
    """Return the moment that was passed to `invert`."""
    return _text(_EPOCH + (_LAST - int(inverted)) * _MICROSECOND)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
