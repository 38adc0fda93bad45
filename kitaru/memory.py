"""Decides what authors have of memory: values that outlive an execution, in numbered versions.

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
from typing import Any, TypeVar

from kitaru.config import setting
from kitaru.errors import ContextError, UsageError
from kitaru.flow import opened
from kitaru.runtime.memory import compaction, scopes
from kitaru.runtime.memory.memories import Entry, Memory, Version
from kitaru.runtime.recording.shown import as_json
from kitaru.runtime.running import context
from kitaru.runtime.running.calls import Spec
from kitaru.runtime.running.retries import ONCE
from kitaru.stores.base import Store

T = TypeVar("T")

__all__ = [
    "Entry",
    "Memories",
    "Version",
    "compact",
    "delete",
    "entry",
    "get",
    "history",
    "list",
    "purge",
    "set",
]


class Memories:
    """Memory as `kitaru.memory` offers it where the caller is, and `KitaruClient().memory` outside.

    Every operation takes a `scope`: `namespace:NAME` is shared by whoever names it, `flow:NAME` by
    the executions of a flow, `execution:ID` belongs to one execution. In a flow's body the default
    is `flow`, that flow's own; `execution` and `namespace` (the one called `default`) need no name
    there. Outside flows the default is the setting `memory_scope`, and there is none without it.

    Keys are ASCII: a letter, digit or underscore, then also `. : / @ + = , ~ -`, at most 100.

    All may raise ContextError (in a checkpoint), UsageError (key or scope) and EnvironmentFailure.
    """

    def __init__(self, store: Store | None = None) -> None:
        """`store` is the client's; None for wherever the caller is."""
        self._store = store

    def get(
        self, key: str, default: Any = None, *, version: int | None = None, scope: str | None = None
    ) -> Any:
        """Return the newest value of a key, or that of a version; `default` where there is none.

        Example:
            tone = memory.get("tone", "friendly")
        """
        arguments = {"key": key, "version": version}
        found = self._perform("get", scope, arguments, lambda m: m.entry(key, version))
        return default if found is None else found.value

    def entry(
        self, key: str, *, version: int | None = None, scope: str | None = None
    ) -> Entry | None:
        """Return a value with the version that it is, for `expect=`; None where there is none.

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
        arguments = {"key": key, "value": value, "expect": expect}
        return self._perform("set", scope, arguments, lambda m: m.set(key, value, expect))

    def delete(self, key: str, *, expect: int | None = None, scope: str | None = None) -> bool:
        """Take a key's value away, with a version that says so; False where it had none.

        Earlier versions stay and can be read by number; `purge` erases them.

        Raises:
            MemoryConflict: the newest version is not the one that `expect` names.
        """
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
        """Return the versions of a key, the oldest first, or with `limit` the last so many."""
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
            instruction: what the model is told to do with the notes.
            model: an alias or a model, as for `kitaru.llm`; one must be configured.

        Raises:
            UsageError: not exactly one of `key` and `prefix`, no `into`, or no model is configured.
            NotFound: nothing is remembered there.
            MemoryConflict: the key was written while the model thought; nothing was changed.
        """
        job = compaction.Job(key, prefix, into, instruction, model)
        job.check()
        return self._perform("compact", scope, job.arguments(), lambda m: compaction.run(m, job))

    def purge(self, key: str, *, scope: str | None = None) -> int:
        """Erase a key with all its versions, for good; return how many there were.

        Not in a flow. Nothing should write the key meanwhile, for that would be erased as well;
        interrupted, run it again. What executions have read stays in their records.
        """
        if context.current() is not None:
            raise ContextError(
                "kitaru.memory.purge was used in a flow: a replay could not see what it erased.",
                help="Use memory.delete there; purge outside: kitaru memory purge KEY",
            )
        return self._outside(scope).purge(key)

    def show(
        self, key: str, *, version: int | None = None, scope: str | None = None
    ) -> dict[str, Any] | None:
        """Return `{"key", "version", "value", "written_at"}` as JSON.

        None where there is no value. Imports no class of the value. Not in a flow.
        """
        memory = self._outside(scope)
        found = memory.find(key, version)
        if found is None or found.value is None:
            return None
        value = as_json(memory.document(found))
        return {"key": key, "version": found.number, "value": value, "written_at": found.at}

    def _perform(
        self,
        name: str,
        scope: str | None,
        arguments: dict[str, Any],
        operate: Callable[[Memory], T],
    ) -> T:
        if context.current() is None or self._store is not None:
            return operate(self._outside(scope))
        execution = context.in_body(f"kitaru.memory.{name}")
        where = scopes.in_flow(scope, execution.journal)

        def run(**_: Any) -> T:
            return operate(_within(where))

        spec = Spec(f"memory_{name}", run, f"kitaru.memory.{name}", kind="memory", policy=ONCE)
        said = {"scope": where.seen_from(execution.journal.exec_id), **arguments}
        return execution.invoke(spec, (), said, None)  # type: ignore[no-any-return]

    def _outside(self, scope: str | None) -> Memory:
        if context.current() is not None:
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
        store = self._store or opened(None)
        return Memory(store, scopes.outside(text, store), f"outside/{os.urandom(8).hex()}")


def _within(scope: scopes.MemoryScope) -> Memory:
    """Return the memory as the invocation that runs sees it."""
    execution, running = context.in_checkpoint("kitaru.memory")
    journal, id = execution.journal, running.invocation
    operation = f"{journal.exec_id}/{id}"
    return Memory(journal.store, scope, operation, lambda newest: journal.intend(id, newest))


_here = Memories()
get, entry, set, delete, list = _here.get, _here.entry, _here.set, _here.delete, _here.list
history, compact, purge = _here.history, _here.compact, _here.purge
