"""`kitaru.memory`: values that outlive an execution, in numbered versions.

In a flow's body each operation is a durable call: what it read or wrote is recorded, and a resumed
execution sees that. Outside flows the same functions work on the configured store.

Example:
    from kitaru import memory

    @flow
    def support(question: str) -> str:
        tone = memory.get("tone", "friendly")
        answer = reply(question, tone)
        memory.set("last_question", question)
        return answer
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, TypeVar

from kitaru import config
from kitaru.config import setting
from kitaru.errors import ContextError, NotFound, UsageError
from kitaru.runtime import codec
from kitaru.runtime.engine.calls import Spec
from kitaru.runtime.engine.execution import Execution, current, in_body, in_checkpoint
from kitaru.runtime.engine.primitives import DurableCall, Primitive, blocking
from kitaru.runtime.engine.retries import ONCE
from kitaru.runtime.journal.audit import Action, audited
from kitaru.runtime.journal.to_json import as_json
from kitaru.runtime.memory import compaction, scopes
from kitaru.runtime.memory.memories import Entry, Memory, Version, memory_in
from kitaru.stores import resolve_store
from kitaru.stores.base import Store
from kitaru.wire.starts import refuse_while_importing
from kitaru.wire.times import written

T = TypeVar("T")
# Name of the invocations of `configure`.
_CONFIGURE = "memory_configure"
# The actions in the audit log of what changes a memory outside of flows.
_CHANGES: dict[str, Action] = {
    "set": "set memory",
    "delete": "delete memory",
    "compact": "compact memory",
}

__all__ = [
    "Entry",
    "Memories",
    "Version",
    "compact",
    "configure",
    "delete",
    "entry",
    "get",
    "history",
    "list",
    "purge",
    "set",
]


def _unchanged(found: Any) -> Any:
    return found


class Memories:
    """The operations of memory: `kitaru.memory` in flows, and `KitaruClient().memory` outside.

    Every operation accepts a `scope`. `namespace:NAME` is shared by everybody who uses that name,
    `flow:NAME` by the executions of a flow, and `execution:ID` belongs to one execution. In a
    flow's body the default is `flow`, the scope of that flow. `execution` and `namespace` (the
    namespace `default`) need no name there. Outside flows the default is the setting
    `memory_scope`. Without that setting, the scope is required.

    Keys are ASCII: a letter, digit or underscore, then also `. : / @ + = , ~ -`, at most 100.

    All operations may raise ContextError (in a checkpoint), UsageError (invalid key or scope) and
    EnvironmentFailure.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        run: Callable[[Primitive[Any]], Any] = blocking,
    ) -> None:
        """`store` is the store of a client. None: the store of the running flow or the settings.

        `run` performs an operation: `blocking` returns its result, `awaited` a coroutine.
        """
        self._store = store
        self._run = run

    @property
    def store(self) -> Store:
        """The store for operations outside flows."""
        return self._store or resolve_store(None)

    def configure(self, *, scope: str | None = None, scope_type: str | None = None) -> None:
        """Set the default scope of later operations.

        In a flow's body, it applies until the next `configure` of the execution. It is recorded, so
        that later steps and resumed executions use the same scope. Outside flows, it applies to the
        process, like `kitaru.configure(memory_scope=…)`.

        Args:
            scope: the name of a namespace, a flow or an execution, or a complete scope such as
                `namespace:sales`.
            scope_type: `namespace`, `flow` or `execution`. Default: `namespace`. Without `scope` in
                a flow's body, the scope is that of the flow or the execution.

        Raises:
            UsageError: the scope is not valid, or it is missing outside flows.

        Example:
            memory.configure(scope="sales", scope_type="namespace")
        """
        text = scopes.written(scope, scope_type)
        return self._run(self._configure(text))  # type: ignore[no-any-return]

    def _configure(self, text: str) -> Primitive[None]:
        if current() is None or self._store is not None:
            scopes.outside(text, self._store or resolve_store(None))
            config.configure(memory_scope=text)
            return
        execution = in_body("kitaru.memory.configure")
        where = scopes.in_flow(text, execution.journal)
        seen = where.seen_from(execution.journal.exec_id)
        spec = Spec(_CONFIGURE, _same, "kitaru.memory.configure", kind="memory", policy=ONCE)
        yield DurableCall(execution, spec, {"scope": seen})

    def get(
        self,
        key: str,
        default: Any = None,
        *,
        version: int | None = None,
        strict: bool = False,
        scope: str | None = None,
    ) -> Any:
        """Return the newest value of a key, or the value of a version; otherwise `default`.

        Raises:
            NotFound: there is no value, and `strict` is set.

        Example:
            tone = memory.get("tone", "friendly")
        """
        arguments = {"key": key, "version": version}

        def value_of(found: Entry | None) -> Any:
            if found is None and strict:
                of = "" if version is None else f" in version {version}"
                raise NotFound(f"The memory {key} has no value{of}.", help="kitaru memory list")
            return default if found is None else found.value

        return self._perform(
            "get", scope, arguments, lambda m: m.entry(key, version), turn=value_of
        )

    def entry(
        self, key: str, *, version: int | None = None, scope: str | None = None
    ) -> Entry | None:
        """Return a value with its version, for `expect=`; None if there is no value.

        Example:
            entry = memory.entry("count")
            memory.set("count", entry.value + 1, expect=entry.version)
        """
        arguments = {"key": key, "version": version}
        return self._perform("entry", scope, arguments, lambda m: m.entry(key, version))

    def set(
        self, key: str, value: Any, *, expect: int | None = None, scope: str | None = None
    ) -> int:
        """Write a value as the next version of a key, and return the version's number.

        Args:
            value: anything that can be recorded.
            expect: the version that must be the newest, 0 for "it has no value"; default any.

        Raises:
            MemoryConflict: another version is the newest; nothing was written.
            ValueNotEncodable: the value cannot be recorded.

        Example:
            memory.set("tone", "formal", scope="namespace:sales")
        """
        refuse_while_importing("kitaru.memory.set(…)")
        arguments = {"key": key, "value": value, "expect": expect}
        return self._perform("set", scope, arguments, lambda m: m.set(key, value, expect))

    def delete(self, key: str, *, expect: int | None = None, scope: str | None = None) -> bool:
        """Delete a key's value, by writing a version without a value. Return False without a value.

        Earlier versions stay and can be read by number; `purge` erases them.

        Raises:
            MemoryConflict: the newest version is not the one that `expect` names.
        """
        refuse_while_importing("kitaru.memory.delete(…)")
        arguments = {"key": key, "expect": expect}
        return self._perform("delete", scope, arguments, lambda m: m.delete(key, expect))

    def list(self, prefix: str = "", *, scope: str | None = None) -> builtins.list[str]:
        """Return the keys that start with `prefix` and have a value, sorted.

        Example:
            names = [memory.get(key) for key in memory.list("user/")]
        """
        return self._perform("list", scope, {"prefix": prefix}, lambda m: m.list(prefix))

    def history(
        self, key: str, *, limit: int | None = None, scope: str | None = None
    ) -> builtins.list[Version]:
        """Return the versions of a key, oldest first; with `limit`, only the newest ones."""
        arguments = {"key": key, "limit": limit}
        return self._perform("history", scope, arguments, lambda m: m.history(key, limit))

    def compact(
        self,
        key: str | None = None,
        *,
        prefix: str | None = None,
        into: str | None = None,
        instruction: str = compaction.INSTRUCTION,
        model: str | None = None,
        scope: str | None = None,
    ) -> int:
        """Let a model merge what is remembered into one text; return the version that holds it.

        What is merged are the versions of `key`, or the values of all keys that start with
        `prefix`; the text becomes the next version of `into`, default `key` itself. Other keys that
        went into it are then deleted, unless they were written meanwhile. The new version says what
        it was made of, by which model, at what cost.

        Args:
            instruction: what the model is asked to do with the notes.
            model: an alias or a model, as for `kitaru.llm`. One must be configured.

        Raises:
            UsageError: not exactly one of `key` and `prefix`, no `into`, or no model is configured.
            NotFound: nothing is remembered there.
            MemoryConflict: the key was written while the model thought; nothing was changed.
        """
        refuse_while_importing("kitaru.memory.compact(…)")
        job = compaction.Job(key, prefix, into, instruction, model)
        job.check()
        return self._perform("compact", scope, job.arguments(), lambda m: compaction.run(m, job))

    def purge(self, key: str, *, scope: str | None = None) -> int:
        """Erase a key with all its versions, for good; return how many there were.

        Not in a flow. Nothing should write the key meanwhile, for that would be erased as well;
        interrupted, run it again. What executions have read stays in their records.
        """
        refuse_while_importing("kitaru.memory.purge(…)")
        if current() is not None:
            raise ContextError(
                "kitaru.memory.purge was used in a flow: a replay could not see what it erased.",
                help="Use memory.delete there; purge outside: kitaru memory purge KEY",
            )
        outside = self._outside(scope)
        with _audited(outside, "purge memory", {"key": key}):
            return outside.purge(key)

    def show(
        self,
        key: str,
        *,
        version: int | None = None,
        at: datetime | None = None,
        scope: str | None = None,
    ) -> dict[str, Any] | None:
        """Return `{"key", "version", "value", "written_at"}` as JSON.

        None if there is no value. Imports no class of the value. Not in a flow.

        Args:
            version: a version's number; default the newest.
            at: a moment: the value that the key had then. One without a time zone is local time.

        Raises:
            UsageError: both `version` and `at` are passed.

        Example:
            client.memory.show("tone", at=datetime(2026, 11, 1), scope="namespace:sales")
        """
        if version is not None and at is not None:
            raise UsageError("Version and at exclude each other: each names one version.")
        memory = self._outside(scope)
        found = memory.find(key, version) if at is None else memory.find_at(key, written(at))
        if found is None or found.value is None:
            return None
        value = as_json(memory.document(found))
        return {"key": key, "version": found.number, "value": value, "written_at": found.at}

    def scopes(self) -> builtins.list[dict[str, Any]]:
        """Return `{"scope", "keys", "written_at"}` per namespace and flow with a memory, sorted.

        `keys` counts those that have a value, and `written_at` is when the newest of their values
        was written, empty without any. Not in a flow.

        Example:
            [one["scope"] for one in client.memory.scopes()]
        """
        store = self._store or resolve_store(None)
        return [_scope(store, scope) for scope in scopes.scopes_in(store)]

    def _perform(
        self,
        name: str,
        scope: str | None,
        arguments: dict[str, Any],
        operate: Callable[[Memory], T],
        *,
        turn: Callable[[Any], Any] = _unchanged,
    ) -> T:
        """Return the recorded result of an operation, as `turn` returns it."""
        result: T = self._run(self._steps(name, scope, arguments, operate, turn))
        return result

    def _steps(
        self,
        name: str,
        scope: str | None,
        arguments: dict[str, Any],
        operate: Callable[[Memory], Any],
        turn: Callable[[Any], Any],
    ) -> Primitive[Any]:
        if current() is None or self._store is not None:
            outside = self._outside(scope)
            if name not in _CHANGES:
                return turn(operate(outside))
            with _audited(outside, _CHANGES[name], arguments):
                return turn(operate(outside))
        execution = in_body(f"kitaru.memory.{name}")
        where = scopes.in_flow(scope or _configured(execution), execution.journal)

        def run(**_: Any) -> Any:
            return operate(_within(where))

        spec = Spec(f"memory_{name}", run, f"kitaru.memory.{name}", kind="memory", policy=ONCE)
        said = {"scope": where.seen_from(execution.journal.exec_id), **arguments}
        return turn((yield DurableCall(execution, spec, said)))

    def _outside(self, scope: str | None) -> Memory:
        if current() is not None:
            raise ContextError(
                "A client's memory was used in a flow: what it read would not be recorded.",
                help="Use kitaru.memory in the flow's body.",
            )
        text = setting("memory_scope", argument=scope).value
        if text is None:
            raise UsageError(
                "Outside a flow a memory needs a scope.",
                help="Say namespace:NAME, flow:NAME or execution:ID as scope= or --scope, or "
                "configure one: export KITARU_MEMORY_SCOPE=namespace:NAME",
            )
        store = self._store or resolve_store(None)
        return Memory(store, scopes.outside(text, store), f"outside/{os.urandom(8).hex()}")


