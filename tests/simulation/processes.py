"""Simulated processes: each has its own memory, clock, random numbers and output.

State that a real process has once, such as its current executions, is in the globals of Kitaru's
modules. It is exchanged when a thread of another process gets the turn.
"""

from __future__ import annotations

import concurrent.futures._base as futures
import importlib
import io
import itertools
import logging
import pkgutil
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch
from weakref import WeakValueDictionary

import kitaru
from kitaru.runtime.engine import caching, declared_changes, exit_report, local_run, parked_threads
from kitaru.runtime.journal import blobs, segments
from kitaru.runtime.journal import processes as marks
from kitaru.runtime.telemetry import beats, logs, output
from kitaru.stores import object_store
from kitaru.wire import ids, times
from tests.simulation import primitives
from tests.simulation.primitives import Lock, Moments, RLock, Thread, replacements
from tests.simulation.scheduler import Killed, Scheduler, Task

# 2026-01-01, the approximate time of the clocks of all processes.
_EPOCH = 1767225600.0
# Small, so that short runs create blobs and segments.
INLINE_BYTES = 256
SEGMENT_RECORDS = 3
# Modules that a step does not import, or that no simulated process uses.
_LEFT_OUT = ("kitaru.adapters", "kitaru.cli", "kitaru.stores.sqlite")
_NOT_IMPORTED = (".__main__", ".otel")
# The stores of the harness stay real: their data outlives the processes.
_REAL = ("kitaru.stores.memory",)
# No switch occurs while their locks are locked, and `cached_property` locks a real one outside.
_PURE = ("kitaru.wire.definitions",)

# The state of a process, and its initial values.
STATE: list[tuple[object, str, Callable[[], object]]] = [
    (local_run, "_running", WeakValueDictionary),
    (ids, "_last_ms", int),
    (logs, "_open", dict),
    (beats, "_live", dict),
    (beats, "_thread", lambda: None),
    (output, "_captures", int),
    (output, "_process", lambda: None),
    (output, "_busy", threading.local),
    (exit_report, "_left", list),
    (exit_report, "_process", int),
    (parked_threads, "_parked", set),
    (parked_threads, "_forgotten", set),
    # The end of a process is simulated: see `Process.leave`.
    (parked_threads, "_prepared", lambda: True),
    (parked_threads, "_exit_code", int),
    (marks, "_numbers", itertools.count),
    (declared_changes, "_declared", dict),
    (sys, "stdout", io.StringIO),
    (sys, "stderr", io.StringIO),
]


class Process:
    """A simulated process.

    `skew` is the offset of its wall clock in seconds. `code` is the imported module of the flow,
    `declarations` are the changes that the module declares. `thread_faults` is the probability that
    the system refuses to start a thread.
    """

    def __init__(
        self,
        run: Scheduler,
        pid: int,
        *,
        name: str = "",
        skew: float = 0.0,
        code: ModuleType | None = None,
        declarations: dict[Any, None] | None = None,
        thread_faults: float = 0.0,
    ) -> None:
        self.run = run
        self.pid = pid
        self.name = name or f"p{pid}"
        self.skew = skew
        self.code = code
        self.is_dead = False
        self.was_killed = False
        self.has_left = False
        self.met: list[str] = []
        self.threads: list[Thread] = []
        self.main: Thread | None = None
        self.thread_faults = thread_faults
        self._random = random.Random(f"{run.random.random()} {pid}")
        self.state = [make() for _, _, make in STATE] + [make() for _, _, make in _locks()]
        if declarations is not None:
            at = [name for _, name, _ in STATE].index("_declared")
            self.state[at] = dict(declarations)

    def clock(self) -> float:
        """Return the seconds since 1970 by the clock of this process."""
        return _EPOCH + self.run.now + self.skew

    def random_bytes(self, size: int) -> bytes:
        """Return random bytes, which differ between processes."""
        return self._random.randbytes(size)

    def refuses_thread(self) -> bool:
        """Return whether the system refuses to start a thread now."""
        refuses = bool(self.thread_faults) and self._random.random() < self.thread_faults
        if refuses:
            self.met.append("no thread")
            self.run.note(f"{self.name} refuses a thread")
        return refuses

    def start(self, work: Callable[[], object]) -> Task:
        """Start the process: run `work` on the main thread."""
        thread = Thread(target=work, name="main")
        task = self.run.spawn(self, "main", work)
        thread._task, task.thread, thread.ident = task, thread, task.number
        self.main = thread
        self.threads.append(thread)
        return task

    def kill(self, why: str) -> None:
        """End the process between two instructions: none of its threads runs again."""
        if self.is_dead:
            return
        self.run.note(f"kill {self.name} {why}")
        self.was_killed = True
        self._end()

    def leave(self) -> None:
        """End it as Python does at the end of a script: threads that can continue do so first."""
        local_run._settle_all()
        logs.close_all()
        self.run.note(f"exit {self.name}")
        self.has_left = True
        self._end()

    def _end(self) -> None:
        self.is_dead = True
        self.run.unwind(self)
        if primitives.current() is self:
            raise Killed


