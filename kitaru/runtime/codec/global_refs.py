"""References from a frame to objects stored in the project's modules.

A copy would be a different object: code that reads the module would not see changes to the copy. A
frame therefore contains the path to the object. If no path leads to the same object in another
process, as for a library's own objects, a mutable object cannot cross a cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from kitaru.errors import FlowError
from kitaru.runtime.codec import qualified_names
from kitaru.runtime.codec.introspect import (
    CONTAINERS,
    Modules,
    Step,
    attributes,
    held_by,
    is_dunder,
)
from kitaru.runtime.codec.json_fast_path import json_text
from kitaru.runtime.codec.slots import layout_of
from kitaru.wire.structs import Struct

# Changes of a global with more parts are detected only if it is plain JSON.
LIMIT = 10_000
_ATOMS = (type(None), bool, int, float, complex, str, bytes)


class Root:
    """A global of a module; `known` means that any change in it is detected."""

    __slots__ = ("known", "module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name
        self.known = True


class Place(Struct):
    """The place of an object: `step` inside `holder`, below `root`, if the place has a path."""

    root: Root
    holder: Place | None = None
    step: Step | None = None

    def way(self) -> list[Any] | None:
        """Return module, name and steps of the path in any process, None if there is no path."""
        steps: list[list[Any]] = []
        place = self
        while place.holder is not None:
            if place.step is None or not place.root.known:
                return None
            steps.append(list(place.step))
            place = place.holder
        return [self.root.module, self.root.name, *reversed(steps)]


def find(modules: Modules, way: list[Any]) -> Any:
    """Return the object at the path `way`; raise FlowError if it does not exist.

    A module that only an earlier step imported so far, inside a function, is imported here.
    """
    module, name, *steps = way
    if not steps and (cls := qualified_names.moved_to(module, name)) is not None:
        return cls
    home = modules[module] if module in modules else vars(qualified_names.load_module(module))
    try:
        found = home[name]
        for kind, key in steps:
            found = found[key] if kind == "[" else attributes(found)[key]
    except LookupError:
        raise FlowError(
            f"A recorded frame needs the global {name} of {module}"
            f"{' and what it held' if steps else ''}, which is not there any more.",
            help=f"Restore {name}, or start a new execution.",
        ) from None
    return found


def places(modules: Modules) -> dict[int, Place]:
    """Return the places of the objects that the modules' globals contain, by identity."""
    return _Walk(modules).places()


class _Walk:
    """Follows references with a path first, so that references without a path do not hide them."""

    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._found: dict[int, Place] = {}
        # Objects without a path. The last element is whether to search inside them.
        self._unsaid: deque[tuple[Any, Root, bool]] = deque()

    def places(self) -> dict[int, Place]:
        roots = [(value, place) for value, place in self._roots() if not _is_atom(value)]
        for value, place in roots:
            self._found.setdefault(id(value), place)
        for value, place in roots:
            if self._found[id(value)] is place:
                self._follow(value, place)
        while self._unsaid:
            self._meet(*self._unsaid.popleft())
        return self._found

    def _roots(self) -> Iterator[tuple[Any, Place]]:
        for module, variables in self._modules.items():
            for name, value in list(variables.items()):
                if not is_dunder(name):
                    yield value, Place(Root(module, name))

    def _follow(self, value: Any, place: Place) -> None:
        """Find the objects inside a global, and whether it is too large to detect changes."""
        count, pending = 0, deque([(value, place)])
        while pending:
            holder, at = pending.popleft()
            said = self._is_known(holder, at)
            for step, child in held_by(holder, self._modules):
                count += said
                if _is_atom(child) or id(child) in self._found:
                    continue
                if step is None or not said:
                    # The globals of a library may contain tables of any size.
                    self._unsaid.append((child, place.root, type(holder) is not ModuleType))
                else:
                    self._found[id(child)] = below = Place(place.root, at, step)
                    pending.append((child, below))
        place.root.known = count <= LIMIT or json_text(value) is not None

    def _meet(self, value: Any, root: Root, below: bool) -> None:
        if _is_atom(value) or id(value) in self._found:
            return
        self._found[id(value)] = Place(root, Place(root))
        if below and type(value) is not ModuleType:
            self._unsaid += ((held, root, True) for _, held in held_by(value, self._modules))

    def _is_known(self, holder: Any, place: Place) -> bool:
        """Return whether the digests of module globals detect changes of `holder`."""
        if place.holder is None and type(holder).__module__ in self._modules:
            return True
        if isinstance(holder, type):
            return place.holder is None
        plainly = type(holder) in CONTAINERS or layout_of(type(holder)) is not None
        return plainly and not qualified_names.name_of(holder)


def _is_atom(value: Any) -> bool:
    return type(value) in _ATOMS or (type(value) in (tuple, frozenset) and not value)
