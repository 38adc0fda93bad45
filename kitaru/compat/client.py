"""Methods of `KitaruClient` of 0.21 and earlier: artifacts, checkpoints, memory, replays."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from kitaru.compat.explaining import Explaining
from kitaru.errors import NotFound, UsageError
from kitaru.handle import Handle
from kitaru.memory import Memories
from kitaru.runtime import codec
from kitaru.runtime.executions.artifacts import Artifact, each_artifact, find_artifact
from kitaru.runtime.executions.invocation_ref import execution_id
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.memory import scopes
from kitaru.stores.base import Store
from kitaru.wire.records import AttemptRecord
from kitaru.wire.starts import refuse_while_importing
from kitaru.wire.structs import Struct, fields_of

if TYPE_CHECKING:
    from kitaru.runtime.executions.downloads import SignedURL

R = TypeVar("R")

_MEMORY = "memory/"


@dataclass(frozen=True)
class StoredArtifact:
    """A value of an execution: saved under `name`, or the result of the invocation `name`.

    `client.artifacts.get(id)` returns the same artifact. `kind` is `saved`, `result`, or `call` for
    a text of a model call, such as `draft/call-1/prompt`.
    """

    id: str
    name: str
    type: str
    kind: str
    invocation: str
    journal: Journal = field(repr=False, compare=False)
    direction: str = "output"

    @property
    def save_type(self) -> str:
        """Alias of `type`."""
        return self.type

    def load(self) -> Any:
        """Return the value.

        Raises:
            PickleRefused: the value contains a pickle.
        """
        if self.kind == "call":
            return codec.decode(self.journal.fetch(find_artifact(self.journal, self.name)))
        invocation = self.journal.invocation(self.invocation)
        if invocation is None:
            raise NotFound(f"The artifact {self.id} was removed.")
        saved = {one["name"]: one["value"] for one in invocation.artifacts}
        stored = saved[self.name] if self.kind == "saved" else invocation.value
        assert stored is not None
        return codec.decode(self.journal.fetch(stored))


@dataclass(frozen=True)
class CheckpointCall:
    """An invocation of an execution, with its stored values and its failed attempts."""

    id: str
    name: str
    kind: str
    status: str
    artifacts: tuple[StoredArtifact, ...]
    attempts: tuple[AttemptRecord, ...] = ()


class Artifacts:
    """The artifacts of `KitaruClient.artifacts`; every method may raise EnvironmentFailure."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(
        self,
        exec_id: str,
        *,
        name: str | None = None,
        kind: str | None = None,
        producing_call: str | None = None,
        limit: int | None = None,
    ) -> list[StoredArtifact]:
        """Return the artifacts of an execution in program order; raises NotFound.

        Args:
            name: only artifacts with this name.
            kind: only `saved` ones, only `result` ones, only `call` ones, or those that were saved
                as this type.
            producing_call: only artifacts of this invocation.
            limit: maximum number of artifacts; default all.

        Example:
            context = client.artifacts.list(exec_id, name="context")[0].load()
        """
        found = stored_artifacts(Journal.open(self._store, execution_id(self._store, exec_id)))
        chosen = (
            one
            for one in found
            if name in (None, one.name)
            and kind in (None, one.kind, one.type)
            and producing_call in (None, one.invocation)
        )
        return builtins.list(islice(chosen, limit))

    def get(self, artifact_id: str) -> StoredArtifact | MemoryArtifact:
        """Return the artifact with this id; raises NotFound."""
        if artifact_id.startswith(_MEMORY):
            memory = Memories(self._store)
            return MemoryArtifact(artifact_id, artifact_id.split("/", 3)[-1], memory)
        exec_id, _, rest = artifact_id.partition("/")
        if rest:
            for one in self.list(exec_id):
                if one.id == artifact_id:
                    return one
        raise NotFound(
            f"There is no artifact {artifact_id!a}.",
            help="`client.artifacts.list(exec_id)` returns those of an execution, with their ids.",
        )

    def url(self, exec_id: str, name: str, *, lifetime: timedelta | None = None) -> SignedURL:
        """Return a URL of the bucket from which anybody can read an artifact until it expires.

        The file contains bytes and images as they are, a string as text, and other values as JSON.

        Args:
            name: an artifact's name, or the id of an invocation.
            lifetime: default 5 minutes, at most an hour.

        Raises:
            NotFound: there is no such execution or artifact.
            StateError: the store cannot sign, or several invocations saved an artifact with this
                name.
            UsageError: the lifetime is shorter than a second, or longer than an hour.

        Example:
            client.artifacts.url(exec_id, "chart", lifetime=timedelta(minutes=1)).url
        """
        refuse_while_importing("client.artifacts.url(…)")
        from kitaru.runtime.executions.downloads import LIFETIME, signed_url

        whole = execution_id(self._store, exec_id)
        return signed_url(self._store, whole, name, LIFETIME if lifetime is None else lifetime)


