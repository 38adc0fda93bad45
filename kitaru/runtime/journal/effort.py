"""Effort of an execution: model tokens, their price and seconds, without counting anything twice.

A result from the cache or from the source of a replay repeats the model calls that produced it, and
a recorded failure repeats those of its last attempt. `Spent` therefore separates the effort of what
an execution ran itself from the effort of what it reused.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from kitaru.wire.records import AttemptRecord, InvocationRecord
from kitaru.wire.structs import Struct

_WORK = ("checkpoint", "llm", "tool", "agent")


Calls = Sequence[dict[str, Any]]


class Effort(Struct):
    """Effort: model tokens, their known price in US dollars, and seconds."""

    tokens: int = 0
    cost: float | None = None
    seconds: float = 0.0

    def __add__(self, other: Effort) -> Effort:
        known = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Effort(
            self.tokens + other.tokens,
            sum(known) if known else None,
            round(self.seconds + other.seconds, 6),
        )


class Spent:
    """The effort of an execution, added up record by record. Safe for threads.

    `called` and `seconds` are those of the invocations that the execution ran itself, `reused` and
    `reused_seconds` those of reused results, `failed` is the effort of failed attempts.
    """

    def __init__(self) -> None:
        self.called, self.reused, self.failed = Effort(), Effort(), Effort()
        self.seconds = self.reused_seconds = 0.0
        self.unpriced = 0
        self._lock = threading.Lock()

    def add(self, fields: Mapping[str, Any]) -> None:
        """Add the effort of an invocation, from the fields of its record."""
        if is_work(fields["kind"], fields["status"]):
            is_own = not (fields["given"] or fields["adopted_from"] or fields["cached_from"])
            self._add(fields["calls"], fields["started_at"], fields["ended_at"], is_own)

    def add_record(self, record: InvocationRecord) -> None:
        """Add the effort of an invocation."""
        if is_work(record.kind, record.status):
            is_own = not (record.given or record.adopted_from or record.cached_from)
            self._add(record.calls, record.started_at, record.ended_at, is_own)

    def _add(self, calls: Calls, started_at: str, ended_at: str, is_own: bool) -> None:
        lasted = seconds(started_at, ended_at)
        with self._lock:
            if is_own:
                self.seconds += lasted
            else:
                self.reused_seconds += lasted
            # Most invocations have no model calls.
            if calls and is_own:
                self.called += effort_of_calls(calls)
                self.unpriced += _unpriced(calls)
            elif calls:
                self.reused += effort_of_calls(calls)

    def add_attempt(self, attempt: AttemptRecord) -> None:
        """Add the effort of a failed attempt."""
        with self._lock:
            self.failed += effort_of(attempt)
            self.unpriced += _unpriced(attempt.calls)

    @property
    def own(self) -> Effort:
        """The effort of the invocations that the execution ran itself, and of failed attempts."""
        return self.called + Effort(seconds=self.seconds) + self.failed

    @property
    def total(self) -> Effort:
        """The effort of all invocations and failed attempts."""
        return self.own + self.reused + Effort(seconds=self.reused_seconds)


def effort_of(of: InvocationRecord | AttemptRecord) -> Effort:
    """Return the effort of one invocation or one failed attempt; a wait has none."""
    if not is_work(of.kind, of.status if isinstance(of, InvocationRecord) else ""):
        return Effort()
    return effort_of_calls(of.calls) + Effort(seconds=seconds(of.started_at, of.ended_at))


def is_work(kind: str, status: str) -> bool:
    """Return whether effort counts for this kind and status; `status` is empty for an attempt."""
    # The attempts of a sealed failure are counted one by one.
    return kind in _WORK and status != "failed"


def effort_of_calls(calls: Iterable[dict[str, Any]]) -> Effort:
    """Return the recorded tokens and prices of model calls."""
    return sum((Effort(tokens_of(call), call.get("cost")) for call in calls), Effort())


def seconds(start: str, end: str) -> float:
    """Return the seconds between two timestamps of records; 0 if one of them is unknown."""
    if not (start and end):
        return 0.0
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def tokens_of(call: dict[str, Any]) -> int:
    """Return the number of tokens of a model call."""
    tokens = call.get("tokens")
    return sum(count or 0 for count in tokens.values()) if isinstance(tokens, dict) else 0


def _unpriced(calls: Iterable[dict[str, Any]]) -> int:
    return sum(call.get("cost") is None for call in calls)
