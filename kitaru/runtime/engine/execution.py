"""The engine: the life of a durable call.

    draft(notes)                       a call in the body of a flow
        |
      begin          take the next id in program order; digest the arguments; seal the failures
        |            that the body has passed since the last call
        |
      recorded? ---- yes: check that it is the same call; return its value or raise its failure
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
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Literal, NoReturn, Protocol

from kitaru import hints
from kitaru.errors import ClassChanged, ContextError, Diverged, EnvironmentFailure, KitaruError
from kitaru.hints import retry_help
from kitaru.runtime import codec
from kitaru.runtime.engine import attempts
from kitaru.runtime.engine.caching import key_of
from kitaru.runtime.engine.call_order import Course, warn_unasked
from kitaru.runtime.engine.calls import (
    Args,
    Call,
    Kwargs,
    Spec,
    call_site,
    codes_beside,
)
from kitaru.runtime.engine.futures import Future, Submission, Submitted, submission
from kitaru.runtime.engine.outcomes import (
    Outcome,
    answer_of,
    check_same,
    error_info,
    origin_of,
    release_frames,
    value_of,
)
from kitaru.runtime.engine.parked_threads import parked
from kitaru.runtime.engine.retries import ONCE, Policy, chance
from kitaru.runtime.engine.waits import next_valid_answer
from kitaru.runtime.journal import processes
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.telemetry import spans
from kitaru.runtime.telemetry.logs import Log
from kitaru.wire.ids import Counters
from kitaru.wire.limits import DEFAULT_PARALLEL
from kitaru.wire.records import EndRecord, ErrorInfo, InvocationRecord, WaitAnswer, WaitRequest
from kitaru.wire.structs import Struct, replace
from kitaru.wire.times import now

Stop = Literal["cancelled", "superseded", "failed", "retry"]
_POLL_SECONDS = 0.2
_LOOK_SECONDS = 5.0


class Execution:
    """One run of a flow's body against its journal; safe for threads."""

    def __init__(
        self,
        journal: Journal,
        host: Host,
        *,
        cache: bool = True,
        policy: Policy = ONCE,
        counters: Counters | None = None,
        attempted: bool = False,
        run: str = "",
        max_parallel: int = DEFAULT_PARALLEL,
        capture: str | None = None,
        pickles: bool = True,
        is_other_plan: bool = False,
    ) -> None:
        """`attempted` is true if earlier processes may have recorded failed attempts.

        `is_other_plan`: this step belongs to another plan than the one that started the execution.
        `run`: the pipeline run of this process, empty outside pipelines. `capture`: which parts of
        model calls are recorded. `pickles`: whether pickles may cross a cut.
        """
        self.journal = journal
        # The running invocations with their start times on the monotonic clock; only for display.
        self.attempting: dict[str, float] = {}
        self.capture, self.pickles = capture, pickles
        self.may_pickle = codec.came_pickled if pickles else codec.never
        self.log = Log(journal.store, journal.exec_id)
        self.counters = counters or Counters()
        self.unread: list[str] = []
        self.attempted = attempted
        self.run = run
        self.policy = policy
        # A dry run only shows what would run. Other executions must not reuse its results.
        self._cache = cache and journal.execution.mode != "dry-run"
        self._keys: dict[str, str] = {}
        self._host = host
        self._process = os.getpid()
        self._lock = threading.RLock()
        self.submitted = Submitted(self._perform_submitted, self._read, max_parallel)
        self._unsealed: dict[str, Outcome] = {}
        self._stopped = False
        self._is_local = journal.execution.mode == "local"
        if counters is None:
            self.counters.ordinal = 0
        # True if another process, possibly with other code, has run this execution. The changes of
        # a replay are intended: its step belongs to another plan from the start.
        self._is_resumed = (attempted and self._is_local) or is_other_plan
        compares = self._is_resumed and (self._is_local or journal.execution.replay is None)
        self._course = Course(journal, lambda: self.counters, compares=compares)

    # Durable calls

    def invoke(self, spec: Spec, args: Args, kwargs: Kwargs, id: str | None) -> Any:
        """Return the recorded value of this call. Run the function if no value is recorded."""
        call = self._begin(spec, args, kwargs, id)
        with self._recording():
            outcome = self._recorded_outcome(call) or self._resolve(
                call, here=self._host.retries_here
            )
            value, error = value_of(self.journal, outcome, unpickle=spec.pickle)
        if error is None:
            return value
        if not outcome.sealed:
            self._unsealed[call.id] = outcome
        raise error

    def submit(self, spec: Spec, args: Args, kwargs: Kwargs, id: str | None) -> Future[Any]:
        """Start the call on another thread. Its id is assigned now, in program order."""
        call = self._begin(spec, args, kwargs, id)
        future: Future[Any] = Future(self.submitted, call.id, pickle=spec.pickle)
        self.submitted.add(submission(call, future, self.may_pickle))
        return future

    def adopt(self, promised: list[Submission]) -> None:
        """Continue the submitted calls of another process: read their outcomes or run them."""
        self.attempted = self.attempted or bool(promised)
        for one in promised:
            self.submitted.add(one)

    def _read(self, future: Future[Any]) -> tuple[Any, BaseException | None]:
        """Return a settled future's value or exception and mark the future as read.

        The body receives the exception at this point.
        """
        self._check_running()
        with self._recording():
            outcome = future.outcome or Outcome(self._recorded(future.id))
            future.outcome = outcome
            if future.id in self.unread:
                self.unread.remove(future.id)
            value, error = value_of(self.journal, outcome, unpickle=future.pickle)
        if error is not None and not outcome.sealed:
            self._unsealed[future.id] = outcome
        return value, error

    def restored_future(self, id: str) -> Future[Any]:
        """Return the future of an invocation submitted by another process."""
        found = self.submitted.future(id)
        return found or Future(self.submitted, id, settled=True, pickle=self.pickles)

    def _begin(self, spec: Spec, args: Args, kwargs: Kwargs, id: str | None) -> Call:
        self._check_running()
        site = call_site()
        with self._lock:
            self._seal()
            called = spec.name if id is None else id
            with self._environment():
                name = self._course.name_of(spec.kind, called)
            take = self.counters.take if id is None else self.counters.take_explicit
            taken = take(name)
            at, ordinal = self.counters.position, self._course.count(spec.kind, spec.name)
        digest = codec.digest_arguments(args, kwargs)
        return Call(
            spec, taken, args, kwargs, digest.digest, digest.opaque, digest.size, site, at, ordinal,
            renamed=name != called,
        )  # fmt: skip

    def _perform_submitted(self, submitted: Submission) -> None:
        if self._stopped:
            park()
        try:
            with self._recording():
                outcome = self._recorded_outcome(submitted.call)
                if outcome is None:
                    call = submitted.ready()
                    here = self.submitted.retries_here
                    outcome = self._failed_in_this_run(call) or self._resolve(call, here=here)
            submitted.future.settle(outcome)
            if outcome.record.status == "completed":
                self.submitted.close(submitted.call.id)
        except BaseException as error:
            # No caller sees this thread's exception. Store it in the future, or a reader would wait
            # forever.
            submitted.future.fail(error)

    def _recorded_outcome(self, call: Call) -> Outcome | None:
        record = self._outcome(call.id)
        if record is None:
            return None
        check_same(self.journal, call, record)
        self._course.found(call, record)
        return Outcome(record)

    def _resolve(self, call: Call, *, here: bool) -> Outcome:
        """Return the outcome of a call that has no record yet.

        `here` is true if failed attempts are retried in this process.
        """
        self._course.check_may_run(call)
        record = self._from_cache(call)
        if record is None:
            return self._run_with_retries(call, here=here)
        check_same(self.journal, call, record)
        return Outcome(record)

    def _failed_in_this_run(self, call: Call) -> Outcome | None:
        """Return the final failure of a call in another process of this pipeline run.

        Failures of an earlier pipeline run do not count, because a new run tries the call again.
        """
        last = self.journal.attempts(call.id)[-1:] if self.run else []
        policy = call.spec.policy.with_defaults(self.policy)
        outcomes = [attempts.outcome_of(call, kept) for kept in last if kept.run == self.run]
        return next((one for one in outcomes if _is_last(policy, one)), None)

    def _run_with_retries(self, call: Call, *, here: bool) -> Outcome:
        policy = call.spec.policy.with_defaults(self.policy)
        failed = len(self.journal.attempts(call.id)) if self.attempted else 0
        while True:
            outcome = self._attempt(call, policy, failed)
            if self._stopped:
                park()
            if outcome.record.status == "completed":
                return self._commit(call, outcome.record)
            if _is_last(policy, outcome):
                return outcome
            failed = outcome.record.attempts
            if not here:
                self.stop("retry", outcome.error)
            self._pause(policy.pause(failed, chance()))
            # The pause may last an hour. Meanwhile another process may have recorded a result.
            held = self._recorded_outcome(call)
            if held is not None:
                return held

    def _attempt(self, call: Call, policy: Policy, failed: int) -> Outcome:
        """Run the function once, after `failed` failed attempts, and return the outcome.

        A failure is recorded as an attempt. A value is not recorded yet.
        """
        call.spec.prepare(call.spec.function)
        running = attempts.Running(call.id, call.spec.capture or self.capture, call.spec.pickle)
        self.attempting[call.id] = time.monotonic()
        try:
            span = spans.attempt(self.journal, call, failed + 1)
            with entered(Scope(self, running)), span:
                value = attempts.call_function(call, policy.timeout)
                self.leave_fork()
                stored = attempts.store_result(self.journal, call, value)
        except EnvironmentFailure:
            raise
        except Exception as error:
            self.leave_fork(error)
            return attempts.failed(self.journal, call, running, error, policy, self.run)
        finally:
            self.attempting.pop(call.id, None)
        return attempts.completed(call, running, stored, failed + 1)

    def _pause(self, seconds: float) -> None:
        while seconds > 0:
            self._host.pause(min(seconds, _LOOK_SECONDS))
            self._check_running()
            self._check_cancelled(self.journal.end())
            seconds -= _LOOK_SECONDS

    def _commit(self, call: Call, record: InvocationRecord) -> Outcome:
        key = self._keys.pop(call.id, "")
        # If the call changed state that it also reads, the key no longer describes its inputs.
        key = key if key and key == self._cache_key(call) else ""
        held = self.journal.record(replace(record, cache_key=key), cache_key=key)
        check_same(self.journal, call, held)
        return Outcome(held)

    def _from_cache(self, call: Call) -> InvocationRecord | None:
        key = self._keys[call.id] = self._cache_key(call)
        found = self.journal.cached(key, call.id, lambda: codes_beside(call.spec)) if key else None
        if found is None or not call.spec.is_valid(found.calls):
            return None
        return self.journal.record(attempts.from_cache(call, found))

    def _cache_key(self, call: Call) -> str:
        return key_of(call) if self._cache else ""

    def _recorded(self, id: str) -> InvocationRecord:
        record = self.journal.invocation(id)
        if record is None:
            raise Diverged(f'The future "{id}" crossed a cut, but nothing was recorded for it.')
        return record

    # Waits

    def wait(self, request: WaitRequest, timeout: float, read: Callable[[Any], Any]) -> Any:
        """Return the answer to a question as JSON; suspend until an answer exists.

        `request.name` is the plain name of the wait. `timeout` is the number of seconds to poll for
        an answer before the process is released. `read` raises AnswerInvalid for an invalid answer.
        """
        self._check_running()
        site = call_site()
        with self._lock:
            self._seal()
            with self._environment():
                name = self._course.name_of("wait", request.name)
            id = self.counters.take(name)
            at, ordinal = self.counters.position, self._course.count("wait", request.name)
        spec = Spec(request.name, read, "kitaru.wait", kind="wait", compared=False)
        call = Call(spec, id, (), {}, "", (), 0, site, at, ordinal)
        with self._recording():
            held = self._recorded_outcome(call)
            if held is not None:
                return answer_of(self.journal, call, held.record)
            self._course.check_may_run(call)
            record = self._answered(call, request, timeout)
            check_same(self.journal, call, record)
            return value_of(self.journal, Outcome(record), unpickle=False)[0]

    def _answered(self, call: Call, request: WaitRequest, timeout: float) -> InvocationRecord:
        answer = next_valid_answer(self.journal, call, lambda: self._ask(call, request, timeout))
        if answer.kind == "abort":
            self.cancel()
        value = self.journal.store_value(answer.value, "answer")
        return self.journal.record(attempts.completed_record(call, value))

    def _ask(self, call: Call, request: WaitRequest, timeout: float) -> WaitAnswer:
        id = call.id
        place = {"position": call.position, "ordinal": call.ordinal}
        self.journal.request_wait(replace(request, name=id, asked_at=now(), **place))
        answer = self.journal.wait_answer(id)
        if answer is not None:
            return answer
        if self.journal.execution.mode == "local":
            # Set the status before polling as well, so that people can see the pending wait. A
            # polling step keeps the status `running`: otherwise an answer would start a second run
            # next to it.
            self.journal.set_state("waiting")
        answer = self._poll(id, timeout)
        while answer is None:
            self.journal.set_state("waiting")
            self._host.suspend(id)
            self._check_cancelled(self.journal.end())
            answer = self.journal.wait_answer(id)
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

    # Sealing, checking and ending

    def settle(self) -> None:
        """Wait for all futures and seal all failures, read or not: the flow continues past them."""
        self._check_running()
        with self._environment():
            self._seal()
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
            self._seal()
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

    def cancel(self) -> NoReturn:
        """Record that the execution was cancelled."""
        self.journal.finish(EndRecord("cancelled", None, now()))
        spans.ended(self.journal, "cancelled")
        self.stop("cancelled", None)

    def stop(self, why: Stop, error: BaseException | None) -> NoReturn:
        """Stop all threads of this run at their next durable call."""
        self._stopped = True
        # An exception of the host would unwind the flow.
        with suppress(Exception):
            self._host.stop(why, error)
        park()

    def drain(self, timeout: float | None = None) -> bool:
        """Wait for all submitted checkpoints; return False if `timeout` seconds were not enough."""
        return self.submitted.drain(timeout)

    def _check_running(self) -> None:
        if self._stopped:
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
            self.stop("failed", error)
        except (Diverged, ClassChanged) as error:
            self._stopped = True
            help = retry_help(self.journal) if isinstance(error, ClassChanged) else ""
            self._note_failure(error, help)
            self.stop("failed", error)

    @contextmanager
    def _recording(self) -> Iterator[None]:
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
        self._stopped = True
        self._note_failure(error, retry_help(self.journal))
        self.stop("failed", error)

    def _seal(self) -> None:
        with self._lock:
            for id, outcome in list(self._unsealed.items()):
                with self._environment():
                    held = self.journal.record(outcome.record)
                if held.failure != outcome.record.failure or held.status != "failed":
                    # Another process recorded a different outcome, but the body has already seen
                    # this outcome.
                    self.stop("superseded", None)
                outcome.sealed = True
                del self._unsealed[id]

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


_scope: ContextVar[Scope | None] = ContextVar("kitaru_scope", default=None)


# A forked child does not belong to the execution, because its parent records it.
os.register_at_fork(after_in_child=lambda: _scope.set(None))


def current() -> Scope | None:
    """Return the scope of the caller; `None` outside any flow."""
    return _scope.get()


@contextmanager
def entered(scope: Scope) -> Iterator[None]:
    """Make `scope` the current scope of this thread or task."""
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def in_body(what: str) -> Execution:
    """Return the execution of the flow body that calls `what`.

    Raises:
        ContextError: the caller is not in a flow's body.
    """
    scope = anywhere(what)
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

    def pause(self, seconds: float) -> None:
        """Wait `seconds`, or less if this run of the body ends."""

    def suspend(self, wait: str) -> None:
        """Release the process until `wait` may have an answer. May not return."""

    def stop(self, why: Stop, error: BaseException | None) -> None:
        """Stop this run of the body. May not return."""


def park() -> NoReturn:
    """Block forever: the thread ends with its process."""
    while True:
        # This must hold even without memory: an exception here would unwind the flow.
        with suppress(Exception), parked():
            while True:
                time.sleep(3600)