def stored_artifacts(journal: Journal) -> list[StoredArtifact]:
    """Return every artifact of an execution, in program order."""
    return [_stored(journal, one) for one in each_artifact(journal)]


def checkpoint_calls(journal: Journal) -> list[CheckpointCall]:
    """Return the invocations of an execution, in program order."""
    stored: dict[str, list[StoredArtifact]] = {}
    for artifact in stored_artifacts(journal):
        stored.setdefault(artifact.invocation, []).append(artifact)
    attempts: dict[str, list[AttemptRecord]] = {}
    for attempt in journal.each_attempt():
        attempts.setdefault(attempt.id, []).append(attempt)
    return [
        CheckpointCall(
            one.id,
            one.name,
            one.kind,
            one.status,
            tuple(stored.get(one.id, ())),
            tuple(attempts.get(one.id, ())),
        )
        for one in journal.in_order()
    ]


def _stored(journal: Journal, one: Artifact) -> StoredArtifact:
    kind = "saved" if one.saved else "result" if one.name == one.invocation else "call"
    id = f"{journal.exec_id}/{one.invocation}/{'' if kind == 'result' else one.name}"
    return StoredArtifact(id, one.name, one.type, kind, one.invocation, journal)


class MemoryEntry(Struct):
    """A version of a memory's key; `client.artifacts.get(artifact_id)` returns its value."""

    key: str
    version: int
    is_deleted: bool
    created_at: str
    scope: str
    scope_type: str
    artifact_id: str

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        """Return the fields by name."""
        return fields_of(self)


