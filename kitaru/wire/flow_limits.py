"""Limits of `@flow`: how many executions run at the same time, and how many start in a period.

    @flow(
        concurrency=[5, kitaru.limit(1, key="input.customer")],
        rate_limit=kitaru.limit(100, per="1h"),
        priority="input.priority",
    )

A key is the path of an input, as in `--where input.customer=acme`. Each value of it has a limit of
its own. It is never evaluated as code.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from kitaru.errors import UsageError
from kitaru.wire import canonical
from kitaru.wire.periods import parse_period
from kitaru.wire.structs import Struct, fields_of

if TYPE_CHECKING:
    from kitaru.wire.plan import Plan
    from kitaru.wire.records import ExecutionRecord

WhenFull = Literal["queue", "skip", "cancel"]
WHEN_FULL: tuple[WhenFull, ...] = get_args(WhenFull)

MOST = 100_000
"""Maximum number of a limit."""
MOST_PRIORITY = 1_000
_MOST_LIMITS = 5
_PATH = re.compile(r"input(\.\w[\w -]*)+")
_LONGEST_PATH = 200
_SECOND = timedelta(seconds=1)
_YEAR = timedelta(days=366)


class Limit(Struct):
    """A limit of a flow, made by `kitaru.limit`.

    Attributes:
        most: number of executions.
        per: period in seconds in which at most `most` start; 0 for those that run.
        key: path of the input whose values have limits of their own; empty for one limit.
        burst: number of executions that may start at once.
        when_full: what a start does that exceeds it.
    """

    most: int
    per: float = 0.0
    key: str = ""
    burst: int = 0
    when_full: WhenFull = "queue"

    def __str__(self) -> str:
        """Return the limit in words, such as `5 at a time for each input.customer`."""
        what = f"{self.most} in {_period(self.per)}" if self.per else f"{self.most} at a time"
        return f"{what} for each {self.key}" if self.key else what


class FlowLimits(Struct):
    """The limits of a flow, and the path of the input that is the priority of a start."""

    concurrency: tuple[Limit, ...] = ()
    rate_limit: tuple[Limit, ...] = ()
    priority: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the limits as JSON."""
        return {
            "concurrency": [fields_of(one) for one in self.concurrency],
            "rate_limit": [fields_of(one) for one in self.rate_limit],
            "priority": self.priority,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> FlowLimits:
        """Return the limits of a document of `to_json`."""
        return FlowLimits(
            tuple(Limit(**one) for one in data["concurrency"]),
            tuple(Limit(**one) for one in data["rate_limit"]),
            data["priority"],
        )

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of inputs that decide, each once."""
        named = [one.key for one in (*self.concurrency, *self.rate_limit)]
        return tuple(dict.fromkeys(path for path in (*named, self.priority) if path))

    def of(self, flow: str, inputs: Mapping[str, Any]) -> ExecutionLimits:
        """Return the limits of an execution of a flow with these inputs, as JSON by name."""
        priority = at_path(inputs, self.priority) if self.priority else 0
        is_number = isinstance(priority, int | float) and not isinstance(priority, bool)
        bounded = max(-MOST_PRIORITY, min(MOST_PRIORITY, priority)) if is_number else 0
        keyed = {one.key for one in (*self.concurrency, *self.rate_limit)} - {""}
        values = {path: _digest(at_path(inputs, path)) for path in sorted(keyed)}
        return ExecutionLimits(flow, self, values, float(bounded))


class ExecutionLimits(Struct):
    """The limits of one execution.

    `values` are digests of the inputs that the keys name, by path. `priority` is a number.
    """

    flow: str
    limits: FlowLimits
    values: dict[str, str]
    priority: float

    def to_json(self) -> dict[str, Any]:
        """Return what an execution records."""
        return {**fields_of(self), "limits": self.limits.to_json()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ExecutionLimits:
        """Return the limits that an execution records."""
        return ExecutionLimits(**{**data, "limits": FlowLimits.from_json(data["limits"])})


def planned_limits(plan: Plan, inputs: Mapping[str, Any]) -> ExecutionLimits | None:
    """Return the limits of an execution of a compiled flow; None without any.

    `inputs` are JSON by name. For one that is absent, a literal default counts.
    """
    if not plan.limits:
        return None
    given = {one.name: one.default for one in plan.parameters if one.has_literal_default}
    return FlowLimits.from_json(plan.limits).of(plan.flow, {**given, **inputs})


def recorded_limits(execution: ExecutionRecord) -> ExecutionLimits | None:
    """Return the limits that an execution records; None without any."""
    return ExecutionLimits.from_json(execution.limits) if execution.limits else None


def limit(
    most: int,
    *,
    per: float | str | timedelta | None = None,
    key: str | None = None,
    burst: int | None = None,
    when_full: WhenFull = "queue",
) -> Limit:
    """Return a limit for `@flow(concurrency=…)` or `@flow(rate_limit=…)`.

    Args:
        most: number of executions: that run at the same time, or that start in the period `per`.
        per: period of a rate limit: seconds, text such as `1m`, `12h` or `7d`, or a timedelta.
        key: path of an input, such as `input.customer`. Each value has a limit of its own.
        burst: for a rate limit: how many may start at once before the others are spread over the
            period. Default: 1.
        when_full: what a start does that exceeds the limit: `queue` it until there is room, `skip`
            it, or, for concurrency, `cancel` the execution that started first.

    Raises:
        UsageError: a value is not valid.

    Example:
        @flow(concurrency=kitaru.limit(2, key="input.customer"))
        def sync(customer: str) -> int: ...
    """
    _check_number("a limit", most, MOST)
    seconds = 0.0 if per is None else _seconds(per)
    if key is not None:
        check_path("key", key)
    if when_full not in WHEN_FULL:
        raise UsageError(
            f"when_full={when_full!a} is not a policy.", help=f"One of {', '.join(WHEN_FULL)}."
        )
    if burst is not None:
        _check_number("burst", burst, MOST)
    if not seconds and burst is not None:
        raise UsageError("burst= belongs to a rate limit.", help='Add a period, such as per="1m".')
    if seconds and when_full == "cancel":
        raise UsageError(
            'when_full="cancel" belongs to concurrency.', help='Use "queue" or "skip" with per=.'
        )
    return Limit(most, seconds, key or "", (burst or 1) if seconds else 0, when_full)


def flow_limits(concurrency: Any, rate_limit: Any, priority: Any) -> FlowLimits | None:
    """Return the limits that the options of `@flow` set; None without any.

    Raises UsageError if an option is not valid.
    """
    found = FlowLimits(
        _limits("concurrency", concurrency),
        _limits("rate_limit", rate_limit),
        "" if priority is None else check_path("priority", priority),
    )
    if found == FlowLimits():
        return None
    if not found.concurrency and not found.rate_limit:
        raise UsageError(
            "priority= orders a queue, and this flow has no limit.",
            help="Add concurrency= or rate_limit=.",
        )
    return found


def check_path(name: str, path: Any) -> str:
    """Return the path of an input such as `input.customer`. Raise UsageError if it is not one."""
    if isinstance(path, str) and len(path) <= _LONGEST_PATH and _PATH.fullmatch(path):
        return path
    raise UsageError(
        f"{name}={path!a} is not the path of an input.",
        help="Such as input.customer, or input.order.id for a part of an input.",
    )


def _limits(option: str, given: Any) -> tuple[Limit, ...]:
    if given is None:
        return ()
    many = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not 0 < len(many) <= _MOST_LIMITS:
        raise UsageError(
            f"{option}= has {len(many)} limits.", help=f"Set 1 to {_MOST_LIMITS} limits."
        )
    found = [_limit(option, one) for one in many]
    if len({one.key for one in found}) < len(found) and option == "concurrency":
        raise UsageError(
            "concurrency= has two limits with one key.", help="Keep the smaller of the two."
        )
    return tuple(found)


def _limit(option: str, given: Any) -> Limit:
    made = given if isinstance(given, Limit) else None
    if made is None and option == "concurrency" and not isinstance(given, bool):
        made = limit(given)
    if made is None:
        raise UsageError(
            f"{option}={given!a} is not a limit.", help='Such as kitaru.limit(60, per="1m").'
        )
    if bool(made.per) != (option == "rate_limit"):
        help = "Add a period, such as per='1m'." if made.per == 0 else "Omit per=."
        raise UsageError(f"{option}= has the limit {made}.", help=help)
    return made


def _check_number(what: str, number: Any, most: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= most:
        raise UsageError(
            f"{number!a} cannot be {what}.", help=f"Use a whole number from 1 to {most:,}."
        )


def _seconds(per: Any) -> float:
    period = per
    if isinstance(per, str):
        with suppress(UsageError):
            period = parse_period(per)
    elif isinstance(per, int | float) and not isinstance(per, bool):
        # More seconds than a timedelta can have are more than a year.
        period = timedelta(seconds=per) if 0 < per <= _YEAR / _SECOND else None
    if isinstance(period, timedelta) and _SECOND <= period <= _YEAR:
        return period / _SECOND
    raise UsageError(
        f"per={per!a} is not a period from one second to one year.",
        help='Such as per="1m", per="12h" or per=30 (seconds).',
    )


def _period(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def at_path(inputs: Mapping[str, Any], path: str) -> Any:
    """Return the value at a path such as `input.order.id`; None without one."""
    value: Any = inputs
    for part in path.split(".")[1:]:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _digest(value: Any) -> str:
    try:
        text = canonical.dumps(value)
    except (ValueError, TypeError):
        # Not JSON, such as NaN.
        text = repr(value).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:16]
