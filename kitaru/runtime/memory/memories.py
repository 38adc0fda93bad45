"""Find and write the versions of a memory's keys. Each version is created once.

A key has the versions 1 to n without a gap. Exact reads alone therefore find n; a list only gives a
starting point. A writer that loses the race for a number uses the next number.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import groupby, takewhile
from typing import Any

from kitaru.errors import MemoryConflict, RecordCorrupt, ValueNotEncodable
from kitaru.runtime import codec
from kitaru.runtime.journal import blobs
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.memory.scopes import MemoryScope
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.names import check_memory_key
from kitaru.wire.records import MemoryVersion, StoredValue
from kitaru.wire.structs import Struct, replace
from kitaru.wire.times import now

# Number of versions that are read together in the search for a moment.
_BATCH = 50


class Entry(Struct):
    """A key's value, and the number of its version."""

    key: str
    value: Any
    version: int
    written_at: str


class Version(Struct):
    """One version of a key without its value; `kitaru.memory.get(key, version=…)` returns that.

    `operation` is the writer. `type` and `size` (bytes of JSON) describe the value. `compacted`
    names the source versions, the model and the cost of a compaction.
    """

    key: str
    version: int
    deleted: bool
    written_at: str
    operation: str
    type: str
    size: int
    compacted: dict[str, Any]


class Memory:
    """One scope of a store for one operation; safe for concurrent threads and processes.

    Args:
        operation: the writer. It writes one version of a key, even if it is retried.
        begin: called with the newest version before a write. Returns the version passed on the
            first attempt of this operation.
    """

    def __init__(
        self,
        store: Store,
        scope: MemoryScope,
        operation: str,
        begin: Callable[[int], int] = lambda newest: newest,
    ) -> None:
        self.store = store
        self.scope = scope
        self.operation = operation
        self._begin = begin
        self._home = scope.home  # The prefix of the versions that are written.
        self._record_store = RecordStore(store)

    def at_once(self) -> Memory:
        """Return this memory for a further write of the operation, which `begin` does not see."""
        return Memory(self.store, self.scope, self.operation)

    def entry(self, key: str, version: int | None = None) -> Entry | None:
        """Return the newest value or that of a version, or None if the key has no value."""
        found = self.find(key, version)
        if found is None or found.value is None:
            return None
        where = f'Version {found.number} of the memory "{key}"'
        value = codec.decode(self.document(found), where=where)
        return Entry(key, value, found.number, found.at)

    def find(self, key: str, version: int | None = None) -> MemoryVersion | None:
        """Return the record of the newest version, or of the version with this number."""
        check_memory_key(key)
        return self._newest(key) if version is None else self._version(key, version)

    def find_at(self, key: str, moment: str) -> MemoryVersion | None:
        """Return the newest version that was written at `moment` or earlier.

        `moment` has the format of `wire.times.now`. The number decides which version is newest,
        because the clocks of two writers may differ.
        """
        last = _number(self.find(key))
        while last > 0:
            first = max(1, last - _BATCH + 1)
            for found in reversed(self._read(key, range(first, last + 1))):
                if found.at <= moment:
                    return found
            last = first - 1
        return None

    def document(self, found: MemoryVersion) -> Any:
        """Return the codec document of a version that has a value."""
        assert found.value is not None
        return blobs.load_value(self.store, keys.memory_home(self._home, found.key), found.value)

    def set(
        self,
        key: str,
        value: Any,
        expect: int | None = None,
        compacted: dict[str, Any] | None = None,
    ) -> int:
        """Write a new version and return its number; raises MemoryConflict, ValueNotEncodable."""
        home = keys.memory_home(self._home, check_memory_key(key))
        stored = _kept(self.store, home, key, value)
        written = self._write(key, stored, expect, compacted or {})
        assert written is not None, "only a deletion may find nothing to do"
        return written.number

    def delete(self, key: str, expect: int | None = None) -> bool:
        """Write a version that marks the key as deleted. Return False if it has no value."""
        held = self._write(check_memory_key(key), None, expect, {})
        if held is None:
            return False
        self._mark(key, held.number, "gone")
        return held.operation == self.operation

    def list(self, prefix: str = "") -> builtins.list[str]:
        """Return the keys that start with `prefix` and have a value, sorted."""
        statuses = self._statuses(prefix and check_memory_key(prefix))
        return sorted(key for key, status in statuses.items() if status == "live")

    def history(self, key: str, limit: int | None = None) -> builtins.list[Version]:
        """Return the versions of a key, oldest first; with `limit` only the last N."""
        newest = _number(self.find(key))
        first = 1 if limit is None else max(1, newest - limit + 1)
        return [_version(found) for found in self._read(key, range(first, newest + 1))]

    def purge(self, key: str) -> int:
        """Erase a key, its versions and values for good. Return the number of versions."""
        versions = _number(self.find(key))
        self.delete(key)
        while found := self.store.list(keys.memory_versions(self._home, key)):
            # Oldest first: until the last version is erased, the key reads as deleted.
            self._erase(reversed(found))
        self._erase(self.store.list(keys.memory_home(self._home, key)))
        self._erase(reversed(self.store.list(f"{keys.memory_marks(self._home, key)}/")))
        return versions

    def _write(
        self, key: str, value: StoredValue | None, expect: int | None, compacted: dict[str, Any]
    ) -> MemoryVersion | None:
        """Return the version of this operation and write it if missing; delete only a value."""
        newest = self._newest(key)
        floor = self._begin(_number(newest))
        tried = self._read(key, range(floor + 1, _number(newest) + 1))
        held = next((found for found in tried if found.operation == self.operation), None)
        while held is None:
            _check_expected(key, newest, expect)
            if value is None and not _alive(newest):
                return newest
            number = _number(newest) + 1
            if value is not None and not _alive(newest):
                # Written before the version, so that a list never misses a key with a value.
                self._mark(key, number, "live")
            made = MemoryVersion(key, number, self.operation, now(), value, compacted)
            newest = self._record_store.write(keys.memory_version(self._home, key, number), made)
            held = newest if newest.operation == self.operation else None
        return held

    def _statuses(self, prefix: str) -> dict[str, str]:
        """Return the newest status of each key that starts with `prefix`: `live` or `gone`."""
        newest: dict[str, str] = {}
        for mark in self.store.list(keys.memory_marks(self._home, prefix)):
            newest.setdefault(*keys.marked(self._home, mark))
        return newest

    def _listed(self, key: str) -> int:
        """Return the number of the newest version in a list, which may be old."""
        hint = self.store.list(keys.memory_versions(self._home, key), limit=1)
        return keys.version_number(hint[0]) if hint else 0

    def _newest(self, key: str) -> MemoryVersion | None:
        number = self._listed(key)
        found = self._read(key, range(max(1, number), number + 2))
        newest = found[-1] if found else None
        return newest if _number(newest) == number else self._search(key, newest)

    def _search(self, key: str, newest: MemoryVersion | None) -> MemoryVersion | None:
        """Return the newest version after an existing one: double the step, then bisect."""
        low, step = _number(newest), 1
        while (found := self._version(key, low + step)) is not None:
            newest, low, step = found, found.number, step * 2
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            if (found := self._version(key, middle)) is None:
                high = middle
            else:
                newest, low = found, middle
        return newest

    def _version(self, key: str, number: int) -> MemoryVersion | None:
        found = self._read(key, range(number, number + 1))
        return found[0] if found else None

    def _read(self, key: str, numbers: range) -> builtins.list[MemoryVersion]:
        places = [keys.memory_version(self._home, key, number) for number in numbers]
        return self._record_store.read_all(MemoryVersion, places)

    def _mark(self, key: str, number: int, status: str) -> None:
        blobs.create_or_read(self.store, keys.memory_mark(self._home, key, number, status), b"")

    def _erase(self, places: Iterable[str]) -> None:
        for place in places:
            self.store.delete(place)


