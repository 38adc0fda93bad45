"""A flow for every feature, and its use from outside until it has ended."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import kitaru
from kitaru import KitaruClient, checkpoint, errors, flow, memory
from kitaru.runtime.engine.execution import current
from kitaru.stores import Store
from kitaru.wire import keys

EXEC = "e1"
# Larger than a value inside a record may be in these tests: see `faults.process`.
INLINE_BYTES = 256
# The number of records in a segment in these tests.
SEGMENT_RECORDS = 2
LARGE = "large" * 100


@dataclass
class World:
    """The state that outlives the processes: the store, and the calls of user code."""

    store: Store
    process: int = 0
    calls: Counter[tuple[int, str]] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    returned: list[tuple[str, str, Any]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def called(self, id: str, attempts: int = 1) -> None:
        """I6: note a call of user code; at most `attempts` in a process, none once recorded."""
        exec_id = current_id()
        held = self.store.get(keys.invocation(exec_id, id))
        with self.lock:
            self.calls[self.process, f"{exec_id}/{id}"] += 1
            count = self.calls[self.process, f"{exec_id}/{id}"]
        if held is not None:
            self.broken.append(f"I6: {exec_id}/{id} was called although it is recorded")
        if count > attempts:
            self.broken.append(f"I6: {exec_id}/{id} was called {count} times by one process")

    def got(self, id: str, value: Any) -> Any:
        """I3: note a value that the body received, for a comparison with the record at the end."""
        with self.lock:
            self.returned.append((current_id(), id, value))
        return value


def current_id() -> str:
    scope = current()
    assert scope is not None
    return scope.execution.journal.exec_id


# The world that flows report to is the last one.
WORLDS: list[World] = []


def world() -> World:
    return WORLDS[-1]


@checkpoint
def first(n: int) -> list[Any]:
    world().called("first")
    return [n, LARGE]


@checkpoint
def second(n: int) -> str:
    world().called("second")
    kitaru.save("note", LARGE)
    kitaru.log(rows=n)
    return f"second of {n}"


@checkpoint
def each(n: int, large: str) -> list[Any]:
    world().called("each" if n == 0 else f"each_{n + 1}")
    return [n, large if n == 2 else ""]


@checkpoint(retries=2)
def flaky(n: int) -> str:
    # As many attempts again after a retry of the execution, perhaps in the same process.
    world().called("flaky", attempts=6)
    with world().lock:
        world().failed["flaky"] += 1
        tries = world().failed["flaky"]
    if tries <= n:
        raise ValueError(f"try {tries}")
    return "at last"


@checkpoint
def broken(n: int) -> str:
    world().called("broken")
    raise KeyError(n)


@flow
def waits(n: int) -> list[Any]:
    got = world().got("first", first(n))
    if not world().got("ok", kitaru.wait(name="ok", schema=bool)):
        return ["rejected"]
    return [got[0], world().got("second", second(n))]


@flow
def remembers(n: int) -> list[Any]:
    seen = memory.get("count", 0)
    written = world().got("memory_set", memory.set("count", n))
    world().got("memory_set_2", memory.set("large", LARGE))
    got = world().got("first", first(memory.get("count")))
    gone = memory.delete("large")
    again = memory.set("count", n + 1, expect=1)
    return [seen, written, got[0], gone, again, memory.list(), memory.get("large", "gone")]


@flow
def steered(n: int) -> list[Any]:
    before = kitaru.inbox("steer")
    kitaru.wait(name="ok", schema=bool)
    return [before, kitaru.inbox("steer"), world().got("first", first(n))[0], kitaru.inbox("steer")]


@flow
def fans_out(n: int) -> list[Any]:
    futures = [each.submit(number, LARGE) for number in range(n)]
    found = [world().got(future.id, future.result())[0] for future in futures]
    return [found, world().got("second", second(n))]


@flow
def caches(n: int) -> list[Any]:
    return [world().got("first", first(n))[0], world().got("second", second(n))]


@flow
def tries_again(n: int) -> list[Any]:
    try:
        broken(n)
    except KeyError as error:
        caught = repr(error)
    return [caught, world().got("flaky", flaky(n)), world().got("second", second(n))]


@dataclass(frozen=True)
class Use:
    """The use of a flow: `before` runs on a store without faults, `drive` until the flow has ended.

    `drive` may be called again in another process after a failure.
    """

    drive: Callable[[Store], Any]
    expected: Any
    before: Callable[[Store], Any] = lambda store: None


def _run(of: Any, n: int) -> Callable[[Store], Any]:
    return lambda store: of.options(store=store, exec_id=EXEC).run(n).wait()


def _answer(store: Store) -> Any:
    handle = waits.options(store=store, exec_id=EXEC).run(1)
    if handle.settle() == "waiting":
        handle = KitaruClient(store).executions.input(EXEC, True, "ok")
    return handle.wait()


def _signal(store: Store) -> Any:
    handle = steered.options(store=store, exec_id=EXEC).run(1)
    executions = KitaruClient(store).executions
    if handle.settle() == "waiting":
        sent = [one.value for one in executions.get(EXEC).signals]
        for value in ("left", "right"):
            if value not in sent:
                executions.signal(EXEC, "steer", value)
        handle = executions.input(EXEC, True, "ok")
    return handle.wait()


def _earlier(store: Store) -> None:
    caches.options(store=store, exec_id="e0").run(1).wait()


def _replay(store: Store) -> Any:
    return caches.replay("e0", start="second", store=store).wait()


def _retry(store: Store) -> Any:
    """Let all three attempts fail, then retry the execution."""
    executions = KitaruClient(store).executions
    try:
        return tries_again.options(store=store, exec_id=EXEC).run(4).wait()
    except errors.CheckpointFailed:
        return executions.retry(EXEC).wait()


USES = {
    "wait": Use(_answer, [1, "second of 1"]),
    "memory": Use(_run(remembers, 5), [0, 1, 5, True, 2, ["count"], "gone"]),
    "inbox": Use(_signal, [[], ["left", "right"], 1, []]),
    "fan-out": Use(_run(fans_out, 4), [[0, 1, 2, 3], "second of 4"]),
    "cache": Use(_run(caches, 1), [1, "second of 1"], _earlier),
    "retry": Use(_run(tries_again, 2), ["KeyError(2)", "at last", "second of 2"]),
    "failed, then retry": Use(_retry, ["KeyError(4)", "at last", "second of 4"]),
    "replay": Use(_replay, [1, "second of 1"], _earlier),
}
