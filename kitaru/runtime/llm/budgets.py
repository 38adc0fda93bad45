"""Budgets: how much the model calls of an execution, or of a flow on one day, may use.

    @flow(budget={"usd": 5, "tokens": 200_000, "usd_per_day": 200})

A model call is refused when a budget is used up, before anything is sent. A call that is under way
is not stopped, so that an execution exceeds its budget by at most the calls under way.

With `notify_usd`, people are notified once an execution has cost that much, and it continues.

An execution's use is the sum over its journal. Each process reads that once and then adds its own
calls. The steps of a pipeline that run at the same time do not see each other.

A day is one of UTC. Its budget is cut into `_CHUNKS` chunks, and who creates the object of a chunk
may spend it: `budget/<flow>/<day>/<unit>/<chunk>`. No process needs to know what others have spent.
What a process does not spend of its last chunk is lost.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

from kitaru import config
from kitaru.errors import BudgetExceeded
from kitaru.runtime.engine.execution import Execution
from kitaru.runtime.journal import news
from kitaru.runtime.journal.effort import tokens_of
from kitaru.runtime.journal.journal import Journal
from kitaru.stores.base import Store
from kitaru.wire import keys

_CHUNKS = 100
_UNITS = ("usd", "tokens")
_ANNOUNCED = "announced"
_PER_DAY = {"usd": "usd_per_day", "tokens": "tokens_per_day"}

_lock = threading.Lock()
# What each execution has spent by unit, as far as this process knows.
_spent: WeakKeyDictionary[Execution, dict[str, float]] = WeakKeyDictionary()
_purses: dict[tuple[str, str, str, str], _Purse] = {}


def check(execution: Execution) -> None:
    """Raise BudgetExceeded if a budget of the execution, or of its flow's day, is used up."""
    limits = _limits(execution)
    if not limits:
        return
    journal = execution.journal
    used = _used(execution)
    for unit in _UNITS:
        if unit in limits and used[unit] >= limits[unit]:
            raise BudgetExceeded(
                f"The execution {journal.exec_id} of {journal.execution.flow} has used "
                f"{_shown(used[unit], unit)} of its budget of {_shown(limits[unit], unit)}. "
                f"No further model call is sent.",
                help=f"To continue, raise `budget` and retry: kitaru executions retry "
                f"{journal.exec_id}",
            )
    for unit, name in _PER_DAY.items():
        if name in limits and not _purse(journal, unit).is_filled(limits[name]):
            raise BudgetExceeded(
                f"The flow {journal.execution.flow} has used its budget of "
                f"{_shown(limits[name], unit)} for today (UTC). No further model call is sent.",
                help=f"Retry tomorrow, or raise `{name}`: kitaru executions retry "
                f"{journal.exec_id}",
            )


def add(execution: Execution, facts: Mapping[str, Any]) -> None:
    """Count a model call of this process. A call without a known price costs nothing."""
    limits = _limits(execution)
    if not limits:
        return
    call = {"usd": facts.get("cost") or 0.0, "tokens": tokens_of(dict(facts))}
    used = _used(execution)
    with _lock:
        for unit in _UNITS:
            used[unit] += call[unit]
        is_news = "notify_usd" in limits and used["usd"] >= limits["notify_usd"] > used[_ANNOUNCED]
        if is_news:
            used[_ANNOUNCED] = limits["notify_usd"]
    if is_news and execution.journal.execution.mode != "dry-run":
        # Before the record of the call: if this process dies, the money is spent nevertheless.
        exec_id, amount = execution.journal.exec_id, f"{limits['notify_usd']:g}"
        news.announce(execution.journal.store, keys.news_cost(exec_id, amount))
    for unit, name in _PER_DAY.items():
        if name in limits:
            _purse(execution.journal, unit).take(call[unit])


def _limits(execution: Execution) -> Mapping[str, float]:
    found: Mapping[str, float] = config.setting("budget", decorator=execution.budget).value
    return found


def _used(execution: Execution) -> dict[str, float]:
    with _lock:
        found = _spent.get(execution)
        if found is None:
            effort = execution.journal.effort()
            found = _spent[execution] = {
                "usd": effort.cost or 0.0,
                "tokens": effort.tokens,
                _ANNOUNCED: 0.0,
            }
        return found


class _Purse:
    """What this process may still spend of a flow's day."""

    def __init__(self, store: Store, home: str, exec_id: str) -> None:
        self._store, self._home, self._exec_id = store, home, exec_id
        self._rest = 0.0
        self._lock = threading.Lock()

    def is_filled(self, limit: float) -> bool:
        """Return whether something may be spent; take the next free chunk if the rest is used."""
        with self._lock:
            while self._rest <= 0:
                if not self._take_chunk():
                    return False
                self._rest += limit / _CHUNKS
            return True

    def take(self, amount: float) -> None:
        """Subtract what a call has cost. A debt is paid from the next chunks."""
        with self._lock:
            self._rest -= amount

    def _take_chunk(self) -> bool:
        number = len(self._store.list(self._home, limit=_CHUNKS))
        while number < _CHUNKS:
            if self._store.create(f"{self._home}{number:03d}", self._exec_id.encode()):
                return True
            number += 1
        return False


def _purse(journal: Journal, unit: str) -> _Purse:
    day = datetime.now(UTC).date().isoformat()
    flow, store = journal.execution.flow, journal.store
    with _lock:
        for old in [one for one in _purses if one[2] != day]:
            del _purses[old]
        home = keys.budget(flow, day, unit)
        return _purses.setdefault(
            (store.url, flow, day, unit), _Purse(store, home, journal.exec_id)
        )


def _shown(amount: float, unit: str) -> str:
    return f"${amount:,.2f}" if unit == "usd" else f"{amount:,.0f} tokens"
