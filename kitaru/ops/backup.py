"""Back up a store while executions run, and restore one.

From SQLite, a copy is one snapshot, made by SQLite's backup API. From a bucket, objects are copied
one by one, while other processes write. The copy must still be a state that the store had at one
moment: no record without the value that it refers to, or without the checkpoint before it. Objects
never change, and each refers only to older objects, so a suitable order is
sufficient:

    executions first     Each is listed again until a list finds nothing new. Then the list before
                         was complete at the moment when it ended.
    the rest later       memory, deployments, bundles, inputs: whatever an execution refers to was
                         there before, so a later list contains it. A replay refers to values of
                         its source, so replays are copied before their sources.

In the copy, the record that makes an execution exist is written last, so an interrupted backup
contains no incomplete execution. Every object is read back and compared before the backup is
complete.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.errors import RecordCorrupt, StateError, UsageError
from kitaru.ops import events, schedules
from kitaru.ops.verify import check_exists, checked, structure, verify
from kitaru.runtime.executions.backups import (
    begin_backup,
    complete_backup,
    incomplete_backup,
    is_backup,
)
from kitaru.store_urls import sqlite_path
from kitaru.stores import open_store
from kitaru.stores.base import existing
from kitaru.stores.sqlite import SqliteStore
from kitaru.stores.sqlite_file import link, make_directory, sync
from kitaru.wire import keys
from kitaru.wire.times import now

if TYPE_CHECKING:
    from kitaru.stores.base import Store

# Hints that change. A restored store gets its own.
_NOT_COPIED = (keys.BACKUP, keys.DUE, keys.OPEN)
_AT_ONCE = 64
_LOOKS = 50
_MARKER = "kitaru-store"
_FILES = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Copied:
    """The content of a backup or a restored store; `replaced` is the file set aside for it, if any.

    `objects` and `bytes` count the whole copy, `new` the objects added now.
    """

    url: str
    objects: int
    new: int
    bytes: int
    replaced: str = ""


def backup(store: Store, to: str) -> Copied:
    """Copy a store to `to`, while executions run in it, and verify the copy.

    Args:
        to: `sqlite:PATH` of a file that does not exist, or a bucket. A bucket may contain an
            earlier backup of this store, complete or interrupted; then only new objects are copied.

    Raises:
        RecordCorrupt: the store is damaged; nothing was copied.
        StateError: the file exists, or the bucket contains other objects.
        EnvironmentFailure: a store cannot be read or written.
    """
    found = verify(store)
    if found.findings:
        raise _damaged(store.url, f"{found.findings[0].key} {found.findings[0].what}".strip())
    if to.startswith("sqlite:"):
        return _to_file(store, _file(to))
    with closing(open_store(to)) as target:
        if target.list("") not in ([], [_MARKER]) and not is_backup(target):
            raise StateError(
                f"{to} is not empty, and it is not a backup. It may be a store in use.",
                help="Name another prefix for the backup.",
            )
        return _to_objects(store, target)


def restore(source: str, to: str, *, replace: bool = False) -> Copied:
    """Create a store from a backup, or from a store with damaged indexes; verify it.

    Args:
        source: URL of the backup.
        to: the store to create. A bucket must be empty, or contain an interrupted restore of the
            same backup. A file must not exist, or contain no objects.
        replace: rename an existing file instead of refusing it.

    Raises:
        NotFound: the file of the backup does not exist.
        RecordCorrupt: the backup is incomplete, or an object in it is damaged.
        StateError: the store already exists.
        EnvironmentFailure: a store cannot be read or written.
    """
    check_exists(source)
    if replace and not to.startswith("sqlite:"):
        raise UsageError(
            "A store in a bucket is not replaced.", help="Name another prefix for the new store."
        )
    with closing(open_store(source)) as backed_up:
        # Only a bucket can contain an incomplete backup: a file gets its name when it is complete.
        if not isinstance(backed_up, SqliteStore) and incomplete_backup(backed_up) is not None:
            raise RecordCorrupt(
                f"The backup at {source} is incomplete: it was interrupted.",
                help=f"Run it again: kitaru store backup {source}",
            )
        if to.startswith("sqlite:"):
            done = _restored(backed_up, _file(to), replace)
        else:
            with closing(open_store(to)) as target:
                _check_subset(backed_up, target)
                done = _to_objects(backed_up, target)
    with closing(open_store(to)) as target:
        _hint_at_open(target)
    return done


def _hint_at_open(store: Store) -> None:
    """Let a dispatcher look at deployed executions that have not ended, schedules and events."""
    found = (key.split("/") for key in store.list("x/"))
    deployed = sorted({parts[1] for parts in found if parts[2] in ("launch", "round")})
    for start in range(0, len(deployed), _AT_ONCE):
        some = deployed[start : start + _AT_ONCE]
        ends = store.get_all([keys.end(exec_id) for exec_id in some])
        left = [exec_id for exec_id, end in zip(some, ends, strict=True) if end is None]
        at = now().encode("ascii")
        store.create_all([(keys.due_copy(exec_id), at) for exec_id in left])
    if due := [*schedules.restore_hints(store), *events.restore_hints(store)]:
        store.create_all(due)


def _to_file(store: Store, path: Path) -> Copied:
    if isinstance(store, SqliteStore):
        store.copy_to(path)
    else:
        with _draft(path) as draft:
            _fill(store, draft)
            _place(draft, path)
    with closing(SqliteStore(path)) as made:
        count, size = made.content()
    return Copied(f"sqlite:{path}", count, count, size)


def _restored(source: Store, path: Path, replace: bool) -> Copied:
    if path.exists() and not replace and not _is_empty(path):
        raise StateError(
            f"There is a store at {path} already.",
            help="Name another file, or set this one aside: --replace",
        )
    replaced = ""
    with _draft(path) as draft:
        _fill(source, draft)
        if any(path.with_name(path.name + suffix).exists() for suffix in _FILES):
            replaced = _set_aside(path)
        _place(draft, path)
    with closing(SqliteStore(path)) as made:
        count, size = made.content()
    return Copied(f"sqlite:{path}", count, count, size, replaced)


def _is_empty(path: Path) -> bool:
    try:
        with closing(SqliteStore(path)) as present:
            return not present.list("", limit=1)
    except RecordCorrupt:
        return False


def _fill(source: Store, draft: Path) -> None:
    """Copy all objects of a store into a file that no other process uses yet."""
    with closing(SqliteStore(draft)) as made:
        # Read the table itself if possible, so that a damaged index does not hide objects.
        found = source.objects() if isinstance(source, SqliteStore) else _objects(source)
        for some in _batches(found):
            for key, data in some:
                checked(key, data)
            made.create_all(some)
            if made.get_all([key for key, _ in some]) != [data for _, data in some]:
                raise _damaged(str(draft), "an object is not what was just written.")
        made.flush()
        if wrong := structure(made):
            raise _damaged(str(draft), wrong[0])


def _to_objects(source: Store, target: Store) -> Copied:
    """Copy all objects of a store into another store, group by group, and read each group back."""
    number = begin_backup(target)
    count = new = size = 0
    with _still(source) as still:
        for some in _batches(_objects(still)):
            for key, data in some:
                checked(key, data)
            new += sum(target.create_all(some))
            held = target.get_all([key for key, _ in some])
            for (key, data), there in zip(some, held, strict=True):
                if there is None or _digest(there) != _digest(data):
                    raise StateError(
                        f"{target.url} contains another object at {key}: it is not a backup of "
                        "this store, or it was used since.",
                        help="Name another prefix for the backup.",
                    )
            count, size = count + len(some), size + sum(len(data) for _, data in some)
    complete_backup(target, number)
    return Copied(target.url, count, new, size)


@contextmanager
def _still(source: Store) -> Iterator[Store]:
    """Yield a store that does not change during the copy: a snapshot if possible."""
    if not isinstance(source, SqliteStore) or structure(source):
        yield source
        return
    snapshot = source.path.with_name(f".{source.path.name}.{os.urandom(8).hex()}")
    try:
        source.copy_to(snapshot)
        with closing(SqliteStore(snapshot)) as still:
            yield still
    finally:
        _remove(snapshot)


def _objects(source: Store) -> Iterator[tuple[str, bytes]]:
    """Yield all objects in an order in which each prefix of them is a consistent store."""
    found = source.list("")
    homes = {key.split("/")[1] for key in found if key.startswith("x/")}
    for exec_id in _replays_first(source, homes):
        yield from _execution(source, exec_id)
    rest = [key for key in source.list("") if not key.startswith("x/") and key != _MARKER]
    yield from existing(source, (key for key in rest if _is_wanted(key, homes)))


def _replays_first(source: Store, homes: Iterable[str]) -> list[str]:
    """Order executions so that each replay precedes its source.

    A replay is noted under its source before any object of the replay exists.
    """
    notes = (note.split("/") for note in source.list(keys.REPLAYS))
    replayed = {exec_id: of for _, of, exec_id in notes}

    def depth(exec_id: str) -> int:
        count = 0
        while (of := replayed.get(exec_id)) is not None and count < len(replayed):
            exec_id, count = of, count + 1
        return count

    return sorted(homes, key=lambda exec_id: (-depth(exec_id), exec_id))


def _is_wanted(key: str, copied: set[str]) -> bool:
    """Return whether a key belongs to a copy of these executions."""
    if key.startswith((keys.INDEX, keys.WAITING)):
        return key.split("/")[2] in copied
    if key.startswith(keys.NEWS):
        # What was delivered is recorded with the execution.
        return keys.news_parts(key)[0] in copied
    # A wait that was answered after its execution was copied is not listed any more, but it is
    # pending in the copy. Without this key, the first reader of the copy lists its waits. Other
    # hints change, and a restored store gets its own.
    return key != keys.WAITS_LISTED and not key.startswith(_NOT_COPIED)


def _execution(source: Store, exec_id: str) -> Iterator[tuple[str, bytes]]:
    record = keys.execution(exec_id)
    known: set[str] = set()
    for _ in range(_LOOKS):
        copies = keys.downloads(exec_id)
        found = {key for key in source.list(keys.home(exec_id)) if not key.startswith(copies)}
        if found <= known:
            yield from existing(source, [record] if record in known else [])
            return
        yield from existing(source, sorted(found - known - {record}))
        known |= found
    raise StateError(
        f"The execution {exec_id} writes faster than it can be copied.",
        help="Run the backup again: it continues where it stopped.",
    )


def _batches(objects: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Group objects that are written together; each execution record is a group of its own."""
    some: list[tuple[str, bytes]] = []
    for key, data in objects:
        alone = key.startswith("x/") and key.endswith("/execution")
        if some and (alone or len(some) == _AT_ONCE):
            yield some
            some = []
        some.append((key, data))
        if alone:
            yield some
            some = []
    if some:
        yield some


