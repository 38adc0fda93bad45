"""The one event loop of a process, for the async checkpoints of flows that are not async.

A client that a module creates once (`httpx.AsyncClient`, an `aiohttp` session, `asyncio.Lock`)
belongs to the event loop that first used it. If each checkpoint had a loop of its own, the client
would work in one checkpoint and raise "Event loop is closed" in the next. All async checkpoints of
a process therefore share one loop:

    body of the flow, or a thread of `.submit(…)`          thread "kitaru-loop"
    ---------------------------------------------          --------------------
    run(lambda: draft(topic))  ---- task, context ---->    await draft(topic)
    waits                      <--- value or error -----   (other checkpoints run side by side)

The thread starts with the first async checkpoint, and asyncio is imported only then. The thread is
a daemon, so a running checkpoint does not keep an interrupted process alive. At exit the loop is
closed as `asyncio.run` closes its loop: remaining tasks are cancelled first.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

# A coroutine that blocks its loop cannot be cancelled; the process does not wait for it.
_CLOSING_SECONDS = 2.0

_lock = threading.Lock()
_loop: Loop | None = None
_registered = False


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._calls: set[_Call] = set()
        self._asyncio: asyncio.AbstractEventLoop
        self._ending: asyncio.Event
        self._thread = threading.Thread(target=self._serve, name="kitaru-loop", daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def is_open(self) -> bool:
        """Whether the loop accepts calls."""
        return self._thread.is_alive()

    def call(self, start: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Wait for a coroutine; return its value or raise its exception."""
        call = _Call(start)
        self._calls.add(call)
        try:
            return _wait_for(call, self._asyncio)
        finally:
            self._calls.discard(call)

    def close(self) -> None:
        """Cancel the remaining tasks and close the loop."""
        if self._thread.is_alive():
            self._asyncio.call_soon_threadsafe(self._ending.set)
            self._thread.join(_CLOSING_SECONDS)

    def _serve(self) -> None:
        import asyncio

        try:
            with asyncio.Runner() as runner:
                self._asyncio, self._ending = runner.get_loop(), asyncio.Event()
                self._ready.set()
                runner.run(self._until_closed())
        finally:
            # Also reached when a task left behind by a checkpoint raises SystemExit in the loop.
            for call in list(self._calls):
                call.fail(_closed())

    async def _until_closed(self) -> None:
        await self._ending.wait()


class _Call:
    """One coroutine on the loop, for a caller on another thread."""

    def __init__(self, start: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        self.done = threading.Event()
        self.value: Any = None
        self.error: BaseException | None = None
        self._start = start
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start the coroutine in the context of the caller. Runs on the loop."""
        import asyncio

        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        # A task must not raise SystemExit: it would end the loop for all other tasks.
        try:
            self.value = await self._start()
        except BaseException as error:
            self.error = error
        self.done.set()

    def cancel(self) -> None:
        """Cancel the coroutine. Runs on the loop."""
        if self._task is not None:
            self._task.cancel()

    def fail(self, error: BaseException) -> None:
        """Raise `error` in the caller, unless the coroutine has ended."""
        if not self.done.is_set():
            self.error = error
            self.done.set()


def _wait_for(call: _Call, loop: asyncio.AbstractEventLoop) -> Any:
    try:
        loop.call_soon_threadsafe(call.begin, context=copy_context())
        call.done.wait()
    except RuntimeError as error:
        raise _closed() from error
    except BaseException:
        # Ctrl-C in a step: the checkpoint must not continue after its caller has ended.
        loop.call_soon_threadsafe(call.cancel)
        raise
    if call.error is not None:
        raise call.error
    return call.value


def call_on(loop: asyncio.AbstractEventLoop, start: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine on a loop of another thread, in the caller's context; return its value."""
    return _wait_for(_Call(start), loop)


def run(start: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run the coroutine that `start` returns on this process's loop; return its value.

    The coroutine runs with the context variables of the caller. The caller may be on a thread with
    an event loop of its own, which is blocked meanwhile.
    """
    return _shared().call(start)


def _shared() -> Loop:
    global _loop, _registered
    with _lock:
        if _loop is None or not _loop.is_open:
            if not _registered:
                atexit.register(_close)
                os.register_at_fork(after_in_child=_forget)
                _registered = True
            _loop = Loop()
        return _loop


def _close() -> None:
    if _loop is not None:
        _loop.close()


def _forget() -> None:
    # The loop's thread exists only in the parent, and another thread may have held the lock during
    # the fork.
    global _lock, _loop
    _lock = threading.Lock()
    _loop = None


def _closed() -> RuntimeError:
    return RuntimeError("The event loop of the async checkpoints ended before the checkpoint did.")
