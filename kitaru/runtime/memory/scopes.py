"""Decides whose memory is meant: a namespace's, a flow's or an execution's."""

from __future__ import annotations

from kitaru.errors import UsageError
from kitaru.runtime.recording.journal import Journal
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.ids import check_execution_id
from kitaru.wire.names import check_name
from kitaru.wire.structs import Struct

KINDS = ("namespace", "flow", "execution")


class MemoryScope(Struct):
    """One of the memories in a store, `name` being the namespace, the flow or the execution."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    def seen_from(self, exec_id: str) -> str:
        """Return what identifies it in that execution, and in a replay of it."""
        own = self.kind == "execution" and self.name == exec_id
        return "execution" if own else str(self)

    @property
    def home(self) -> str:
        """What all its keys begin with."""
        return keys.memory(self.kind, self.name)


def in_flow(text: str | None, journal: Journal) -> MemoryScope:
    """Return the scope that `text` means in a flow's body; None means the flow's own.

    Raises:
        UsageError: it is none.
    """
    own = {
        "namespace": "default",
        "flow": journal.execution.flow,
        "execution": journal.exec_id,
    }
    kind, named, name = (text or "flow").partition(":")
    return _checked(text, kind, name if named else own.get(kind, ""))


def outside(text: str, store: Store) -> MemoryScope:
    """Return the scope that `text` means where no flow runs.

    Raises:
        UsageError: it is none, or does not say which.
        NotFound: there is no such execution.
    """
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
