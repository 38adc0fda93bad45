"""The service behind a store: objects that outlive all processes, and faults of its operations.

Two kinds of store use it. `LocalStore` is as near as a file on a disk. The other is the real
`kitaru.stores.object_store.ObjectStore`, in which `Bucket` replaces the library that makes its
requests: its retries, threads and translations of errors are the real ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar

from obstore import exceptions

from kitaru.errors import StoreDenied, StoreUnavailable
from kitaru.stores import object_store
from kitaru.stores.base import check_key, in_order, scan_listed
from kitaru.stores.memory import MemoryStore
from tests.simulation import primitives
from tests.simulation.processes import Process
from tests.simulation.scheduler import Scheduler

T = TypeVar("T")

# The possible faults of an operation, by its kind.
FAULTS = {
    "create": ("error before", "lost answer", "busy", "denied", "kill before", "kill after",
               "slow", "twice", "late"),
    "get": ("error before", "busy", "denied", "kill before", "slow"),
    "list": ("error before", "busy", "denied", "kill before", "slow", "stale"),
    "delete": ("error before", "lost answer", "kill before", "kill after", "slow"),
}  # fmt: skip
# Faults that a process need not notice: such a fault alone must not make it fail.
UNNOTICED = frozenset({"kill before", "kill after", "slow", "twice", "late", "stale"})


@dataclass
class Chaos:
    """The faults of a run, drawn from its seed; `faults` and `kills` are the maximum numbers."""

    random: random.Random
    fault_rate: float = 0.0
    kill_rate: float = 0.0
    faults: int = 0
    kills: int = 0
    kinds: frozenset[str] = frozenset()
    until_step: int = 10**9
    longest_seconds: float = 600.0
    met: list[str] = field(default_factory=list)

    @classmethod
    def drawn(cls, seed: int) -> Chaos:
        chance = random.Random(f"{seed} chaos")
        everything = sorted({kind for kinds in FAULTS.values() for kind in kinds})
        # Runs with a few kinds of faults get further than runs with all of them.
        some = chance.sample(everything, chance.randrange(1, len(everything)))
        return cls(
            chance,
            fault_rate=chance.choice([0.0, 0.005, 0.02, 0.08]),
            kill_rate=chance.choice([0.0, 0.0005, 0.002, 0.01]),
            faults=chance.choice([1, 3, 10, 40]),
            kills=chance.choice([1, 2, 4, 8]),
            kinds=frozenset(some),
            until_step=chance.choice([300, 1000, 3000]) * 4,
            longest_seconds=chance.choice([1.0, 60.0, 600.0]),
        )

    def fault(self, run: Scheduler, operation: str, key: str) -> str:
        """Return the fault of an operation, or "" for none."""
        if self.random.random() >= self.fault_rate or not self.faults:
            return ""
        if run.steps > self.until_step:
            return ""
        kinds = [kind for kind in FAULTS[operation] if kind in self.kinds]
        if not kinds:
            return ""
        kind = self.random.choice(kinds)
        if kind == "stale" and not _may_be_old(key):
            return ""
        self.faults -= 1
        self.met.append(kind)
        return kind

    def kills_now(self, run: Scheduler) -> bool:
        """Return whether a process is killed at this switch point."""
        if self.random.random() >= self.kill_rate or not self.kills or run.steps > self.until_step:
            return False
        self.kills -= 1
        self.met.append("kill")
        return True


def _may_be_old(prefix: str) -> bool:
    """Return whether a list may miss new objects: only hints are read by such lists."""
    return prefix.endswith(("/state/", "/segment/")) or prefix.startswith("cache/")


class Service:
    """Objects by key, shared by all processes of a run; calls `watch` for each new object."""

    def __init__(self, run: Scheduler, chaos: Chaos, *, remote: bool) -> None:
        self.run = run
        self.chaos = chaos
        self.remote = remote
        self.objects = MemoryStore("memory:simulated")
        self.operations = 0
        self.watch: Callable[[str, bytes], None] = lambda key, value: None

    def create(self, key: str, value: bytes) -> bool:
        """Create an object, the only atomic operation of a store."""
        done = self.objects.create(key, value)
        if done:
            self.watch(key, value)
        return done

    def operate(self, operation: str, key: str, effect: Callable[[], T], old: T | None = None) -> T:
        """Run an operation of the current process, with its faults."""
        run, process = self.run, primitives.current()
        self.operations += 1
        run.switch()
        fault = self.chaos.fault(run, operation, key)
        if fault:
            run.note(f"fault {fault} {operation} {key}")
            if fault not in UNNOTICED:
                process.met.append(fault)
        self._travel(fault)
        if fault == "kill before":
            process.kill(fault)
        if fault in ("error before", "busy", "denied", "late"):
            if fault == "late":
                process.met.append(fault)
                self._deliver_later(effect)
            raise self._error(fault)
        result = effect()
        if fault == "twice":
            # A request that was repeated in transit: the second request receives the response.
            result = effect()
        run.note(f"{operation} {key} {_shown(result)}")
        if fault == "kill after":
            process.kill(fault)
        self._travel("")
        if fault == "lost answer":
            raise self._error(fault)
        return old if fault == "stale" and old is not None else result

    def _travel(self, fault: str) -> None:
        longest = self.chaos.longest_seconds if fault == "slow" else 0.2 if self.remote else 0.0
        if longest:
            self.run.block(self.chaos.random.uniform(0.001, longest))
        else:
            self.run.switch()

    def _deliver_later(self, effect: Callable[[], Any]) -> None:
        seconds = self.chaos.random.uniform(0.1, self.chaos.longest_seconds)

        def deliver() -> None:
            self.run.block(seconds)
            self.run.note(f"a late request arrives: {_shown(effect())}")

        self.run.spawn(self.network, "network", deliver)

    network: Process

    def _error(self, fault: str) -> Exception:
        if not self.remote:
            if fault == "denied":
                return StoreDenied("not allowed", help="")
            return StoreUnavailable("disk full, or no answer", help="")
        if fault == "denied":
            return exceptions.PermissionDeniedError("status code: 403 Forbidden")
        if fault == "busy":
            return exceptions.GenericError("status code: 503 Service Unavailable")
        return exceptions.GenericError("error sending request: operation timed out")


def _shown(result: object) -> str:
    if isinstance(result, bytes):
        import hashlib

        return hashlib.blake2b(result, digest_size=6).hexdigest()
    return str(len(result)) if isinstance(result, list) else str(result)


class LocalStore:
    """The store of a process on the machine that all processes share."""

    remote = False

    def __init__(self, service: Service) -> None:
        self._service = service
        self.url = "memory:simulated"

    def create(self, key: str, value: bytes) -> bool:
        check_key(key)
        return self._service.operate("create", key, lambda: self._service.create(key, value))

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        # A single commit, as in SQLite: all of them or none.
        def effect() -> list[bool]:
            return [self._service.create(*one) for one in objects]

        return self._service.operate("create", objects[0][0], effect) if objects else []

    def get(self, key: str) -> bytes | None:
        return self._service.operate("get", key, lambda: self._service.objects.get(key))

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def concurrently(self, first: Callable[[], T], *others: Callable[[], object]) -> T:
        return in_order(first, *others)

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        stored = self._service.objects
        effect = lambda: stored.list(prefix, after=after, limit=limit)  # noqa: E731
        return self._service.operate("list", prefix, effect, old=[])

    def scan(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return scan_listed(self, prefix)

    def delete(self, *keys: str) -> None:
        for key in keys:
            effect = lambda key=key: self._service.objects.delete(key)  # noqa: E731
            self._service.operate("delete", key, effect)

    def inspect(self, prefix: str) -> None:
        """Do nothing: no object is damaged here."""

    def flush(self) -> None:
        """Do nothing: each object is complete."""

    def close(self) -> None:
        """Do nothing: the objects are shared."""


class Bucket:
    """The interface of the library obstore that `ObjectStore` uses, on a service's objects."""

    exceptions = exceptions

    def __init__(self, service: Service) -> None:
        self._service = service

    def put(self, store: object, key: str, value: bytes, **options: Any) -> None:
        assert options == {"mode": "create", "use_multipart": False, "attributes": None}, options
        if not self._service.operate("create", key, lambda: self._service.create(key, value)):
            raise exceptions.AlreadyExistsError(f"{key}: status code: 412")

    def get(self, store: object, key: str) -> Any:
        found = self._service.operate("get", key, lambda: self._service.objects.get(key))
        if found is None:
            raise exceptions.NotFoundError(f"{key}: status code: 404")
        return SimpleNamespace(bytes=lambda: found)

    def delete(self, store: object, key: str) -> None:
        self._service.operate("delete", key, lambda: self._service.objects.delete(key))

    def list(
        self, store: object, folder: str | None, offset: str | None
    ) -> Iterator[list[dict[str, str]]]:
        prefix = f"{folder}/" if folder else ""
        stored = self._service.objects
        effect = lambda: stored.list(prefix, after=offset or "")  # noqa: E731
        found: list[str] = self._service.operate("list", prefix, effect, old=[])
        yield [{"path": key} for key in found]


def opened(service: Service) -> Any:
    """Return the store of the current process."""
    if not service.remote:
        return LocalStore(service)
    return object_store.ObjectStore("s3://simulated")
