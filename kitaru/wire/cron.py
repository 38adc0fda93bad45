"""Cron expressions and time zones of schedules: which instants a schedule has.

The library cronsim computes them, as Debian's cron does. Two of its traps are closed here. Asked in
an hour that exists twice, it returns an instant before the one it was asked for. A step longer than
its field, such as `*/90` in minutes, is accepted and means `0`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from kitaru.errors import UsageError
from kitaru.wire.names import nearest
from kitaru.wire.times import written

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

P = TypeVar("P", bound=str)
Overlap = Literal["skip", "queue", "cancel", "allow"]
Catchup = Literal["none", "last", "all"]
ScheduleBy = Literal["dispatcher", "target"]
OVERLAPS: tuple[Overlap, ...] = ("skip", "queue", "cancel", "allow")
CATCHUPS: tuple[Catchup, ...] = ("none", "last", "all")
STARTERS: tuple[ScheduleBy, ...] = ("dispatcher", "target")

_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
# Number of values of each field.
_SIZES = (60, 24, 31, 12, 7)
_STEP = re.compile(r"/([0-9]+)")
_PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_LONGEST = 200
# A date that is valid in every year of the calendar from here on.
_ANY = datetime(2000, 1, 1, tzinfo=UTC)


def check_cron(text: str) -> str:
    """Return a cron expression of five fields, with one space between them.

    Raises:
        UsageError: it is not valid, or it never fires.

    Example:
        >>> check_cron("0 2  * * mon-fri")
        '0 2 * * MON-FRI'
    """
    from cronsim import CronSimError

    fields = text.upper().split() if len(text) <= _LONGEST else []
    help = (
        "Five fields: minute, hour, day of month, month, day of week. Every day at two: 0 2 * * *"
    )
    if preset := _PRESETS.get(text.strip().lower()):
        help = f"Write it as {preset!r}."
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    if len(fields) != len(_FIELDS):
        raise UsageError(
            f"The cron expression {shown!r} does not have five fields.",
            help="Schedules have no seconds: write minute, hour, day of month, month, day of week."
            if len(fields) == len(_FIELDS) + 1
            else help,
        )
    for field, name, size in zip(fields, _FIELDS, _SIZES, strict=True):
        if any(int(step) >= size for step in _STEP.findall(field)):
            raise UsageError(
                f"The step of the {name} {field} in the cron expression {shown!r} is too large.",
                help=f"Use a step below {size}.",
            )
    cron = " ".join(fields)
    try:
        if next_instant(cron, "UTC", written(_ANY)) is None:
            raise UsageError(f"The cron expression {shown!r} never fires.", help=help)
    except CronSimError as error:
        why = str(error).removeprefix("Bad ").replace("-", " ")
        raise UsageError(f"The cron expression {shown!r} is not valid: {why}.", help=help) from None
    return cron


def check_timezone(name: str) -> str:
    """Return the name of a time zone of the IANA database, such as `Europe/Berlin`.

    Raises UsageError if there is no such zone.
    """
    try:
        _zone(name)
    except (ValueError, OSError, LookupError):
        from zoneinfo import available_timezones

        near = nearest(name, sorted(available_timezones()))
        raise UsageError(
            f"{name!r} is not a time zone.",
            help=f"Did you mean {near}?" if near else "Use an IANA name, such as Europe/Berlin.",
        ) from None
    return name


def check_overlap(policy: Any) -> Overlap:
    """Return the policy for a tick while the last execution runs. Raise UsageError if unknown."""
    return _one_of("overlap", policy, OVERLAPS)


def check_catchup(policy: Any) -> Catchup:
    """Return the policy for missed ticks. Raise UsageError if it does not exist."""
    return _one_of("catchup", policy, CATCHUPS)


def check_schedule_by(name: Any) -> ScheduleBy:
    """Return who starts the runs of a schedule. Raise UsageError if unknown."""
    return _one_of("schedule_by", name, STARTERS)


def _one_of(name: str, policy: Any, allowed: Sequence[P]) -> P:
    if policy in allowed:
        return policy  # type: ignore[no-any-return]
    raise UsageError(
        f"{policy!a} is not a valid {name} policy.", help=f"Use one of {', '.join(allowed)}."
    )


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    # Files of the database that are no zones of it, such as `localtime` and `posix/UTC`.
    if name in ("localtime", "posixrules", "Factory") or name.startswith(("posix/", "right/")):
        raise ZoneInfoNotFoundError(name)
    return ZoneInfo(name)


def instants(cron: str, timezone: str, after: str) -> Iterator[str]:
    """Yield the instants after a moment, ascending, all in the format of `kitaru.wire.times`.

    A time of day that the clock skips in spring has its instant at the first moment after the gap.
    A time of day that it repeats in autumn has one instant, the first. Expressions whose minute or
    hour begins with `*` follow the clock of the wall instead: they have no instant in the gap, and
    instants in both repeated hours.
    """
    from cronsim import CronSim

    start = datetime.fromisoformat(after)
    last = start
    for found in CronSim(cron, start.astimezone(_zone(timezone))):
        # In a repeated hour, the library also returns instants before its start.
        instant = found.astimezone(UTC)
        if instant > last:
            last = instant
            yield written(instant)


def next_instant(cron: str, timezone: str, after: str) -> str | None:
    """Return the first instant after a moment; None if 50 years have none.

    Example:
        >>> next_instant("0 2 * * *", "Europe/Berlin", "2026-11-30T12:00:00.000000Z")
        '2026-12-01T01:00:00.000000Z'
    """
    return next(instants(cron, timezone, after), None)


def newest_instants(cron: str, timezone: str, after: str, until: str, most: int) -> list[str]:
    """Return the newest instants after one moment and up to another, at most `most`, ascending.

    The time since `after` may be years, so the search starts near `until`.
    """
    begin, end = datetime.fromisoformat(after), datetime.fromisoformat(until)
    span = timedelta(minutes=most)
    while True:
        start = max(begin, end - span)
        found = list[str]()
        for instant in instants(cron, timezone, written(start)):
            if instant > until:
                break
            found.append(instant)
        if start == begin or len(found) >= most:
            return found[-most:]
        span *= 8
