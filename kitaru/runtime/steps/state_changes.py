"""Track state of a step's process outside its frame, which the next process would not see.

A frame contains the flow's variables. The state of module globals does not cross a cut: the next
step imports the modules again. A cut is therefore left out, and the flow continues in the same
process, in two cases:

- A global has *changed* since the step started, or since its module was imported.
- A global is *opaque* (a connection, an iterator, an open file), so that a change would not be
  seen, and both the code that ran in this process and code that may follow reach it.

    DB = sqlite3.connect(":memory:")

    @flow
    def report():
        store(1)                # DB changed, or not: nothing shows it
        return count()          # reads DB: runs in the same process as store(1)

This includes the code of checkpoint bodies. Some objects never affect a result and do not count: a
client of a service, a logger, a compiled pattern, an unlocked lock and the cache of a pure function
(see `kitaru.runtime.codec.reach`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from kitaru.config import setting
from kitaru.runtime.codec.reach import State, is_project, mentions
from kitaru.runtime.steps.frames import Lost
from kitaru.runtime.steps.program import Program, project_modules
from kitaru.wire.importing import find_after
from kitaru.wire.modules import is_project as is_project_file
from kitaru.wire.structs import Struct, field

# The module and name of a global, or an external module or class and one of its attributes.
Root = tuple[str, str]

# Returns the names and values of a module, or a single value.
_Read = Callable[[], Any]

_PARTS = 1_000_000
_ABSENT = object()
_OF_PYTHON = frozenset(
    {
        "__annotations__",
        "__builtins__",
        "__cached__",
        "__doc__",
        "__file__",
        "__loader__",
        "__name__",
        "__package__",
        "__path__",
        "__spec__",
        "__warningregistry__",
    }
)


class _Seen(Struct):
    """A recorded state of a global: its digest, and its opaque objects with their types."""

    digest: str
    opaque: dict[int, tuple[Any, str]] = field(default_factory=dict)
    large: bool = False


class Watch:
    """Compares the globals that a step can reach with their earlier state.

    All globals of the project's modules count. Those of a module that is imported later count from
    then on. So does each attribute of an external module or class that the project's code sets.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._stateless = frozenset(setting("stateless").value)
        # Always compared in this order: an object shared by two globals counts for the first of
        # them.
        self._order: dict[str | Root, _Read] = {}
        self._before: dict[Root, _Seen] = {}
        self._late: set[int] = set()
        self._ran: list[str] = []
        self._here: State | None = None
        self._after: tuple[int, State, dict[int, int]] | None = None
        self.imported()

    def imported(self) -> None:
        """Record the state of the project's modules imported since the last call."""
        state = self._state()
        for _ in self._snapshot(state):
            pass  # objects shared with these modules count there
        spaces = project_modules(self._program)
        new: dict[str | Root, _Read]
        new = {name: spaces[name].items for name in spaces if name not in self._order}
        found = dict(self._snapshot(state, new))
        outside: dict[str | Root, _Read]
        outside = {root: read for root, read in _outside(state) if root not in self._order}
        found |= self._snapshot(state, outside)
        if self._before:
            self._late |= {id for one in found.values() for id in one.opaque}
        self._order |= {**new, **outside}
        self._before |= found

    def entered(self, variables: Mapping[str, Any]) -> None:
        """Record the objects that the variables of the step's frame reach."""
        if any(one.opaque for one in self._before.values()):
            self._here = self._reach()
            self._here.add(dict(variables), "a variable")

    def ran(self, block: str) -> None:
        """Record that the code of a block will run in this process."""
        self._ran.append(block)

    def lost(self, following: str, variables: Mapping[str, Any]) -> Lost | None:
        """Return the state that a cut before the block `following` would lose, or None."""
        unknown = [name for name in project_modules(self._program) if name not in self._order]
        now = dict(self._snapshot(self._state()))
        changed = [root for root in self._before.keys() | now.keys() if self._differs(root, now)]
        if changed or unknown:
            return Lost((*sorted({*map(self._name, changed), *unknown}),))
        found = {root: one.opaque for root, one in now.items() if one.opaque}
        if not found:
            return None
        both = self._on_both_sides(following, variables)
        lost = {
            self._name(root): next(kind for id, (_, kind) in opaque.items() if both(id))
            for root, opaque in found.items()
            if any(map(both, opaque))
        }
        return Lost((*sorted(lost),), tuple(lost[name] for name in sorted(lost))) if lost else None

    def _differs(self, root: Root, now: Mapping[Root, _Seen]) -> bool:
        old, new = self._before.get(root), now.get(root)
        return (
            old is None
            or new is None
            or old.digest != new.digest
            or not new.opaque.keys() <= old.opaque.keys()
        )

    def _name(self, root: Root) -> str:
        return root[1] if root[0] == self._program.plan.module else ".".join(root)

    # The state of globals

    def _state(self) -> State:
        return State(stateless=self._stateless, exact=False, follow=False)

    def _snapshot(
        self, state: State, order: Mapping[str | Root, _Read] | None = None
    ) -> Iterator[tuple[Root, _Seen]]:
        for one, read in (self._order if order is None else order).items():
            if isinstance(one, tuple):
                yield one, self._seen(state, one, read())
                continue
            for name, value in list(read()):
                if name not in _OF_PYTHON and not isinstance(value, ModuleType):
                    yield (one, name), self._seen(state, (one, name), value)

    def _seen(self, state: State, root: Root, value: Any) -> _Seen:
        if value is _ABSENT:
            return _Seen("absent")
        before = self._before.get(root)
        if before is not None and before.large and id(value) in before.opaque:
            return before
        state.unknown = {}
        state.complete = True
        digest = state.section(value, ".".join(root))
        return _Seen(digest, state.unknown, not state.complete)

    # The code that reaches them

    def _reach(self) -> State:
        return State(stateless=self._stateless, exact=False, limit=_PARTS)

    def _on_both_sides(self, following: str, variables: Mapping[str, Any]) -> Callable[[int], bool]:
        here = self._here = self._here or self._reach()
        while self._ran:
            block = self._ran.pop()
            here.add(self._program.functions[block], block)
        first = self._program.plan.block(following).index
        after, last = self._behind()
        frame = self._reach()
        frame.add(dict(variables), "a variable")

        def both(one: int) -> bool:
            ran = one in here.met or one in self._late or not here.complete
            follows = last.get(one, -1) >= first or not after.complete
            return ran and (follows or one in frame.met or not frame.complete)

        return both

    def _behind(self) -> tuple[State, dict[int, int]]:
        """Return, for each object that blocks reach, the index of the last block that reaches it.

        The blocks from `following` on count, on all branches.
        """
        if self._after is None or self._after[0] != len(self._order):
            state, last = self._reach(), dict[int, int]()
            opaque = [id for one in self._before.values() for id in one.opaque]
            for block in reversed(self._program.plan.blocks):
                state.add(self._program.functions[block.name], block.name)
                last |= {id: block.index for id in opaque if id in state.met and id not in last}
            self._after = len(self._order), state, last
        return self._after[1:]


