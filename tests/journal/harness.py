"""The fault harness: a store that fails at operation n, a small flow, the invariants I1 to I6."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from kitaru.errors import StoreUnavailable
from kitaru.runtime.executions.listing import list_executions
from kitaru.runtime.journal.blobs import store_value
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import Store
from kitaru.stores.base import in_order, scan_listed
from kitaru.wire import keys
from kitaru.wire.envelope import decode
from kitaru.wire.records import (
    AttemptRecord,
    EndRecord,
    ExecutionRecord,
    ExitRecord,
    InvocationRecord,
    WaitAnswer,
    WaitRequest,
    stored_values,
)
from kitaru.wire.times import now

T = TypeVar("T")

EXEC = "exec-1"
LARGE = "large" * 20_000
Fault = Literal["killed before", "killed after", "timeout before", "timeout after"]
FAULTS: tuple[Fault, ...] = ("killed before", "killed after", "timeout before", "timeout after")


class Killed(BaseException):
    """The process has ended."""


class FaultyStore:
    """One process's access to a shared store: counts operations and fails at the `at`th, from 1."""

    def __init__(self, inner: Store, fault: Fault = "killed before", at: int = 0) -> None:
        self.inner = inner
        self.url = inner.url
        self.remote = inner.remote
        self.fault = fault
        self.at = at
        self.count = 0
        self.dead = False

    def _do(self, operation: Callable[[], Any]) -> Any:
        if self.dead:
            raise Killed
        self.count += 1
        if self.count != self.at:
            return operation()
        if self.fault.endswith("after"):
            operation()
        if self.fault.startswith("killed"):
            self.dead = True
            raise Killed
        raise StoreUnavailable("no answer in time")

    def create(self, key: str, value: bytes) -> bool:
        created: bool = self._do(lambda: self.inner.create(key, value))
        return created

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        # The weakest possible store: objects are created separately, with a fault between any two.
        return [self.create(key, value) for key, value in objects]

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self._do(lambda: self.inner.get(key))
        return found

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def concurrently(self, first: Callable[[], T], *others: Callable[[], object]) -> T:
        return in_order(first, *others)

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        keys: list[str] = self._do(lambda: self.inner.list(prefix, after=after, limit=limit))
        return keys

    def scan(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return scan_listed(self, prefix)

    def delete(self, *keys: str) -> None:
        for key in keys:
            self._do(lambda key=key: self.inner.delete(key))  # type: ignore[misc]

    def inspect(self, prefix: str) -> None:
        self.inner.inspect(prefix)

    def flush(self) -> None:
        self.inner.flush()

    def close(self) -> None:
        self.inner.close()


@dataclass
class World:
    """The state that outlives processes: the store, and the observations of it."""

    store: Store
    calls: Counter[str] = field(default_factory=Counter)
    returned: list[tuple[str, Any]] = field(default_factory=list)
    seen: dict[str, bytes] = field(default_factory=dict)
    processes: int = 0

    def look(self) -> None:
        """I1: remember every record, and check that no earlier record has changed."""
        for key in self.store.list("x/"):
            data = self.store.get(key)
            assert data is not None
            assert self.seen.setdefault(key, data) == data, f"I1: {key} changed"
        assert set(self.seen) <= set(self.store.list("x/")), "I1: a record vanished"


def execution(store: Store, inputs: Any = 1, exec_id: str = EXEC) -> ExecutionRecord:
    value = store_value(store, keys.home(exec_id), inputs, "int")
    return ExecutionRecord(exec_id, "f", "m", "m.py", "local", value, value.digest, now())


def checkpoint(world: World, journal: Journal, id: str, value: Any) -> Any:
    """Do what an engine does for one checkpoint; every run of it returns a different value."""
    held = journal.invocation(id)
    if held is None:
        assert world.store.get(f"x/{journal.exec_id}/inv/{id}") is None, (
            "I6: called though recorded"
        )
        world.calls[id] += 1
        stored = journal.store_document([value, world.calls[id]], "list")
        held = journal.record(
            InvocationRecord(id, id, "checkpoint", f"m.{id}", "sha256:0", "completed", stored),
            cache_key=f"code/{id}",
        )
    assert held.value is not None
    result = journal.fetch(held.value)
    world.returned.append((id, result))
    return result


def flow(world: World, store: Store) -> Any:
    """Run one process: three checkpoints, a failed attempt, a wait, a cut and the end."""
    world.processes += 1
    journal = Journal.create(store, execution(store))
    journal.set_state("running")
    checkpoint(world, journal, "small", "small")
    if not journal.attempts("large"):
        journal.add_attempt(AttemptRecord("large", 0))
    checkpoint(world, journal, "large", LARGE)
    journal.record_exit(ExitRecord("large", "go", "wait", journal.store_document({"v": LARGE})))
    journal.set_frame_pointer("wait", {"from": "large"})
    journal.request_wait(WaitRequest("ok", "Continue?", {"type": "boolean"}, {}, now()))
    journal.set_state("waiting")
    journal.answer(WaitAnswer("ok", "value", True, now()))
    journal.set_state("running")
    last = checkpoint(world, journal, "last", "last")
    end = journal.finish(EndRecord("completed", journal.store_document(last), now()))
    assert end.result is not None
    return journal.fetch(end.result)


def recover(world: World, run: Callable[[], Any]) -> Any:
    """Run a process; if it fails, run another process without faults."""
    try:
        result = run()
    except (Killed, StoreUnavailable):
        world.look()
        result = flow(world, FaultyStore(world.store))
    world.look()
    return result


def check(world: World, result: Any) -> None:
    """Check I1 to I6 after an execution that completed."""
    world.look()
    journal = Journal.open(world.store, EXEC)
    for key in world.store.list("x/"):
        if "/blob/" not in key and "/process/" not in key:
            decode(key, world.seen[key])
    for record in journal.invocations():
        for value in stored_values(record):
            journal.fetch(value)  # I2: raises when it is missing or damaged
    for id, returned in world.returned:
        record = journal.invocation(id)
        assert record is not None and record.value is not None
        assert journal.fetch(record.value) == returned, f"I3: {id} returned something else"
    end = journal.end()
    assert end is not None and end.result is not None, "I4: success reported, no end recorded"
    assert journal.fetch(end.result) == result, "I3: the result is not the recorded one"
    assert journal.state().status == "completed"
    listed = [(item["exec_id"], item["status"]) for item in list_executions(world.store)]
    assert listed == [(EXEC, "completed")], "I5: a reader sees something else"
    assert max(world.calls.values()) <= world.processes, "I6: called twice in one attempt"
