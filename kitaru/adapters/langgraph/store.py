"""LangGraph's long-term memory on a store of Kitaru.

Each value of an item is a numbered version; a deletion is a version without a value. Keys contain
the namespace label by label, so a search lists one prefix. It then reads each item below that
prefix: keep large collections in a database with an index.
"""

from __future__ import annotations

import asyncio
import json
import operator
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)

from kitaru.errors import RecordCorrupt, RecordTooNew, UsageError, ValueNotEncodable
from kitaru.stores import resolve_store
from kitaru.stores.base import Store, existing
from kitaru.wire import keys, redaction

_HOME = f"{keys.adapter('langgraph')}item/"
# No escaped label begins like this.
_KEY = ".key"
_FORMAT = 1
# The newest version, and the one that a reader may have listed just before.
_KEPT = 2

_COMPARE = {
    "$eq": operator.eq,
    "$ne": operator.ne,
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}


class KitaruStore(BaseStore):
    """Keeps LangGraph's long-term memory in a store of Kitaru.

    Values are JSON. A search returns the items that changed last first; it ignores `query`, because
    the store has no index of meanings, and there is no expiry (`ttl`).

    Args:
        store: an open store or its URL. Default: the configured store.

    Raises:
        ValueNotEncodable: a value is not JSON or contains a secret of `kitaru.secret`.
        UsageError: a namespace is too long for a key of the store.
        EnvironmentFailure: the store cannot be used.

    Example:
        graph = builder.compile(store=KitaruStore("sqlite:chats.db"))
        store.put(("users", "ada"), "style", {"tone": "brief"})
    """

    __slots__ = ("_store",)

    def __init__(self, store: str | Store | None = None) -> None:
        self._store = resolve_store(store)

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Execute operations. Reads see the state before all writes of the batch."""
        results: list[Result] = []
        puts: dict[str, PutOp] = {}
        for op in ops:
            match op:
                case GetOp():
                    _, record = self._newest(_home(op.namespace, op.key))
                    results.append(_item(Item, record) if _exists(record) else None)
                case PutOp():
                    puts[_home(op.namespace, op.key)] = op
                    results.append(None)
                case SearchOp():
                    results.append(self._search(op))
                case ListNamespacesOp():
                    results.append(self._namespaces(op))
        for home, op in puts.items():
            self._put(home, op)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Await `batch`, in a thread because the store blocks."""
        return await asyncio.to_thread(self.batch, list(ops))

    def _put(self, home: str, op: PutOp) -> None:
        while True:
            number, old = self._newest(home)
            if op.value is None and not _exists(old):
                return
            now = datetime.now(UTC).isoformat()
            record = {
                "format": _FORMAT,
                "namespace": list(op.namespace),
                "key": op.key,
                "value": op.value,
                "created": old["created"] if _exists(old) else now,
                "updated": now,
            }
            if self._store.create(keys.numbered(home, number), _body(record)):
                break
        if number >= _KEPT:
            self._store.delete(keys.numbered(home, number - _KEPT))

    def _newest(self, home: str) -> tuple[int, dict[str, Any]]:
        """Return the number of the next version of an item, and the record of the newest."""
        while found := self._store.list(home, limit=1):
            for key, body in existing(self._store, found):
                return keys.version_number(key) + 1, _record(key, body)
        return 0, {}

    def _records(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Yield the records of the existing items below `prefix`."""
        newest = {key.rpartition("/")[0]: key for key in reversed(self._store.list(prefix))}
        for key, body in existing(self._store, newest.values()):
            if _exists(record := _record(key, body)):
                yield record

    def _search(self, op: SearchOp) -> list[SearchItem]:
        wanted = op.filter or {}
        found = [
            record
            for record in self._records(_prefix(op.namespace_prefix))
            if all(_fits(record["value"].get(name), value) for name, value in wanted.items())
        ]
        found.sort(key=lambda record: record["updated"], reverse=True)
        return [_item(SearchItem, record) for record in found[op.offset : op.offset + op.limit]]

    def _namespaces(self, op: ListNamespacesOp) -> list[tuple[str, ...]]:
        conditions = op.match_conditions or ()
        all_of_them = {tuple(record["namespace"]) for record in self._records(_HOME)}
        found = {
            namespace[: op.max_depth]
            for namespace in all_of_them
            if all(_matches(condition, namespace) for condition in conditions)
        }
        return sorted(found)[op.offset : op.offset + op.limit]


def _prefix(namespace: tuple[str, ...]) -> str:
    return _HOME + "".join(f"{keys.part(label)}/" for label in namespace)


def _home(namespace: tuple[str, ...], key: str) -> str:
    return f"{_prefix(namespace)}{_KEY}/{keys.part(key)}/"


def _exists(record: Mapping[str, Any]) -> bool:
    return record.get("value") is not None


def _item(kind: Any, record: Mapping[str, Any]) -> Any:
    return kind(
        value=record["value"],
        key=record["key"],
        namespace=tuple(record["namespace"]),
        created_at=datetime.fromisoformat(record["created"]),
        updated_at=datetime.fromisoformat(record["updated"]),
    )


def _fits(value: Any, wanted: Any) -> bool:
    """Return whether a value has what a filter wants: operators, fields, or equality."""
    if isinstance(wanted, dict) and any(name.startswith("$") for name in wanted):
        return all(_compared(value, name, other) for name, other in wanted.items())
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(
            _fits(value.get(name), other) for name, other in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(value, list) and len(value) == len(wanted) and all(map(_fits, value, wanted))
        )
    return bool(value == wanted)


def _compared(value: Any, name: str, other: Any) -> bool:
    if name not in _COMPARE:
        raise UsageError(
            f"A filter contains the operator {name!r}.", help=f"Use one of {', '.join(_COMPARE)}."
        )
    if name not in ("$eq", "$ne"):
        value, other = float(value), float(other)
    return bool(_COMPARE[name](value, other))


def _matches(condition: MatchCondition, namespace: tuple[str, ...]) -> bool:
    path = condition.path
    if len(namespace) < len(path):
        return False
    part = namespace[: len(path)] if condition.match_type == "prefix" else namespace[-len(path) :]
    return all(wanted in ("*", label) for label, wanted in zip(part, path, strict=True))


def _body(record: dict[str, Any]) -> bytes:
    where = f"Item {record['key']!r} of {record['namespace']}"
    try:
        body = json.dumps(record, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ValueNotEncodable(f"{where} is not JSON: {error}.") from None
    if redaction.has_values() and (name := redaction.find_secret_in_document(record)):
        raise ValueNotEncodable(
            f"{where} contains the secret {name!r}, which must not be stored.",
            help="Keep secrets out of memories: read them where they are used.",
        )
    return body


def _record(key: str, body: bytes) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(body)
        number = record["format"]
    except (ValueError, TypeError, KeyError):
        raise RecordCorrupt(f"{key} is damaged: it is not an item of LangGraph's memory.") from None
    if number != _FORMAT:
        raise RecordTooNew(f"{key} has format {number!r}; this release reads {_FORMAT}.")
    return record
