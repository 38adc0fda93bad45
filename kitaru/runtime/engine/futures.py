"""Submitted calls and their futures.

A submitted call starts on a thread at once, or is only promised. A promised call runs later: in
this process as soon as its result is needed, or in the process that receives its promise at a cut.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextvars import Context, copy_context
from functools import partial
from threading import Event
from typing import Any, Generic, TypeVar

from kitaru.errors import ValueNotEncodable
from kitaru.runtime import codec
from kitaru.runtime.engine.calls import Call
from kitaru.runtime.engine.outcomes import Outcome
from kitaru.stores.worker_pool import Pool
from kitaru.wire.structs import Struct, replace

T = TypeVar("T")

# A future changes its state rarely, so one lock serves all futures.
_changing = threading.Lock()


class Future(Generic[T]):
    """The result of a submitted checkpoint; read it with `.result()`.

    `id` is the id of the invocation. The value or exception is decoded once, so every call of
    `.result()` returns or raises the same object. `pickle` is true if the value may be loaded from
    a pickle.

    Example:
        drafts = [draft.submit(topic) for topic in topics]
        texts = [future.result() for future in drafts]
    """

    __slots__ = (
        "_error",
        "_is_final",
        "_known",
        "_settled",
        "_submitted",
        "_value",
        "_watchers",
        "id",
        "is_async",
        "outcome",
        "pickle",
    )

    def __init__(
        self,
        submitted: Submitted,
        id: str,
        *,
        settled: bool = False,
        pickle: bool = False,
        is_async: bool = False,
    ) -> None:
        """`is_async`: the checkpoint runs on an event loop, which a blocked reader would stop."""
        self.id = id
        self.pickle = pickle
        self.is_async = is_async
        # True from the moment the record is being written, or the call is cancelled.
        self._is_final = settled
        self.outcome: Outcome | None = None
        self._submitted = submitted
        self._settled = Event()
        # Called once when the future is settled, on any thread; None after that.
        self._watchers: list[Callable[[], object]] | None = []
        self._known = False
        self._value: Any = None
        self._error: BaseException | None = None
        if settled:
            self._settle()

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait for the checkpoint without blocking the event loop, and return its value."""
        return self.coroutine().__await__()

    def coroutine(self) -> Coroutine[Any, Any, T]:
        """Return a coroutine that waits for the checkpoint. Used by the engine."""
        return self._submitted.awaited(self)

    def result(self) -> T:
        """Wait for the checkpoint and return its value.

        Raises:
            Exception: the exception of the checkpoint, the same object every time.
        """
        if not self._known:
            self._submitted.check_may_block(self)
        if not self._settled.is_set():
            self._submitted.start()
            self._settled.wait()
        return self.read()

    def read(self) -> T:
        """Return the value of a settled future. Used by the engine."""
        if not self._known:
            self._value, self._error = self._submitted.read(self)
            self._known = True
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[no-any-return]

    load = result

    def done(self) -> bool:
        """Return whether `.result()` would return at once."""
        if not self._settled.is_set():
            self._submitted.start()
        return self._settled.is_set()

    @property
    def is_settled(self) -> bool:
        """Whether the outcome of the call is known. Used by the engine."""
        return self._settled.is_set()

    @property
    def is_known(self) -> bool:
        """Whether the body has read the value or the exception. Used by the engine."""
        return self._known

    def settle(self, outcome: Outcome) -> bool:
        """Store the outcome of the call; return whether a watcher was notified. For the engine."""
        self.outcome = outcome
        return self._settle()

    def _settle(self) -> bool:
        with _changing:
            watchers, self._watchers = self._watchers, None
            self._settled.set()
        for notify in watchers or ():
            notify()
        return bool(watchers)

    def when_settled(self, notify: Callable[[], object]) -> None:
        """Call `notify` once the future is settled, on any thread. Used by the engine."""
        with _changing:
            if self._watchers is not None:
                self._watchers.append(notify)
                return
        notify()

    def finalize(self) -> bool:
        """Begin to write the record, unless the call is cancelled. Used by the engine."""
        with _changing:
            is_first, self._is_final = not self._is_final, True
        return is_first

    def cancel(self) -> bool:
        """Cancel the call unless its record is being written; return whether it is cancelled.

        Used by the engine. A function on a thread continues, and its result is dropped.
        """
        if not self.finalize():
            return False
        # A task has awaited the future, so asyncio is imported.
        import asyncio

        self.fail(asyncio.CancelledError())
        return True

    def fail(self, error: BaseException) -> None:
        """Store an exception that no record can contain (`SystemExit`); every read raises it."""
        self._known, self._error = True, error
        self._settle()

    def check(self) -> None:
        """Raise the exception set by `fail`, if there is one. Used by the engine."""
        if self.outcome is None and self._error is not None:
            raise self._error

    def frame_state(self) -> list[Any] | None:
        """Return the decoded value if the body has read it. Used by the codec."""
        return [self._value] if self._known and self._error is None else None

    def set_frame_state(self, state: list[Any]) -> None:
        """Restore the value that the body had read in the previous process. Used by the codec."""
        self._known, self._value = True, state[0]

    def __repr__(self) -> str:
        return f"<Future {self.id} {'done' if self._settled.is_set() else 'pending'}>"


