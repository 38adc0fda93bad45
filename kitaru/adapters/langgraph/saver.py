"""LangGraph's checkpointer on a store of Kitaru.

A thread consists of three kinds of objects, which never change:

    checkpoint/THREAD/NS/ID/VERSION      the checkpoint without the values of its channels
    channel/THREAD/NS/CHANNEL/VERSION    one version of one channel; only changes are written
    write/THREAD/NS/ID/TASK/VERSION      the pending writes of a task

A process may die at any moment. So a checkpoint is written after the channels that it refers to,
and all writes of a task are one object: LangGraph takes a task with some writes for finished.

LangGraph overwrites a checkpoint with the same id, and the special writes of a task (error,
interrupt, resume); of several ordinary writes with the same index, it keeps the first. Each is a
new version here, and reading applies these rules. Keys of ids and versions sort newest first, so
that a list with the limit 1 finds the newest.
"""

from __future__ import annotations

import asyncio
import builtins
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, cast

import ormsgpack
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    PendingWrite,
    get_checkpoint_id,
    get_checkpoint_metadata,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.event_hooks import SerdeEvent, register_serde_event_listener
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from kitaru.errors import RecordCorrupt, RecordTooNew, UsageError, ValueNotEncodable
from kitaru.stores import resolve_store
from kitaru.stores.base import Store, existing
from kitaru.wire import keys, redaction

_HOME = keys.adapter("langgraph")
_FORMAT = 1


