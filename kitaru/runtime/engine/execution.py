"""The engine: the life of a durable call.

    draft(notes)                       a call in the body of a flow
        |
      begin          take the next id in program order; digest the arguments; seal the failures
        |            that the body has passed since the last call
        |
      recorded? ---- yes: check that it is the same call; return its value or raise its failure
        | no
      unchanged? --- yes: (in a replay that reuses what is unchanged) record the source's outcome
        | no
      cached?   ---- yes: record the cached result under this id; return it
        | no
      attempt        run the function once
        |  |
        |  failure:  attempts left, retried here     pause, then attempt again
        |            attempts left, retried outside  stop; the orchestrator starts the process again
        |            none left                       raise it in the body, unsealed
      value
        |
      commit         create the record if the id has none; an existing record wins
        |
      return         the value of the record that won

A failure is *unsealed* while the body may still fail because of it. If it does, the execution
fails, and `retry` runs the call again. The next durable call *seals* the failure by recording it:
the body has caught the exception and depends on it, so every later run must raise it too.

`submit` begins a call in the same way and performs the other stages on another thread. The value of
a `wait` is its answer. A wait without an answer suspends: the host ends the process, or parks the
thread until an answer arrives. `stop` ends the run from any thread: `_check_running` parks each
thread at its next call.

The engine never unwinds the flow. If the body must not continue, its thread is parked or its
process ends, so no `except` or `finally` of the user's code runs.

The stages after `begin` are coroutines, so that each rule is written once for blocking and for
awaited calls. They suspend only in their driver (`drivers.Driver`). The blocking driver never
suspends: `drivers.finished` runs such a coroutine to its end like a function.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Literal, NoReturn, Protocol
from weakref import WeakValueDictionary

from kitaru import hints
from kitaru.errors import (
    ClassChanged,
    ContextError,
    Diverged,
    EnvironmentFailure,
    KitaruError,
    RecordCorrupt,
    RecordTooNew,
    StoreDenied,
    StoreUnavailable,
    StoreUnsuitable,
)
from kitaru.hints import retry_help
from kitaru.runtime import codec
from kitaru.runtime.engine import attempts, child_outcomes, outcomes, timers
from kitaru.runtime.engine.caching import key_of
from kitaru.runtime.engine.call_order import Course, warn_unasked
from kitaru.runtime.engine.calls import (
    Args,
    Call,
    Kwargs,
    Spec,
    Turn,
    call_site,
    codes_beside,
    ending,
    user_site,
)
from kitaru.runtime.engine.drivers import Blocking, Driver, DroppedCall, finished
from kitaru.runtime.engine.futures import Future, Submission, Submitted, submission
from kitaru.runtime.engine.local_children import LocalChildren, StartDeployed
from kitaru.runtime.engine.outcomes import (
    Outcome,
    answer_of,
    check_same,
    error_info,
    origin_of,
    read_value,
    release_frames,
    value_of,
)
from kitaru.runtime.engine.parked_threads import parked
from kitaru.runtime.engine.places import (
    BODY,
    Place,
    current_task,
    has_continued,
    inherited,
    numbering,
    running_loop,
)
from kitaru.runtime.engine.retries import ONCE, Policy, chance
from kitaru.runtime.engine.reuse import Recording
from kitaru.runtime.engine.waits import next_valid_answer, valid_answer
from kitaru.runtime.journal import children, evidence, processes
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.telemetry import spans
from kitaru.runtime.telemetry.beats import Beats
from kitaru.runtime.telemetry.logs import Log
from kitaru.wire.ids import Counters
from kitaru.wire.limits import DEFAULT_PARALLEL
from kitaru.wire.records import EndRecord, ErrorInfo, InvocationRecord, WaitAnswer, WaitRequest
from kitaru.wire.structs import Struct, replace
from kitaru.wire.times import now

Stop = Literal["cancelled", "superseded", "failed", "retry"]
# The store cannot record its own failures.
_OF_STORES = (RecordCorrupt, RecordTooNew, StoreDenied, StoreUnavailable, StoreUnsuitable)
_POLL_SECONDS = 0.2
_LOOK_SECONDS = 5.0
# What is called for each kind of wait.
_CALLEES = {
    "question": "kitaru.wait",
    "timer": "kitaru.sleep",
    "event": "kitaru.wait_event",
}


class Execution:
    """One run of a flow's body against its journal; safe for threads."""

    def __init__(
        self,
        journal: Journal,
        host: Host,
        awaited: Callable[[Future[Any]], Coroutine[Any, Any, Any]],
        *,
        cache: bool = True,
        policy: Policy = ONCE,
        counters: Counters | None = None,
        attempted: bool = False,
        run: str = "",
        max_parallel: int = DEFAULT_PARALLEL,
        capture: str | None = None,
        budget: Mapping[str, float] | None = None,
        pickles: bool = True,
        is_other_plan: bool = False,
        start_deployed: StartDeployed | None = None,
    ) -> None:
        """`awaited` is `awaiting.result_of`.

        `attempted` is true if earlier processes may have recorded failed attempts.
        `is_other_plan`: this step belongs to another plan than the one that started the execution.
        `run`: the pipeline run of this process, empty outside pipelines. `capture`: which parts of
        model calls are recorded. `budget`: what they may use, as the flow's decorator sets it.
        `pickles`: whether pickles may cross a cut. `start_deployed` starts a child that is an
        execution of a deployed version; None leaves it to a dispatcher.
        """
        self.journal = journal
        self.capture, self.budget, self.pickles = capture, budget, pickles
        self.may_pickle = codec.came_pickled if pickles else codec.never
        self.children = LocalChildren(max_parallel, start_deployed)
        self.log = Log(journal.store, journal.exec_id)
        self.beats = Beats(journal.store, journal.exec_id)
        self.counters = counters or Counters()
        self.unread: list[str] = []
        self.attempted = attempted
        self.run = run
        self.policy = policy
        # A dry run only shows what would run. Other executions must not reuse its results.
        self._cache = cache and journal.execution.mode != "dry-run"
        self._keys: dict[str, str] = {}
        # The last call of each name in a scope, and what started each place of a provider.
        self._turns: WeakValueDictionary[str, Turn] = WeakValueDictionary()
        self._started: dict[str, object] = {}
        self._host = host
        self._process = os.getpid()
        self._lock = threading.RLock()
        self.submitted = Submitted(
            self._perform_submitted, self._read, self._check_may_block, awaited, max_parallel
        )
        self._blocking = Blocking(host.pause, self.retries_here)
        self._blocking_submitted = Blocking(host.pause, lambda: self.submitted.retries_here)
        self._unsealed: dict[str, Outcome] = {}
        # The waits whose deadlines this process waits for, with those deadlines, for people.
        self.sleeping: dict[str, str] = {}
        # The task that received an unsealed outcome, None outside event loops.
        self._seen_by: dict[str, Any] = {}
        # The readers of inboxes, `inboxes.InboxReader`, by the name of the inbox.
        self.inboxes: dict[str, Any] = {}
        # The loop of an async body, a `body_loop.BodyLoop`.
        self.loop: Any = None
        self.is_stopped = False
        self._body_thread = threading.get_ident()
        self._is_local = journal.execution.mode == "local"
        replay = journal.execution.replay
        self._recording = Recording(journal, replay) if replay and replay.unchanged else None
        if counters is None:
            self.counters.ordinal = 0
        # True if another process, possibly with other code, has run this execution. The changes of
        # a replay are intended: its step belongs to another plan from the start.
        self._is_resumed = (attempted and self._is_local) or is_other_plan
        compares = self._is_resumed and (self._is_local or journal.execution.replay is None)
        self._course = Course(journal, lambda: self.counters, compares=compares)

    # Durable calls

    def invoke(
        self, spec: Spec, args: Args, kwargs: Kwargs, id: str | None, key: str | None = None
    ) -> Any:
        """Return the recorded value of this call. Run the function if no value is recorded."""
        call = self.begin(spec, args, kwargs, id, key)
        with ending(call), self.recording():
            outcome = self._recorded_outcome(call) or finished(self.resolve(call, self._blocking))
            value, error = value_of(self.journal, outcome, unpickle=spec.pickle)
        if error is None:
            return self.read_value(call, outcome, value)
        if not outcome.sealed:
            self.note_unsealed(call.id, outcome)
        raise error

    def submit(self, spec: Spec, args: Args, kwargs: Kwargs, id: str | None) -> Future[Any]:
        """Start the call on another thread. Its id is assigned now, in program order."""
        call = self.begin(spec, args, kwargs, id)
        if call.turn is not None:
            call.turn.is_over = True
        future: Future[Any] = Future(
            self.submitted, call.id, pickle=spec.pickle, is_async=spec.coroutine is not None
        )
        if self.loop is not None:
            self.loop.deliveries.begin()
        self.submitted.add(submission(call, future, self.may_pickle))
        return future

    def _check_may_block(self, future: Future[Any]) -> None:
        if self.loop is not None and self.loop is running_loop():
            self.loop.deliveries.stop_replaying()
            if future.is_async:
                raise ContextError(
                    f"Waiting for {future.id} would block the event loop that it runs on.",
                    help="Await the future: `await future` instead of `future.result()`.",
                )

    def adopt(self, promised: list[Submission]) -> None:
        """Continue the submitted calls of another process: read their outcomes or run them.

        The lazy calls of an async body wait for the task that awaits them.
        """
        self.attempted = self.attempted or bool(promised)
        for one in promised:
            if one.is_lazy and self.loop is not None:
                self.submitted.promise(one)
                continue
            if self.loop is not None:
                self.loop.deliveries.begin()
            self.submitted.add(one)

    def _read(self, future: Future[Any]) -> tuple[Any, BaseException | None]:
        """Return a settled future's value or exception and mark the future as read.

        The body receives the exception at this point.
        """
        self._check_running()
        with self.recording():
            outcome = future.outcome or Outcome(self._recorded(future.id))
            future.outcome = outcome
            if future.id in self.unread:
                self.unread.remove(future.id)
            if outcome.record.status == "cancelled":
                # Only a task cancels a submitted call, so asyncio is imported.
                import asyncio

                return None, asyncio.CancelledError()
            value, error = value_of(self.journal, outcome, unpickle=future.pickle)
        if error is not None and not outcome.sealed:
            self.note_unsealed(future.id, outcome)
        return value, error

    def restored_future(self, id: str) -> Future[Any]:
        """Return the future of an invocation submitted by another process."""
        found = self.submitted.future(id)
        return found or Future(self.submitted, id, settled=True, pickle=self.pickles)

    def begin(
        self,
        spec: Spec,
        args: Args,
        kwargs: Kwargs,
        id: str | None,
        key: str | None = None,
        *,
        is_complete: bool = True,
    ) -> Call:
        """Take the id of a call, and digest its arguments if they are complete.

        `id` is the whole id, `key` the part of it that follows its place. Without either, the call
        is numbered.
        """
        self._check_running()
        here = self.place()
        site = here.site if here.is_shared else user_site(here.site) if here.site else call_site()
        may_be_recorded = self.attempted or self.journal.execution.replay is not None
        # An error leaves the lock before it parks this thread.
        with self._environment(), self._lock:
            self._seal()
            is_numbered = id is None and key is None and spec.kind != "log"
            turn = self._turn(here, spec.name) if is_numbered else None
            taken, renamed = self._take(here, spec, id, key)
            at = self.counters.position
            # A harness may order its calls otherwise in its next release.
            ordinal = 0 if here.is_shared else self._course.count(spec.kind, spec.name)
            may_match = may_be_recorded and is_complete and id is None
            if may_match and self._is_matched(spec, ordinal):
                call = Call(spec, taken, (), {}, "", (), 0, site, at, ordinal, renamed)
                call = self.completed_call(call, args, kwargs)
                return replace(call, id=self._course.id_in_thread(call))
            taken = self._course.id_in_body(taken)
        call = Call(spec, taken, (), {}, "", (), 0, site, at, ordinal, renamed, turn)
        return self.completed_call(call, args, kwargs) if is_complete else call

    def completed_call(self, call: Call, args: Args, kwargs: Kwargs) -> Call:
        """Return a call with its arguments."""
        digest = codec.digest_arguments(args, kwargs)
        return replace(
            call,
            args=args,
            kwargs=kwargs,
            digest=digest.digest,
            opaque=digest.opaque,
            size=digest.size,
        )

    def _is_matched(self, spec: Spec, ordinal: int) -> bool:
        """Return whether the arguments of a call select its record.

        They do in a thread without a place that is not that of the body.
        """
        return (
            spec.compared
            and not ordinal
            and running_loop() is None
            and inherited.get() is BODY
            and threading.get_ident() != self._body_thread
        )

    def reserve(self, spec: Spec, prefix: str) -> str:
        """Take the id of a call that another thread is about to make."""
        with self._lock, self._environment():
            return self.counters.take(prefix + self._course.name_of(spec.kind, spec.name))

    def take_part(self, prefix: str, name: str) -> str:
        """Return the next part `name` of the path of a task below `prefix`."""
        return self.counters.take_part(prefix, name)

    def open_scope(self, name: str, key: str | None, *, is_shared: bool) -> Place:
        """Take the place of a scope: with the part `key`, or with the next part `name`."""
        self._check_running()
        with self._lock:
            here = self.place()
            path = self.counters.take_scope(
                here.prefix, name if key is None else key, is_key=key is not None
            )
        # A harness opens the scope, in a function that the user calls.
        site = here.site or user_site()
        return Place(f"{path}.", is_shared=is_shared, site=site)

    def place(self) -> Place:
        """Return the place of the caller."""
        place = _place()
        found = None if place.provider is None else place.provider()
        if found is None:
            return place
        path, attempt = found
        prefix = f"{place.prefix}{path}."
        with self._lock:
            if self._started.setdefault(prefix, attempt) is not attempt:
                self._started[prefix] = attempt
                self.counters.restart(prefix)
        return replace(place, prefix=prefix, provider=None)

    def _turn(self, here: Place, name: str) -> Turn | None:
        """Take the turn of a numbered call; None outside scopes.

        Raises:
            Diverged: another task or thread makes a call of that name now. Which of the two calls
                is first may differ in a replay.
        """
        if not here.is_shared:
            return None
        owner: object = current_task() or threading.get_ident()
        other = self._turns.get(here.prefix + name)
        if other is not None and not other.is_over and other.owner != owner:
            raise Diverged(
                f'Two calls "{here.prefix}{name}" run at once in one scope, and none has a key: a '
                "replay might swap their results.",
                help="Give each a key, such as the id of a tool call, or run each agent in a scope "
                "of its own. Agents that run concurrently need different names.",
            )
        turn = self._turns[here.prefix + name] = Turn(owner)
        return turn

    def _take(self, here: Place, spec: Spec, id: str | None, key: str | None) -> tuple[str, bool]:
        """Return the id of a call, and whether the execution records it under an earlier name."""
        if key is not None:
            return self.counters.take_key(here.prefix, key), False
        if id is not None and spec.kind == "child":
            # The id of the child's start, with its place, is a part of it.
            return self.counters.take_key("", id), False
        called = spec.name if id is None else id
        name = self._course.name_of(spec.kind, called)
        if id is not None:
            return self.counters.take_explicit(name), name != called
        if here.reserved:
            return here.reserved, name != called
        return self.counters.take(here.prefix + name), name != called

    def _perform_submitted(self, submitted: Submission) -> None:
        if self.is_stopped:
            park()
        try:
            with self.recording():
                outcome = self._recorded_outcome(submitted.call)
                if outcome is None:
                    call = submitted.ready()
                    driver = self._blocking_submitted
                    if self.loop is not None:
                        driver = self.loop.driver_of(submitted.future, driver)
                    outcome = self.failed_in_this_run(call) or finished(self.resolve(call, driver))
            is_watched = submitted.future.settle(outcome)
            if outcome.record.status == "completed":
                self.submitted.close(submitted.call.id)
            if self.loop is not None:
                self.loop.deliveries.settled(outcome.record.sequence, is_watched)
        except DroppedCall:
            self.submitted.close(submitted.call.id)
            self.loop.deliveries.settled(0, False)
        except BaseException as error:
            # No caller sees this thread's exception. Store it in the future, or a reader would wait
            # forever.
            submitted.future.fail(error)
            if self.loop is not None:
                self.loop.deliveries.settled(0, False)

    def recorded_outcome(self, call: Call) -> Outcome | None:
        """Return the recorded outcome of a call, None if it has none."""
        with self.recording():
            return self._recorded_outcome(call)

    def look_up(self, future: Future[Any]) -> None:
        """Settle a future whose call has a record."""
        with self.recording():
            record = self._outcome(future.id)
        if record is not None:
            future.settle(Outcome(record))

    def read_value(self, call: Call, outcome: Outcome, value: Any) -> Any:
        """Return what a call makes of its recorded value."""
        with self._environment():
            return read_value(self.journal, call, outcome.record, value)

    def value_of(self, outcome: Outcome, unpickle: bool) -> tuple[Any, Exception | None]:
        """Return the value of an outcome, or the exception to raise."""
        with self.recording():
            return value_of(self.journal, outcome, unpickle=unpickle)

    def _recorded_outcome(self, call: Call) -> Outcome | None:
        record = self._outcome(call.id)
        if record is None:
            return None
        check_same(self.journal, call, record)
        self._course.found(call, record)
        return Outcome(record)

    async def resolve(self, call: Call, driver: Driver) -> Outcome:
        """Return the outcome of a call that has no record yet."""
        self._course.check_may_run(call)
        record = await self._from_source(call, driver) or await self._from_cache(call, driver)
        if record is None:
            return await self._run_with_retries(call, driver)
        check_same(self.journal, call, record)
        return Outcome(record)

    def failed_in_this_run(self, call: Call) -> Outcome | None:
        """Return the final failure of a call in another process of this pipeline run.

        Failures of an earlier pipeline run do not count, because a new run tries the call again.
        """
        last = self.journal.attempts(call.id)[-1:] if self.run else []
        policy = call.spec.policy.with_defaults(self.policy)
        outcomes = [attempts.outcome_of(call, kept) for kept in last if kept.run == self.run]
        return next((one for one in outcomes if _is_last(policy, one)), None)

    async def _run_with_retries(self, call: Call, driver: Driver) -> Outcome:
        policy = call.spec.policy.with_defaults(self.policy)
        failed = 0
        if self.attempted:
            failed = len(await driver.use_store(lambda: self.journal.attempts(call.id)))
        while True:
            outcome = await self._attempt(call, policy, failed, driver)
            if self.is_stopped:
                park()
            if outcome.record.status == "completed":
                return await self._commit(call, outcome.record, driver)
            if _is_last(policy, outcome):
                return outcome
            failed = outcome.record.attempts
            if not driver.retries_here():
                self.stop("retry", outcome.error)
            await self._pause(policy.pause(failed, chance()), driver)
            # The pause may last an hour. Meanwhile another process may have recorded a result.
            held = self._recorded_outcome(call)
            if held is not None:
                return held

    async def _attempt(self, call: Call, policy: Policy, failed: int, driver: Driver) -> Outcome:
        """Run the function once, after `failed` failed attempts, and return the outcome.

        A failure is recorded as an attempt. A value is not recorded yet.
        """
        call.spec.prepare(call.spec.function)
        spec = call.spec
        capture = spec.capture or self.capture
        running = attempts.Running(call.id, capture, spec.pickle, spec.is_step)
        self.beats.began(call.id, failed + 1, call.site)
        try:
            span = spans.attempt(self.journal, call, failed + 1)
            with entered(Scope(self, running)), span:
                value = await driver.call(call, policy.timeout)
                self.leave_fork()
                stored = attempts.store_result(self.journal, call, value)
        except EnvironmentFailure:
            raise
        except Exception as error:
            self.leave_fork(error)
            failure = error
        else:
            return attempts.completed(call, running, stored, failed + 1)
        finally:
            self.beats.ended(call.id)
            if running.live_text is not None:
                running.live_text.close()
        return await driver.use_store(
            lambda: attempts.failed(self.journal, call, running, failure, policy, self.run)
        )

    async def _pause(self, seconds: float, driver: Driver) -> None:
        while seconds > 0:
            await driver.pause(min(seconds, _LOOK_SECONDS))
            self._check_running()
            self._check_cancelled(await driver.use_store(self.journal.end))
            seconds -= _LOOK_SECONDS

    async def _commit(self, call: Call, record: InvocationRecord, driver: Driver) -> Outcome:
        key = self._keys.pop(call.id, "")
        # If the call changed state that it also reads, the key no longer describes its inputs.
        key = key if key and key == self._cache_key(call) else ""
        held = await driver.commit(
            replace(record, cache_key=key), lambda rec: self.journal.record(rec, cache_key=key)
        )
        check_same(self.journal, call, held)
        return Outcome(held)

    async def _from_source(self, call: Call, driver: Driver) -> InvocationRecord | None:
        if (recording := self._recording) is None:
            return None
        found = await driver.use_store(lambda: recording.outcome_of(call))
        return found and await driver.commit(found, self.journal.record)

    async def recorded_answer(self, call: Call, driver: Driver) -> Outcome | None:
        """Return the answer that the source of a replay recorded, None if the wait must ask."""
        record = await self._from_source(call, driver)
        return None if record is None else Outcome(record)

    async def _from_cache(self, call: Call, driver: Driver) -> InvocationRecord | None:
        key = self._keys[call.id] = self._cache_key(call)
        if not key:
            return None
        found = await driver.use_store(
            lambda: self.journal.cached(key, call.id, lambda: codes_beside(call.spec))
        )
        if found is None or not call.spec.is_valid(found.calls):
            return None
        return await driver.commit(attempts.from_cache(call, found), self.journal.record)

    def _cache_key(self, call: Call) -> str:
        return key_of(call) if self._cache else ""

    def _recorded(self, id: str) -> InvocationRecord:
        record = self.journal.invocation(id)
        if record is None:
            raise Diverged(f'The future "{id}" crossed a cut, but nothing was recorded for it.')
        return record

    # Waits

    def wait(
        self,
        request: WaitRequest,
        timeout: float,
        read: Callable[[Any], Any],
        key: str | None = None,
    ) -> Any:
        """Return the answer to a question as JSON; suspend until an answer exists.

        `request.name` is the plain name of the wait. `timeout` is the number of seconds to poll for
        an answer before the process is released. `read` raises AnswerInvalid for an invalid answer.
        """
        if self.loop is not None and self.loop is running_loop():
            self.loop.check_may_block(request.name)
        call = self.begin_wait(request, read, key)
        with ending(call):
            return self.answer_of_wait(call, request, timeout)

    def begin_wait(
        self, request: WaitRequest, read: Callable[[Any], Any], key: str | None = None
    ) -> Call:
        """Take the id of a wait."""
        callee = _CALLEES[request.kind]
        spec = Spec(request.name, read, callee, kind="wait", compared=False)
        return self.begin(spec, (), {}, None, key, is_complete=False)

    def answer_of_wait(self, call: Call, request: WaitRequest, timeout: float) -> Any:
        """Return the answer to a wait as JSON; suspend this thread until an answer exists."""
        with self.recording():
            held = self.outcome_of_wait(call, request, timeout)
        return self.answer(call, held)

    def outcome_of_wait(self, call: Call, request: WaitRequest, timeout: float) -> Outcome:
        """Return the outcome of a wait; suspend this thread until an answer exists."""
        held = self._recorded_outcome(call)
        if held is not None:
            return held
        # The answer may already exist.
        self._course.check_may_run(call)
        held = finished(self.recorded_answer(call, self._blocking))
        if held is not None:
            return held
        if request.child:
            self.children.wait_until_idle(call.id)
        answer = next_valid_answer(self.journal, call, lambda: self._ask(call, request, timeout))
        return finished(self.commit_answer(call, answer, self._blocking))

    def answer(self, call: Call, outcome: Outcome) -> Any:
        """Return the recorded answer to a wait as JSON."""
        with self.recording():
            return answer_of(self.journal, call, outcome.record)

    def request_wait(self, call: Call, request: WaitRequest) -> WaitRequest:
        """Record the question of a wait; return what is recorded."""
        if request.child:
            child_outcomes.check_own(self.journal, request)
        place = {"position": call.position, "ordinal": call.ordinal, "site": call.site}
        found = evidence.recorded(self.journal, request.evidence)
        asked = replace(request, name=call.id, asked_at=now(), evidence=found, **place)
        held = self.journal.request_wait(asked)
        if held.kind == "timer" and timers.skip is not None:
            timers.skip(held.deadline)
            self.journal.expire(held)
        if asked.child:
            # Its end may have come before, or nobody may be there who answers at once.
            children.look(self.journal.store, self.journal.exec_id, call.id, asked.child)
        return held

    async def commit_answer(self, call: Call, answer: WaitAnswer, driver: Driver) -> Outcome:
        """Record an answer, or an expiry without a default, as the outcome of its wait."""
        if answer.kind == "abort":
            self.cancel()
        if answer.kind == "child":
            return await child_outcomes.outcome_of_answer(self.journal, call, answer, driver)
        value = self.journal.store_value(answer.value, "answer")
        made = attempts.completed_record(call, value)
        if answer.kind == "expired" and (request := self.journal.wait_request(call.id)) is not None:
            made = outcomes.expired_record(self.journal, made, request, answer)
        record = await driver.commit(made, self.journal.record)
        check_same(self.journal, call, record)
        return Outcome(record)

    def _ask(self, call: Call, request: WaitRequest, timeout: float) -> None:
        """Ask, and wait until an answer exists."""
        id = call.id
        held = self.request_wait(call, request)
        if self.journal.wait_answer(id) is not None:
            return
        if self.journal.execution.mode == "local" and not request.child:
            # Set the status before polling as well, so that people can see the pending wait. A
            # polling step keeps the status `running`: otherwise an answer would start a second run
            # next to it.
            self.journal.set_state(self.journal.paused([id]))
        answer = self._poll(id, timeout)
        if answer is None and timers.stays(self.journal, held):
            answer = self._outlast(held)
        while answer is None:
            self._host.suspend(id)
            self._check_cancelled(self.journal.end())
            answer = self.journal.wait_answer(id)
        self.journal.set_state("running")

    def unsealed(self, id: str) -> Outcome | None:
        """Return the failure of a call that the body has seen and that is not recorded yet."""
        return self._unsealed.get(id)

    # The loop of an async body

    def release(self, waits: list[str], wake: Callable[[], None]) -> None:
        """Note that the body can only continue after an answer. `wake` is called when it may."""
        with self.recording():
            self._host.release(waits, wake)

    def outlasts(self, waits: list[str]) -> float | None:
        """Return the seconds until the loop looks at its waits again; None if it is released.

        The loop keeps the process if one of its waits has a near deadline.
        """
        with self.recording():
            asked = [self.journal.asked(name) for name in waits]
            near = [one for one in asked if one and timers.stays(self.journal, one)]
            self.sleeping = {one.name: one.deadline for one in near}
            if near and self.journal.execution.mode == "local":
                self.journal.set_state(self.journal.paused(waits))
            return min(map(timers.pause_before, near)) if near else None

    def occupy(self) -> None:
        """Note that a released body continues without an answer."""
        self._host.occupy()
        with self.recording():
            self.journal.set_state("running")

    def valid_answer(self, call: Call) -> WaitAnswer | None:
        """Return the answer to a wait of a released body, None before it is answered."""
        with self._environment():
            self._check_cancelled(self.journal.end())
            answer = valid_answer(self.journal, call)
            if answer is not None:
                self.journal.set_state("running")
            return answer

    def _poll(self, id: str, timeout: float) -> WaitAnswer | None:
        if timeout <= 0:
            return self.journal.wait_answer(id)
        deadline = time.monotonic() + timeout
        with processes.attending(self.journal.store, self.journal.exec_id):
            while (answer := self.journal.wait_answer(id)) is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._check_cancelled(self.journal.end())
                time.sleep(min(_POLL_SECONDS, left))
        return answer

    def _outlast(self, request: WaitRequest) -> WaitAnswer:
        """Wait in this process until the deadline of a wait, or until its answer."""
        self.sleeping = {request.name: request.deadline}
        while (answer := self.journal.wait_answer(request.name)) is None:
            self._check_running()
            self._check_cancelled(self.journal.end())
            if not self._host.pause(timers.pause_before(request)):
                park()
        self.sleeping = {}
        return answer

    # Sealing, checking and ending

    def settle(self) -> None:
        """Wait for all futures and seal all failures, read or not: the flow continues past them."""
        self._check_running()
        with self._environment():
            self._seal(everything=True)
            for future in self.submitted.failed():
                assert future.outcome is not None
                held = self.journal.record(future.outcome.record)
                future.outcome = Outcome(held)
                if held.status == "failed":
                    self.unread.append(future.id)

    def complete(self, result: Any) -> EndRecord:
        """End the execution with `result`; raise the exception of a failed future never read."""
        self.leave_fork()
        self._check_running()
        with self._environment():
            unasked = self._unasked()
        # The log must be complete before a reader can see the end.
        self.log.close()
        with self._environment():
            self._seal(everything=True)
            self._raise_unread()
            value = self.journal.store_value(result, "result", may_pickle=self.may_pickle)
            end = self.journal.finish(EndRecord("completed", value, now(), unasked))
        spans.ended(self.journal, end.status)
        if end.status == "cancelled":
            self.stop("cancelled", None)
        return end

    def _unasked(self) -> tuple[str, ...]:
        """Return the records that this run never used, and log them.

        The result is empty unless another process has run the execution with other code.
        """
        is_replay = self.journal.execution.replay is not None
        if not (is_replay or self._is_resumed):
            return ()
        unasked = tuple(one.id for one in self._course.unasked())
        if unasked:
            warn_unasked(self.journal, unasked)
        return unasked

    def leave_fork(self, error: BaseException | None = None) -> None:
        """End this process if it is a forked child that returned into the flow.

        The parent runs and records the flow. A child that returned would run and record it again.
        """
        if os.getpid() == self._process:
            return
        code = error.code if isinstance(error, SystemExit) else 1
        if not isinstance(error, SystemExit):
            sys.stderr.write(
                "kitaru: a forked child returned into the flow, which its parent runs; it ends "
                "here. Let it end with os._exit(0), or use multiprocessing.\n"
            )
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))

    def fail(self, error: BaseException, help: str) -> None:
        """Record that the body raised `error`. The execution can still be continued with `retry`.

        This method never raises: the cause of the failure, such as a lack of memory or threads, may
        break it as well. It then records as much as it can. If nothing can be recorded, the
        execution is shown as interrupted.
        """
        self.leave_fork(error)
        self._check_running()
        for end in (self.submitted.start, self.submitted.drain, self.log.close):
            with suppress(Exception):
                end()
        self._note_failure(error, help)

    def _note_failure(self, error: BaseException, help: str = "") -> None:
        for describe in (self._error_info, _in_short):
            try:
                self._set_failed(describe(error, help))
                return
            except Exception:
                # The frames of the body may hold on to the memory that is missing.
                release_frames(error)

    def _error_info(self, error: BaseException, help: str) -> ErrorInfo:
        return error_info(error, invocation=origin_of(error, self._unsealed), help=help)

    def _set_failed(self, info: ErrorInfo) -> None:
        with self._environment():
            if self.journal.end() is None:
                self.journal.set_state("failed", info)
                spans.ended(self.journal, "failed")
                if self.journal.execution.mode != "deployed":
                    # No round closes that would tell it.
                    journal = self.journal
                    children.tell_parent(journal.store, journal.exec_id, journal.execution.parent)

    def cancel(self) -> NoReturn:
        """Record that the execution was cancelled."""
        self.journal.finish(EndRecord("cancelled", None, now()))
        spans.ended(self.journal, "cancelled")
        self.stop("cancelled", None)

    def stop(self, why: Stop, error: BaseException | None) -> NoReturn:
        """Stop all threads of this run at their next durable call."""
        self.is_stopped = True
        # An exception of the host would unwind the flow.
        with suppress(Exception):
            self._host.stop(why, error)
        park()

    def retries_here(self) -> bool:
        """Return whether failed attempts are retried in this process."""
        return self._host.retries_here

    def drain(self, timeout: float | None = None) -> bool:
        """Wait for all submitted checkpoints; return False if `timeout` seconds were not enough."""
        return self.submitted.drain(timeout)

    def _check_running(self) -> None:
        if self.is_stopped:
            park()

    def _outcome(self, id: str) -> InvocationRecord | None:
        found = self.journal.outcome_or_end(id)
        if isinstance(found, InvocationRecord):
            return found
        self._check_cancelled(found)
        return None

    def _check_cancelled(self, end: EndRecord | None) -> None:
        if end is not None and end.status == "cancelled":
            self.stop("cancelled", None)

    @contextmanager
    def _environment(self) -> Iterator[None]:
        # The flow must not catch these errors: a body that continued would record wrong results.
        try:
            yield
        except EnvironmentFailure as error:
            error.help = hints.name_execution(error.help, self.journal)
            self._note_stop(error)
            self.stop("failed", error)
        except (Diverged, ClassChanged) as error:
            self.is_stopped = True
            help = retry_help(self.journal) if isinstance(error, ClassChanged) else ""
            self._note_failure(error, help)
            self.stop("failed", error)

    def _note_stop(self, error: EnvironmentFailure) -> None:
        """Record why this process cannot run the execution, which is not sealed by that."""
        if not self._is_local or isinstance(error, _OF_STORES):
            return
        if not error.exec_id:
            error.exec_id = self.journal.exec_id
            error.help = "\n".join(filter(None, (error.help, hints.resume_help(self.journal))))
        # The journal is complete without it.
        with suppress(Exception):
            if self.journal.end() is None:
                self.journal.set_state("running", error_info(error))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Do what `_environment` does, and hide Kitaru's own failures from the flow.

        A body that caught a MemoryError raised by the recording would continue past a call without
        an outcome.
        """
        try:
            with self._environment():
                yield
        except (MemoryError, OSError, RuntimeError) as error:
            if isinstance(error, KitaruError):
                raise
            self._stop_failed(error)

    def _stop_failed(self, error: Exception) -> NoReturn:
        self.is_stopped = True
        self._note_failure(error, retry_help(self.journal))
        self.stop("failed", error)

    def note_unsealed(self, id: str, outcome: Outcome) -> None:
        """Note an outcome that is recorded once the task that sees it continues."""
        self._unsealed[id] = outcome
        self._seen_by[id] = current_task()

    def _seal(self, *, everything: bool = False) -> None:
        if not self._unsealed:
            return
        task = current_task()
        with self._lock:
            for id, outcome in list(self._unsealed.items()):
                if not (everything or has_continued(self._seen_by[id], task)):
                    continue
                with self._environment():
                    held = self.journal.record(outcome.record)
                if (held.failure, held.status) != (outcome.record.failure, outcome.record.status):
                    # Another process recorded a different outcome, but the body has already seen
                    # this outcome.
                    self.stop("superseded", None)
                outcome.sealed = True
                del self._unsealed[id], self._seen_by[id]

    def _raise_unread(self) -> None:
        for id in list(self.unread):
            self.restored_future(id).result()
        for future in self.submitted.failed():
            if future.id not in self._unsealed:
                future.result()


def _is_last(policy: Policy, outcome: Outcome) -> bool:
    return policy.is_exhausted(outcome.record.attempts, final=outcome.final)


def _in_short(error: BaseException, help: str) -> ErrorInfo:
    """Return a short text for an error without formatting it: memory may be exhausted."""
    return ErrorInfo(type(error).__qualname__, "", "", help, "")


# Where the calling code runs


class Scope(Struct):
    """The execution that the current code belongs to. `running` is `None` in the flow's body."""

    execution: Execution
    running: attempts.Running | None = None


