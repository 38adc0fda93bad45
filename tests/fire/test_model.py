"""Exhaustive exploration of the journal: every order, crash and lost answer, and five mutants."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kitaru.runtime.journal import blobs, record_store
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.presence import Presence
from kitaru.stores import Store

from .explore import Ask, Asking
from .model import SCENARIOS, Budget


@pytest.mark.parametrize(
    ("name", "budget"),
    [(name, budget) for name, scenario in SCENARIOS.items() for budget in scenario.budgets],
)
def test_nothing_that_can_happen_breaks_a_promise(name: str, budget: Budget) -> None:
    visited = SCENARIOS[name].explore(budget)
    assert visited.states > 900
    assert visited.ends > 20 and len(visited.stores) > 15


# Five ways to get it wrong


def overwrites(store: Asking, key: str, value: bytes) -> bool:
    return bool(store.ask(Ask("put", key, value)))


def checks_then_puts(store: Asking, key: str, value: bytes) -> bool:
    return store.get(key) is None and bool(store.ask(Ask("put", key, value)))


def exists_is_an_error(store: Store, key: str, data: bytes) -> bytes:
    if not store.create(key, data):
        raise LookupError(key)
    return data


def keeps_its_own(store: Store, key: str, data: bytes) -> bytes:
    store.create(key, data)
    return data


def values_come_late(patch: pytest.MonkeyPatch) -> None:
    """Write a record first, then the values that it refers to."""
    put, create_or_read = blobs._put_blob, blobs.create_or_read
    late: list[tuple[Store, str, str, bytes]] = []

    def put_later(store: Store, home: str, digest: str, data: bytes) -> None:
        late.append((store, home, digest, data))

    def record_first(store: Store, key: str, data: bytes) -> bytes:
        held = create_or_read(store, key, data)
        for blob in [blob for blob in late if blob[0] is store]:
            late.remove(blob)
            put(*blob)
        return held

    patch.setattr(blobs, "_put_blob", put_later)
    patch.setattr(record_store, "create_or_read", record_first)


def in_ledger(wrong: Callable[..., bytes]) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(record_store, "create_or_read", wrong)


def in_store(wrong: Callable[..., bool]) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(Asking, "create", wrong)


WRONG = {
    "overwrite": (in_store(overwrites), "I1"),
    "check, then put": (in_store(checks_then_puts), "I1"),
    "record before artifact": (values_come_late, "I2"),
    "exists is an error": (in_ledger(exists_is_an_error), "I4"),
    "exists, keep mine": (in_ledger(keeps_its_own), "I3"),
}


@pytest.mark.parametrize(("break_it", "broken"), WRONG.values(), ids=WRONG)
def test_the_model_sees_what_is_wrong(
    break_it: Callable[[pytest.MonkeyPatch], None], broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    with pytest.raises(AssertionError, match=broken):
        SCENARIOS["a checkpoint by two"].explore((0, 0))


def test_the_model_sees_who_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Presence, "is_sole_writer", lambda presence: presence._alone)
    with pytest.raises(AssertionError, match="I6"):
        SCENARIOS["one who began, and one who joins, far away"].explore((0, 0))


def test_the_model_sees_a_question_in_no_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "_list_wait", lambda journal, request, number: None)
    with pytest.raises(AssertionError, match="in no inbox"):
        SCENARIOS["two answers to one wait"].explore((0, 0))