def _audited(
    memory: Memory, action: Action, arguments: dict[str, Any]
) -> AbstractContextManager[None]:
    """Record who changes a memory outside of flows."""
    scope = memory.scope
    changed = arguments.get("into") or arguments.get("key") or arguments.get("prefix")
    return audited(
        memory.store,
        action,
        f"{changed} in {scope}",
        flow=scope.name if scope.kind == "flow" else "",
        exec_id=scope.name if scope.kind == "execution" else "",
    )


def _scope(store: Store, scope: scopes.MemoryScope) -> dict[str, Any]:
    memory = Memory(store, scope, "")
    keys = memory.list()
    moments = [found.at for key in keys if (found := memory.find(key)) is not None]
    return {"scope": str(scope), "keys": len(keys), "written_at": max(moments, default="")}


def _same(scope: str) -> str:
    return scope


def _configured(execution: Execution) -> str | None:
    """Return the scope of the last `configure` in the body, or None without one.

    The id counter, which travels from step to step, identifies that call.
    """
    id = execution.counters.newest(_CONFIGURE)
    record = None if id is None else execution.journal.invocation(id)
    if record is None or record.value is None:
        return None
    scope: str = codec.decode(execution.journal.fetch(record.value))
    return scope


def _within(scope: scopes.MemoryScope) -> Memory:
    """Return the memory as the current invocation sees it."""
    execution, running = in_checkpoint("kitaru.memory")
    journal, id = execution.journal, running.invocation
    operation = f"{journal.exec_id}/{id}"
    seen = Memory(journal.store, scope, operation, lambda newest: journal.declare_write(id, newest))
    return memory_in(journal, seen)


_here = Memories()
configure = _here.configure
get, entry, set, delete, list = _here.get, _here.entry, _here.set, _here.delete, _here.list
history, compact, purge = _here.history, _here.compact, _here.purge
