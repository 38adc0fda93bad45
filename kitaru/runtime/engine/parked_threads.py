"""Threads that a flow must not continue, and the end of their process.

Kitaru never unwinds a flow. A thread that must not continue is parked (see `engine`). The thread of
the body is a daemon. But user code also calls Kitaru from other threads, through
`asyncio.to_thread`, a `ThreadPoolExecutor`, or the tools of an agent framework. Python joins those
threads when a process ends:

    main thread                     worker of a pool                body (daemon)
    script ends                     kitaru.wait(…): parked          waits for the worker
    joins the worker, forever

`settle` therefore runs first when a process ends. It waits until no flow of this process can
continue without an answer. Python then forgets the parked threads, so that it can end without
joining them, as with daemons. It also forgets threads that wait without a time limit for a parked
thread, such as the worker of an outer pool, once no other thread can wake them.

A forgotten thread is never marked as ended. That would wake the threads that join it, such as the
body of the flow, which would then continue past its wait. Python cannot forget every thread: not a
thread that parks while Python already joins it, and with 3.13 not a thread that is no daemon. In
those cases the process is ended after its `atexit` handlers.

`settle` must run before the standard library's own hook, which stops all pools: a flow that
continues after the last line of its script may still use a pool. `prepare` therefore imports the
module that registers that hook.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from kitaru.runtime.engine import signals

_LOOK_SECONDS = 0.1
_LOOKS = 3

_parked: set[threading.Thread] = set()
_forgotten: set[threading.Thread] = set()
_prepared = False
_exit_code = 0
_EXIT = "__kitaru_exit__"


@contextmanager
def parked() -> Iterator[None]:
    """Mark the current thread as waiting for an answer that may never arrive."""
    thread = threading.current_thread()
    _parked.add(thread)
    try:
        yield
    finally:
        _parked.discard(thread)


def prepare(
    settle: Callable[[], None], abandon: Callable[[], object], is_running: Callable[[], bool]
) -> None:
    """Register the handlers for the end of the process, once.

    `settle` returns when no flow of this process can continue without an answer. `abandon` gives up
    the flows that can continue, because the process is interrupted. `is_running` reports whether
    such a flow exists.

    Raises RuntimeError or MemoryError if no thread can be started.
    """
    global _prepared
    if _prepared:
        return
    _load_unwinder()
    ends = threading.Event()

    def end() -> None:
        try:
            if not _is_interrupted():
                settle()
            else:
                abandon()
        except BaseException as interruption:
            # Ctrl-C, SIGTERM, or no memory to wait. Python has already chosen its exit code.
            exit_with(1)
            exit_with(signals.code_of(interruption))
            abandon()
        try:
            _forget_all(is_running)
        except Exception:
            # Nobody knows how the flows will end. The report may set another code.
            exit_with(1)
        ends.set()

    def end_hard() -> None:
        ends.wait()
        while not look():
            time.sleep(_LOOK_SECONDS)
        _end_hard()

    def look() -> bool:
        # Without memory to look, look again: nothing else ends the process.
        with suppress(Exception):
            return _is_stuck(is_running)
        return False

    # Start the thread now: some versions of Python start no threads during shutdown.
    threading.Thread(target=end_hard, name="kitaru-end", daemon=True).start()
    _prepared = True
    vars(sys)[_EXIT] = _Exit()
    hooks: Any = threading
    try:
        import concurrent.futures.thread  # noqa: F401 (see above)

        hooks._register_atexit(end)
    except RuntimeError:
        # Started by a thread that outlives the main thread: the process is already ending.
        ends.set()


def _forget_parent() -> None:
    global _prepared, _exit_code
    _prepared, _exit_code = False, 0
    _parked.clear()
    _forgotten.clear()


os.register_at_fork(after_in_child=_forget_parent)


def expect_exit(code: int) -> None:
    """Note the exit code that the process is about to end with."""
    global _exit_code
    _exit_code = code


def exit_with(code: int) -> None:
    """Let the process exit with `code` after all other exit handlers.

    Python chooses its exit code before the `atexit` handlers run.
    """
    if (last := vars(sys).get(_EXIT)) is not None:
        last.code = code


class _Exit:
    """End the process when Python clears the `sys` module, after all handlers and other modules.

    The object is created early, because memory may be exhausted at the end.
    """

    def __init__(self) -> None:
        self.code = 0
        self._streams: tuple[Any, ...] = (sys.stdout, sys.stderr)
        self._end, self._process, self._current = os._exit, os.getpid(), os.getpid

    def __del__(self) -> None:
        if not self.code or self._current() != self._process:
            return
        for stream in self._streams:
            try:  # noqa: SIM105 (modules are gone by now)
                stream.flush()
            except Exception:
                pass
        self._end(self.code)


def _is_interrupted() -> bool:
    """Return whether Ctrl-C or SIGTERM ended the main thread."""
    # An interactive interpreter continues after Ctrl-C.
    is_last = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    return signals.came() or (is_last and not hasattr(sys, "ps1"))


def _load_unwinder() -> None:
    """Load the library that glibc uses to end threads.

    Daemons end during Python's shutdown, and glibc loads the library for the first of them. If
    memory is too low to load it, glibc aborts the process: "libgcc_s.so.1 must be installed for
    pthread_exit to work".
    """
    if sys.platform == "linux":
        # Do not use ctypes, whose import takes five times as long. Other C libraries have no such
        # file.
        with suppress(ImportError, OSError):
            import _ctypes

            _ctypes.dlopen("libgcc_s.so.1", 0)


def _forget_all(is_running: Callable[[], bool]) -> None:
    if not any(map(_holds_process, list(_parked))):
        return
    # Threads of Kitaru may be about to end, so look several times.
    if any(_is_stuck(is_running) for _ in range(_LOOKS)):
        for thread in threading.enumerate():
            if _holds_process(thread) and not _is_idle(thread):
                _forget(thread)


def _is_stuck(is_running: Callable[[], bool]) -> bool:
    """Return whether the process only waits for parked threads and threads that join them."""
    found = []
    for _ in range(2):
        holding = [t for t in threading.enumerate() if _holds_process(t) and not _is_idle(t)]
        places = {t: "parked" if t in _parked else _waits_for_ever(t) for t in holding}
        if is_running() or "parked" not in places.values() or None in places.values():
            return False
        found.append(places)
        time.sleep(_LOOK_SECONDS)
    return found[0] == found[1]


def _holds_process(thread: threading.Thread) -> bool:
    if thread in _forgotten or thread is threading.main_thread():
        return False
    # Python joins the workers of pools even if they are daemons.
    pools: Any = sys.modules.get("concurrent.futures.thread")
    return not thread.daemon or (pools is not None and thread in pools._threads_queues)


def _is_idle(thread: threading.Thread) -> bool:
    """Return whether a thread is an idle worker, which its pool will end."""
    frame = sys._current_frames().get(thread.ident or 0)
    pools = sys.modules.get("concurrent.futures.thread")
    file = getattr(pools, "__file__", None)
    return (
        frame is not None and frame.f_code.co_name == "_worker" and frame.f_code.co_filename == file
    )


def _waits_for_ever(thread: threading.Thread) -> tuple[int, int] | None:
    """Return the frame in which a thread waits for another without a time limit, or None."""
    frame = sys._current_frames().get(thread.ident or 0)
    return (id(frame), frame.f_lasti) if frame is not None and _is_endless(frame) else None


def _is_endless(frame: FrameType) -> bool:
    waits = {
        threading.__file__: ("wait", "join", "_wait_for_tstate_lock"),
        getattr(sys.modules.get("selectors"), "__file__", None): ("select",),
    }
    names = waits.get(frame.f_code.co_filename, ())
    return frame.f_code.co_name in names and frame.f_locals.get("timeout") in (None, -1)


def _forget(thread: threading.Thread) -> None:
    """Let Python end without joining a thread, as far as possible."""
    pools: Any = sys.modules.get("concurrent.futures.thread")
    if pools is not None:
        pools._threads_queues.pop(thread, None)
    locks: Any = threading
    lock = getattr(thread, "_tstate_lock", None)
    if lock is not None and not thread.daemon:
        with locks._shutdown_locks_lock:
            locks._shutdown_locks.discard(lock)
    if lock is not None or thread.daemon:
        _forgotten.add(thread)


def _end_hard() -> None:
    try:
        atexit._run_exitfuncs()
        # Removing the object ends the process with the code of `exit_with`, if one was set.
        vars(sys).pop(_EXIT, None)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(_code())


def _code() -> int:
    last = getattr(sys, "last_value", None)
    if last is None:
        return _exit_code or (signals.TERMINATED if signals.came() else 0)
    return signals.code_of(last) if isinstance(last, KeyboardInterrupt) else 1
