"""Recorded model calls of an execution: prompt, response, tokens, latency, cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.to_json import as_json
from kitaru.wire.records import AttemptRecord, InvocationRecord, StoredValue
from kitaru.wire.structs import Struct

# Texts that `capture` may leave out. Each is stored as a separate value.
STORED = ("prompt", "response")
# A record without these bytes has no model calls: its JSON is canonical.
_HAS_CALLS = b'"calls":[{'


class ModelCall(Struct):
    """One request to a model, with its origin.

    `number` counts the calls of its invocation from 1. `attempt` is the failed attempt that made
    it, 0 for calls of the recorded result. `made_here` is false if the result, and thus the call,
    comes from the cache or from the source of this replay. `facts` is the recorded data: `model`
    (as requested), `resolved`, `tokens`, `latency_s`, `cost` in US dollars, `prompt` and `response`
    as stored values, and more. `capture` may reduce it. `at` is the time of the call, or the start
    of its attempt if `capture` excluded the facts.

    A call without a response has no tokens. `finish` is then `error`, with the HTTP `status`, or
    `given up` if its attempt ended first. Its cost is 0 if the provider rejected it, otherwise
    unknown.
    """

    invocation: str
    number: int
    attempt: int
    made_here: bool
    facts: dict[str, Any]
    at: str

    @property
    def name(self) -> str:
        """Prefix of the call's artifact names, such as `draft/call-1`."""
        failed = f"attempt-{self.attempt}/" if self.attempt else ""
        return f"{self.invocation}/{failed}call-{self.number}"


def calls_of(
    records: Iterable[InvocationRecord], attempts: Iterable[AttemptRecord] = ()
) -> Iterator[ModelCall]:
    """Yield the model calls of invocations, then those of failed attempts.

    A sealed failure repeats the calls of its last attempt. Those are yielded once, for the attempt.
    """
    for one in chain[InvocationRecord | AttemptRecord](records, attempts):
        if isinstance(one, AttemptRecord):
            attempt, here = one.number, True
        elif one.status == "failed":
            continue
        else:
            attempt, here = 0, not (one.cached_from or one.adopted_from)
        for number, facts in enumerate(one.calls, 1):
            at = facts.get("started_at") or one.started_at
            yield ModelCall(one.id, number, attempt, here, facts, at)


def each_call(journal: Journal) -> Iterator[ModelCall]:
    """Yield the model calls of an execution, with few records in memory at once."""
    failed = (attempt for attempt in journal.each_attempt() if attempt.calls)
    attempts = sorted(failed, key=lambda attempt: attempt.started_at)
    return calls_of(journal.in_order(_HAS_CALLS), attempts)


def calls_in(journal: Journal, invocation: str) -> Iterator[ModelCall]:
    """Yield the model calls of one invocation, whose records alone are read."""
    return calls_of(journal.outcomes([invocation]), journal.each_attempt(invocation))


def shown(journal: Journal, call: ModelCall) -> dict[str, Any]:
    """Return a call as JSON, with the recorded texts of its prompt and response."""
    facts = {name: _read(journal, value) for name, value in call.facts.items()}
    place = {"invocation": call.invocation, "call": call.number, "attempt": call.attempt}
    return {**place, "made_here": call.made_here, **facts}


def _read(journal: Journal, value: Any) -> Any:
    return as_json(journal.fetch(value)) if isinstance(value, StoredValue) else value
