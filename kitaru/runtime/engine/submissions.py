"""Run submitted calls: at once on threads, or later in the nodes of a fan-out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from kitaru.errors import ValueNotEncodable
from kitaru.runtime import codec
from kitaru.runtime.engine.calls import Call
from kitaru.runtime.engine.futures import Future
from kitaru.stores.worker_pool import Pool
from kitaru.wire.structs import Struct, replace


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

    def __init__(self, run: Callable[[Submission], None], most: int) -> None:
        """`run` makes a call and settles its future, and must not raise; `most` at a time."""
        self.promising = False
        self.retries_here = True
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