class Futures(Struct, Generic[T]):
    """The futures of one `.map()` or `.product()`, in order; a sequence."""

    items: tuple[Future[T], ...]

    def result(self) -> list[T]:
        """Return all values in order; raise the exception of the first failed call."""
        return [future.result() for future in self.items]

    load = result

    def __await__(self) -> Generator[Any, Any, list[T]]:
        """Wait without blocking the event loop; return the values in order."""
        values = []
        for future in self.items:
            values.append((yield from future.__await__()))
        return values

    def __iter__(self) -> Iterator[Future[T]]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Future[T]:
        return self.items[index]


class Submission(Struct):
    """A submitted call and its future.

    `arguments` returns the encoded arguments at the time of the submission, since the body may
    change its own objects later. If the arguments cannot be recorded, it is None and `call`
    contains them. `unpickle` is true if pickles among them may be loaded. `is_lazy`: the call runs
    in the task that awaits its future, like a coroutine, or in the process that receives its
    promise. `context` is a copy of the body's context at the submission: on its thread, the call
    sees the context variables that the body has set. None in another process.
    """

    call: Call
    future: Future[Any]
    arguments: Callable[[], Any] | None
    unpickle: bool = True
    is_lazy: bool = False
    context: Context | None = None

    def may_cross(self) -> bool:
        """Return whether another process can run the call."""
        return self.arguments is not None and self.call.spec.is_importable()

    def ready(self) -> Call:
        """Return the call with its decoded arguments."""
        if self.arguments is None:
            return self.call
        args, kwargs = codec.decode(self.arguments(), unpickle=self.unpickle)
        return replace(self.call, args=tuple(args), kwargs=dict(kwargs))


def submission(call: Call, future: Future[Any], may_pickle: codec.MayPickle) -> Submission:
    """Return the submission of `call` with its current arguments."""
    try:
        document = codec.encode([list(call.args), call.kwargs], may_pickle=may_pickle)
    except ValueNotEncodable:
        return Submission(call, future, None, context=copy_context())
    own = replace(call, args=(), kwargs={})
    return Submission(own, future, lambda: document, context=copy_context())