def _check_subset(source: Store, target: Store) -> None:
    """Raise StateError if a store contains objects that its backup lacks."""
    present = [k for k in target.list("") if k != _MARKER and not k.startswith(_NOT_COPIED)]
    for start in range(0, len(present), _AT_ONCE):
        some = present[start : start + _AT_ONCE]
        pairs = zip(source.get_all(some), target.get_all(some), strict=True)
        if any(one is None or one != other for one, other in pairs):
            raise StateError(
                f"There is a store at {target.url} already.",
                help="Name another prefix for the new store.",
            )


@contextmanager
def _draft(path: Path) -> Iterator[Path]:
    make_directory(path.parent)
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        yield draft
    finally:
        _remove(draft)


def _place(draft: Path, path: Path) -> None:
    """Move a complete file to its final name."""
    # All processes have closed the file, so its log is merged into it and it is complete by itself.
    with closing(sqlite3.connect(draft)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sync(draft)
    if not link(draft, path):
        raise StateError(
            f"There is a store at {path} already.", help="Name a file that does not exist."
        )
    sync(path.parent)


def _set_aside(path: Path) -> str:
    """Rename the files of a store, the database first: a log without a database may be removed."""
    names = (f"{path.name}.replaced{number or ''}" for number in range(1000))
    aside = next(one for name in names if not (one := path.with_name(name)).exists())
    for suffix in _FILES:
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.rename(aside.with_name(aside.name + suffix))
    sync(path.parent)
    return str(aside)


def _remove(path: Path) -> None:
    for suffix in (*_FILES, "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _file(url: str) -> Path:
    return sqlite_path(url.removeprefix("sqlite:")).absolute()


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _damaged(where: str, what: str) -> RecordCorrupt:
    return RecordCorrupt(
        f"{where} is damaged, and nothing was copied: {what}",
        help=f"See all that is damaged: kitaru store verify {where}",
    )
