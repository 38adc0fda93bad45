"""Scopes of memory: a namespace, a flow or an execution."""

from __future__ import annotations

from kitaru.errors import UsageError
from kitaru.runtime.journal.journal import Journal
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.ids import check_execution_id
from kitaru.wire.names import check_name
from kitaru.wire.structs import Struct

KINDS = ("namespace", "flow", "execution")


class MemoryScope(Struct):
    """A scope of memory; `name` is the namespace, the flow or the execution."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    def seen_from(self, exec_id: str) -> str:
        """Return what identifies the scope in that execution, and in a replay of it."""
        own = self.kind == "execution" and self.name == exec_id
        return "execution" if own else str(self)

    @property
    def home(self) -> str:
        """The prefix of all its keys."""
        return keys.memory(self.kind, self.name)


def scopes_in(store: Store) -> list[MemoryScope]:
    """Return the namespaces and flows that have a memory in a store, sorted.

    The memory of an execution is part of the execution, so this list does not contain it.
    """
    found = (keys.memory_scope(key) for key in store.list(keys.MEMORY))
    return [MemoryScope(kind, name) for kind, name in sorted(set(found))]


def written(scope: str | None, kind: str | None) -> str:
    """Return a scope in its written form, from its name, its kind or both.

    Raises:
        UsageError: both are missing, or the kind does not exist.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(
            f"scope_type={kind!r} is not a kind of scope.", help=f"Use one of {', '.join(KINDS)}."
        )
    if scope is None and kind is None:
        raise UsageError("A scope needs a name or a type.", help='memory.configure(scope="sales")')
    if scope is None:
        return str(kind)
    return scope if kind is None and ":" in scope else f"{kind or KINDS[0]}:{scope}"


def in_flow(text: str | None, journal: Journal) -> MemoryScope:
    """Return the scope that `text` names in a flow's body; None is the flow's own scope.

    Raises:
        UsageError: the scope is not valid.
    """
    own = {
        "namespace": "default",
        "flow": journal.execution.flow,
        "execution": journal.exec_id,
    }
    kind, named, name = (text or "flow").partition(":")
    return _checked(text, kind, name if named else own.get(kind, ""))


def outside(text: str, store: Store) -> MemoryScope:
    """Return the scope that `text` names outside a flow.

    A plain name is the namespace or flow of that name with a memory. If neither has a memory, it is
    a new namespace.

    Raises:
        UsageError: the text is not a scope, or is ambiguous.
        NotFound: the execution does not exist.
    """
    if ":" not in text and text not in KINDS:
        named = [one for one in scopes_in(store) if one.name == check_name("namespace", text)]
        if len(named) > 1:
            raise UsageError(
                f"{text} is the name of several memories.",
                help=f"Write one of {', '.join(map(str, named))}.",
            )
        return named[0] if named else MemoryScope("namespace", text)
    kind, _, name = text.partition(":")
    scope = _checked(text, kind, "default" if text == "namespace" else name)
    if kind == "execution":
        Journal.open(store, name)
    return scope


def _checked(text: str | None, kind: str, name: str) -> MemoryScope:
    if kind not in KINDS or not name:
        raise UsageError(
            f"{text!a} is not the scope of a memory.",
            help="Use namespace:NAME, flow:NAME or execution:ID; in a flow's body also plain "
            "namespace, flow (the default) or execution.",
        )
    return MemoryScope(
        kind, check_execution_id(name) if kind == "execution" else check_name(kind, name)
    )
