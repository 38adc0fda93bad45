"""The journal of one execution: every fact is recorded once.

Promise: a checkpoint's result is recorded at most once. Its function runs at least once until a
result is recorded. Every later reader sees that one record.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from kitaru.errors import (
    EnvironmentFailure,
    NotFound,
    RecordCorrupt,
    RecordTooNew,
    StateError,
    WaitConflict,
)
from kitaru.runtime import codec
from kitaru.runtime.journal import (
    blobs,
    children,
    events,
    news,
    processes,
    rounds,
    sources,
    states,
    summaries,
)
from kitaru.runtime.journal.cache import Cache
from kitaru.runtime.journal.effort import Effort, Spent
from kitaru.runtime.journal.presence import Presence
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.segments import SegmentReader, SegmentWriter
from kitaru.runtime.journal.to_json import as_json
from kitaru.stores.base import Store, existing
from kitaru.version import VERSION
from kitaru.wire import canonical, keys
from kitaru.wire.envelope import glance, is_marked
from kitaru.wire.ids import check_execution_id
from kitaru.wire.records import (
    AttemptRecord,
    CacheHint,
    CodeRecord,
    EndRecord,
    ErrorInfo,
    ExecutionRecord,
    ExitRecord,
    FramePointer,
    IntentRecord,
    InvocationRecord,
    Record,
    StateRecord,
    Status,
    StoredValue,
    Summary,
    WaitAnswer,
    WaitEscalation,
    WaitRefusal,
    WaitRequest,
)
from kitaru.wire.structs import replace
from kitaru.wire.times import now

T = TypeVar("T")
_AT_ONCE = 500
# The callee of the calls of `kitaru.tag`.
TAG = "kitaru.tag"


class Journal:
    """The records of one execution. Create an instance with `create` or `open`.

    Every method that writes a record returns the stored record: the caller's, or the one that
    another process wrote first. All methods may raise `EnvironmentFailure`; the same call may then
    be repeated. Safe for threads.
    """

    def __init__(self, store: Store, execution: ExecutionRecord, *, began: bool = False) -> None:
        """`began` is true if this process created the execution, which has no other records."""
        self.store = store
        self.execution = execution
        self.exec_id = execution.exec_id
        self.home = keys.home(execution.exec_id)
        self._record_store = RecordStore(store)
        self.writer = self._record_store.writer
        self._cache = Cache(self._record_store, self.exec_id)
        self._presence = Presence(store, self.exec_id, began=began)
        self._is_behind = not (began or store.remote)
        # What this process has recorded, for summaries.
        self._began = began
        self._spent = Spent()
        self._note_of_title = ""
        self._tags: dict[str, str] = {}
        self._asked: dict[str, WaitRequest] = {}
        # The next entry of the log of events, by name and revision of a wait.
        self._looked: dict[tuple[str, int], int] = {}
        self._segment_writer = SegmentWriter(self._record_store, self.exec_id)
        self._segment_reader = SegmentReader(self._record_store, self.exec_id, self._segment_writer)

    @property
    def is_new(self) -> bool:
        """Whether this process created the execution, which is not a replay."""
        return self._began

    @classmethod
    def create(cls, store: Store, record: ExecutionRecord) -> Journal:
        """Create an execution, or attach to the one with this id, the same flow and equal inputs.

        Raises:
            StateError: the id belongs to an execution of another flow or with other inputs.
            UsageError: the id is not an execution id.
        """
        record_store = RecordStore(store)
        key = keys.execution(check_execution_id(record.exec_id))
        # Write the mark in the same commit: an execution without a mark may count as running.
        began = record_store.try_create(key, record, *states.mark(store, record))
        held = (None if began else record_store.read(ExecutionRecord, key)) or record
        if (held.flow, held.inputs_digest) != (record.flow, record.inputs_digest):
            other = "flow" if held.flow != record.flow else "inputs"
            raise StateError(
                f"Execution {record.exec_id} already exists, with another {other}: it runs "
                f"{held.flow}, started at {held.started_at}.",
                next_step="see or start new",
                store_url=store.url,
                exec_id=record.exec_id,
            )
        states.write_first_state(record_store, held)
        return cls(store, held, began=began)

    @classmethod
    def adopting(
        cls, store: Store, record: ExecutionRecord, records: Iterable[tuple[str, Record]]
    ) -> Journal:
        """Create an execution that contains these records, by key, from the start."""
        record_store = RecordStore(store)
        record_store.write_all(records)
        mark = states.mark(store, record)
        held = record_store.write(keys.execution(record.exec_id), record, *mark)
        states.write_first_state(record_store, held)
        return cls(store, held)

    @classmethod
    def open(cls, store: Store, exec_id: str) -> Journal:
        """Open an existing execution.

        Raises:
            NotFound: the store has no such execution.
        """
        record = RecordStore(store).read(
            ExecutionRecord, keys.execution(check_execution_id(exec_id))
        )
        if record is None:
            # Users trust the message "there is no such execution". Damage must not cause it.
            store.inspect(keys.home(exec_id))
        if record is None and store.get(keys.launch(exec_id)) is not None:
            raise NotFound(
                f"The execution {exec_id} was started, and its first step has not begun yet.",
                help="Try again later. The page of its target shows whether the step is waiting.",
            )
        if record is None:
            raise NotFound(
                f"There is no execution {exec_id} in {store.url}.",
                next_step="list executions",
                store_url=store.url,
                exec_id=exec_id,
            )
        return cls(store, record)

    def inspect(self) -> None:
        """Check the store for damage before treating a missing record as absent.

        Raises:
            RecordCorrupt: records of this execution may be lost.
        """
        self.store.inspect(self.home)

    def mark_running(self) -> None:
        """Mark an execution with records of other processes as running in this process.

        Raises:
            RecordCorrupt: records of this execution may be lost.
        """
        self.inspect()
        if self.execution.mode == "local":
            processes.join(self.store, self.exec_id)
        running = partial(self._write_state, "running")
        if self.store.remote:
            self._segment_reader.begin(running)
        else:
            running()

    def note_code(self, fingerprint: str) -> None:
        """Record the code of this process if other code started the execution."""
        if not self.execution.code or fingerprint in ("", self.execution.code):
            return
        process = f"{os.uname().nodename}:{os.getpid()}"
        key = keys.code(self.exec_id, fingerprint)
        self._record_store.write(key, CodeRecord(fingerprint, now(), process, VERSION))

    def note_source(self, digest: str) -> None:
        """Record the file of this process if the process before it ran another one."""
        sources.note_source(self.store, self.exec_id, digest, self.execution.source)

    def codes(self) -> list[CodeRecord]:
        """Return the other versions of code that ran the execution, in order of first use."""
        found = self._record_store.read_all(CodeRecord, self.store.list(keys.codes(self.exec_id)))
        return sorted(found, key=lambda record: record.at)

    def invocation(self, id: str) -> InvocationRecord | None:
        """Return the outcome of an invocation, or None if it certainly has none yet."""
        if (held := self._segment_reader.take(id)) is not None:
            return held
        return self._record_store.read(InvocationRecord, keys.invocation(self.exec_id, id))

    def outcome_or_end(self, id: str) -> InvocationRecord | EndRecord | None:
        """Return an invocation's outcome; without one, the execution's end, or None."""
        if (held := self._segment_reader.take(id)) is not None:
            return held
        if self._presence.is_sole_writer():
            return None
        if self._is_behind:
            # A resumed run finds its records first. Each takes one read: the end matters only where
            # a record is absent.
            if (found := self.invocation(id)) is not None:
                return found
            self._is_behind = False
        # Read the outcome last: its absence must be as recent as possible when the call runs.
        places = keys.end(self.exec_id), keys.invocation(self.exec_id, id)
        read: list[bytes | None] = []
        self.store.concurrently(
            self._presence.announce, lambda: read.extend(self.store.get_all(places))
        )
        end, outcome = read
        if outcome is not None:
            return self._record_store.verify(InvocationRecord, places[1], outcome)
        return None if end is None else self._record_store.verify(EndRecord, places[0], end)

    def recorded(self) -> set[str]:
        """Return the ids of the invocations that have an outcome. The list may be stale."""
        found = self.store.list(keys.invocations(self.exec_id))
        return {key.rpartition("/")[2] for key in found}

    def outcomes(self, ids: Iterable[str]) -> list[InvocationRecord]:
        """Return the outcomes of these invocations, in program order of the calls."""
        places = [keys.invocation(self.exec_id, id) for id in sorted(ids)]
        read = self._record_store.read_all(InvocationRecord, places) if places else []
        return sorted(read, key=lambda record: (record.position, record.id))

    def invocations(self) -> list[InvocationRecord]:
        """Return all outcomes in program order of the calls."""
        return sorted(self.each_invocation(), key=lambda record: (record.position, record.id))

    def each_invocation(self) -> Iterator[InvocationRecord]:
        """Yield all outcomes in any order, with few in memory at once."""
        return self._read_each(partial(self._record_store.verify, InvocationRecord), self._each())

    def unseen(self, seen: set[str], most: int) -> list[InvocationRecord]:
        """Return the outcomes that are not in `seen`, in program order, and add their ids to it.

        Of more than `most` outcomes, the last ones are returned; few are in memory at once.
        """
        kept = list[tuple[int, str, str, bytes]]()

        def last() -> list[tuple[int, str, str, bytes]]:
            return sorted(kept)[-most:]

        def read(key: str, data: bytes) -> tuple[int, str, str, bytes]:
            fields = glance(key, data)
            return fields["position"], fields["id"], key, data

        for one in self._read_each(read, self._besides(seen) if seen else self._each()):
            seen.add(one[1])
            kept.append(one)
            if len(kept) >= 2 * most:
                kept = last()
        return [self._record_store.verify(InvocationRecord, *one[2:]) for one in last()]

    def glances(self) -> Iterator[dict[str, Any]]:
        """Yield the fields of each outcome as JSON, in any order, with few in memory at once.

        For counting and sorting many outcomes: only checksums are verified.
        """
        return self._read_each(glance, self._each())

    def in_order(self, marked: bytes = b"") -> Iterator[InvocationRecord]:
        """Yield the same as `invocations` with few outcomes in memory; each is read twice.

        With `marked`, yield only outcomes whose records contain these bytes. The others are read
        once and not parsed.
        """

        def place(key: str, data: bytes) -> tuple[int, str] | None:
            if marked and not is_marked(key, data, marked):
                return None
            fields = glance(key, data)
            return fields["position"], fields["id"]

        order = sorted(one for one in self._read_each(place, self._each()) if one)
        for start in range(0, len(order), _AT_ONCE):
            yield from self.outcomes(id for _, id in order[start : start + _AT_ONCE])

    def record(self, rec: InvocationRecord, *, cache_key: str = "") -> InvocationRecord:
        """Record an invocation's outcome in one commit.

        Args:
            cache_key: if set, later executions find the result under this key (see `cached`).
        """
        key = keys.invocation(self.exec_id, rec.id)
        also = [self._hint(rec, cache_key)] if cache_key and rec.status == "completed" else []
        written = partial(self._record_store.put_with_bytes, key, rec, *also)
        held, data = self.store.concurrently(
            written, self._presence.refresh, *self._segment_writer.due()
        )
        self._segment_writer.add(held, data)
        self._spent.add_record(held)
        if held.callee == TAG:
            self._tags |= _tags(held.metadata)
        elif held.kind == "log" and "title" in held.metadata:
            self._note_of_title = _text(held.metadata["title"])
        elif held.kind == "wait":
            self._asked.pop(held.id, None)
        return held

    def cached(
        self, cache_key: str, id: str, beside: Callable[[], Iterable[str]] = tuple
    ) -> InvocationRecord | None:
        """Return the completed invocation that another execution recorded under a cache key.

        Args:
            cache_key: `CODE/ARGUMENTS`, two strings without `/`.
            id: the invocation that requests the result.
            beside: the codes of calls that are likely to follow.

        Only the first invocation of this execution that requests the result receives it. A flow
        that repeats a call with the same arguments, such as a poll, runs it again. `cached_from`
        contains the source of the result. Large values are copied to this execution first, so that
        they stay readable for as long as this execution exists.
        """
        return self._cache.find(cache_key, id, beside)

    def attempts(self, id: str | None = None) -> list[AttemptRecord]:
        """Return the failed attempts of one or all invocations, the first attempt first."""
        return list(self.each_attempt(id))

    def each_attempt(self, id: str | None = None) -> Iterator[AttemptRecord]:
        """Yield the same as `attempts`, with few in memory at once."""
        of = keys.all_attempts(self.exec_id) if id is None else keys.attempts(self.exec_id, id)
        for key, data in self.store.scan(of):
            yield self._record_store.verify(AttemptRecord, key, data)

    def add_attempt(self, rec: AttemptRecord) -> AttemptRecord:
        """Store a failed attempt under the next free number; return it with that number."""
        number = len(self.store.list(keys.attempts(self.exec_id, rec.id)))
        while True:
            number += 1
            numbered = replace(rec, number=number)
            if self._record_store.try_create(keys.attempt(self.exec_id, rec.id, number), numbered):
                self._spent.add_attempt(numbered)
                return numbered

    def state(self) -> StateRecord:
        """Return the execution's state. An end takes precedence over every state record."""
        return states.read_state(self._record_store, self.exec_id, self.execution.started_at)

    def set_state(self, status: Status, error: ErrorInfo | None = None) -> None:
        """Record a status change, unless the newest state already has that status."""
        pausing = self._segment_writer.due(pausing=status != "running")
        self.store.concurrently(lambda: self._write_state(status, error), *pausing)
        if status != "running":
            self.store.flush()

    def show_tags(self) -> None:
        """Write a summary with the tags that this process has recorded, so that lists have them."""
        states.write_again(self._record_store, self.execution, self._summarise)

    def ensure_listed(self) -> None:
        """List the execution, even if the process that created it was killed before it could."""
        states.ensure_listed(self._record_store, self.execution)

    def end(self) -> EndRecord | None:
        """Return the end of the execution, or None. A failed execution has not ended."""
        return states.read_end(self._record_store, self.exec_id)

    def finish(self, record: EndRecord) -> EndRecord:
        """Record the end of the execution, or return the end that is already recorded.

        Its parent learns of it, and the children of a cancelled execution are cancelled.
        """
        parent, hint = self.execution.parent, keys.due_ended(self.exec_id)
        concerns_others = bool(parent) or record.status == "cancelled"
        if concerns_others:
            # Before the end: if this process dies after it, a dispatcher finds the hint.
            blobs.create_or_read(self.store, hint, now().encode("ascii"))
        held = self._record_store.write(keys.end(self.exec_id), record)
        self.set_state(held.status)
        if concerns_others:
            after_end(self.store, self.exec_id, parent, held)
            if held.status != "cancelled" or self.execution.mode != "deployed":
                # Otherwise the hint stays until the orchestrator is notified.
                rounds.drop(self.store, hint)
        return held

    def summary(self) -> Summary:
        """Return what a list shows of the execution; computed if it was not written.

        Raises:
            EnvironmentFailure: the store cannot be read.
        """
        state = self.state()
        found = summaries.read(self._record_store, self.exec_id, state.number)
        if found is not None and found.status == state.status:
            return found
        return self._summarise(state)

    def _write_state(self, status: Status, error: ErrorInfo | None = None) -> None:
        states.write_state(
            self._record_store, self.execution, status, error, summarise=self._summarise
        )

    def _summarise(self, state: StateRecord) -> Summary:
        title, spent, tags = self._note_of_title, self._spent, self._tags
        up = ("", "", "")
        earlier = None
        if not self._is_whole():
            spent = Spent()
            if state.status == "running" and state.error is None:
                # Nothing has changed since the execution paused.
                earlier = summaries.read(self._record_store, self.exec_id, state.number - 1)
            if earlier is None:
                title, tags = self._add_all(spent)
            else:
                tags = {**earlier.tags, **tags}
        if state.status in states.FINAL and (end := self.end()) is not None:
            # A state is recorded after its end.
            state = replace(state, at=end.at)
            up = summaries.result_shown(self.store, self.exec_id, end.result)
        elif state.status in states.PAUSED:
            kinds = ("timer",) if state.status == "sleeping" else ("question", "child", "event")
            asked = [*self._asked.values()] or self.pending_requests()
            shown = [request for request in asked if request.kind in kinds]
            up = summaries.wait_shown(shown[0]) if shown else up
        return summaries.summarise(
            self.store,
            self.execution,
            state,
            title=earlier.title if earlier is not None else title,
            tags=tags,
            up=up,
            spent=earlier or spent,
        )

    def _is_whole(self) -> bool:
        """Return whether this process alone has recorded everything in this execution."""
        if not self._began or self.execution.mode != "local":
            return False
        if self.store.remote:
            return self._presence.is_alone
        return len(self.store.list(keys.processes(self.exec_id), limit=2)) < 2

    def effort(self) -> Effort:
        """Return the effort of what this execution ran itself, without what it reused."""
        if self._is_whole():
            return self._spent.own
        spent = Spent()
        self._add_all(spent)
        return spent.own

    def _add_all(self, spent: Spent) -> tuple[str, dict[str, str]]:
        """Add the effort of all records to `spent`; return the note `title` and the tags."""
        title: tuple[int, str] = (-1, "")
        tagged: list[tuple[int, dict[str, str]]] = []
        for fields in self.glances():
            spent.add(fields)
            if fields["callee"] == TAG:
                tagged.append((fields["position"], _tags(fields["metadata"])))
            elif fields["kind"] == "log" and "title" in fields["metadata"]:
                title = max(title, (fields["position"], _text(fields["metadata"]["title"])))
        for attempt in self.each_attempt():
            spent.add_attempt(attempt)
        tags: dict[str, str] = {}
        for _, some in sorted(tagged, key=lambda one: one[0]):
            tags |= some
        return title[1], tags

    def request_wait(self, request: WaitRequest) -> WaitRequest:
        """Record the question of a wait once, and again whenever the flow's code changes it."""
        key = keys.wait_request(self.exec_id, request.name)
        first = self._record_store.read(WaitRequest, key)
        if request.kind == "event":
            request = events.placed(self._record_store, request, first)
        self._list_wait(first or request, self.next_answer(request.name))
        # The deadline of the first request counts, whatever later processes compute.
        held = self._revised(self._record_store.write(key, request))
        while _question(held) != _question(request):
            number = held.revision + 1
            key = keys.wait_revision(self.exec_id, request.name, number)
            deadline, escalate = held.deadline, held.escalate
            later = replace(request, revision=number, deadline=deadline, escalate=escalate)
            if later.kind == "event":
                later = events.placed(self._record_store, later, held)
                self._list_wait(later, self.next_answer(request.name))
            held = self._record_store.write(key, later)
        self._asked[held.name] = held
        return held

    def next_answer(self, wait: str) -> int:
        """Return the number of the first answer that the flow has not rejected."""
        number = 1
        while self._refusal(wait, number) is not None:
            number += 1
        return number

    def list_waits(self) -> None:
        """List the pending waits of an execution that an earlier release wrote, or an import."""
        found = self._wait_keys()
        for name in self._pending(found):
            request = self._record_store.read(WaitRequest, keys.wait_request(self.exec_id, name))
            if request is not None:
                self._list_wait(request, found[name, "refusal"] + 1)

    def listed_waits(self) -> list[str]:
        """Return the keys of all hints of its waits: those of listings, and those of deadlines."""
        found = self._wait_keys()
        names = [name for name, what in found if what == "request"]
        places = [keys.wait_request(self.exec_id, name) for name in names]
        return [
            hint
            for request in self._record_store.read_all(WaitRequest, places)
            for number in range(1, found[request.name, "refusal"] + 2)
            for hint, _ in self._hints_of(request, number)
        ]

    def _list_wait(self, request: WaitRequest, number: int) -> None:
        """Write the hints of a wait whose next answer has that number.

        The question and the refusal that make the wait pending are recorded after them, so no
        pending wait is unlisted, and no deadline is missed.
        """
        if request.kind == "event":
            events.note_shape(self.store, request)
        for key, data in self._hints_of(request, number):
            if key.startswith(keys.NEWS):
                news.announce(self.store, key)
            else:
                blobs.create_or_read(self.store, key, data.encode("ascii"))

    def _unlist_wait(self, answer: WaitAnswer) -> None:
        """Delete the hints of an answered wait. A reader or a dispatcher deletes them otherwise."""
        # The answer is recorded, so nothing is reported.
        with suppress(EnvironmentFailure):
            place = keys.wait_request(self.exec_id, answer.name)
            request = self._record_store.read(WaitRequest, place)
            if request is not None:
                self.store.delete(*(key for key, _ in self._hints_of(request, answer.number)))

    def _hints_of(self, request: WaitRequest, number: int) -> Iterator[tuple[str, str]]:
        """Yield the hints of a wait without an answer of that number, with their contents."""
        if request.kind == "question":
            key = keys.waiting(request.asked_at, self.exec_id, request.name, number)
            yield key, self.execution.flow
            if self.execution.mode != "dry-run":
                yield keys.news_asked(self.exec_id, request.name, number), now()
        # Only its own process continues a dry run.
        if request.kind == "event" and self.execution.mode != "dry-run":
            yield events.subscription(self.exec_id, request), ""
        if request.deadline and self.execution.mode != "dry-run":
            for at in sorted({*(one["at"] for one in request.escalate), request.deadline}):
                yield keys.due_timer(self.exec_id, request.name, number, at), at

    def hint_again(self, waits: Iterable[str]) -> None:
        """Write the hints of these waits again, as after a restored backup."""
        for name in waits:
            request = self.wait_request(name)
            if request is not None and (request.deadline or request.event):
                self._list_wait(request, self.next_answer(name))

    def expire(self, request: WaitRequest, *, is_hinted: bool = False) -> WaitAnswer:
        """Record that the deadline of a wait has passed, unless it has an answer; return that.

        `is_hinted`: the hint of the deadline stays until the execution has continued, so the answer
        needs none of its own.
        """
        if (found := self.look_for_event(request)) is not None:
            return found
        value = request.default[0] if request.default else None
        made = WaitAnswer(request.name, "expired", value, now())
        held = self._first_answer(made, is_hinted=is_hinted)
        if not is_hinted:
            self._unlist_wait(held)
        return held

    def look_for_event(self, request: WaitRequest) -> WaitAnswer | None:
        """Answer a wait with the event that it waits for, if that is in the log; return that."""
        if request.kind != "event" or self.execution.mode == "dry-run":
            return None
        place = request.name, request.revision
        found, self._looked[place] = events.look(
            self._record_store, self.execution, request, self._looked.get(place, 0)
        )
        if found is not None:
            self._unlist_wait(found)
        return found

    def escalate_due(self, request: WaitRequest) -> None:
        """Record the escalations of a wait whose moment has passed."""
        for number, one in enumerate(request.escalate, 1):
            if one["at"] <= now():
                made = WaitEscalation(request.name, number, one["to"], now())
                news.announce(self.store, keys.news_escalated(self.exec_id, request.name, number))
                key = keys.wait_escalation(self.exec_id, request.name, number)
                self._record_store.write(key, made)

    def escalations(self, request: WaitRequest) -> list[WaitEscalation]:
        """Return the escalations of a wait that were recorded."""
        numbers = range(1, len(request.escalate) + 1)
        places = [keys.wait_escalation(self.exec_id, request.name, number) for number in numbers]
        return self._record_store.read_all(WaitEscalation, places)

    def expire_due(self, waits: Iterable[str] | None = None) -> list[WaitAnswer]:
        """Answer the pending waits whose event came or whose deadline has passed; return that.

        Args:
            waits: look at these waits only.
        """
        names = self.pending_names() if waits is None else waits
        places = [keys.wait_request(self.exec_id, name) for name in names]
        requests = self._record_store.read_all(WaitRequest, places)
        found = [
            self._look_again(one) or (self.expire(one) if _is_due(one) else None)
            for one in requests
        ]
        return [answer for answer in found if answer is not None]

    def _look_again(self, request: WaitRequest) -> WaitAnswer | None:
        return self.look_for_event(self._revised(request)) if request.kind == "event" else None

    def wait_request(self, name: str) -> WaitRequest | None:
        """Return the current question of a wait, or None if it was not asked yet."""
        first = self._record_store.read(WaitRequest, keys.wait_request(self.exec_id, name))
        return None if first is None else self._revised(first)

    def child_of(self, name: str) -> str:
        """Return the execution whose end answers a wait that this process asked, or empty."""
        request = self._asked.get(name)
        return request.child if request is not None else ""

    def _revised(self, request: WaitRequest) -> WaitRequest:
        while True:
            key = keys.wait_revision(self.exec_id, request.name, request.revision + 1)
            later = self._record_store.read(WaitRequest, key)
            if later is None:
                return request
            request = later

    def answer(self, answer: WaitAnswer, *, number: int | None = None) -> WaitAnswer:
        """Answer or abort a wait, which need not have been asked yet.

        The first answer that the flow does not reject counts. With `number`, the answer has that
        number or is not recorded.

        Raises:
            WaitConflict: another answer was recorded first.
        """
        held = self._first_answer(answer, number=number)
        if _meaning(held) != _meaning(answer):
            by = f" by {held.by}" if held.by else ""
            raise WaitConflict(
                f'The wait "{answer.name}" of execution {self.exec_id} {_was(held)}, '
                f"at {held.answered_at}{by}.",
                next_step="see first answer",
                store_url=self.store.url,
                exec_id=self.exec_id,
            )
        self._unlist_wait(held)
        return held

    def _first_answer(
        self, answer: WaitAnswer, *, is_hinted: bool = False, number: int | None = None
    ) -> WaitAnswer:
        """Record an answer unless there is one that the flow has not rejected; return the one."""
        return rounds.write_answer(
            self._record_store, self.execution, answer, is_hinted=is_hinted, number=number
        )

    def wait_answer(self, name: str) -> WaitAnswer | None:
        """Return the answer of a wait, or None if it certainly has no answer yet.

        A wait that this process has asked is answered here if its event came, and expires if its
        deadline has passed.
        """
        found = rounds.effective_answer(self._record_store, self.exec_id, name)
        asked = self._asked.get(name)
        if found is None and asked is not None:
            found = self.look_for_event(asked)
            if found is None and _is_due(asked):
                return self.expire(asked)
        return found

    def asked(self, name: str) -> WaitRequest | None:
        """Return the question that this process has asked, and that is not answered yet."""
        return self._asked.get(name)

    def paused(self, waits: Iterable[str]) -> Status:
        """Return the status of an execution that these waits stop: `waiting` or `sleeping`."""
        asked = (self._asked.get(name) or self.wait_request(name) for name in waits)
        kinds = {request.kind for request in asked if request is not None}
        return "sleeping" if kinds == {"timer"} else "waiting"

    def each_answer(self) -> Iterator[tuple[WaitAnswer, str]]:
        """Yield all answers of all waits, each with the reason why the flow rejected it, or ""."""
        for (name, what), count in sorted(self._wait_keys().items()):
            numbers = range(1, count + 1) if what == "answer" else ()
            answers = [keys.wait_answer(self.exec_id, name, number) for number in numbers]
            refusals = [keys.wait_refusal(self.exec_id, name, number) for number in numbers]
            reasons = {
                one.number: one.reason for one in self._record_store.read_all(WaitRefusal, refusals)
            }
            for answer in self._record_store.read_all(WaitAnswer, answers):
                yield answer, reasons.get(answer.number, "")

    def refuse(self, answer: WaitAnswer, reason: str) -> None:
        """Record that the flow rejected an answer. The wait is then pending again."""
        place = keys.wait_request(self.exec_id, answer.name)
        request = self._record_store.read(WaitRequest, place)
        if request is not None:
            self._list_wait(request, answer.number + 1)
        refusal = WaitRefusal(answer.name, answer.number, reason)
        key = keys.wait_refusal(self.exec_id, answer.name, answer.number)
        self._record_store.write(key, refusal)

    def refused(self, name: str) -> str:
        """Return why the latest rejected answer was rejected; empty if none was."""
        number, reason = 1, ""
        while (refusal := self._refusal(name, number)) is not None:
            number, reason = number + 1, refusal.reason
        return reason

    def pending_waits(self) -> list[WaitRequest]:
        """Return the questions that wait for an answer, the oldest first."""
        return [one for one in self.pending_requests() if one.kind == "question"]

    def pending_children(self) -> list[WaitRequest]:
        """Return the waits for children that have not ended, the oldest first."""
        return [one for one in self.pending_requests() if one.kind == "child"]

    def pending_events(self) -> list[WaitRequest]:
        """Return the waits for events that have not come, the oldest first."""
        return [one for one in self.pending_requests() if one.kind == "event"]

    def pending_requests(self) -> list[WaitRequest]:
        """Return what has not ended, oldest first: questions, sleeps, children, events."""
        found = self._wait_keys()
        return self._requests(self._pending(found), found)

    def pending_names(self) -> list[str]:
        """Return the names of the waits and sleeps that have not ended."""
        return self._pending(self._wait_keys())

    def answered_names(self) -> list[str]:
        """Return the waits with an answer that the flow has not recorded as their outcome."""
        found = self._wait_keys()
        names = [name for name, what in found if what == "request"]
        names = [name for name in names if found[name, "answer"] > found[name, "refusal"]]
        recorded = {outcome.id for outcome in self.outcomes(names)}
        return [name for name in names if name not in recorded]

    def wait_requests(
        self, is_wanted: Callable[[str], bool] = lambda name: True
    ) -> list[WaitRequest]:
        """Return all questions of the waits that `is_wanted` selects, the oldest first."""
        found = self._wait_keys()
        names = (name for name, what in found if what == "request" and is_wanted(name))
        return self._requests(names, found)

    def _wait_keys(self) -> Counter[tuple[str, str]]:
        """Return how many questions, answers and rejected answers each wait has."""
        place = keys.waits(self.exec_id)
        parts = (key.removeprefix(place).split("/") for key in self.store.list(place))
        return Counter((name, what) for name, what, *_ in parts)

    def _pending(self, found: Counter[tuple[str, str]]) -> list[str]:
        """Return the waits without a valid answer that the flow has not cancelled."""
        names = [name for name, what in found if what == "request"]
        names = [name for name in names if found[name, "answer"] == found[name, "refusal"]]
        cancelled = {outcome.id for outcome in self.outcomes(names)}
        return [name for name in names if name not in cancelled]

    def _requests(self, names: Iterable[str], found: Counter[tuple[str, str]]) -> list[WaitRequest]:
        """Return the newest questions of these waits. `found` counts their objects."""
        places = [
            keys.wait_revision(self.exec_id, name, number)
            if (number := found[name, "asked"])
            else keys.wait_request(self.exec_id, name)
            for name in names
        ]
        asked = self._record_store.read_all(WaitRequest, places)
        return sorted(asked, key=lambda request: (request.asked_at, request.name))

    def exit(self, block: str) -> ExitRecord | None:
        """Return the exit of the process segment that started at `block`, or None."""
        return self._record_store.read(ExitRecord, keys.exit(self.exec_id, block))

    def exits(self) -> list[ExitRecord]:
        """Return the exits of all process segments."""
        return self._record_store.read_all(ExitRecord, self.store.list(keys.exits(self.exec_id)))

    def record_exit(self, record: ExitRecord) -> ExitRecord:
        """Record the exit of a process segment, and the frame that it passes on, once."""
        key = keys.exit(self.exec_id, record.block)
        pausing = self._segment_writer.due(pausing=True)
        return self.store.concurrently(lambda: self._record_store.write(key, record), *pausing)

    def frame_pointers(self) -> list[tuple[str, FramePointer]]:
        """Return each block that control reached, with the location of its frame."""
        prefix = keys.frames(self.exec_id)
        found = self.store.list(prefix)
        blocks = [key.removeprefix(prefix) for key in found]
        return list(zip(blocks, self._record_store.read_all(FramePointer, found), strict=True))

    def frame_pointer(self, block: str) -> dict[str, str] | None:
        """Return `{"from": block}` or `{"passed": block}`; None if control was not there yet."""
        pointer = self._record_store.read(FramePointer, keys.frame(self.exec_id, block))
        if pointer is None:
            return None
        return {"passed": pointer.passed} if pointer.passed else {"from": pointer.source}

    def set_frame_pointer(self, block: str, pointer: dict[str, str]) -> None:
        """Record the location of the frame of `block`, or the block where control continued."""
        record = FramePointer(source=pointer.get("from", ""), passed=pointer.get("passed", ""))
        self._record_store.write(keys.frame(self.exec_id, block), record)

    def declare_write(self, id: str, floor: int) -> int:
        """Record that an invocation will write a version above `floor`; return the first record."""
        return self._record_store.write(
            keys.intent(self.exec_id, id), IntentRecord(id, floor)
        ).floor

    def store_value(
        self,
        value: Any,
        where: str,
        *,
        may_pickle: codec.MayPickle = codec.never,
        type: str = "",
    ) -> StoredValue:
        """Encode and store a value, as `kitaru.runtime.journal.blobs.keep` does."""
        return blobs.keep(self.store, self.home, value, where, may_pickle=may_pickle, type=type)

    def store_document(self, document: Any, type: str = "") -> StoredValue:
        """Store a codec document: inline up to 64 KiB, else in a blob; it is durable on return.

        Raises:
            ValueNotEncodable: the document is not JSON.
            ValueTooLarge: the value exceeds the size limit.
        """
        return blobs.store_value(self.store, self.home, document, type)

    def fetch(self, value: StoredValue) -> Any:
        """Return the document of a stored value after verifying its digest. Do not change it.

        Raises:
            RecordCorrupt: the blob is missing or differs from the stored value.
        """
        return blobs.load_value(self.store, self.home, value)

    def _read_each(
        self, read: Callable[[str, bytes], T], outcomes: Iterable[tuple[str, bytes]]
    ) -> Iterator[T]:
        for key, data in outcomes:
            try:
                yield read(key, data)
            except (RecordCorrupt, RecordTooNew):
                # The copy of the record may be damaged. Read the record itself.
                exact = self.store.get(key)
                if exact == data:
                    raise
                if exact is not None:
                    yield read(key, exact)

    def _each(self) -> Iterator[tuple[str, bytes]]:
        """Yield the key and the bytes of each outcome as it is read, in any order."""
        if not self.store.remote:
            yield from self.store.scan(keys.invocations(self.exec_id))
            return
        reader = SegmentReader(self._record_store, self.exec_id)
        reader.begin()
        yield from reader.each()

    def _besides(self, ids: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the same without the outcomes of `ids`, which are not read."""
        prefix = keys.invocations(self.exec_id)
        found = self.store.list(prefix)
        yield from existing(
            self.store, [key for key in found if key.removeprefix(prefix) not in ids]
        )

    def _refusal(self, name: str, number: int) -> WaitRefusal | None:
        return self._record_store.read(WaitRefusal, keys.wait_refusal(self.exec_id, name, number))

    def _hint(self, rec: InvocationRecord, cache_key: str) -> tuple[str, bytes]:
        hint = CacheHint(self.exec_id, rec.id, rec.arguments_digest, rec.fingerprint)
        where = keys.cache(cache_key)
        return where, self._record_store.encode(where, hint)


def after_end(store: Store, exec_id: str, parent: str, end: EndRecord) -> None:
    """Do what the end of an execution means for its parent and its children."""
    children.tell_parent(store, exec_id, parent)
    if end.status != "cancelled":
        return
    for one in children.notes(store, exec_id):
        if one.on_cancel == "cancel":
            cancel_for(store, one.exec_id, f"the parent {exec_id}")


def cancel_for(store: Store, exec_id: str, by: str) -> None:
    """Cancel an execution, also one that has not begun; `by` is the reason or the person."""
    end = EndRecord("cancelled", None, now(), by=by)
    try:
        Journal.open(store, exec_id).finish(end)
    except NotFound:
        # It has not begun. Its first step finds the end and runs nothing.
        blobs.create_or_read(store, keys.due_ended(exec_id), now().encode("ascii"))
        RecordStore(store).write(keys.end(exec_id), end)


def _meaning(answer: WaitAnswer) -> tuple[str, bytes]:
    return answer.kind, canonical.dumps(answer.value)


def _was(answer: WaitAnswer) -> str:
    """Return what a wait was, for a later answer that does not count."""
    if answer.kind == "value":
        return f"was answered with {_short(answer.value)} already"
    return "was aborted already" if answer.kind == "abort" else "expired without an answer"


def _is_due(request: WaitRequest) -> bool:
    return bool(request.deadline) and request.deadline <= now()


def _question(request: WaitRequest) -> tuple[str, bytes, list[tuple[str, str]], list[Any]]:
    evidence = [(entry["name"], entry["value"].digest) for entry in request.evidence]
    event = [request.event.get(name) for name in ("name", "match", "where")]
    return request.question, canonical.dumps(request.schema), evidence, event


def _tags(metadata: dict[str, Any]) -> dict[str, str]:
    return {name: _text(document) for name, document in metadata.items()}


def _text(document: Any) -> str:
    """Return a note as a string."""
    value = as_json(document)
    return value if isinstance(value, str) else ""


def _short(value: Any) -> str:
    text = canonical.dumps(value).decode("ascii")
    return text if len(text) <= 60 else text[:57] + "..."