def _modules() -> Iterator[ModuleType]:
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] == "kitaru" and name not in _REAL and module is not None:
            yield module


def _import_all() -> None:
    """Import the modules that a process imports while it runs, so that they are patched too."""
    for found in pkgutil.walk_packages(kitaru.__path__, "kitaru."):
        if not found.name.startswith(_LEFT_OUT) and not found.name.endswith(_NOT_IMPORTED):
            importlib.import_module(found.name)


_found_locks: list[tuple[object, str, Callable[[], object]]] = []


def _locks() -> list[tuple[object, str, Callable[[], object]]]:
    """Return the locks that are globals of modules: each process has separate locks."""
    if not _found_locks:
        _import_all()
        kinds = {type(threading.Lock()): Lock, type(threading.RLock()): RLock}
        for module in _modules():
            for name, value in sorted(vars(module).items()):
                if type(value) in kinds and module.__name__ not in _PURE:
                    _found_locks.append((module, name, kinds[type(value)]))
    return _found_locks


class Exchange:
    """Installs the state of a process when one of its threads gets the turn."""

    def __init__(self) -> None:
        self._places = [(place, name) for place, name, _ in (*STATE, *_locks())]
        self._real = self._state()
        self._inside: Process | None = None

    def enter(self, process: Process | None) -> None:
        """Install the state of `process`; None restores the original state."""
        if process is self._inside:
            return
        if self._inside is not None:
            self._inside.state = self._state()
        for (place, name), value in zip(
            self._places, self._real if process is None else process.state, strict=True
        ):
            setattr(place, name, value)
        if process is not None and process.code is not None:
            sys.modules[process.code.__name__] = process.code
        self._inside = process

    def _state(self) -> list[object]:
        return [getattr(place, name) for place, name in self._places]


# The system supplies the parts of a marker, one line of `_PROC` for each simulated process.
_alive: dict[int, Process] = {}


def register(process: Process) -> None:
    """Make this process visible to other processes while it is alive."""
    _alive[process.pid] = process


def _is_alive(pid: int) -> bool:
    return pid in _alive and not _alive[pid].is_dead


@contextmanager
def simulated(run: Scheduler) -> Iterator[None]:
    """Run Kitaru on the simulation's threads and clocks inside the block."""
    _locks()
    exchange = Exchange()
    exchange_in = exchange.enter
    run.enter = exchange_in
    primitives.use(run)
    _alive.clear()
    patches: list[Any] = [
        patch.object(futures, "threading", primitives.REPLACED[0][1]),
        patch.object(times, "datetime", Moments),
        patch.object(exit_report, "_is_script", lambda module: False),
        patch.object(caching, "test_run", lambda: ""),
        patch.object(marks, "_place", lambda: ("machine", "boot", "1")),
        patch.object(marks, "_start_time", lambda pid: str(pid) if _is_alive(pid) else "0"),
        patch.object(marks, "_exists", _is_alive),
        patch.object(blobs, "INLINE_VALUE_BYTES", INLINE_BYTES),
        patch.object(segments, "_RECORDS", SEGMENT_RECORDS),
        patch.object(segments, "_FEW", 1),
        patch.object(object_store, "_TIMEOUT", object_store._TIMEOUT),
    ]
    for module in _modules():
        for name, value in list(replacements(vars(module))):
            patches.append(patch.object(module, name, value))
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    for one in patches:
        one.start()
    try:
        yield
    finally:
        exchange.enter(None)
        for one in reversed(patches):
            one.stop()
        logging.disable(disabled)
        primitives.use(None)
