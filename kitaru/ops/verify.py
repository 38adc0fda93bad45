"""Verify a store: every object is unchanged, and no referenced object is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kitaru.errors import NotFound, RecordCorrupt, RecordTooNew
from kitaru.runtime.executions.backups import incomplete_backup
from kitaru.store_urls import sqlite_path
from kitaru.stores.base import existing
from kitaru.stores.sqlite import SqliteStore
from kitaru.stores.sqlite_damage import damaged
from kitaru.wire import keys
from kitaru.wire.chunked_bytes import referred
from kitaru.wire.envelope import decode
from kitaru.wire.records import DeploymentRecord, Record, StoredValue
from kitaru.wire.structs import fields_of

if TYPE_CHECKING:
    from kitaru.stores.base import Store

# Prefixes of objects stored under their own digests.
_BY_DIGEST = ("bundle/", "inputs/", "deployment/file/")
# Record types, by the segment after the execution's id or by the first segment.
_RECORDS = {"execution", "state", "end", "inv", "attempt", "wait", "exit", "frame", "intent"}
_RECORDS |= {"launch", "submission", "log"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault in a store; `key` is the object, empty for the store itself."""

    key: str
    what: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of a verification: number of objects, bytes, and objects with a digest.

    `notes` are about the store, not about damage: for example, other users may read its file.
    """

    objects: int
    bytes: int
    with_digest: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()


def verify(store: Store) -> Verified:
    """Verify the digest of every object in a store, and find missing objects.

    Executions may run meanwhile. The digest of each object proves its content. Referenced objects
    must exist: large values and numbered states.

    Raises:
        NotFound: the file does not exist.
        EnvironmentFailure: the store cannot be read.
    """
    check_exists(store.url)
    findings = [Finding("", what) for what in structure(store)]
    try:
        if (unfinished := incomplete_backup(store)) is not None:
            findings.append(Finding(unfinished, "a backup into this store was interrupted"))
        found = store.list("")
    except RecordCorrupt as error:
        return Verified(0, 0, 0, (*findings, Finding("", error.message)), _notes(store))
    count = size = with_digest = 0
    present, needed = set(found), dict[str, str]()
    for key, data in existing(store, found):
        count, size = count + 1, size + len(data)
        try:
            record, has_digest = checked(key, data)
            with_digest += has_digest
            needed.update((one, key) for one in _needs(store, key, record))
        except (RecordCorrupt, RecordTooNew) as error:
            findings.append(Finding(key, error.message))
    missing = [key for key in needed if key not in present]
    # Look again: objects written meanwhile exist now, and removed executions have no objects.
    for key in missing:
        if store.get(key) is None and store.get(needed[key]) is not None:
            findings.append(Finding(key, f"{needed[key]} refers to it, and it is missing"))
    findings += _gaps(store, found)
    return Verified(count, size, with_digest, tuple(findings), _notes(store))


def check_exists(url: str) -> None:
    """Raise NotFound if the file of a URL does not exist."""
    if url.startswith("sqlite:") and not (path := sqlite_path(url[7:])).exists():
        raise NotFound(
            f"There is no store at {path}.", help="Name another one: --store sqlite:PATH"
        )


def structure(store: Store) -> list[str]:
    """Return the faults in the files of a store, regardless of their content."""
    return store.damage() if isinstance(store, SqliteStore) else []


def check_structure(store: Store) -> None:
    """Raise RecordCorrupt if the files of a store are damaged, regardless of their content."""
    if isinstance(store, SqliteStore) and (found := store.damage()):
        raise damaged(store.path, f"{found[0]}.")


def checked(key: str, data: bytes) -> tuple[Record | None, bool]:
    """Verify a single object; return its record, and whether it has a digest.

    Raises:
        RecordCorrupt: the object differs from the written one.
        RecordTooNew: a newer version of Kitaru wrote the object.
    """
    if "/blob/" in key or key.startswith(_BY_DIGEST):
        if hashlib.sha256(data).hexdigest() != key.rpartition("/")[2]:
            raise RecordCorrupt(f"The stored object {key} is damaged: its digest is another one.")
        return None, True
    return (decode(key, data), True) if _is_record(key) else (None, False)


def _is_record(key: str) -> bool:
    first, *rest = key.split("/")
    if first == "x" and len(rest) > 1:
        return rest[1] in _RECORDS or (rest[1] == "memory" and "version" in rest)
    if first == "memory":
        return keys.is_version(key)
    return first == "cache" or key.startswith((keys.deployments(), "deployment/tag/"))


def _needs(store: Store, key: str, record: Record | None) -> Iterator[str]:
    """Yield the keys of the objects that a record refers to."""
    if isinstance(record, DeploymentRecord):
        yield from (keys.deployed_file(digest) for digest in record.files.values())
    if record is None:
        return
    home = key.partition("/version/")[0] + "/" if "/version/" in key else _home(key)
    for value in _values(fields_of(record)):
        owner = value.home or home
        if value.blob is not None:
            yield keys.blob(owner, value.blob)
        if value.outside:
            yield from _chunks(store, owner, value)


def _home(key: str) -> str:
    return "/".join(key.split("/")[:2]) + "/"


def _values(item: Any) -> Iterator[StoredValue]:
    if isinstance(item, StoredValue):
        yield item
    elif isinstance(item, dict):
        for each in item.values():
            yield from _values(each)
    elif isinstance(item, (list, tuple)):
        for each in item:
            yield from _values(each)


def _chunks(store: Store, home: str, value: StoredValue) -> Iterator[str]:
    """Yield the keys of the chunks of a large value."""
    hashes: list[str] = []

    def note(document: dict[str, Any]) -> Any:
        part = referred(document, lambda _: ())
        if part is not document:
            hashes.extend(part.hashes)
        return document

    if value.blob is None:
        text = json.dumps(value.data)
    else:
        text = (store.get(keys.blob(home, value.blob)) or b"null").decode()
    try:
        json.loads(text, object_hook=note)
    except (ValueError, RecursionError) as error:
        raise RecordCorrupt(f"A value of {home} is not JSON: {error}") from error
    yield from (keys.blob(home, hash) for hash in hashes)


def _gaps(store: Store, found: Iterable[str]) -> Iterator[Finding]:
    """Yield the missing objects of sequences numbered from 1."""
    numbers: dict[str, set[int]] = {}
    for key in found:
        if key.startswith("x/") and "/state/" in key:
            numbers.setdefault(key.rpartition("/")[0], set()).add(keys.state_number(key))
    for place, there in numbers.items():
        for number in range(1, max(there)):
            key = f"{place}/{number:08d}"
            execution = keys.execution(place.split("/")[1])
            if number not in there and store.get(key) is None and store.get(execution) is not None:
                yield Finding(key, "a later one is there, and it is missing")


def _notes(store: Store) -> tuple[str, ...]:
    if not isinstance(store, SqliteStore) or not store.path.stat().st_mode & 0o077:
        return ()
    return (f"Other users of this machine may use the file: chmod 600 {store.path}*",)