class DryRunMemory(Memory):
    """A scope that a dry run shares with other executions: it reads the scope and never writes it.

    The versions that the dry run writes are stored with the execution. They follow the version that
    was the newest before the first of them: of a key with three versions in the scope, the first
    write is version 4, and versions 1 to 3 are read from the scope.
    """

    def __init__(self, seen: Memory, exec_id: str) -> None:
        """`seen` is the memory below: the scope itself, or that of the replayed dry run."""
        super().__init__(seen.store, seen.scope, seen.operation, seen._begin)
        self._seen, self._exec_id = seen, exec_id
        self._home = keys.dry_run_memory(exec_id, seen.scope.kind, seen.scope.name)

    def at_once(self) -> Memory:
        return DryRunMemory(self._seen.at_once(), self._exec_id)

    def document(self, found: MemoryVersion) -> Any:
        origin = self._origin(found.key)
        is_own = origin is not None and found.number > origin
        return super().document(found) if is_own else self._seen.document(found)

    def _write(self, key: str, *rest: Any) -> MemoryVersion | None:
        if self._origin(key) is None:
            newest = self._seen.find(key)
            number = _number(newest)
            self._mark(key, number, "live" if _alive(newest) else "gone")
            blobs.create_or_read(self.store, keys.memory_origin(self._home, key), b"%d" % number)
        return super()._write(key, *rest)

    def _origin(self, key: str) -> int | None:
        """Return the number of the version that the own versions follow, None without any."""
        place = keys.memory_origin(self._home, key)
        data = self.store.get(place)
        if data is not None and not data.isdigit():
            raise RecordCorrupt(f"The stored object {place} is damaged: it is not a number.")
        return None if data is None else int(data)

    def _statuses(self, prefix: str) -> dict[str, str]:
        return {**self._seen._statuses(prefix), **super()._statuses(prefix)}

    def _listed(self, key: str) -> int:
        origin = self._origin(key)
        return self._seen._listed(key) if origin is None else max(origin, super()._listed(key))

    def _read(self, key: str, numbers: range) -> builtins.list[MemoryVersion]:
        origin = self._origin(key)
        if origin is None:
            return self._seen._read(key, numbers)
        seen = self._seen._read(key, range(numbers.start, min(numbers.stop, origin + 1)))
        return seen + super()._read(key, range(max(numbers.start, origin + 1), numbers.stop))


