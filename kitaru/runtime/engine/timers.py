"""Deadlines: durations and moments, and how a process waits for one.

A sleep is a wait that only its deadline answers. Its request is recorded with the moment at which
it ends, so a process that is started again does not start over.

A process waits for a near deadline by itself. For a later one, the process of a deployed flow ends,
and a dispatcher starts the next run when the deadline has passed. A process of `flow.run` waits as
long as it lives: nobody else would continue it at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from kitaru.config import setting
from kitaru.errors import UsageError
from kitaru.runtime.journal.journal import Journal
from kitaru.wire.limits import MAX_NAME_CHARACTERS
from kitaru.wire.records import WaitRequest
from kitaru.wire.redaction import redacted
from kitaru.wire.times import now, seconds_until, written

# The last moment that sorts correctly in a store.
_LAST = datetime(2200, 1, 1, tzinfo=UTC)
# As far back as `moment_since` looks.
_LONGEST = timedelta(days=3_650)
_MOST_ESCALATIONS = 20
_LOOK_SECONDS = 0.2
_LOOK_SECONDS_ASLEEP = 5.0

skip: Callable[[str], object] | None = None
"""Called with a deadline instead of waiting for it, in tests of flows."""


def deadline_of(what: str, value: Any) -> str:
    """Return the moment of a duration from now, or of a time, as text in UTC.

    Args:
        what: the call and its argument, for the error.
        value: seconds, a timedelta, or a datetime with a time zone.

    Raises:
        UsageError: the value is of another type, is negative, or is after the year 2199.
    """
    try:
        moment = _moment(value)
    except OverflowError:
        moment = _LAST
    if moment is None or moment >= _LAST:
        raise UsageError(
            f"{what}={value!r} is not a valid time.",
            help="Use seconds, 0 or more, a timedelta, or a datetime with a time zone, such as "
            "datetime.now(UTC) + timedelta(days=2).",
        )
    return written(moment)


def moment_since(what: str, value: Any) -> str:
    """Return the moment of a time, or of a duration before now, as text in UTC.

    Raises:
        UsageError: the value is neither a timedelta nor a datetime with a time zone.
    """
    found = value if isinstance(value, datetime) and value.utcoffset() is not None else None
    if isinstance(value, timedelta) and value >= timedelta(0):
        found = datetime.fromisoformat(now()) - min(value, _LONGEST)
    if found is None:
        raise UsageError(
            f"{what}={value!r} is not a valid time.",
            help="Use a timedelta, or a datetime with a time zone, such as kitaru.now().",
        )
    return written(found)


def _moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.utcoffset() is not None else None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds < math.inf:
        return None
    return datetime.fromisoformat(now()) + timedelta(seconds=seconds)


def escalations_of(value: Sequence[tuple[Any, str]] | None) -> tuple[dict[str, str], ...]:
    """Return the escalations of a wait, sorted by time.

    Raises:
        UsageError: an item is not a pair of a time and a short text.
    """
    items = [*(value or ())]
    if len(items) > _MOST_ESCALATIONS:
        raise UsageError(
            f"kitaru.wait: escalate has {len(items)} items.",
            help=f"At most {_MOST_ESCALATIONS} are allowed.",
        )
    found = []
    for item in items:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UsageError(
                f"kitaru.wait: {item!r} in escalate is not a pair.",
                help='Use (after, to), such as (timedelta(hours=4), "the team lead").',
            )
        after, to = item
        if not isinstance(to, str) or not 0 < len(to) <= MAX_NAME_CHARACTERS:
            raise UsageError(
                f"kitaru.wait: {to!r} in escalate does not name whom to notify.",
                help=f"Use a string of 1 to {MAX_NAME_CHARACTERS} characters.",
            )
        found.append({"at": deadline_of("kitaru.wait: after", after), "to": redacted(to)})
    return tuple(sorted(found, key=lambda one: one["at"]))


def stays(journal: Journal, request: WaitRequest) -> bool:
    """Return whether this process waits for the deadline of a request by itself.

    Each process of a dry run ends at once. What runs the document waits, or skips the time.
    """
    if not request.deadline or journal.execution.mode == "dry-run":
        return False
    if journal.execution.mode == "local":
        return request.kind == "timer"
    return bool(seconds_until(request.deadline) <= setting("sleep_in_process").value)


def pause_before(request: WaitRequest) -> float:
    """Return the seconds until this process looks again whether a wait has ended."""
    left = seconds_until(request.deadline)
    # A question may be answered meanwhile; a sleep can only be cancelled.
    most = _LOOK_SECONDS_ASLEEP if request.kind == "timer" else _LOOK_SECONDS
    return min(max(left, 0.0), most)
