"""Run a flow with faults at chosen store operations, resume it, and check I1 to I6."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from unittest.mock import patch

from kitaru import KitaruClient
from kitaru.errors import EnvironmentFailure, KitaruError, StoreDenied, StoreUnavailable
from kitaru.runtime import codec
from kitaru.runtime.engine import execution, local_run
from kitaru.runtime.executions.listing import list_executions
from kitaru.runtime.journal import blobs, segments
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.telemetry import beats
from kitaru.stores import Store, object_store
from kitaru.stores.base import scan_listed
from kitaru.stores.memory import MemoryStore
from kitaru.stores.worker_pool import Pool
from kitaru.wire.envelope import decode
from kitaru.wire.records import stored_values

from . import flows
from .explore import as_store, is_outdated, unlisted
from .flows import Use, World

T = TypeVar("T")

# The possible faults, and the operations that each can affect.
FAULTS: Mapping[str, tuple[str, ...]] = {
    "timeout before": ("create", "get", "list", "exact list", "delete"),
    "timeout after": ("create", "delete"),
    "denied": ("create", "get", "list", "exact list", "delete"),
    "conflict": ("create",),
    "old list": ("list",),
    "short read": ("get",),
    "crash before": ("create", "get", "list", "exact list", "delete"),
    "crash after": ("create", "delete"),
}
# Faults that only the store may notice.
PASSING = {"conflict", "old list"}
_PATIENCE_SECONDS = 240


def killed() -> SystemExit:
    """Return the exception that silently ends a thread of a dead process."""
    return SystemExit("killed")


@dataclass
class FaultyStore:
    """One process's access to a shared store: counts its operations, and fails at `faults`.

    It is the weakest possible store: objects that are created together are created one by one.
    """

    inner: Store
    faults: Mapping[int, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    met: list[str] = field(default_factory=list)
    dead: bool = False
    passing: frozenset[str] = frozenset(PASSING)

    def __post_init__(self) -> None:
        self.url, self.remote = self.inner.url, self.inner.remote
        self._lock = threading.Lock()

    def create(self, key: str, value: bytes) -> bool:
        return bool(self._do("create", lambda: self.inner.create(key, value)))

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        return [self.create(key, value) for key, value in objects]

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self._do("get", lambda: self.inner.get(key))
        return found

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def concurrently(self, first: Callable[[], T], *others: Callable[[], object]) -> T:
        return self.inner.concurrently(first, *others)

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        # Memory and replays rely on lists: every supported store lists everything.
        operation = "exact list" if "/mark/" in prefix or prefix.endswith("/inv/") else "list"
        ask = lambda: self.inner.list(prefix, after=after, limit=limit)  # noqa: E731
        return list[str](self._do(operation, ask))

    def scan(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return scan_listed(self, prefix)

    def delete(self, *keys: str) -> None:
        self._do("delete", lambda: self.inner.delete(*keys))

    def inspect(self, prefix: str) -> None:
        """Note nothing: this is not an operation of a store."""

    def flush(self) -> None:
        """Note nothing: this is not an operation of a store."""

    def close(self) -> None:
        """Leave the shared store open: other processes use it."""

    def _do(self, operation: str, ask: Callable[[], Any]) -> Any:
        with self._lock:
            self.done.append(operation)
            fault = self.faults.get(len(self.done), "")
        if self.dead:
            raise killed()
        if operation not in FAULTS.get(fault, ()):
            return ask()
        self.met.append(fault)
        return self._fail(fault, ask)

    def _fail(self, fault: str, ask: Callable[[], Any]) -> Any:
        match fault:
            case "conflict":
                return False
            case "old list":
                return []
            case "short read":
                found = ask()
                return found and found[: len(found) // 2]
            case "denied":
                raise StoreDenied("not allowed")
        if fault.endswith("after"):
            ask()
        if fault.startswith("timeout"):
            raise StoreUnavailable("no answer in time")
        self.die()
        raise killed()

    def die(self) -> None:
        """End the process: none of its operations reaches the store any more."""
        self.dead = True
        for run in list(local_run._running.values()):
            run.detach()

    def buried(self) -> None:
        """Called when no thread of the process remains."""


class Far(MemoryStore):
    """A store without a server that counts as distant, like a bucket: requests are concurrent."""

    remote = True

    def __init__(self, url: str = "memory:far") -> None:
        super().__init__(url)
        self._callers = Pool(16, "kitaru-together")

    def concurrently(self, first: Callable[[], T], *others: Callable[[], object]) -> T:
        started = [object_store._started(self._callers, other) for other in others]
        try:
            return first()
        finally:
            object_store._results(started)


def _unless_gone(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_type is not SystemExit:
        threading.__excepthook__(failed)


def _gone() -> Any:
    raise killed()


def process(world: World, store: FaultyStore, drive: Callable[[Store], Any]) -> tuple[Any, str]:
    """Run `drive` in one process; return its result, and its failure or ""."""
    world.process += 1
    before = set(threading.enumerate())
    # Only one: a cache key digests all reachable data, and each world contains a store.
    flows.WORLDS[:] = [world]
    with (
        patch.object(execution, "park", _gone),
        # A beat depends on the time, and its thread serves all processes that are simulated here.
        patch.object(beats.Beats, "_start", lambda beats: None),
        patch.object(threading, "excepthook", _unless_gone),
        patch.object(blobs, "INLINE_VALUE_BYTES", flows.INLINE_BYTES),
        patch.object(segments, "_RECORDS", flows.SEGMENT_RECORDS),
        patch.object(segments, "_FEW", 1),
    ):
        try:
            return drive(store), ""
        except EnvironmentFailure as error:
            return None, type(error).__name__
        except KitaruError as error:
            # Here a thread that must not continue ends with `killed`; in a real process it stays
            # parked. The body may be such a thread before the run knows the store's error.
            if isinstance(error.__cause__, SystemExit):
                return None, "killed"
            raise AssertionError("I4: the store failed, and the flow is said to have") from error
        except SystemExit:
            return None, "killed"
        finally:
            _bury(store, before)


def _bury(store: FaultyStore, before: set[threading.Thread]) -> None:
    """End the threads that a process leaves, as the end of the process would."""
    store.die()
    for run in list(local_run._running.values()):
        with run._changed:
            run._parked.clear()
            run._changed.notify_all()
    local_run._running.clear()
    # Threads that such a thread has just started also notice the end of the process.
    while left := [t for t in set(threading.enumerate()) - before if _is_ours(t)]:
        thread = left[0]
        thread.join(_PATIENCE_SECONDS)
        assert not thread.is_alive(), f"{thread.name} outlives its process"
    store.buried()


def _is_ours(thread: threading.Thread) -> bool:
    # A single thread waits for the end of the real process, which runs all simulated processes.
    ours = thread.name.startswith("kitaru") and thread.name != "kitaru-end"
    return thread.ident is not None and ours


Way = Callable[[Store, Mapping[int, str]], FaultyStore]


@dataclass(frozen=True)
class Schedule:
    """The faults of each process by operation; the last process has none."""

    use: str
    processes: tuple[Mapping[int, str], ...]

    def __str__(self) -> str:
        """Return the schedule in the format of `parse`: `wait/12:503,40:down/3:crash after`."""
        each = (
            ",".join(f"{at}:{fault}" for at, fault in faults.items()) for faults in self.processes
        )
        return "/".join((self.use, *each))

    @classmethod
    def parse(cls, text: str) -> Schedule:
        use, *each = text.split("/")
        pairs = ([one.split(":") for one in faults.split(",")] for faults in each)
        return cls(use, tuple({int(at): fault for at, fault in some} for some in pairs))

    def run(self, store: Store, way: Way = FaultyStore) -> Ran:
        """Run it, then a process without faults; raises AssertionError with the schedule.

        `way` is the access of each process to the store, with its faults.
        """
        try:
            return self._run(store, way)
        except AssertionError as error:
            error.add_note(f"in {self} on {store.url}")
            raise

    def _run(self, store: Store, way: Way) -> Ran:
        use = flows.USES[self.use]
        world = World(store)
        process(world, FaultyStore(store), use.before)
        seen = look(store)
        ran = Ran()
        for faults in (*self.processes, {}):
            faulty = way(store, faults)
            result, failure = process(world, faulty, use.drive)
            ran.met += faulty.met
            ran.operations.append(faulty.done)
            now = look(store)
            for key, data in seen.items():
                may_go = "/attending/" in key or is_outdated(key, now)
                is_kept = now.get(key, data if may_go else None) == data
                assert is_kept, f"I1: a record changed: {key}"
            assert not unlisted(now), f"I1: {unlisted(now)} is asked, and in no inbox"
            seen = now
            readable(as_store(seen))
            assert not world.broken, world.broken
            if not failure:
                settled(use, as_store(seen), result)
                break
            assert set(faulty.met) - faulty.passing, f"I4: {faulty.met}, and {failure}"
        assert not failure, "I4: it does not end"
        whole(world, as_store(seen))
        return ran


@dataclass
class Ran:
    """The faults that occurred in a schedule, and the operations of each of its processes."""

    met: list[str] = field(default_factory=list)
    operations: list[list[str]] = field(default_factory=list)


def look(store: Store) -> dict[str, bytes]:
    """Return all objects; records are verified."""
    found = {}
    listed = store.list("")
    for key, data in zip(listed, store.get_all(listed), strict=True):
        assert data is not None, f"I1: {key} vanished"
        found[key] = data
        if is_record(key):
            decode(key, data)
    return found


def is_record(key: str) -> bool:
    apart = ("/blob/", "/mark/", "/joined", "/segment/", "/process/", "/attending/")
    return key.startswith(("x/", "memory/", "cache/")) and not any(part in key for part in apart)


def readable(store: Store) -> None:
    """I5, I2: a reader always sees complete objects, and no failure of the flow."""
    client = KitaruClient(store)
    for item in list_executions(store):
        view = client.executions.get(item["exec_id"])
        assert view.to_dict() and client.executions.lineage(item["exec_id"]) is not None
        for record in view.invocations:
            for value in stored_values(record):
                view.journal.fetch(value)


def settled(use: Use, store: Store, result: Any) -> None:
    """I3, I4: the returned result is the recorded and the expected one."""
    assert result == use.expected, f"I3: {result}"
    listed = list_executions(store)
    assert {item["status"] for item in listed} <= {"completed", "running"}
    newest = Journal.open(store, listed[0]["exec_id"])
    end = newest.end()
    assert end is not None and end.result is not None, "I4: success reported, no end recorded"
    assert codec.decode(newest.fetch(end.result)) == result, "I3: not the recorded result"


def whole(world: World, store: Store) -> None:
    """I3: the values that bodies received in any process are the recorded ones."""
    for exec_id, id, value in world.returned:
        journal = Journal.open(store, exec_id)
        record = journal.invocation(id)
        assert record is not None and record.value is not None, f"I3: {id} is not recorded"
        assert codec.decode(journal.fetch(record.value)) == value, f"I3: {id} is another"


Kinds = Mapping[str, tuple[str, ...]]


def single_faults(
    use: str, store: Store, way: Way = FaultyStore, kinds: Kinds = FAULTS
) -> Iterator[Schedule]:
    """Yield each fault at each operation of a run without faults, one at a time."""
    (operations,) = Schedule(use, ()).run(store, way).operations
    for at, operation in enumerate(operations, start=1):
        for fault, with_ in kinds.items():
            if operation in with_:
                yield Schedule(use, ({at: fault},))


def random_schedule(seed: int, kinds: Kinds = FAULTS) -> Schedule:
    """Return several processes with several faults each, determined by the seed."""
    chance = random.Random(seed)
    use = chance.choice(list(flows.USES))

    def faults() -> dict[int, str]:
        many = range(chance.randrange(1, 5))
        return {chance.randrange(1, 70): chance.choice(list(kinds)) for _ in many}

    return Schedule(use, tuple(faults() for _ in range(chance.randrange(1, 5))))
