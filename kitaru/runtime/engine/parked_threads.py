"""Threads that a flow must not continue, and the end of the process that they are in.

Nothing of a flow is unwound: a thread that must not continue is parked (see `engine`). The body's
own thread is a daemon. But user code calls Kitaru from other threads as well, through
`asyncio.to_thread`, a `ThreadPoolExecutor`, or the tools of an agent framework, and Python waits
for those when a process ends:

    main thread                     worker of a pool                body (daemon)
    script ends                     kitaru.wait(…): parked          waits for the worker
    joins the worker, forever

So the first thing that happens when a process ends is `settle`: it waits until no flow of this
process can continue by itself. Then Python is made to forget the parked threads, so that it ends
with them as it does with daemons. So are threads that wait without a limit for a parked one (the
worker of an outer pool), once no thread is left that could wake them.

A parked thread is forgotten, but never marked as ended: that would wake threads that join it, such
as the body of the flow, which would then continue past its wait. If Python has no way to forget a
thread (one that parks when Python joins it already, and with 3.13 one that is no daemon) the
process is ended after its `atexit` handlers have run.

`settle` has to come before the standard library's own hook, which stops all pools: a flow that
continues after the last line of its script may still use one. That is why `prepare` imports the
module that registers the hook.
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
    """Mark the current thread as one that waits for an answer, which may come from nowhere."""
    thread = threading.current_thread()
    _parked.add(thread)
    try:
        yield
    finally:
        _parked.discard(thread)


def prepare(
    settle: Callable[[], None], abandon: Callable[[], object], is_running: Callable[[], bool]
) -> None:
    """Arrange for the end of the process, once.

    `settle` returns when no flow of this process can continue by itself; `abandon` gives those up
    that can, because the process is interrupted; `is_running` shows whether one can.

    Raises RuntimeError or MemoryError where no thread can be started.
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
            # Ctrl-C, SIGTERM, or no memory to wait with. Python has decided on its exit code.
            exit_with(1)
            exit_with(signals.code_of(interruption))
            abandon()
        _forget_all(is_running)
        ends.set()

    def end_hard() -> None:
        ends.wait()
        while not _is_stuck(is_running):
            time.sleep(_LOOK_SECONDS)
        _end_hard()

    # Now, because some versions of Python start no thread any more when they end.
    threading.Thread(target=end_hard, name="kitaru-end", daemon=True).start()
    _prepared = True
    vars(sys)[_EXIT] = _Exit()
    hooks: Any = threading
    try:
        import concurrent.futures.thread  # noqa: F401 (see above)

        hooks._register_atexit(end)
    except RuntimeError:
        # Started by a thread that outlives the main one: the process ends already.
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
    """Let the process exit with `code`, after everything else that happens at exit.

    Python decides on its exit code before the handlers of `atexit` run.
    """
    if (last := vars(sys).get(_EXIT)) is not None:
        last.code = code


class _Exit:
    """Ends the process when Python clears the `sys` module: after all handlers and other modules.

    It is made early, because there may be no memory for it at the end.
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
    # An interpreter that somebody types at continues after Ctrl-C.
    is_last = isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    return signals.came() or (is_last and not hasattr(sys, "ps1"))


def _load_unwinder() -> None:
    """Load the library that glibc ends threads with.

    Daemons end while Python does, and glibc loads the library for the first of them. Where no
    memory is left for it, glibc aborts the process: "libgcc_s.so.1 must be installed for
    pthread_exit to work".
    """
    if sys.platform == "linux":
        # Without ctypes, whose import takes five times as long. Other libraries for C have none.
        with suppress(ImportError, OSError):
            import _ctypes

            _ctypes.dlopen("libgcc_s.so.1", 0)


def _forget_all(is_running: Callable[[], bool]) -> None:
    if not any(map(_holds_process, list(_parked))):
        return
    # Threads of Kitaru may be about to end.
    if any(_is_stuck(is_running) for _ in range(_LOOKS)):
        for thread in threading.enumerate():
            if _holds_process(thread) and not _is_idle(thread):
                _forget(thread)


def _is_stuck(is_running: Callable[[], bool]) -> bool:
    """Return whether the process waits only for parked threads, and for threads that join them."""
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
    # Python joins the workers of pools even where they are daemons.
    pools: Any = sys.modules.get("concurrent.futures.thread")
    return not thread.daemon or (pools is not None and thread in pools._threads_queues)


def _is_idle(thread: threading.Thread) -> bool:
    """Return whether a thread is a worker without work, which its pool ends."""
    frame = sys._current_frames().get(thread.ident or 0)
    pools = sys.modules.get("concurrent.futures.thread")
    file = getattr(pools, "__file__", None)
    return (
        frame is not None and frame.f_code.co_name == "_worker" and frame.f_code.co_filename == file
    )


def _waits_for_ever(thread: threading.Thread) -> tuple[int, int] | None:
    """Return where a thread waits without a limit for another one, None where it does not."""
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
    """Let Python end without a thread, as far as it can."""
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
        # Ends the process with the code of `exit_with`, if there is one.
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