class KitaruSaver(BaseCheckpointSaver[str]):
    """Saves the threads of LangGraph in a store of Kitaru.

    A thread is read by any process with the store, and `kitaru store backup` copies it. One store
    serves any number of graphs, as long as their thread ids differ.

    Args:
        store: an open store or its URL. Default: the configured store.
        allow: own classes that the state contains, such as dataclasses and enums. The serializer
            creates objects of these classes, of LangChain's messages and of common standard types,
            and of no others: who can write to the store must not choose what code runs here.
        serde: another serializer instead, such as LangGraph's `EncryptedSerializer`.

    Raises:
        UsageError: `allow` and `serde` together.
        ValueNotEncodable: when saving, a value contains a secret of `kitaru.secret`.
        EnvironmentFailure: the store cannot be used.

    Example:
        graph = builder.compile(checkpointer=KitaruSaver("sqlite:chats.db"))
        graph.invoke({"messages": [...]}, {"configurable": {"thread_id": "customer-7"}})
    """

    def __init__(
        self,
        store: str | Store | None = None,
        *,
        allow: Iterable[type] = (),
        serde: SerializerProtocol | None = None,
    ) -> None:
        classes = [(each.__module__, each.__qualname__) for each in allow]
        if serde is not None and classes:
            raise UsageError(
                "KitaruSaver: `allow` belongs to the default serializer, and `serde` replaces it.",
                help="Allow the classes in the serializer that you pass.",
            )
        super().__init__(serde=serde or JsonPlusSerializer(allowed_msgpack_modules=classes or None))
        self.store = resolve_store(store)

    # Write.

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint and the channels that changed; return the configuration that reads it.

        Args:
            config: configuration with `thread_id`, and `checkpoint_id` of the parent.
            new_versions: the versions of the changed channels.
        """
        place = _Place.of(config)
        values = checkpoint["channel_values"]
        changed = [
            (place.channel(name, str(version)), self._packed(values[name]))
            for name, version in new_versions.items()
            if name in values
        ]
        if changed:
            self.store.create_all(changed)
        record = {
            "format": _FORMAT,
            "thread": place.thread,
            "ns": place.ns,
            "id": checkpoint["id"],
            "parent": get_checkpoint_id(config),
            "checkpoint": self._pair({**checkpoint, "channel_values": {}}),
            "metadata": self._pair(get_checkpoint_metadata(config, metadata)),
        }
        self._write(place.checkpoint(checkpoint["id"]), _body(record))
        return place.config(checkpoint["id"])

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Save the pending writes of a task of the checkpoint in `config`."""
        home = _Place.of(config).writes(config["configurable"]["checkpoint_id"])
        record = {
            "format": _FORMAT,
            "task": task_id,
            "path": task_path,
            "writes": [
                (WRITES_IDX_MAP.get(channel, position), channel, self._pair(value))
                for position, (channel, value) in enumerate(writes)
            ],
        }
        self._write(f"{home}{keys.part(task_id)}/", _body(record))

    def _write(self, home: str, body: bytes) -> None:
        """Create the next version below `home`, unless the newest has the same content."""
        number = 0
        while not self.store.create(keys.numbered(home, number), body):
            newest = self._newest(home)
            if newest is None:
                continue
            key, content = newest
            if content == body:
                return
            number = keys.version_number(key) + 1

    def _newest(self, home: str) -> tuple[str, bytes] | None:
        """Return the newest object below `home`; None if it does not exist or was just deleted."""
        found = self.store.list(home, limit=1)
        return next(existing(self.store, found), None)

    # Read.

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that `config` names, by default the newest; None if absent."""
        place = _Place.of(config)
        chosen = get_checkpoint_id(config)
        newest = self._newest(place.checkpoint(chosen) if chosen else place.checkpoints)
        return self._tuple(*newest) if newest else None

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield checkpoints, newest first.

        Args:
            config: thread, and optionally namespace and id, of the checkpoints. None: all threads.
            filter: values that the metadata must have.
            before: only checkpoints older than the one named here.
            limit: maximum number of checkpoints.
        """
        if limit is not None and limit <= 0:
            return
        id = get_checkpoint_id(config) if config else None
        last = get_checkpoint_id(before) if before else None
        chosen = []
        for key in self._newest_keys(_scope(config)):
            here = key.split("/")[-2]
            if (id and here != keys.newest_first(id)) or (last and here <= keys.newest_first(last)):
                continue
            chosen.append(key)
        chosen.sort(key=lambda key: key.split("/")[-2])
        count = 0
        for key, body in existing(self.store, chosen):
            record = _record(key, body)
            if filter and not filter.items() <= self._value(key, record["metadata"]).items():
                continue
            yield self._tuple(key, body)
            count += 1
            if count == limit:
                return

    def _newest_keys(self, home: str) -> Iterator[str]:
        """Yield the key of the newest version of each object below `home`."""
        above = None
        for key in self.store.list(home):
            if above != (above := key.rpartition("/")[0]):
                yield key

    def _tuple(self, key: str, body: bytes) -> CheckpointTuple:
        record = _record(key, body)
        place = _Place(record["thread"], record["ns"])
        checkpoint = cast("Checkpoint", self._value(key, record["checkpoint"]))
        homes = {
            place.channel(name, str(version)): name
            for name, version in checkpoint["channel_versions"].items()
        }
        # Channels without a value have a version and no object.
        checkpoint["channel_values"] = {
            homes[at]: self._unpacked(at, data) for at, data in existing(self.store, homes)
        }
        parent = record["parent"]
        return CheckpointTuple(
            place.config(record["id"]),
            checkpoint,
            self._value(key, record["metadata"]),
            place.config(parent) if parent else None,
            self._writes(place.writes(record["id"])),
        )

    def _writes(self, home: str) -> builtins.list[PendingWrite]:
        found: dict[tuple[str, str, int], PendingWrite] = {}
        # Newest first: an ordinary write is replaced by an older one, a special one is not.
        for key, body in existing(self.store, self.store.list(home)):
            record = _record(key, body)
            for index, channel, pair in record["writes"]:
                order = writes_sort_key(record["path"], record["task"], index)
                if index >= 0 or order not in found:
                    found[order] = (record["task"], channel, self._value(key, pair))
        return [found[order] for order in sorted(found)]

    # Delete and copy.

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread. Its checkpoints go first, so that no reader finds half of one."""
        for kind in ("checkpoint", "write", "channel"):
            self._delete(self.store.list(f"{_HOME}{kind}/{keys.part(thread_id)}/"))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of runs, in all threads, with the channels that only they use.

        It reads every checkpoint of the store.
        """
        doomed: dict[_Place, set[str]] = {}
        for key, body in existing(self.store, self._newest_keys(f"{_HOME}checkpoint/")):
            record = _record(key, body)
            if self._value(key, record["metadata"]).get("run_id") in run_ids:
                place = _Place(record["thread"], record["ns"])
                doomed.setdefault(place, set()).add(record["id"])
        for place, ids in doomed.items():
            self._drop(place, ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread, all its ancestors included."""
        # Checkpoints are last, and their channels and writes are already there.
        for kind in ("channel", "write", "checkpoint"):
            source = f"{_HOME}{kind}/{keys.part(source_thread_id)}/"
            target = f"{_HOME}{kind}/{keys.part(target_thread_id)}/"
            for key, body in existing(self.store, self.store.list(source)):
                if kind == "checkpoint":
                    body = _body({**_record(key, body), "thread": target_thread_id})
                self.store.create(target + key.removeprefix(source), body)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete old checkpoints of threads.

        Args:
            strategy: `keep_latest` keeps the newest checkpoint of each namespace, and the
                ancestors from which its delta channels are built; `delete` keeps nothing.
        """
        if strategy not in ("keep_latest", "delete"):
            raise UsageError(
                f"The strategy {strategy!r} is unknown.", help="Use 'keep_latest' or 'delete'."
            )
        for thread in thread_ids:
            if strategy == "delete":
                self.delete_thread(thread)
                continue
            ids: dict[_Place, list[str]] = {}
            home = f"{_HOME}checkpoint/{keys.part(thread)}/"
            for key, body in existing(self.store, self._newest_keys(home)):
                record = _record(key, body)
                ids.setdefault(_Place(thread, record["ns"]), []).append(record["id"])
            for place, newest_first in ids.items():
                kept = set(self._with_ancestors(place, newest_first[0]))
                self._drop(place, set(newest_first) - kept)

    def _with_ancestors(self, place: _Place, id: str | None) -> Iterator[str]:
        """Yield a checkpoint and the ancestors that its delta channels need, newest first."""
        while id:
            yield id
            newest = self._newest(place.checkpoint(id))
            if newest is None:
                return
            record = _record(*newest)
            since = self._value(newest[0], record["metadata"]).get("counters_since_delta_snapshot")
            if not any(map(any, (since or {}).values())):
                return
            id = record["parent"]

    def _drop(self, place: _Place, ids: set[str]) -> None:
        """Delete checkpoints, their writes, and channels that no other checkpoint refers to.

        A channel that no checkpoint refers to yet may belong to a run that is about to save one, so
        only channels of the deleted checkpoints are considered.
        """
        mine: set[str] = set()
        others: set[str] = set()
        for key, body in existing(self.store, list(self._newest_keys(place.checkpoints))):
            record = _record(key, body)
            versions = self._value(key, record["checkpoint"])["channel_versions"]
            used = mine if record["id"] in ids else others
            used |= {place.channel(name, str(version)) for name, version in versions.items()}
        for id in ids:
            self._delete(self.store.list(place.checkpoint(id)))
            self._delete(self.store.list(place.writes(id)))
        self._delete(sorted(mine - others))

    def _delete(self, doomed: Sequence[str]) -> None:
        if doomed:
            self.store.delete(*doomed)

    # Values.

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Return a version that sorts after `current` and that no other process chooses."""
        number = int(current.partition(".")[0]) if current else 0
        return f"{number + 1:032}.{token_hex(8)}"

    def _pair(self, value: Any) -> Sequence[Any]:
        return self.serde.dumps_typed(value)

    def _packed(self, value: Any) -> bytes:
        return _body({"format": _FORMAT, "value": self._pair(value)})

    def _unpacked(self, key: str, data: bytes) -> Any:
        return self._value(key, _record(key, data)["value"])

    def _value(self, key: str, pair: Sequence[Any]) -> Any:
        """Return a decoded value; raise UsageError if it contains objects of a class not allowed.

        LangGraph would return such objects as plain data, and the graph would continue with a
        state of another type.
        """
        with _blocked() as names:
            value = self.serde.loads_typed((pair[0], pair[1]))
        if names:
            raise UsageError(
                f"{key} contains objects of {', '.join(sorted(names))}, which this saver may not "
                "create.",
                help="Allow the classes: KitaruSaver(…, allow=[…]).",
            )
        return value

    # The same for graphs that run in an event loop. The store blocks, so each call takes a thread.

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Await `get_tuple`."""
        return await asyncio.to_thread(self.get_tuple, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield what `list` yields."""
        found = self.list(config, filter=filter, before=before, limit=limit)
        while (one := await asyncio.to_thread(next, found, None)) is not None:
            yield one

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Await `put`."""
        return await asyncio.to_thread(self.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Await `put_writes`."""
        await asyncio.to_thread(self.put_writes, config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        """Await `delete_thread`."""
        await asyncio.to_thread(self.delete_thread, thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Await `delete_for_runs`."""
        await asyncio.to_thread(self.delete_for_runs, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Await `copy_thread`."""
        await asyncio.to_thread(self.copy_thread, source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Await `prune`."""
        await asyncio.to_thread(self.prune, thread_ids, strategy=strategy)


@dataclass(frozen=True, slots=True)
class _Place:
    """A namespace of a thread: the prefixes of its objects."""

    thread: str
    ns: str

    @classmethod
    def of(cls, config: RunnableConfig) -> _Place:
        configurable = config["configurable"]
        return cls(str(configurable["thread_id"]), configurable.get("checkpoint_ns", ""))

    def config(self, id: str) -> RunnableConfig:
        """Return the configuration that reads a checkpoint of this place."""
        names = {"thread_id": self.thread, "checkpoint_ns": self.ns, "checkpoint_id": id}
        return {"configurable": names}

    @property
    def checkpoints(self) -> str:
        return self._home("checkpoint")

    def checkpoint(self, id: str) -> str:
        return f"{self.checkpoints}{keys.newest_first(id)}/"

    def writes(self, id: str) -> str:
        return f"{self._home('write')}{keys.newest_first(id)}/"

    def channel(self, name: str, version: str) -> str:
        return f"{self._home('channel')}{keys.part(name)}/{keys.part(version)}"

    def _home(self, kind: str) -> str:
        return f"{_HOME}{kind}/{keys.part(self.thread)}/{keys.part(self.ns)}/"


def _scope(config: RunnableConfig | None) -> str:
    """Return the prefix of the checkpoints that a configuration may mean."""
    home = f"{_HOME}checkpoint/"
    names = config["configurable"] if config else {}
    for name in ("thread_id", "checkpoint_ns"):
        if name not in names:
            break
        home += f"{keys.part(str(names[name]))}/"
    return home


def _body(record: Mapping[str, Any]) -> bytes:
    body = ormsgpack.packb(record)
    if redaction.has_values() and (name := redaction.find_secret_in_bytes(body)):
        raise ValueNotEncodable(
            f"The state of this graph contains the secret {name!r}, which must not be stored.",
            help="Keep secrets out of the state: read them where they are used.",
        )
    return body


def _record(key: str, body: bytes) -> dict[str, Any]:
    try:
        record = ormsgpack.unpackb(body)
        number = record["format"]
    except (ormsgpack.MsgpackDecodeError, TypeError, KeyError):
        raise RecordCorrupt(
            f"{key} is damaged: it is not an object of a LangGraph thread."
        ) from None
    if number != _FORMAT:
        raise RecordTooNew(f"{key} has format {number!r}; this release reads {_FORMAT}.")
    return cast("dict[str, Any]", record)


@contextmanager
def _blocked() -> Iterator[set[str]]:
    """Collect the names of classes that the serializer refuses to create in this thread."""
    names: set[str] = set()
    here = threading.get_ident()

    def note(event: SerdeEvent) -> None:
        if event["kind"].endswith("blocked") and threading.get_ident() == here:
            names.add(f"{event['module']}.{event['name']}")

    unregister = register_serde_event_listener(note)
    try:
        yield names
    finally:
        unregister()
