"""Rebuild a graph of values in an order that restores sharing and cycles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kitaru.errors import KitaruError, RecordCorrupt
from kitaru.runtime.codec.builtin_types import Kind, ShellKind, ValueKind
from kitaru.runtime.codec.classes import Look, refit, resembles
from kitaru.runtime.codec.instances import NAMED_TUPLE, OBJECT
from kitaru.runtime.codec.registry import kind_of_tag
from kitaru.runtime.codec.user_codecs import TAG

_UNBUILT = object()
_NEW, _OPEN, _DONE = 0, 1, 2


class Decoder:
    """Builds one graph; `placed` returns the object at a path in the project's modules.

    `pickled` are the values loaded from the accompanying pickle. `given` are the values of nodes
    that are not rebuilt.

    Nodes are completed after their children. A shell on a cycle is filled at the end. Sets and
    dicts hash their content, so they are filled last, and the strings and numbers of an object are
    set first.

    An object with a codec cannot be on a cycle, but its form may contain a cycle or refer to one.
    The object is created as soon as its form is complete, including everything that the form refers
    to. Containers of the object are completed after that:

        tree -> child -> tree       # filled at the end
        [Box(tree)]                 # Box waits for the tree, and the list for Box
    """

    def __init__(
        self,
        nodes: list[Any],
        placed: Callable[[list[Any]], Any],
        pickled: Sequence[Any] = (),
        looks: Mapping[int, Look] | None = None,
        given: Mapping[int, Any] | None = None,
    ) -> None:
        self._given = given or {}
        self._looks = looks or {}
        # By node of a class with a recorded declaration: whether the declaration is unchanged.
        self._same: dict[int, bool] = {}
        # Objects on cycles whose class has changed. Refitting them needs complete content.
        self._refitted: list[int] = []
        self._nodes = nodes
        self._pickled = pickled
        self._placed = placed
        self._built: list[Any] = [_UNBUILT] * len(nodes)
        self._kinds: list[Kind | None] = [None] * len(nodes)
        self._state = [_NEW] * len(nodes)
        self._unfilled = [False] * len(nodes)
        self._deferred: list[int] = []
        self._postponed: list[int] = []
        # Objects with a codec whose forms are incomplete. A form refers only to earlier objects in
        # this list.
        self._waiting: list[int] = []

    def build(self, root: Any) -> Any:
        """Return the value of slot `root`; raise RecordCorrupt if the graph is damaged."""
        try:
            self._start()
            self._walk(root)
            self._complete()
            return self._value(root)
        except (KitaruError, MemoryError):
            raise
        except Exception as error:
            raise RecordCorrupt(
                f"A recorded value cannot be read: {type(error).__name__}: {error}",
                help="Check the store, or start a new execution.",
            ) from error

    def _start(self) -> None:
        """Build the nodes without slots, then create the shells."""
        for index, node in enumerate(self._nodes):
            if index in self._given:
                self._built[index], self._state[index] = self._given[index], _DONE
                continue
            if node[0] in ("global", "pickled"):
                found = self._placed(node[1]) if node[0] == "global" else self._pickled[node[1][0]]
                self._built[index], self._state[index] = found, _DONE
                continue
            kind = kind_of_tag(node[0])
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
        if waits and self._nodes[index][0] == TAG:
            self._waiting.append(index)
        elif isinstance(kind, ShellKind):
            if waits:
                changed = kind is OBJECT and not self._resembles(index)
                (self._refitted if changed else self._deferred).append(index)
            else:
                self._fill(index)
        elif self._lacks(index):
            self._postponed.append(index)
        else:
            self._make(index)

    def _make(self, index: int) -> None:
        kind = self._kinds[index]
        if isinstance(kind, ValueKind):
            data = self._look(index) if kind is NAMED_TUPLE else self._nodes[index][1]
            self._built[index] = kind.make(data, self._children(index))

    def _lacks(self, index: int) -> bool:
        slots = self._slots(index)
        return any(type(slot) is list and self._built[slot[0]] is _UNBUILT for slot in slots)

    def _complete(self) -> None:
        """Complete pending nodes; an object with a codec comes after the nodes of its form."""
        roles = self._postponed, self._deferred, self._refitted
        done: set[int] = set()
        if self._waiting:
            members = [set(role) for role in roles]
            order = {index: at for role in roles for at, index in enumerate(role)}
            for own in self._waiting:
                below = sorted(self._below(own, done) & order.keys(), key=order.__getitem__)
                self._settle(*([one for one in below if one in role] for role in members))
                self._make(own)
        self._settle(*([index for index in role if index not in done] for role in roles))

    def _below(self, start: int, done: set[int]) -> set[int]:
        """Return the nodes reachable from `start` that are not `done`; add them all to `done`."""
        found, pending = set[int](), [start]
        done.add(start)
        while pending:
            for slot in self._slots(pending.pop()):
                if type(slot) is list and slot[0] not in done:
                    done.add(slot[0])
                    found.add(slot[0])
                    pending.append(slot[0])
        return found

    def _settle(self, postponed: list[int], deferred: list[int], refitted: list[int]) -> None:
        self._make_postponed(postponed)
        for hashes in (False, True):
            for index in deferred:
                if self._shell(index).hashes is hashes:
                    self._fill(index)
        for index in refitted:
            self._refit(index)

    def _make_postponed(self, left: list[int]) -> None:
        """Build the tuples that contain themselves through a shell."""
        while left:
            lacking = []
            for index in left:
                if self._lacks(index):
                    lacking.append(index)
                else:
                    self._make(index)
            if lacking == left:
                raise ValueError(f"node {left[0]} holds itself")
            left = lacking

    def _set_atoms(self, index: int) -> None:
        """Set an object's strings and numbers early: on a cycle its hash may need them."""
        if self._kinds[index] is not OBJECT or not self._resembles(index):
            return
        attributes, slots = self._nodes[index][1], self._slots(index)
        own: list[Any] = [None]
        rest: list[Any] = []
        for at in range(1, len(slots), 2):
            if type(slots[at + 1]) is not list:
                (own if at <= attributes else rest).extend((self._value(slots[at]), slots[at + 1]))
        OBJECT.fill(self._built[index], len(own) - 1, own + rest)

    def _look(self, index: int) -> Look | None:
        return self._looks.get(self._slots(index)[0][0])

    def _resembles(self, index: int) -> bool:
        """Return whether the declaration of an object's class is unchanged since the recording."""
        cls, look = type(self._built[index]), self._look(index)
        if look is None:
            return resembles(cls, None, *self._state_of(index, self._slots(index)))
        at = self._slots(index)[0][0]
        if at not in self._same:
            self._same[at] = resembles(cls, look, {}, {})
        return self._same[at]

    def _refit(self, index: int) -> None:
        refit(
            self._built[index],
            self._look(index),
            *self._state_of(index, self._children(index)),
        )

    def _state_of(self, index: int, parts: list[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the attributes and slots of an object from its node's slots or children."""
        end = 1 + self._nodes[index][1]
        names = [self._value(slot) for slot in self._slots(index)[1::2]]
        pairs = list(zip(names, parts[2::2], strict=True))
        half = (end - 1) // 2
        return dict(pairs[:half]), dict(pairs[half:])

    def _fill(self, index: int) -> None:
        if self._kinds[index] is OBJECT and not self._resembles(index):
            self._refit(index)
            return
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
