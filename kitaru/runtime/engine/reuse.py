"""Results that a replay reuses because neither the code nor the arguments of the call changed.

A replay that was started with `reuse_unchanged` runs the flow's body from the start:

    source                      replay, after the code of `draft` changed
    research   "brief"          reused
    draft      "a draft"        runs: other code
    publish    "url 1"          runs if `draft` now returns another value, else reused

A call is unchanged if its id, function, code and arguments are those of the record, and if the
replay does not change a model that it called. What else a checkpoint reads (files, memory, the
network) is not compared.
"""

from __future__ import annotations

from functools import cached_property
from threading import Lock

from kitaru.errors import AnswerInvalid
from kitaru.runtime.engine.calls import Call
from kitaru.runtime.engine.outcomes import Outcome, value_of
from kitaru.runtime.journal import blobs
from kitaru.runtime.journal.journal import Journal
from kitaru.wire.records import InvocationRecord, Replay, with_values
from kitaru.wire.structs import replace


class Recording:
    """The source of a replay, as a source of results. Safe for threads."""

    def __init__(self, journal: Journal, replay: Replay) -> None:
        self._journal = journal
        self._replay = replay
        self._opening = Lock()

    @cached_property
    def _source(self) -> Journal:
        return Journal.open(self._journal.store, self._replay.source)

    def outcome_of(self, call: Call) -> InvocationRecord | None:
        """Return the record for a call of this execution, None if the call must run."""
        with self._opening:
            source = self._source
        found = source.invocation(call.id)
        if found is None or not self._is_unchanged(call, found):
            return None
        shared = with_values(found, lambda value: blobs.shared(value, source.home))
        record = replace(
            shared,
            position=call.position,
            ordinal=call.ordinal,
            site=call.site,
            sequence=0,
            cache_key="",
            cached_from="",
            adopted_from=f"{source.exec_id}/{call.id}",
        )
        return record if found.kind != "wait" or self._is_answer(call, record) else None

    def _is_unchanged(self, call: Call, found: InvocationRecord) -> bool:
        spec = call.spec
        if (found.kind, found.callee) != (spec.kind, spec.callee) or found.status == "cancelled":
            return False
        if any(one["asked"] in self._replay.models for one in found.calls):
            return False
        if spec.kind in ("wait", "inbox"):
            return True
        if spec.kind == "checkpoint" and not spec.fingerprint():
            return False
        same = found.arguments_digest == call.digest and found.fingerprint == spec.fingerprint()
        return same and spec.compared and spec.kind in ("checkpoint", "llm")

    def _is_answer(self, call: Call, record: InvocationRecord) -> bool:
        """Return whether the wait, as the code asks now, accepts the recorded answer."""
        try:
            call.spec.function(value_of(self._journal, Outcome(record), unpickle=False)[0])
        except AnswerInvalid:
            return False
        return True