def memory_in(journal: Journal, memory: Memory) -> Memory:
    """Return a memory as an execution uses it: a dry run writes only a memory of its own.

    A replay of a dry run is a dry run, and sees what its source wrote.
    """
    execution = journal.execution
    if execution.mode != "dry-run" or memory.scope == MemoryScope("execution", journal.exec_id):
        return memory
    if execution.replay is not None:
        memory = memory_in(Journal.open(journal.store, execution.replay.source), memory)
    return DryRunMemory(memory, journal.exec_id)


def _number(version: MemoryVersion | None) -> int:
    return 0 if version is None else version.number


def _alive(version: MemoryVersion | None) -> bool:
    return version is not None and version.value is not None


def _check_expected(key: str, newest: MemoryVersion | None, expect: int | None) -> None:
    number = _number(newest)
    if expect in (None, number) or (expect == 0 and not _alive(newest)):
        return
    found = f"version {number}" if _alive(newest) else "no value"
    wanted = f"version {expect}" if expect else "no value"
    raise MemoryConflict(
        f"The memory {key} has {found}, where {wanted} was expected.",
        version=number if _alive(newest) else 0,
        help="Somebody else wrote it. Read it again with kitaru.memory.entry(key), and write what "
        "follows from that with expect=entry.version; `kitaru memory history` says who wrote it.",
    )


def _kept(store: Store, home: str, key: str, value: Any) -> StoredValue:
    try:
        return blobs.keep(store, home, value, key)
    except ValueNotEncodable as error:
        raise ValueNotEncodable(
            f"The memory {key} cannot hold the value: {error.message}.",
            path=error.path,
            help=error.help,
        ) from None


def _version(found: MemoryVersion) -> Version:
    value = found.value or StoredValue()
    return Version(
        key=found.key,
        version=found.number,
        deleted=found.value is None,
        written_at=found.at,
        operation=found.operation,
        type=value.type,
        size=value.size,
        compacted=found.compacted,
    )


def inherit(source: Journal, exec_id: str, taken: Collection[str]) -> None:
    """Copy the memory of `source` to `exec_id`, without writes of invocations not in `taken`.

    The copy of each key ends before the first such write.
    Only the scope `execution` is copied; other scopes are shared by both executions.
    """
    new, record_store = keys.memory("execution", exec_id), RecordStore(source.store)

    def before(version: MemoryVersion) -> bool:
        writer, _, id = version.operation.partition("/")
        return writer != source.exec_id or id in taken

    for key, versions in groupby(_versions(source), lambda version: version.key):
        alive = False
        for version in takewhile(before, versions):
            if alive != (version.value is not None):
                alive = not alive
                mark = keys.memory_mark(new, key, version.number, "live" if alive else "gone")
                blobs.create_or_read(source.store, mark, b"")
            place = keys.memory_version(new, key, version.number)
            record_store.write(place, _moved(source, version, exec_id))


def _versions(source: Journal) -> Iterator[MemoryVersion]:
    """Yield every version of every key, grouped by key, oldest first."""
    scope = keys.memory("execution", source.exec_id)
    places = source.store.list(keys.memory_keys(scope))
    found = RecordStore(source.store).read_all(
        MemoryVersion, [place for place in places if keys.is_version(place)]
    )
    yield from sorted(found, key=lambda version: (version.key, version.number))


def _moved(source: Journal, version: MemoryVersion, exec_id: str) -> MemoryVersion:
    writer, _, id = version.operation.partition("/")
    operation = f"{exec_id}/{id}" if writer == source.exec_id else version.operation
    if version.value is None:
        return replace(version, operation=operation)
    old, new = _home(source.exec_id, version), _home(exec_id, version)
    value = blobs.copy_value(source.store, old, new, version.value)
    return replace(version, value=value, operation=operation)


def _home(exec_id: str, version: MemoryVersion) -> str:
    return keys.memory_home(keys.memory("execution", exec_id), version.key)
