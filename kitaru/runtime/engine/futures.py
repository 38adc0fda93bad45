"""Submitted calls and their futures.

A submitted call runs at once on a thread, or later where it is only promised: in this process as
soon as its result is needed, or in the process to which its promise crosses a cut.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any, Generic, TypeVar

from kitaru.errors import ValueNotEncodable
from kitaru.runtime import codec
from kitaru.runtime.engine.calls import Call
from kitaru.runtime.engine.outcomes import Outcome
from kitaru.stores.worker_pool import Pool
from kitaru.wire.structs import Struct, replace

T = TypeVar("T")


class Future(Generic[T]):
    """The result of a submitted checkpoint, to be had with `.result()`.

    `id` is the invocation's. It decodes its value or its exception once: asking twice gives the
    same object. `pickle` shows whether the value may come out of a pickle.

    Example:
        drafts = [draft.submit(topic) for topic in topics]
        texts = [future.result() for future in drafts]
    """

    __slots__ = ("_error", "_known", "_settled", "_submitted", "_value", "id", "outcome", "pickle")

    def __init__(
        self, submitted: Submitted, id: str, *, settled: bool = False, pickle: bool = False
    ) -> None:
        self.id = id
        self.pickle = pickle
        self.outcome: Outcome | None = None
        self._submitted = submitted
        self._settled = Event()
        self._known = False
        self._value: Any = None
        self._error: BaseException | None = None
        if settled:
            self._settled.set()

    def result(self) -> T:
        """Return the checkpoint's value; waits for it.

        Raises:
            Exception: what the checkpoint raised, the same object every time.
        """
        if not self._settled.is_set():
            self._submitted.start()
            self._settled.wait()
        if not self._known:
            self._value, self._error = self._submitted.read(self)
            self._known = True
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[no-any-return]

    load = result

    def done(self) -> bool:
        """Return whether `.result()` would answer at once."""
        if not self._settled.is_set():
            self._submitted.start()
        return self._settled.is_set()

    def settle(self, outcome: Outcome) -> None:
        """Take the outcome; for the engine."""
        self.outcome = outcome
        self._settled.set()

    def fail(self, error: BaseException) -> None:
        """Take what no record can hold, such as `SystemExit`; raised wherever the body looks."""
        self._known, self._error = True, error
        self._settled.set()

    def check(self) -> None:
        """Raise what `broke` it, if anything did; for the engine."""
        if self.outcome is None and self._error is not None:
            raise self._error

    def frame_state(self) -> list[Any] | None:
        """Return the value that the body holds, if it has asked for it; for the codec."""
        return [self._value] if self._known and self._error is None else None

    def set_frame_state(self, state: list[Any]) -> None:
        """Take the value that the body held in the process before; for the codec."""
        self._known, self._value = True, state[0]

    def __repr__(self) -> str:
        return f"<Future {self.id} {'done' if self._settled.is_set() else 'pending'}>"


class Futures(Struct, Generic[T]):
    """The futures of one `.map()` or `.product()`, in order; a sequence."""

    items: tuple[Future[T], ...]

    def result(self) -> list[T]:
        """Return all values, in order; raises what the first failed one raised."""
        return [future.result() for future in self.items]

    load = result

    def __iter__(self) -> Iterator[Future[T]]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Future[T]:
        return self.items[index]


class Submission(Struct):
    """A submitted call and its future.

    `arguments` gives the codec's document of what it was submitted with: the body may change its
    own objects meanwhile. It is None where those cannot be recorded, and `call` holds them.
    `unpickle` shows whether a pickle among them may be loaded.
    """

    call: Call
    future: Future[Any]
    arguments: Callable[[], Any] | None
    unpickle: bool = True

    def may_cross(self) -> bool:
        """Return whether another process could make the call."""
        return self.arguments is not None and self.call.spec.is_importable()

    def ready(self) -> Call:
        """Return the call with its arguments."""
        if self.arguments is None:
            return self.call
        args, kwargs = codec.decode(self.arguments(), unpickle=self.unpickle)
        return replace(self.call, args=tuple(args), kwargs=dict(kwargs))


def submission(call: Call, future: Future[Any], may_pickle: codec.MayPickle) -> Submission:
    """Return the submission of `call`, its arguments as they are now."""
    try:
        document = codec.encode([list(call.args), call.kwargs], may_pickle=may_pickle)
    except ValueNotEncodable:
        return Submission(call, future, None)
    return Submission(replace(call, args=(), kwargs={}), future, lambda: document)


class Submitted:
    """The submitted calls of one run of a body, in the order of their submission.

    While `promising`, calls are not started but promised, until they cross a cut or somebody wants
    them here. `retries_here` shows whether a failed attempt is retried in this process.
    """

    def __init__(
        self,
        run: Callable[[Submission], None],
        read: Callable[[Future[Any]], tuple[Any, BaseException | None]],
        most: int,
    ) -> None:
        """`run` makes a call and settles its future, and must not raise; `most` at a time.

        `read` returns the value of a settled future, or the exception that the body gets now.
        """
        self.promising = False
        self.retries_here = True
        self.read = read
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

    def promises(self) -> list[Submission]:
        """Return the calls that are promised and not started."""
        with self._lock:
            return list(self._promised.values())

    def start(self, *ids: str) -> None:
        """Start promised calls here: those of `ids`, by default all, and promise no more then."""
        with self._lock:
            self.promising = self.promising and bool(ids)
            taken = [self._promised.pop(id) for id in ids or list(self._promised)]
        for submission in taken:
            self._start(submission)

    def forget(self) -> None:
        """Drop what is only promised: it must not run here."""
        with self._lock:
            self._promised = {}

    def future(self, id: str) -> Future[Any] | None:
        """Return the future of a call that is not known to be recorded."""
        with self._lock:
            found = self._open.get(id)
        return None if found is None else found.future

    def close(self, id: str) -> None:
        """Forget a call whose result is recorded."""
        with self._lock:
            self._open.pop(id, None)

    def failed(self) -> list[Future[Any]]:
        """Wait for what was started; return the futures whose failure is not recorded, once.

        Raises what a call raised that no record can hold.
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
        """Wait for what was started; False when `timeout` seconds were not enough."""
        return self._pool.drain(timeout)

    def _start(self, submission: Submission) -> None:
        self._pool.submit(lambda: self._run(submission))


def resolve_futures(arguments: Any) -> Any:
    """Return arguments with each future replaced by its value, waiting for it.

    Futures are found among them, and directly in a list, tuple or dict that is one of them.

    Raises:
        Exception: what a submitted checkpoint raised.
    """
    return _replaced(arguments, _in_containers)


def _in_containers(value: Any) -> Any:
    return _replaced(value, _value_of)


def _replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return `value` with `change` made to its items, itself where that changes none."""
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
