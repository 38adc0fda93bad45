"""Verify a store: every object is unchanged, and no referenced object is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kitaru import hints
from kitaru.errors import NotFound, RecordCorrupt, RecordTooNew
from kitaru.runtime.executions.backups import incomplete_backup
from kitaru.store_urls import sqlite_path
from kitaru.stores.sqlite import SqliteStore
from kitaru.stores.sqlite_damage import damaged
from kitaru.wire import keys
from kitaru.wire.chunked_bytes import referred
from kitaru.wire.envelope import decode
from kitaru.wire.records import DeploymentRecord, ExecutionRecord, Record, StoredValue
from kitaru.wire.structs import fields_of

if TYPE_CHECKING:
    from kitaru.stores.base import Store

# Prefixes of objects stored under their own digests.
_BY_DIGEST = ("bundle/", "inputs/", "deployment/file/", "source/")
# Record types, by the segment after the execution's id or by the first segment.
_RECORDS = {"execution", "state", "end", "inv", "attempt", "wait", "exit", "frame", "intent"}
_RECORDS |= {"launch", "inbox", "submission", "round", "log", "summary", "beat"}
# The maximum number of unlisted executions that the notes name.
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault in a store; `key` is the object, empty for the store itself."""

    key: str
    what: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of a verification: number of objects, bytes, and objects with a digest.

    `notes` are not about damage: for example, other users may read the file of the store.
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
    seen = _Seen(store)
    try:
        if (unfinished := incomplete_backup(store)) is not None:
            findings.append(Finding(unfinished, "a backup into this store was interrupted"))
        for key, data in store.scan(""):
            seen.add(key, data)
    except RecordCorrupt as error:
        findings.append(Finding("", error.message))
    else:
        findings += seen.missing()
    findings += seen.findings
    notes = (*_notes(store), *seen.unlisted())
    return Verified(seen.count, seen.size, seen.with_digest, tuple(findings), notes)


class _Seen:
    """The objects of a store, read in the order of their keys; most are forgotten at once."""

    def __init__(self, store: Store) -> None:
        self.count = self.size = self.with_digest = 0
        self.findings: list[Finding] = []
        self._store = store
        # The objects that others refer to, and the keys that are needed with the key of a referrer.
        self._referred: set[str] = set()
        self._needed: dict[str, str] = {}
        self._listed: set[str] = set()
        self._unlisted: list[str] = []
        self._state = ("", 0)

    def add(self, key: str, data: bytes) -> None:
        """Verify one object."""
        self.count += 1
        self.size += len(data)
        if "/blob/" in key or key.startswith(_BY_DIGEST):
            self._referred.add(key)
        elif key.startswith(keys.INDEX):
            self._listed.add(key.split("/")[2])
        elif key.startswith("x/") and "/state/" in key:
            self._add_state(key)
        try:
            record, has_digest = checked(key, data)
            self.with_digest += has_digest
            needed = (one for one in needs(self._store, key, record) if one not in self._referred)
            self._needed.update((one, key) for one in needed)
        except (RecordCorrupt, RecordTooNew) as error:
            self.findings.append(Finding(key, error.message))
            return
        if isinstance(record, ExecutionRecord) and record.exec_id not in self._listed:
            self._add_unlisted(record)

    def missing(self) -> Iterator[Finding]:
        """Yield the missing objects that others refer to."""
        # Look again: objects written meanwhile exist now, and removed executions have no objects.
        for key, referrer in self._needed.items():
            if key not in self._referred and self._is_gone(key, referrer):
                yield Finding(key, f"{referrer} refers to it, and it is missing")

    def unlisted(self) -> Iterator[str]:
        """Yield a note for each execution that is in no list, of many for the first ones."""
        for exec_id in self._unlisted[:_SHOWN]:
            yield (
                f"The execution {exec_id} is not listed: its process was killed as it began. "
                f"Resume it: {self._command('resume', exec_id)}. "
                f"Or cancel it, so that gc removes it: {self._command('cancel', exec_id)}"
            )
        if (others := len(self._unlisted) - _SHOWN) > 0:
            yield f"{others:,} other executions are not listed either."

    def _add_state(self, key: str) -> None:
        """Note a missing state. The states of an execution are numbered from 1, and adjacent."""
        place, number = key.rpartition("/")[0], keys.state_number(key)
        last = self._state[1] if self._state[0] == place else 0
        self._state = place, number
        execution = keys.execution(place.split("/")[1])
        for absent in range(last + 1, number):
            if self._is_gone(one := f"{place}/{absent:08d}", execution):
                self.findings.append(Finding(one, "a later one is there, and it is missing"))

    def _add_unlisted(self, record: ExecutionRecord) -> None:
        # It may have started since the index was read, or its removal has begun.
        is_listed = self._store.list(keys.indexed(record.started_at, record.exec_id), limit=1)
        if not is_listed and self._store.get(keys.garbage(record.exec_id)) is None:
            self._unlisted.append(record.exec_id)

    def _command(self, verb: str, exec_id: str) -> str:
        return hints.command(self._store, "executions", verb, exec_id)

    def _is_gone(self, key: str, referrer: str) -> bool:
        return self._store.get(key) is None and self._store.get(referrer) is not None


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
        return rest[1] in _RECORDS or (rest[1] == "memory" and keys.is_version(key))
    if first == "memory":
        return keys.is_version(key)
    return first == "cache" or key.startswith((keys.deployments(), "deployment/tag/"))


def needs(store: Store, key: str, record: Record | None) -> Iterator[str]:
    """Yield the keys of the objects that the record at `key` refers to."""
    if isinstance(record, DeploymentRecord):
        yield from (keys.deployed_file(digest) for digest in record.files.values())
    if isinstance(record, ExecutionRecord) and record.source:
        yield keys.source(record.source)
    if keys.is_source_note(key) and (digest := keys.source_note(key)[1]):
        yield keys.source(digest)
    if record is None:
        return
    home = key.rpartition("/version/")[0] + "/" if keys.is_version(key) else _home(key)
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


def _notes(store: Store) -> tuple[str, ...]:
    if not isinstance(store, SqliteStore) or not store.path.stat().st_mode & 0o077:
        return ()
    return (f"Other users of this machine may use the file: chmod 600 {store.path}*",)
