"""The memory that a replay starts with: what its source had written by that point."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby, takewhile

from kitaru.runtime.journal import blobs
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.wire import keys
from kitaru.wire.records import MemoryVersion
from kitaru.wire.structs import replace


def inherit(source: Journal, exec_id: str, taken: Collection[str]) -> None:
    """Give execution `exec_id` the memory of `source` before any invocation not in `taken` wrote.

    Only that of the scope `execution`: what other scopes hold is shared, and is there.
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
                source.store.create(mark, b"")
            place = keys.memory_version(new, key, version.number)
            record_store.write(place, _moved(source, version, exec_id))


def _versions(source: Journal) -> Iterator[MemoryVersion]:
    """Yield every version of every key, those of one key together, the oldest first."""
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
