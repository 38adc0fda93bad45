"""Explore every reachable state of processes that share a store, with their real code.

The next operation of a process is found by running its code again from the start with its earlier
answers. A state is therefore small: the objects in the store, and the answers of each process. Each
state is visited once. From each state, every process may continue, lose an answer, or crash and
restart.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar
from unittest.mock import patch

from kitaru.runtime.journal import record_store
from kitaru.stores import Store
from kitaru.stores.base import in_order, scan_listed, upper_bound
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys, times

T = TypeVar("T")

Objects = dict[str, bytes]
LOST = "no answer came"


@dataclass(frozen=True, slots=True)
class Ask:
    """An operation on a store; `value` is the content of a write, or the start of a list."""

    operation: str
    key: str
    value: Any = b""
    limit: int | None = None


@dataclass(frozen=True)
class Process:
    """Code that uses a store, and the exceptions that it may end with."""

    name: str
    run: Callable[[Asking], Any]
    may_raise: tuple[type[BaseException], ...] = ()


@dataclass(frozen=True, slots=True)
class Next:
    """A process's next operation, `None` if it has ended, and its actions since its last answer."""

    ask: Ask | None
    notes: tuple[tuple[str, str, Any], ...]
    outcome: Any = None


class _Asks(BaseException):
    """All recorded answers are used."""