class Submitted:
    """The submitted calls of one run of a body, in the order of submission.

    While `promising` is true, calls are promised instead of started, until they cross a cut or
    their result is needed here. `retries_here` is true if failed attempts are retried in this
    process.
    """

    def __init__(
        self,
        run: Callable[[Submission], None],
        read: Callable[[Future[Any]], tuple[Any, BaseException | None]],
        check_may_block: Callable[[Future[Any]], None],
        awaited: Callable[[Future[Any]], Coroutine[Any, Any, Any]],
        most: int,
    ) -> None:
        """`run` performs a call and settles its future, without raising; `most` run at a time.

        `read` returns the value of a settled future, or the exception to raise in the body.
        `check_may_block` raises if the current thread must not wait for a future. `awaited` returns
        the coroutine that waits for a future on an event loop.
        """
        self.promising = False
        self.retries_here = True
        self.read = read
        self.check_may_block = check_may_block
        self.awaited = awaited
        self._run = run
        self._pool = Pool(most)
        self._lock = threading.Lock()
        self._open: dict[str, Submission] = {}
        self._promised: dict[str, Submission] = {}

    def add(self, submission: Submission) -> None:
        """Start a call, or promise it."""
        with self._lock:
            self._open[submission.call.id] = submission
            if self.promising:
                self._promised[submission.call.id] = submission
                return
        self._start(submission)

    def promise(self, submission: Submission) -> None:
        """Promise a lazy call: it runs when its future is awaited, or after a cut."""
        with self._lock:
            self._open[submission.call.id] = submission
            self._promised[submission.call.id] = submission

    def take(self, id: str) -> Submission | None:
        """Return a promised lazy call for the task that awaits it, once."""
        with self._lock:
            found = self._promised.get(id)
            return self._promised.pop(id) if found is not None and found.is_lazy else None

    def promises(self) -> list[Submission]:
        """Return the promised calls that have not started."""
        with self._lock:
            return list(self._promised.values())

    def start(self, *ids: str) -> None:
        """Start promised calls here: those in `ids`, or all that are not lazy.

        Without `ids`, stop promising.
        """
        with self._lock:
            self.promising = self.promising and bool(ids)
            eager = [id for id, one in self._promised.items() if not one.is_lazy]
            taken = [self._promised.pop(id) for id in ids or eager]
        for submission in taken:
            self._start(submission)

    def forget(self) -> None:
        """Drop the promised calls: they must not run here."""
        with self._lock:
            self._promised = {}

    def future(self, id: str) -> Future[Any] | None:
        """Return the future of a call that may not have a record yet."""
        with self._lock:
            found = self._open.get(id)
        return None if found is None else found.future

    def call(self, id: str) -> Call | None:
        """Return a call, None if its result is recorded."""
        with self._lock:
            found = self._open.get(id)
        return None if found is None else found.call

    def close(self, id: str) -> None:
        """Forget a call whose result is recorded."""
        with self._lock:
            self._open.pop(id, None)

    def failed(self) -> list[Future[Any]]:
        """Wait for started calls; return each future with an unrecorded failure once.

        Raises exceptions of calls that no record can contain.
        """
        self._pool.drain()
        with self._lock:
            ended = {id: s for id, s in self._open.items() if id not in self._promised}
            for id in ended:
                del self._open[id]
        futures = [submission.future for submission in ended.values()]
        for future in futures:
            future.check()
        return [f for f in futures if f.outcome is not None and not f.outcome.sealed]

    def drain(self, timeout: float | None = None) -> bool:
        """Wait for started calls; return False if `timeout` seconds were not enough."""
        return self._pool.drain(timeout)

    def _start(self, submission: Submission) -> None:
        if submission.context is None:
            self._pool.submit(lambda: self._run(submission))
        else:
            self._pool.submit(partial(submission.context.run, self._run, submission))


def resolve_futures(arguments: Any) -> Any:
    """Return the arguments with each future replaced by its value, waiting for it.

    Futures are replaced if they are arguments, or items of a list, tuple or dict that is an
    argument.

    Raises:
        Exception: the exception of a submitted checkpoint.
    """
    return _replaced(arguments, _in_containers)


def _in_containers(value: Any) -> Any:
    return _replaced(value, _value_of)


def _replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return `value` with `change` applied to its items; `value` itself if no item changes."""
    if isinstance(value, Future | Futures):
        return value.result()
    if type(value) is dict:
        changed = {key: change(item) for key, item in value.items()}
        return changed if any(changed[key] is not item for key, item in value.items()) else value
    if type(value) in (list, tuple):
        items = type(value)(change(item) for item in value)
        return items if any(map(operator.is_not, items, value)) else value
    return value


def _value_of(value: Any) -> Any:
    return value.result() if isinstance(value, Future | Futures) else value


def pending_futures(arguments: Any) -> list[Future[Any]]:
    """Return the futures in arguments that the body has not read, where `resolve_futures` looks."""
    found: list[Future[Any]] = []
    values = [arguments]
    for _ in range(3):
        values = [item for value in values for item in _items(value)]
        for value in values:
            if isinstance(value, Future | Futures):
                futures = [value] if isinstance(value, Future) else value
                found += [one for one in futures if not one.is_known]
    return found


def _items(value: Any) -> list[Any]:
    if type(value) is dict:
        return list(value.values())
    return list(value) if type(value) in (list, tuple) else []
