"""Read the filter of a list or of a command for many executions: `status=failed older_than=2h`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from kitaru.errors import UsageError
from kitaru.runtime.executions.where import Where
from kitaru.status import ExecutionStatus
from kitaru.wire.periods import parse_period
from kitaru.wire.times import written

_PLAIN = ("flow", "status", "tag", "text", "target", "version")
_PERIODS = {"older_than": "until", "newer_than": "since"}
_FIELDS = "flow, status, older_than, newer_than, input.NAME, tag.NAME, tag, target, version, text"
_EXAMPLE = "flow=review status=failed older_than=2h input.customer=acme tag.team=billing"


def parse_where(conditions: Iterable[str]) -> Where:
    """Return the selection for conditions such as `status=failed`, which must all hold.

    Fields: `flow`, `status`, `tag` (that it was invoked by), `target`, `version`, `text`,
    `older_than` and `newer_than` (since its start, such as `2h` or `7d`), `input.NAME` (an input,
    or a part of one by its path), `tag.NAME` (a tag of `kitaru.tag`).

    Raises:
        UsageError: a condition has another form, another field, or is repeated.

    Example:
        parse_where(["flow=review", "older_than=2h"])
    """
    named: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    tags: dict[str, str] = {}
    for condition in conditions:
        field, equals, text = condition.partition("=")
        kind, _, name = field.partition(".")
        if not equals or not text:
            raise UsageError(f"{condition!r} is not FIELD=VALUE.", help=_EXAMPLE)
        if kind == "input" and name:
            place: dict[str, Any] = inputs
            value: Any = (text, _value(text))
        elif kind == "tag" and name:
            place, value = tags, text
        elif field in _PLAIN or field in _PERIODS:
            place, name, value = named, _PERIODS.get(field, field), text
        else:
            raise UsageError(f"{field} is not a field of a filter.", help=f"One of {_FIELDS}.")
        if name in place:
            raise UsageError(f"{field} occurs twice; all conditions must hold.", help=_EXAMPLE)
        place[name] = _moment(text) if field in _PERIODS else value
    status = named.get("status")
    if status is not None and status not in set(ExecutionStatus):
        raise UsageError(
            f"There is no status {status!r}.", help=f"One of {', '.join(ExecutionStatus)}."
        )
    return Where(**named, inputs=inputs, tags=tags)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _moment(text: str) -> str:
    return written(datetime.now(UTC) - parse_period(text))
