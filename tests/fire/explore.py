"""Explores every state that processes sharing a store can come to, by the code that they run.

To learn what a process does next, its code is run again from the start with the answers that it
had. So a state is small: the objects in the store, and of each process the answers it was given.
Each state is visited once. From it, every process may continue, lose an answer, or crash and
restart.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

from kitaru.runtime.journal import record_store
from kitaru.stores import Store
from kitaru.stores.base import in_order, upper_bound
from kitaru.stores.memory import MemoryStore
from kitaru.wire import times

T = TypeVar("T")

Objects = dict[str, bytes]
LOST = "no answer came"


@dataclass(frozen=True, slots=True)
class Ask:
    """What a process asks of its store; `value` is what a write holds, or where a list begins."""

    operation: str
    key: str
    value: Any = b""
    limit: int | None = None


@dataclass(frozen=True)
class Process:
    """Code that uses a store, and what else it may end with than a result."""

    name: str
    run: Callable[[Asking], Any]
    may_raise: tuple[type[BaseException], ...] = ()


@dataclass(frozen=True, slots=True)
class Next:
    """What a process asks now, `None` where it has ended, and what it did since its last answer."""

    ask: Ask | None
    notes: tuple[tuple[str, str, Any], ...]
    outcome: Any = None


class _Asks(BaseException):
    """The answers so far are used up."""


class Asking:
    """A store of one process: answers what was answered before, then says what is asked next.

    `create` is one operation, as in a store that keeps its promise; without an answer, the same
    bytes are sent again, as the stores do. What is created at once is created one by one, hints
    first.
    """

    url = "model:"
    remote = False

    def __init__(self, answers: Sequence[Any], life: int = 0) -> None:
        """`life` counts how often the process crashed and began anew."""
        self.life = life
        self._answers = iter(answers)
        self.notes: list[tuple[str, str, Any]] = []
        self.absent: set[str] = set()
        self.asked: Ask | None = None

    def note(self, what: str, of: str, value: Any = None) -> None:
        """Store the actions of the process for later checks."""
        self.notes.append((what, of, value))

    def create(self, key: str, value: bytes) -> bool:
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

    def delete(self, *keys: str) -> None:
        raise AssertionError("nothing of an execution is ever deleted")

    def inspect(self, prefix: str) -> None:
        """Note nothing: it is no operation of a store."""

    def flush(self) -> None:
        """Note nothing: it is no operation of a store."""

    def close(self) -> None:
        raise AssertionError("a process of a model ends without goodbye")

    def ask(self, ask: Ask) -> Any:
        """Return the answer that was given, once one came."""
        for answer in self._answers:
            self.notes = []
            if answer is not LOST:
                return answer
        self.asked = ask
        raise _Asks


@dataclass
class Visited:
    """How much was explored."""

    states: int = 0
    transitions: int = 0
    ends: int = 0
    stores: set[frozenset[tuple[str, bytes]]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _State:
    objects: frozenset[tuple[str, bytes]]
    # Of each process: which incarnation, and its answers by their number in `Model`.
    places: tuple[tuple[int, int], ...]
    faults: int
    crashes: int


@dataclass
class Model:
    """Processes on one store, and what must hold of it.

    `holds(before, after, process, next)` is asked of every transition, `ended(objects, outcomes)`
    of every end. `faults` is how many answers may be lost or wrong, `crashes` how many processes
    may crash and restart.
    """

    processes: Sequence[Process]
    holds: Callable[[Objects, Objects, Process, Next, Asking], None]
    ended: Callable[[Objects, list[Any]], None]
    faults: int = 1
    crashes: int = 1
    _answers: dict[tuple[int, Any], int] = field(default_factory=dict)
    _parents: list[tuple[int, Any]] = field(default_factory=lambda: [(0, None)])
    _known: dict[tuple[int, int, int], tuple[Next, Asking]] = field(default_factory=dict)

    def explore(self, objects: Mapping[str, bytes]) -> Visited:
        """Visit every state that can be reached from these objects; raises what a check raises."""
        visited = Visited()
        first = _State(
            frozenset(objects.items()),
            tuple((0, 0) for _ in self.processes),
            self.faults,
            self.crashes,
        )
        seen, pending = {first}, [first]
        with _standing_clock():
            for number in range(len(self.processes)):
                self._begins(number, 0, dict(objects))
            while pending:
                state = pending.pop()
                visited.states += 1
                visited.stores.add(state.objects)
                following = list(self._following(state))
                visited.transitions += len(following)
                if not following:
                    visited.ends += 1
                    outcomes = [self._next(n, *at)[0].outcome for n, at in enumerate(state.places)]
                    self.ended(dict(state.objects), outcomes)
                new = [one for one in dict.fromkeys(following) if one not in seen]
                seen.update(new)
                pending += new
        return visited

    def _following(self, state: _State) -> Iterator[_State]:
        before = dict(state.objects)
        asks = [self._next(number, *place)[0].ask for number, place in enumerate(state.places)]
        for number, ask in enumerate(asks):
            # What is there stays as it is: to be told so now or later is the same.
            if ask is not None and ask.operation in ("create", "get") and ask.key in before:
                yield self._gone_on(state, number, before, *perform(ask, before))
                return
        for number, ask in enumerate(asks):
            if ask is None:
                continue
            life = state.places[number][0]
            after, answer = perform(ask, before)
            yield self._gone_on(state, number, before, after, answer)
            if state.faults:
                for effect, wrong in wrongly(ask, before, after):
                    fewer = replace(state, faults=state.faults - 1)
                    yield self._gone_on(fewer, number, before, effect, wrong)
            if state.crashes:
                self._begins(number, life + 1, before)
                for left in (before, after):
                    yield replace(
                        state,
                        objects=frozenset(left.items()),
                        places=_with(state.places, number, (life + 1, 0)),
                        crashes=state.crashes - 1,
                    )

    def _begins(self, number: int, life: int, objects: Objects) -> None:
        """Check what a process does before it asks for anything."""
        self.holds(objects, objects, self.processes[number], *self._next(number, life, 0))

    def _gone_on(
        self, state: _State, number: int, before: Objects, after: Objects, answer: Any
    ) -> _State:
        life, history = state.places[number]
        now = self._told(history, answer)
        upcoming, store = self._next(number, life, now)
        self.holds(before, after, self.processes[number], upcoming, store)
        objects = state.objects if after is before else frozenset(after.items())
        return replace(state, objects=objects, places=_with(state.places, number, (life, now)))

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
                # S3 says so of a race that nobody won.
                yield before, False
        case "list":
            yield before, ()


def _with(places: tuple[Any, ...], number: int, place: Any) -> tuple[Any, ...]:
    return (*places[:number], place, *places[number + 1 :])


def _tokens(name: str) -> Any:
    """Let the writers of one process be the same whenever it is run again."""
    numbers = itertools.count()
    return patch.object(
        record_store, "os", SimpleNamespace(urandom=lambda size: f"{name}{next(numbers)}".encode())
    )


def _standing_clock() -> Any:
    """Let all clocks stand: nothing may depend on them."""
    return patch.object(times, "_text", lambda moment: "2026-11-22T00:00:00.000000Z")


def as_store(objects: Objects) -> Store:
    """Return a store to read these objects with."""
    store = MemoryStore("model:")
    store._objects, store._keys = objects, sorted(objects)
    return store
