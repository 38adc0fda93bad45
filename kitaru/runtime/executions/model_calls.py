"""Model calls of an execution as they were recorded: prompt, response, tokens, latency, cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.to_json import as_json
from kitaru.wire.records import AttemptRecord, InvocationRecord, StoredValue
from kitaru.wire.structs import Struct

# What `capture` may leave out; each is stored as a value of its own.
STORED = ("prompt", "response")


class ModelCall(Struct):
    """One request to a model, and where it was made.

    `number` counts the calls of its invocation, from 1. `attempt` is the failed attempt that made
    it, 0 for the calls of the recorded result. `made_here` is false when the result, and with it
    the call, comes from the cache or from the execution that this one replays. `facts` is what was
    recorded: `model` (as asked), `resolved`, `tokens`, `latency_s`, `cost` in US dollars, `prompt`
    and `response` as stored values, and more; less where `capture` says so. `at` is when it was
    made, or when its attempt began where `capture` kept no facts.

    A call without an answer has no tokens. `finish` is then `error`, with the HTTP `status`, or
    `given up` where its attempt ended first. Its cost is 0 when the provider refused it, else not
    known.
    """

    invocation: str
    number: int
    attempt: int
    made_here: bool
    facts: dict[str, Any]
    at: str

    @property
    def name(self) -> str:
        """What the artifacts of the call begin with, such as `draft/call-1`."""
        failed = f"attempt-{self.attempt}/" if self.attempt else ""
        return f"{self.invocation}/{failed}call-{self.number}"


def calls_of(
    records: Iterable[InvocationRecord], attempts: Iterable[AttemptRecord] = ()
) -> Iterator[ModelCall]:
    """Yield the model calls of invocations, then those of failed attempts.

    A sealed failure repeats the calls of its last attempt: they are yielded once, as the attempt's.
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


def shown(journal: Journal, call: ModelCall) -> dict[str, Any]:
    """Return a call as JSON, with the texts of its prompt and response where they were kept."""
    facts = {name: _read(journal, value) for name, value in call.facts.items()}
    place = {"invocation": call.invocation, "call": call.number, "attempt": call.attempt}
    return {**place, "made_here": call.made_here, **facts}


def _read(journal: Journal, value: Any) -> Any:
    return as_json(journal.fetch(value)) if isinstance(value, StoredValue) else value