def _outside(state: State) -> Iterator[tuple[Root, _Read]]:
    """Yield external state that the code in `state` may change, with a function that reads it."""
    for function in state.functions:
        found = mentions(function.__code__)
        if "getcontext" in found.names | found.attributes:
            # Its numbers differ in a process that has not set its context.
            import decimal

            yield ("decimal", "getcontext()"), decimal.getcontext
        for holder in _holders(function) if found.stored else ():
            of_class = isinstance(holder, type)
            name = f"{holder.__module__}.{holder.__qualname__}" if of_class else holder.__name__
            for attribute in found.stored:
                yield (name, attribute), partial(vars(holder).get, attribute, _ABSENT)


def _holders(function: Any) -> Iterator[Any]:
    names, attributes, imports, *_ = mentions(function.__code__)
    space = function.__globals__
    found = [space[name] for name in names if name in space]
    found += [sys.modules[name] for name in imports if name in sys.modules]
    modules = [one for one in found if isinstance(one, ModuleType) and not is_project(one.__name__)]
    for module in modules:
        held = vars(module)
        found += [held[name] for name in attributes if isinstance(held.get(name), type)]
    yield from (module for module in modules if module is not sys)
    yield from (one for one in found if isinstance(one, type) and not is_project(one.__module__))


class Finder:
    """Notifies a watch when the process imports modules of the project.

    The watch is notified after the outermost import has ended. Until then, modules initialise each
    other.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._depth = 0

    def __enter__(self) -> Finder:
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *error: object) -> None:
        sys.meta_path.remove(self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find a module as the other finders do, and follow its execution."""
        spec = find_after(self, name, path, target)
        loader = spec.loader if spec is not None else None
        if isinstance(loader, SourceFileLoader) and is_project_file(Path(loader.path)):
            vars(loader)["exec_module"] = self._followed(loader.exec_module)
        return spec

    def _followed(self, run: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        def exec_module(module: ModuleType) -> None:
            self._depth += 1
            try:
                run(module)
            finally:
                self._depth -= 1
            if not self._depth:
                self._watch.imported()

        return exec_module