class Asking:
    """A store of one process: repeats the recorded answers, then records the next operation.

    `create` is one operation, as in a store that keeps its promise. Without an answer, the same
    bytes are sent again, as the stores do. Objects that are created together are created one by
    one, hints first. Hints of news are left out: no process of a model reads them, so they would
    only multiply the states.
    """

    url = "model:"
    remote = False

    def __init__(self, answers: Sequence[Any], life: int = 0) -> None:
        """`life` is the number of crashes of the process."""
        self.life = life
        self._answers = iter(answers)
        self.notes: list[tuple[str, str, Any]] = []
        self.absent: set[str] = set()
        self.asked: Ask | None = None

    def note(self, what: str, of: str, value: Any = None) -> None:
        """Record an action of the process for later checks."""
        self.notes.append((what, of, value))

    def create(self, key: str, value: bytes) -> bool:
        if key.startswith(keys.NEWS):
            return True
        return bool(self.ask(Ask("create", key, bytes(value))))

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        return [self.create(key, value) for key, value in reversed(objects)][::-1]

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self.ask(Ask("get", key))
        if found is None:
            self.absent.add(key)
        return found

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def concurrently(self, first: Callable[[], T], *others: Callable[[], object]) -> T:
        return in_order(first, *others)

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        return [*self.ask(Ask("list", prefix, after, limit))]

    def scan(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return scan_listed(self, prefix)

    def delete(self, *names: str) -> None:
        for key in names:
            if not key.startswith(keys.NEWS):
                self.ask(Ask("delete", key))

    def inspect(self, prefix: str) -> None:
        """Note nothing: this is not an operation of a store."""

    def flush(self) -> None:
        """Note nothing: this is not an operation of a store."""

    def close(self) -> None:
        raise AssertionError("a process of a model ends without goodbye")

    def ask(self, ask: Ask) -> Any:
        """Return the recorded answer, if there is one."""
        for answer in self._answers:
            self.notes = []
            if answer is not LOST:
                return answer
        self.asked = ask
        raise _Asks


@dataclass
class Visited:
    """The size of the exploration."""

    states: int = 0
    transitions: int = 0
    ends: int = 0
    stores: set[int] = field(default_factory=set)


class _State(NamedTuple):
    # The number of the store's objects in `Model`.
    objects: int
    # For each process: its number of crashes, and the number of its answers in `Model`.
    places: tuple[tuple[int, int], ...]
    faults: int
    crashes: int


@dataclass
class Model:
    """Processes on one store, and their invariants.

    `changes(before, after)` is called for every pair of stores that a transition leads through,
    `acts(before, after, process, next)` for every transition, `ended(objects, outcomes)` for every
    end. `faults` is the maximum number of lost or wrong answers, `crashes` the maximum number of
    crashes with a restart.
    """

    processes: Sequence[Process]
    changes: Callable[[Objects, Objects], None]
    acts: Callable[[Objects, Objects, Process, Next, Asking], None]
    ended: Callable[[Objects, list[Any]], None]
    faults: int = 1
    crashes: int = 1
    _objects: list[Objects] = field(default_factory=list)
    _numbers: dict[frozenset[tuple[str, bytes]], int] = field(default_factory=dict)
    _changed: set[tuple[int, int]] = field(default_factory=set)
    _effects: dict[tuple[int, Ask], tuple[int, Any]] = field(default_factory=dict)
    _answers: dict[tuple[int, Any], int] = field(default_factory=dict)
    _parents: list[tuple[int, Any]] = field(default_factory=lambda: [(0, None)])
    _known: dict[tuple[int, int, int], tuple[Next, Asking]] = field(default_factory=dict)

    def explore(self, objects: Mapping[str, bytes]) -> Visited:
        """Visit every state that can be reached from these objects; raises the error of a check."""
        visited = Visited()
        begun = self._number(dict(objects))
        first = _State(begun, tuple((0, 0) for _ in self.processes), self.faults, self.crashes)
        seen, pending = {first}, [first]
        with _standing_clock():
            for number in range(len(self.processes)):
                self._begins(number, 0, begun)
            while pending:
                state = pending.pop()
                visited.states += 1
                visited.stores.add(state.objects)
                following = list(self._following(state))
                visited.transitions += len(following)
                if not following:
                    visited.ends += 1
                    outcomes = [self._next(n, *at)[0].outcome for n, at in enumerate(state.places)]
                    self.ended(self._objects[state.objects], outcomes)
                new = [one for one in dict.fromkeys(following) if one not in seen]
                seen.update(new)
                pending += new
        return visited

    def _number(self, objects: Objects) -> int:
        """Return the number of a store's content: many states share it."""
        number = self._numbers.setdefault(frozenset(objects.items()), len(self._objects))
        if number == len(self._objects):
            self._objects.append(objects)
        return number

    def _following(self, state: _State) -> Iterator[_State]:
        before = self._objects[state.objects]
        asks = [self._next(number, *place)[0].ask for number, place in enumerate(state.places)]
        for number, ask in enumerate(asks):
            # An existing record never changes, so the time of the answer makes no difference.
            # Hints may be deleted.
            if (
                ask is not None
                and ask.operation in ("create", "get")
                and ask.key in before
                and not ask.key.startswith(keys.WAITING)
            ):
                yield self._gone_on(state, number, *self._effect(ask, state.objects))
                return
        for number, ask in enumerate(asks):
            if ask is None:
                continue
            life = state.places[number][0]
            after, answer = self._effect(ask, state.objects)
            yield self._gone_on(state, number, after, answer)
            if state.faults:
                for effect, wrong in wrongly(ask, before, self._objects[after]):
                    yield self._gone_on(state, number, self._number(effect), wrong, faults=1)
            if state.crashes:
                self._begins(number, life + 1, state.objects)
                places = _with(state.places, number, (life + 1, 0))
                for left in (state.objects, after):
                    yield _State(left, places, state.faults, state.crashes - 1)

    def _effect(self, ask: Ask, objects: int) -> tuple[int, Any]:
        """Return the number of the objects after an operation, and its answer."""
        known = self._effects.get((objects, ask))
        if known is None:
            after, answer = perform(ask, self._objects[objects])
            known = self._effects[objects, ask] = self._number(after), answer
        return known

    def _begins(self, number: int, life: int, objects: int) -> None:
        """Check the actions of a process before its first operation."""
        self._check(objects, objects, number, *self._next(number, life, 0))

    def _gone_on(
        self, state: _State, number: int, after: int, answer: Any, *, faults: int = 0
    ) -> _State:
        life, history = state.places[number]
        now = self._told(history, answer)
        self._check(state.objects, after, number, *self._next(number, life, now))
        places = _with(state.places, number, (life, now))
        return _State(after, places, state.faults - faults, state.crashes)

    def _check(self, before: int, after: int, number: int, next: Next, store: Asking) -> None:
        was, now = self._objects[before], self._objects[after]
        if (before, after) not in self._changed:
            self.changes(was, now)
            self._changed.add((before, after))
        self.acts(was, now, self.processes[number], next, store)

    def _told(self, history: int, answer: Any) -> int:
        number = self._answers.setdefault((history, answer), len(self._parents))
        if number == len(self._parents):
            self._parents.append((history, answer))
        return number

    def _next(self, number: int, life: int, history: int) -> tuple[Next, Asking]:
        known = self._known.get((number, life, history))
        if known is None:
            known = self._known[number, life, history] = self._run(number, life, history)
        return known

    def _run(self, number: int, life: int, history: int) -> tuple[Next, Asking]:
        answers = []
        while history:
            history, answer = self._parents[history]
            answers.append(answer)
        process, store = self.processes[number], Asking(answers[::-1], life)
        with _tokens(f"{process.name}{life}."):
            try:
                outcome = process.run(store)
            except _Asks:
                return Next(store.asked, tuple(store.notes)), store
            except Exception as error:
                outcome = error
        return Next(None, tuple(store.notes), outcome), store


def perform(ask: Ask, objects: Objects) -> tuple[Objects, Any]:
    """Return the objects after an operation, and its answer."""
    match ask.operation:
        case "create" if ask.key in objects:
            return objects, False
        case "create" | "put":
            return objects | {ask.key: ask.value}, True
        case "get":
            return objects, objects.get(ask.key)
        case "delete" if ask.key in objects:
            return {key: data for key, data in objects.items() if key != ask.key}, None
        case "delete":
            return objects, None
        case _:
            bounds = max(ask.key, ask.value), upper_bound(ask.key)
            found = sorted(k for k in objects if bounds[0] <= k < bounds[1] and k != ask.value)
            return objects, tuple(found[: ask.limit])


def wrongly(ask: Ask, before: Objects, after: Objects) -> Iterator[tuple[Objects, Any]]:
    """Yield the faulty outcomes of an operation: objects, and the response to the process."""
    match ask.operation:
        case "create" | "put":
            yield after, LOST
            if ask.key not in before:
                # S3 reports this for a race that nobody won.
                yield before, False
        case "list":
            yield before, ()
        case "delete":
            yield after, LOST


def is_outdated(key: str, objects: Collection[str]) -> bool:
    """Return whether a key may be deleted: the hints of an answered wait, for lists and for
    notifications, and the hint that announces an end which is recorded."""
    if key.startswith(keys.DUE):
        _, exec_id, cause = keys.due_parts(key)
        return key == keys.due_ended(exec_id) and keys.due_truth(exec_id, cause) in objects
    if key.startswith(keys.NEWS):
        exec_id, _, kind, subject = keys.news_parts(key)
        name, _, number = subject.rpartition("-")
        return kind == "w" and keys.wait_answer(exec_id, name, int(number)) in objects
    if not key.startswith(keys.WAITING):
        return False
    _, _, exec_id, name, number = key.split("/")
    return keys.wait_answer(exec_id, name, int(number)) in objects


def unlisted(objects: Collection[str]) -> list[str]:
    """Return the questions without an answer that have no listing hint: there must be none."""
    hints = {tuple(key.split("/")[2:]) for key in objects if key.startswith(keys.WAITING)}
    found = []
    for key in objects:
        if not (key.startswith("x/") and "/wait/" in key and key.endswith("/request")):
            continue
        _, exec_id, _, name, _ = key.split("/")
        number = 1
        while keys.wait_refusal(exec_id, name, number) in objects:
            number += 1
        is_answered = keys.wait_answer(exec_id, name, number) in objects
        if not is_answered and (exec_id, name, f"{number:06d}") not in hints:
            found.append(key)
    return found


def _with(places: tuple[Any, ...], number: int, place: Any) -> tuple[Any, ...]:
    return (*places[:number], place, *places[number + 1 :])


def _tokens(name: str) -> Any:
    """Use the same writer tokens whenever a process runs again."""
    numbers = itertools.count()
    return patch.object(
        record_store, "os", SimpleNamespace(urandom=lambda size: f"{name}{next(numbers)}".encode())
    )


def _standing_clock() -> Any:
    """Stop all clocks: no result may depend on them."""
    return patch.object(times, "_text", lambda moment: "2026-11-22T00:00:00.000000Z")


def as_store(objects: Objects) -> Store:
    """Return a store for reading these objects."""
    store = MemoryStore("model:")
    store._objects, store._keys = objects, sorted(objects)
    return store
