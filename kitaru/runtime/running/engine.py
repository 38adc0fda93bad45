"""Decides what happens at each durable operation of a flow: replay it, run it, suspend, or stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from kitaru.errors import Diverged, EnvironmentFailure
from kitaru.runtime import codec
from kitaru.runtime.llm.models import same_models
from kitaru.runtime.observing import telemetry
from kitaru.runtime.observing.logs import Log
from kitaru.runtime.recording.journal import Journal
from kitaru.runtime.running import attempts
from kitaru.runtime.running.calls import (
    Args,
    Call,
    Kwargs,
    Spec,
    cache_code,
    call_site,
    codes_beside,
)
from kitaru.runtime.running.futures import Future
from kitaru.runtime.running.host import Host, Stop, park
from kitaru.runtime.running.outcomes import Outcome, check_same, error_info, origin_of, value_of
from kitaru.runtime.running.retries import ONCE, Policy, chance
from kitaru.runtime.running.submitted import Submission, Submitted, submission
from kitaru.runtime.running.unasked import warn_unasked
from kitaru.runtime.running.waits import first_valid
from kitaru.wire.ids import Counters
from kitaru.wire.limits import DEFAULT_PARALLEL
from kitaru.wire.records import EndRecord, ErrorInfo, InvocationRecord, WaitAnswer, WaitRequest
from kitaru.wire.structs import replace
from kitaru.wire.times import now

_POLL_SECONDS = 0.2
_LOOK_SECONDS = 5.0


class Execution:
    """One run of a flow's body against its journal; safe for threads.

    Nothing of the flow is ever unwound: where the body must not go on, its thread is parked or its
    process ends, so that no `except` and no `finally` of the user's sees it.
    """

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
    ) -> None:
        """`attempted` says that earlier processes may have left failed attempts to be counted.

        `run` is the run of the pipeline that this process belongs to, empty where there is none,
        `capture` what is to be kept of model calls, `pickles` whether pickles may cross a cut.
        """
        self.journal = journal
        self.capture, self.pickles = capture, pickles
        self.may_pickle = codec.came_pickled if pickles else codec.never
        self.log = Log(journal.store, journal.exec_id)
        self.counters = counters or Counters()
        self.unread: list[str] = []
        self.attempted = attempted
        self.run = run
        self.policy = policy
        self._cache = cache
        self._host = host
        self._lock = threading.RLock()
        self.submitted = Submitted(self._perform_submitted, max_parallel)
        self._unsealed: dict[str, Outcome] = {}
        self._stopped = False

    # Durable calls

    def invoke(self, spec: Spec, args: Args, kwargs: Kwargs, id: str | None) -> Any:
        """Return the value recorded for this call, running the function when there is none yet."""
        call = self._begin(spec, args, kwargs, id)
        with self._environment():
            outcome = self._held(call) or self._make(call, here=self._host.retries_here)
            value, error = value_of(self.journal, outcome, unpickle=spec.pickle)
        if error is None:
            return value
        if not outcome.sealed:
            self._unsealed[call.id] = outcome
        raise error

    def submit(self, spec: Spec, args: Args, kwargs: Kwargs, id: str | None) -> Future[Any]:
        """Start the call on another thread; its id is taken now, in program order."""
        call = self._begin(spec, args, kwargs, id)
        future: Future[Any] = Future(self, call.id, pickle=spec.pickle)
        self.submitted.add(submission(call, future, self.may_pickle))
        return future

    def wanted(self) -> None:
        """Start what was only promised: somebody here asks for a result."""
        self.submitted.start()

    def adopt(self, promised: list[Submission]) -> None:
        """Take over what another process promised, and learn or make what became of it."""
        self.attempted = self.attempted or bool(promised)
        for one in promised:
            self.submitted.add(one)

    def read(self, future: Future[Any]) -> tuple[Any, Exception | None]:
        """Return a settled future's value or exception, and count it as read."""
        self._check_running()
        with self._environment():
            outcome = future.outcome or Outcome(self._recorded(future.id))
            future.outcome = outcome
            if future.id in self.unread:
                self.unread.remove(future.id)
            return value_of(self.journal, outcome, unpickle=future.pickle)

    def raised(self, future: Future[Any]) -> None:
        """Note that a future's failure surfaces in the body now."""
        outcome = future.outcome
        if outcome is not None and not outcome.sealed:
            self._unsealed[future.id] = outcome

    def restored(self, id: str) -> Future[Any]:
        """Return the future of an invocation that another process submitted."""
        return self.submitted.future(id) or Future(self, id, settled=True, pickle=self.pickles)

    def _begin(self, spec: Spec, args: Args, kwargs: Kwargs, id: str | None) -> Call:
        self._check_running()
        site = call_site()
        with self._lock:
            self._seal()
            taken = self.counters.take(spec.name) if id is None else self.counters.take_explicit(id)
            at = self.counters.position
        digest = codec.digest_arguments(args, kwargs)
        return Call(spec, taken, args, kwargs, digest.digest, digest.opaque, digest.size, site, at)

    def _perform_submitted(self, submitted: Submission) -> None:
        if self._stopped:
            park()
        try:
            with self._environment():
                outcome = self._held(submitted.call)
                if outcome is None:
                    call = submitted.ready()
                    here = self.submitted.retries_here
                    outcome = self._failed_in_this_run(call) or self._make(call, here=here)
        except BaseException as error:
            # This thread is nobody's: whoever waits for the future must not wait for ever.
            submitted.future.broke(error)
            return
        submitted.future.settle(outcome)
        if outcome.record.status == "completed":
            self.submitted.close(submitted.call.id)

    def _held(self, call: Call) -> Outcome | None:
        record = self._outcome(call.id)
        if record is None:
            return None
        check_same(self.journal, call, record)
        return Outcome(record)

    def _make(self, call: Call, *, here: bool) -> Outcome:
        """Return how a call comes out that has no record yet.

        `here` says whether a failed attempt is tried again in this process.
        """
        record = self._from_cache(call)
        if record is None:
            return self._run(call, here=here)
        check_same(self.journal, call, record)
        return Outcome(record)

    def _failed_in_this_run(self, call: Call) -> Outcome | None:
        """Return the failure with which another process of this run gave up on a call.

        One of an earlier run does not count: to start another is to try again.
        """
        last = self.journal.attempts(call.id)[-1:] if self.run else []
        policy = call.spec.policy.under(self.policy)
        outcomes = [attempts.again(call, kept) for kept in last if kept.run == self.run]
        return next((outcome for outcome in outcomes if policy.gives_up(outcome)), None)

    def _run(self, call: Call, *, here: bool) -> Outcome:
        policy = call.spec.policy.under(self.policy)
        failed = len(self.journal.attempts(call.id)) if self.attempted else 0
        while True:
            outcome = attempts.run(self, call, policy, failed)
            if self._stopped:
                park()
            if outcome.record.status == "completed":
                return self._keep(call, outcome.record)
            if policy.gives_up(outcome):
                return outcome
            failed = outcome.record.attempts
            if not here:
                self.stop("retry", outcome.error)
            self._pause(policy.pause(failed, chance()))

    def _pause(self, seconds: float) -> None:
        while seconds > 0:
            self._host.pause(min(seconds, _LOOK_SECONDS))
            self._check_running()
            self._check_cancelled(self.journal.end())
            seconds -= _LOOK_SECONDS

    def _keep(self, call: Call, record: InvocationRecord) -> Outcome:
        held = self.journal.record(record, cache_key=self._cache_key(call))
        check_same(self.journal, call, held)
        return Outcome(held)

    def _from_cache(self, call: Call) -> InvocationRecord | None:
        key = self._cache_key(call)
        found = self.journal.cached(key, call.id, lambda: codes_beside(call.spec)) if key else None
        if found is None or not same_models(found.calls):
            return None
        return self.journal.record(attempts.from_cache(call, found))

    def _cache_key(self, call: Call) -> str:
        spec = call.spec
        if not self._cache or not spec.cache or call.opaque or not spec.fingerprint():
            return ""
        return f"{cache_code(spec)}/{call.digest.removeprefix('sha256:')}"

    def _recorded(self, id: str) -> InvocationRecord:
        record = self.journal.invocation(id)
        if record is None:
            raise Diverged(f'The future "{id}" crossed a cut, but nothing was recorded for it.')
        return record

    # Waits

    def wait(self, request: WaitRequest, timeout: float, read: Callable[[Any], Any]) -> Any:
        """Return the answer, as JSON, to a question; suspends until there is one.

        `request.name` is the wait's plain name; `timeout` is how many seconds to look for the
        answer before giving the compute away. `read` raises AnswerInvalid for one that is none.
        """
        self._check_running()
        site = call_site()
        with self._lock:
            self._seal()
            id, at = self.counters.take(request.name), self.counters.position
        spec = Spec(request.name, read, "kitaru.wait", kind="wait", compared=False)
        call = Call(spec, id, (), {}, "", (), 0, site, at)
        with self._environment():
            record = self._outcome(id) or self._answered(call, request, timeout)
            check_same(self.journal, call, record)
            return value_of(self.journal, Outcome(record), unpickle=False)[0]

    def _answered(self, call: Call, request: WaitRequest, timeout: float) -> InvocationRecord:
        answer = first_valid(self.journal, call, lambda: self._ask(call, request, timeout))
        if answer.kind == "abort":
            self.cancel()
        value = self.journal.keep(answer.value, "answer")
        return self.journal.record(attempts.plain_record(call, value))

    def _ask(self, call: Call, request: WaitRequest, timeout: float) -> WaitAnswer:
        id = call.id
        self.journal.request_wait(replace(request, name=id, asked_at=now(), position=call.position))
        answer = self._poll(id, timeout)
        if answer is not None:
            return answer
        while answer is None:
            self.journal.set_state("waiting")
            self._host.suspend(id)
            self._check_cancelled(self.journal.end())
            answer = self.journal.wait_answer(id)
        self.journal.set_state("running")
        return answer

    def _poll(self, id: str, timeout: float) -> WaitAnswer | None:
        deadline = time.monotonic() + timeout
        while (answer := self.journal.wait_answer(id)) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._check_cancelled(self.journal.end())
            time.sleep(min(_POLL_SECONDS, left))
        return answer

    # Going on, and ending

    def settle(self) -> None:
        """Await futures and seal all failures, read or not: the flow goes on past them."""
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
        """End the execution with `result`; raises what a future raised that nobody read."""
        self._check_running()
        with self._environment():
            warn_unasked(self.journal, self.counters)
        # Whoever sees the end finds all the output there.
        self.log.close()
        with self._environment():
            self._seal()
            self._raise_unread()
            value = self.journal.keep(result, "result", may_pickle=self.may_pickle)
            end = self.journal.finish(EndRecord("completed", value, now()))
        telemetry.ended(self.journal, end.status)
        if end.status == "cancelled":
            self.stop("cancelled", None)
        return end

    def fail(self, error: BaseException, help: str) -> ErrorInfo:
        """Note that the body raised `error`, which `retry` may still repair."""
        self._check_running()
        self.submitted.start()
        self.submitted.drain()
        self.log.close()
        info = error_info(error, invocation=origin_of(error, self._unsealed), help=help)
        with self._environment():
            if self.journal.end() is None:
                self.journal.set_state("failed", info)
                telemetry.ended(self.journal, "failed")
        return info

    def cancel(self) -> NoReturn:
        """End the execution as cancelled."""
        self.journal.finish(EndRecord("cancelled", None, now()))
        telemetry.ended(self.journal, "cancelled")
        self.stop("cancelled", None)

    def stop(self, why: Stop, error: BaseException | None) -> NoReturn:
        """Let no thread of this run go on."""
        self._stopped = True
        self._host.stop(why, error)
        park()

    def drain(self, timeout: float | None = None) -> bool:
        """Wait for all submitted checkpoints; False when `timeout` seconds were not enough."""
        return self.submitted.drain(timeout)

    def _check_running(self) -> None:
        if self._stopped:
            park()

    def _outcome(self, id: str) -> InvocationRecord | None:
        found = self.journal.look(id)
        if isinstance(found, InvocationRecord):
            return found
        self._check_cancelled(found)
        return None

    def _check_cancelled(self, end: EndRecord | None) -> None:
        if end is not None and end.status == "cancelled":
            self.stop("cancelled", None)

    @contextmanager
    def _environment(self) -> Iterator[None]:
        # Neither is the flow's to catch: a body that went on would record a lie.
        try:
            yield
        except EnvironmentFailure as error:
            self.stop("failed", error)
        except Diverged as error:
            self._diverged(error)

    def _diverged(self, error: Diverged) -> NoReturn:
        self._stopped = True
        with self._environment():
            if self.journal.end() is None:
                self.journal.set_state("failed", error_info(error))
        self.stop("failed", error)

    def _seal(self) -> None:
        with self._lock:
            for id, outcome in list(self._unsealed.items()):
                with self._environment():
                    held = self.journal.record(outcome.record)
                if held.failure != outcome.record.failure or held.status != "failed":
                    # Another process recorded another outcome, and the body has seen this one.
                    self.stop("superseded", None)
                outcome.sealed = True
                del self._unsealed[id]

    def _raise_unread(self) -> None:
        for id in list(self.unread):
            self.restored(id).result()
        for future in self.submitted.failed():
            if future.id not in self._unsealed:
                future.result()