def _place() -> Place:
    loop = running_loop()
    if loop is None:
        return inherited.get()
    # A loop runs, so asyncio is imported.
    from kitaru.runtime.engine import tasks

    return tasks.place_in(loop)


_scope: ContextVar[Scope | None] = ContextVar("kitaru_scope", default=None)


# A forked child does not belong to the execution, because its parent records it.
def _leave() -> None:
    _scope.set(None)
    numbering.set(None)


os.register_at_fork(after_in_child=_leave)


def current() -> Scope | None:
    """Return the scope of the caller; `None` outside any flow."""
    return _scope.get()


@contextmanager
def entered(scope: Scope) -> Iterator[None]:
    """Make `scope` the current scope of this thread or task."""
    token = _scope.set(scope)
    before = numbering.set(scope.execution if scope.running is None else None)
    try:
        yield
    finally:
        # A coroutine that is destroyed is closed in another context.
        with suppress(ValueError):
            _scope.reset(token)
            numbering.reset(before)


def in_body(what: str) -> Execution:
    """Return the execution of the flow body that calls `what`.

    Raises:
        ContextError: the caller is not in a flow's body.
    """
    scope = anywhere(what)
    if scope.running is not None and scope.running.is_step:
        scope.running.refused = ContextError(
            f"{what} was used inside the step {scope.running.invocation}.",
            help="A step is one recorded unit. Open a scope, kitaru.harness.scope(…), around code "
            "that makes durable calls of its own, instead of a step.",
        )
        raise scope.running.refused
    if scope.running is not None:
        raise ContextError(
            f"{what} was used inside the checkpoint {scope.running.invocation}.",
            help=f"Call {what} in the flow's body: a checkpoint is one recorded unit.",
        )
    return scope.execution