class ScopedMemories(Explaining):
    """The memory of `KitaruClient.memories`: entries by scope and kind of scope.

    `client.memory` is the same memory, but returns values.

    Example:
        entry = client.memories.get("tone", scope="sales", scope_type="namespace")
    """

    def __init__(self, memory: Memories) -> None:
        self._memory = memory

    def get(
        self, key: str, *, scope: str, scope_type: str | None = None, version: int | None = None
    ) -> MemoryEntry | None:
        """Return the newest version of a key with a value, or a given version; else None."""
        found = [
            one
            for one in self.history(key, scope=scope, scope_type=scope_type)
            if version in (None, one.version)
        ]
        return found[0] if found and not found[0].is_deleted else None

    def set(
        self, key: str, value: Any, *, scope: str, scope_type: str | None = None
    ) -> MemoryEntry:
        """Write a value as the next version of a key."""
        refuse_while_importing("client.memories.set(…)")
        where = self._scope(scope, scope_type)
        version = self._memory.set(key, value, scope=where)
        found = self.get(key, scope=where, version=version)
        assert found is not None
        return found

    def list(
        self, *, scope: str, scope_type: str | None = None, prefix: str = ""
    ) -> builtins.list[MemoryEntry]:
        """Return the newest version of each key with a value, sorted by key."""
        where = self._scope(scope, scope_type)
        found = [self.get(key, scope=where) for key in self._memory.list(prefix, scope=where)]
        return [one for one in found if one is not None]

    def history(
        self, key: str, *, scope: str, scope_type: str | None = None
    ) -> builtins.list[MemoryEntry]:
        """Return the versions of a key, newest first."""
        where = self._scope(scope, scope_type)
        kind, _, name = where.partition(":")
        return [
            MemoryEntry(
                key=key,
                version=one.version,
                is_deleted=one.deleted,
                created_at=one.written_at,
                scope=name,
                scope_type=kind,
                artifact_id=f"{_MEMORY}{where}/{one.version}/{key}",
            )
            for one in reversed(self._memory.history(key, scope=where))
        ]

    def delete(self, key: str, *, scope: str, scope_type: str | None = None) -> MemoryEntry | None:
        """Delete a key's value and return the version that records this; None without a value."""
        refuse_while_importing("client.memories.delete(…)")
        where = self._scope(scope, scope_type)
        gone = self._memory.delete(key, scope=where)
        return self.history(key, scope=where)[0] if gone else None

    def purge(self, key: str, *, scope: str, scope_type: str | None = None) -> int:
        """Erase a key with all its versions; return the number of versions."""
        refuse_while_importing("client.memories.purge(…)")
        return self._memory.purge(key, scope=self._scope(scope, scope_type))

    def scopes(self) -> builtins.list[dict[str, Any]]:
        """Return the result of `client.memory.scopes`."""
        return self._memory.scopes()

    def _scope(self, scope: str, kind: str | None) -> str:
        return str(scopes.outside(f"{kind}:{scope}" if kind else scope, self._memory.store))


@dataclass(frozen=True)
class MemoryArtifact:
    """The value of a version of a memory's key."""

    id: str
    name: str
    memory: Memories = field(repr=False, compare=False)

    def load(self) -> Any:
        """Return the value; raises NotFound."""
        scope, version, key = self.id.removeprefix(_MEMORY).split("/", 2)
        return self.memory.get(key, version=int(version), scope=scope, strict=True)


class ReplayHandle(Handle[R]):
    """The handle of a replay, which is also the only item of its `results`."""

    def __init__(self, handle: Handle[R], source_exec_id: str) -> None:
        super().__init__(handle._journal, handle._run)
        self._handle = handle
        self.source_exec_id = source_exec_id

    def _wait(self, timeout: float | None, *, until_waiting: bool) -> None:
        # The handle decides how to wait for its execution: as a process, for example.
        self._handle._wait(timeout, until_waiting=until_waiting)

    @property
    def replay_exec_id(self) -> str:
        """The id of the replay: alias of `exec_id`."""
        return self.exec_id

    @property
    def results(self) -> tuple[ReplayHandle[R], ...]:
        """The started replays: only this one."""
        return (self,)


def overridden(
    overrides: Mapping[str, Any] | None, checkpoints: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the results and the inputs that the overrides of a replay set.

    `overrides` are by `checkpoint.NAME` or `input.NAME`; `checkpoints` by name, each
    `{"output": value}`.

    Raises:
        UsageError: an override has another form.
    """
    results: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    for key, value in (overrides or {}).items():
        kind, _, name = key.partition(".")
        if kind not in ("checkpoint", "input") or not name:
            raise UsageError(
                f"The override {key!a} is not of the form checkpoint.NAME or input.NAME.",
                help="Use results={NAME: value} and inputs={NAME: value}.",
            )
        (results if kind == "checkpoint" else inputs)[name] = value
    for name, override in (checkpoints or {}).items():
        if not isinstance(override, Mapping) or override.keys() != {"output"}:
            raise UsageError(
                f"The override of the checkpoint {name} is not of the form {{'output': value}}.",
                help="Only the output of a checkpoint can be replaced: results={NAME: value}.",
            )
        results[name] = override["output"]
    return results, inputs
