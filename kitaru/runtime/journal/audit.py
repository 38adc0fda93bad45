"""The audit log of a store: who answered, cancelled, invoked, deployed or changed something.

An entry is written before its action, so that no action of a process that dies is missing. If the
action is refused, a marker beside the entry records that it changed nothing. Entries are created if
absent, and never changed. Nothing reads them to decide anything.

Steps and checkpoints write no entries. An entry that cannot be written, for example without the
right to create objects below `audit/`, is reported as a warning, and the action takes place: the
record of an answer, a cancellation or a tag contains who made it as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import groupby, islice
from typing import Literal

from kitaru.errors import EnvironmentFailure, KitaruError, UsageError
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.actors import actor
from kitaru.wire.records import AuditFailure, AuditRecord
from kitaru.wire.structs import Struct
from kitaru.wire.times import now

Action = Literal[
    "answer", "abort", "cancel", "resume", "retry", "replay", "invoke", "deploy", "tag", "untag",
    "create token", "revoke token", "create schedule", "pause schedule", "resume schedule",
    "delete schedule", "trigger schedule", "set memory", "delete memory", "compact memory",
    "purge memory",
]  # fmt: skip

_CURSOR = re.compile(r"[0-9]{16}/[0-9a-f]{16}", re.ASCII)
_PAGE = 500
_AT_ONCE = 64


class AuditEntry(Struct):
    """An entry of the audit log.

    Attributes:
        at: when, UTC.
        by: who: the user of a command, `NAME (token ID)`, or `NAME (SUBJECT)` of OpenID Connect.
        action: `answer`, `cancel`, `invoke` and others.
        subject: what it was done to: a wait, a version, a tag, an invocation, a token.
        flow, exec_id: the flow and the execution; empty without one.
        error: why the action changed nothing, as the class of the error; empty if it took place.
    """

    at: str
    by: str
    action: str
    subject: str
    flow: str
    exec_id: str
    error: str


class AuditPage(Struct):
    """A page of the audit log, newest first. `next` is the cursor of the next page, or None."""

    items: list[AuditEntry]
    looked_at: int = 0
    next: str | None = None


@contextmanager
def audited(
    store: Store, action: Action, subject: str = "", *, flow: str = "", exec_id: str = ""
) -> Iterator[None]:
    """Record that `actor()` does what the block does, and whether the block refused it."""
    record_store = RecordStore(store)
    entry = AuditRecord(now(), actor(), action, subject, flow, exec_id)
    place = keys.audit_entry(entry.at, os.urandom(8).hex())
    try:
        record_store.write(place, entry)
    except EnvironmentFailure as error:
        _warn(entry, error)
    try:
        yield
    except KitaruError as error:
        with suppress(EnvironmentFailure):
            failure = AuditFailure(type(error).__name__)
            record_store.write(keys.audit_failure(place), failure)
        raise


def entries(
    store: Store,
    *,
    by: str | None = None,
    action: str | None = None,
    flow: str | None = None,
    exec_id: str | None = None,
    since: str = "",
    until: str = "",
    limit: int = 100,
    within: int = 10_000,
    after: str = "",
) -> AuditPage:
    """Return a page of the audit log, newest first.

    Args:
        by: a part of the name.
        action, flow, exec_id: only entries with these values.
        since, until: the earliest and the latest moment, in the format of `kitaru.wire.times.now`.
        within: look at this many entries for the page.
        after: the cursor of the previous page.

    Raises:
        UsageError: the cursor is not one of this list.
        EnvironmentFailure: the store cannot be read.
    """
    if after and not _CURSOR.fullmatch(after):
        raise UsageError(f"{after!a} is not a cursor of the audit log.")
    # "0" sorts directly after "/", so the objects of that entry are skipped.
    start = f"{keys.AUDIT}{after}0" if after else ""
    if until:
        start = max(start, keys.audit_entry(until, "")[: -len("/entry")])
    items: list[AuditEntry] = []
    looked, last = 0, ""
    for place, marker, record in _read(store, start):
        if len(items) == limit or looked == within:
            return AuditPage(items, looked, last)
        if since and record.at < since:
            break
        looked, last = looked + 1, place.removeprefix(keys.AUDIT).removesuffix("/entry")
        if (
            (by is None or by.casefold() in record.by.casefold())
            and action in (None, record.action)
            and flow in (None, record.flow)
            and exec_id in (None, record.exec_id)
        ):
            items.append(_entry(store, record, marker))
    return AuditPage(items, looked, None)


def _read(store: Store, after: str) -> Iterator[tuple[str, str, AuditRecord]]:
    verify = RecordStore(store).verify
    listed = _listed(store, after)
    while some := list(islice(listed, _AT_ONCE)):
        held = store.get_all([place for place, _ in some])
        for (place, marker), data in zip(some, held, strict=True):
            if data is not None:
                yield place, marker, verify(AuditRecord, place, data)


def _listed(store: Store, after: str) -> Iterator[tuple[str, str]]:
    """Yield the key of each entry, and that of its marker, or an empty string."""
    for _, found in groupby(_keys(store, after), key=lambda key: key.rpartition("/")[0]):
        place, *marker = sorted(found)
        if place.endswith("/entry"):
            yield place, marker[0] if marker else ""


def _keys(store: Store, after: str) -> Iterator[str]:
    while page := store.list(keys.AUDIT, after=after, limit=_PAGE):
        yield from page
        after = page[-1]


def _entry(store: Store, record: AuditRecord, marker: str) -> AuditEntry:
    failure = RecordStore(store).read(AuditFailure, marker) if marker else None
    error = "" if failure is None else failure.reason
    return AuditEntry(
        record.at, record.by, record.action, record.subject, record.flow, record.exec_id, error
    )


def _warn(entry: AuditRecord, error: EnvironmentFailure) -> None:
    import logging

    logging.getLogger("kitaru.audit").warning(
        "%s by %s is not in the audit log: %s", entry.action, entry.by, error.message
    )