def in_checkpoint(what: str) -> tuple[Execution, attempts.Running]:
    """Return the execution and the attempt of the checkpoint that calls `what`.

    Raises:
        ContextError: the caller is not in a checkpoint.
    """
    scope = current()
    if scope is None or scope.running is None:
        raise ContextError(
            f"{what} was used outside a checkpoint.",
            help=f"Call {what} in a function decorated with @checkpoint.",
        )
    return scope.execution, scope.running


def anywhere(what: str) -> Scope:
    """Return the scope of the caller, body or checkpoint; raise ContextError outside a flow."""
    scope = current()
    if scope is None:
        raise ContextError(
            f"{what} was used outside a flow, or in a thread that the flow started itself.",
            help="Call it in the body of a function decorated with @flow, started with .run(…); "
            "for concurrency use .submit(…) or .map(…) of a checkpoint.",
        )
    return scope


# What the engine asks of its process


class Host(Protocol):
    """Interface of the engine to the process that it runs in."""

    retries_here: bool
    """Whether failed attempts are retried in this process, or by the orchestrator."""

    def pause(self, seconds: float) -> bool:
        """Wait `seconds`, or less if this run of the body ends; return False if it has ended."""

    def suspend(self, wait: str) -> None:
        """Record that the execution waits, and release the process until `wait` may have an answer.

        May not return.
        """

    def release(self, waits: list[str], wake: Callable[[], None]) -> None:
        """Record that the execution waits, and release the process. May not return.

        `wake` is called, on any thread, when one of `waits` may have an answer.
        """

    def occupy(self) -> None:
        """Keep the process again: the loop of the body continues without an answer."""

    def stop(self, why: Stop, error: BaseException | None) -> None:
        """Stop this run of the body. May not return."""


def park() -> NoReturn:
    """Block forever: the thread ends with its process."""
    while True:
        # This must hold even without memory: an exception here would unwind the flow.
        with suppress(Exception), parked():
            while True:
                time.sleep(3600)
