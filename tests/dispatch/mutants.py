"""Rules of the protocol, each removed: the simulation must notice within some seeds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from kitaru.ops import advance, dispatch
from kitaru.runtime.journal import children, journal, launches, rounds
from kitaru.wire import keys
from tests.dispatch.world import simulate

_close = rounds.close
_is_over = advance._is_over


def _no_fence(records: Any, exec_id: str, number: int, run: str, target: str) -> Any:
    """Let every run have its round."""
    del target
    return rounds.Entered("running", number)


def _closed_without_hint(
    records: Any, exec_id: str, number: int, status: Any, waits: Any = (), *, by: str
) -> Any:
    class Silent:
        store = _Without(records.store)
        write = records.write

    return _close(Silent, exec_id, number, status, waits, by=by)  # type: ignore[arg-type]


class _Without:
    """A store that creates no hints."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def create(self, key: str, value: bytes) -> bool:
        return key.startswith("due/") or bool(self._store.create(key, value))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def _no_hint(*_: Any) -> str:
    """Return a key that no dispatcher looks at."""
    return "other/hint"


def _never(claim: str, is_done: Callable[[], bool]) -> bool:
    del claim, is_done
    return False


class _NoPatience:
    """Claims that are never replaced."""

    def __init__(self, seconds: float = 0.0) -> None:
        del seconds

    is_over = staticmethod(_never)


def _over_at_once(store: Any, exec_id: str, hint: str) -> bool:
    """Delete the hint of a deadline as soon as the wait has expired."""
    _is_over(store, exec_id, hint)
    return keys.due_wait(keys.due_parts(hint)[2]) is not None


def _believed(store: Any, exec_id: str, hint: str) -> bool:
    """Take the record of a hint for granted."""
    return True


MUTANTS: dict[str, Callable[[], list[AbstractContextManager[object]]]] = {
    "no run takes the round": lambda: [patch.object(rounds, "_take", _no_fence)],
    "a round is closed without a hint": lambda: [
        patch.object(rounds, "close", _closed_without_hint)
    ],
    "an answer has no hint": lambda: [patch.object(journal.keys, "due_answer", _no_hint)],
    "a deadline has no hint": lambda: [patch.object(journal.keys, "due_timer", _no_hint)],
    "the hint of a deadline goes before the execution continues": lambda: [
        patch.object(advance, "_is_over", _over_at_once)
    ],
    "an invocation has no hint": lambda: [patch.object(launches.keys, "due_launch", _no_hint)],
    "claims are not replaced": lambda: [
        patch.object(dispatch, "_Patience", _NoPatience),
        patch.object(advance, "Waiting", _NoPatience),
    ],
    "a hint goes before its record is there": lambda: [
        patch.object(advance, "_is_true", _believed)
    ],
    "a cancelled execution forgets its children": lambda: [
        patch.object(children, "notes", lambda store, exec_id: [])
    ],
    "the end of a child is not told": lambda: [
        patch.object(children, "tell_parent", lambda store, exec_id, parent: None)
    ],
    "the end of a child has no hint": lambda: [patch.object(journal.keys, "due_ended", _no_hint)],
    "ended runs are not noticed": lambda: [
        patch.object(dispatch.Dispatcher, "_reconcile", lambda self: None)
    ],
}


# One seed in hundreds notices: only the command runs these.
RARE = {"a hint goes before its record is there"}


def caught(name: str, seed: int) -> bool:
    """Return whether a seed notices that a rule is missing."""
    return simulate(seed, wrong=MUTANTS[name]()).failure is not None


def show(first: int, most: int) -> int:
    """Print how many seeds each missing rule needs; return 1 if one is not noticed."""
    missed = 0
    for name in MUTANTS:
        found = next((n for n in range(max(most, 1)) if caught(name, first + n)), None)
        missed += found is None
        text = "not noticed" if found is None else f"{found + 1} seeds"
        sys.stdout.write(f"{text:>12} {name}\n")
        sys.stdout.flush()
    return 1 if missed else 0
