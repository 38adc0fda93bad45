"""Decides in which order a graph is built again, so that sharing and cycles come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kitaru.errors import KitaruError, RecordCorrupt
from kitaru.runtime.codec.kinds import Kind, ShellKind
from kitaru.runtime.codec.library import kind_of_tag
from kitaru.runtime.codec.objects import OBJECT, TAGGED

_UNBUILT = object()
_NEW, _OPEN, _DONE = 0, 1, 2


class Decoder:
    """Builds one graph; `placed` returns what lies where a way leads in the project's modules.

    `pickled` are the values that came out of the pickle beside it.

    Nodes are finished after their children. A shell on a cycle is filled at the end; as a set or a
    dict hashes what it holds, those come last, and texts and numbers of an object are set first.
    """

    def __init__(
        self,
        nodes: list[Any],
        placed: Callable[[list[Any]], Any],
        pickled: Sequence[Any] = (),
    ) -> None:
        self._nodes = nodes
        self._pickled = pickled
        self._placed = placed
        self._built: list[Any] = [_UNBUILT] * len(nodes)
        self._kinds: list[Kind | None] = [None] * len(nodes)
        self._state = [_NEW] * len(nodes)
        self._unfilled = [False] * len(nodes)
        self._deferred: list[int] = []
        self._postponed: list[int] = []

    def build(self, root: Any) -> Any:
        """Return the value of slot `root`; raises RecordCorrupt when the graph is damaged."""
        try:
            self._start()
            self._walk(root)
            self._make_postponed()
            for hashes in (False, True):
                for index in self._deferred:
                    if self._shell(index).hashes is hashes:
                        self._fill(index)
            return self._value(root)
        except (KitaruError, MemoryError):
            raise
        except Exception as error:
            raise RecordCorrupt(
                f"A recorded value cannot be read: {type(error).__name__}: {error}",
                help="Check the store, or start a new execution.",
            ) from error

    def _start(self) -> None:
        """Build the nodes without slots, then make the shells."""
        for index, node in enumerate(self._nodes):
            if node[0] in ("global", "pickled"):
                found = self._placed(node[1]) if node[0] == "global" else self._pickled[node[1][0]]
                self._built[index], self._state[index] = found, _DONE
                continue
            kind = TAGGED.get(node[0]) or kind_of_tag(node[0])
            self._kinds[index] = kind
            if len(node) == 2 and not isinstance(kind, ShellKind):
                self._built[index] = kind.make(node[1], [])
                self._state[index] = _DONE
        for index, made in enumerate(self._kinds):
            if isinstance(made, ShellKind):
                first = self._value(self._slots(index)[0]) if made is OBJECT else None
                self._built[index] = made.create(self._nodes[index][1], first)

    def _walk(self, root: Any) -> None:
        stack = self._fresh([root])
        while stack:
            index = stack[-1]
            if self._state[index] == _NEW:
                self._state[index] = _OPEN
                self._set_atoms(index)
                stack += self._fresh(self._slots(index))
                continue
            stack.pop()
            if self._state[index] == _OPEN:
                self._finish(index)
                self._state[index] = _DONE

    def _fresh(self, slots: list[Any]) -> list[int]:
        return [s[0] for s in slots if type(s) is list and self._state[s[0]] == _NEW]

    def _finish(self, index: int) -> None:
        waits = any(
            self._state[s[0]] == _OPEN or self._unfilled[s[0]]
            for s in self._slots(index)
            if type(s) is list
        )
        self._unfilled[index] = waits
        kind = self._kinds[index]
        if isinstance(kind, ShellKind):
            if waits:
                self._deferred.append(index)
            else:
                self._fill(index)
        elif self._lacks(index):
            self._postponed.append(index)
        elif kind is not None:
            self._built[index] = kind.make(self._nodes[index][1], self._children(index))

    def _lacks(self, index: int) -> bool:
        slots = self._slots(index)
        return any(type(slot) is list and self._built[slot[0]] is _UNBUILT for slot in slots)

    def _make_postponed(self) -> None:
        """Make the tuples that hold one which was being made: a shell is between them."""
        while self._postponed:
            left, self._postponed = self._postponed, []
            for index in left:
                self._finish(index)
            if self._postponed == left:
                raise ValueError(f"node {left[0]} holds itself")

    def _set_atoms(self, index: int) -> None:
        """Give an object its texts and numbers early: its hash may need them on a cycle."""
        if self._kinds[index] is not OBJECT:
            return
        attributes, slots = self._nodes[index][1], self._slots(index)
        own: list[Any] = [None]
        rest: list[Any] = []
        for at in range(1, len(slots), 2):
            if type(slots[at + 1]) is not list:
                (own if at <= attributes else rest).extend((self._value(slots[at]), slots[at + 1]))
        OBJECT.fill(self._built[index], len(own) - 1, own + rest)

    def _fill(self, index: int) -> None:
        self._shell(index).fill(self._built[index], self._nodes[index][1], self._children(index))

    def _shell(self, index: int) -> ShellKind:
        kind = self._kinds[index]
        assert isinstance(kind, ShellKind)
        return kind

    def _slots(self, index: int) -> list[Any]:
        node = self._nodes[index]
        return node[2] if len(node) > 2 else []

    def _children(self, index: int) -> list[Any]:
        return [self._value(slot) for slot in self._slots(index)]

    def _value(self, slot: Any) -> Any:
        if type(slot) is not list:
            return slot
        value = self._built[slot[0]]
        if value is _UNBUILT:
            raise ValueError(f"node {slot[0]} holds itself")
        return value
