"""Faulty variants of the product, to show that the simulation detects each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

from kitaru import local_flow
from kitaru.runtime.engine import execution
from kitaru.runtime.engine.call_order import Course
from kitaru.runtime.engine.execution import Execution
from kitaru.runtime.engine.retries import chance
from kitaru.runtime.executions import gc
from kitaru.runtime.journal import blobs, record_store
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.presence import Presence
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores.memory import MemoryStore
from kitaru.wire.records import InvocationRecord
from kitaru.wire.times import now_milliseconds
from tests.simulation import primitives
from tests.simulation.run import simulate
from tests.simulation.world import Scenario


def _later(work: Callable[[], object]) -> None:
    """Do some work on another thread of the process, like a write without a wait."""

    def soon() -> None:
        primitives.Time.sleep(0.5)
        work()

    primitives.Thread(target=soon, name="kitaru-mutant", daemon=True).start()


def _overwrites(self: MemoryStore, key: str, value: bytes) -> bool:
    self._objects.pop(key, None)
    if key in self._keys:
        self._keys.remove(key)
    return _create(self, key, value)


_create = MemoryStore.create
_kept = RecordStore.put_with_bytes
_seal = Execution._seal
_put_blob = blobs._put_blob


def _acknowledges_first(self: RecordStore, key: str, record: Any, *also: Any) -> Any:
    if not isinstance(record, InvocationRecord):
        return _kept(self, key, record, *also)
    data = self.encode(key, record)
    _later(lambda: _kept(self, key, record, *also))
    return record, data


def _believes_its_own(store: Any, key: str, data: bytes) -> bytes:
    store.create(key, data)
    return data


def _believes_the_list(self: Journal, id: str) -> Any:
    return self._segment_reader.take(id)


def _id_of_the_millisecond() -> str:
    return f"e{now_milliseconds()}"


def _answers_always(self: Journal, answer: Any) -> Any:
    self._record_store.write(f"x/{self.exec_id}/wait/{answer.name}/answer/000001", answer)
    return answer


def _blob_later(store: Any, home: str, digest: str, data: bytes) -> None:
    _later(lambda: _put_blob(store, home, digest, data))


def _runs_again(self: Execution, call: Any, *, here: bool) -> Any:
    policy = call.spec.policy.with_defaults(self.policy)
    failed = len(self.journal.attempts(call.id)) if self.attempted else 0
    while True:
        outcome = self._attempt(call, policy, failed)
        if outcome.record.status == "completed":
            return self._commit(call, outcome.record)
        if policy.is_exhausted(outcome.record.attempts, final=outcome.final):
            return outcome
        failed = outcome.record.attempts
        self._pause(policy.pause(failed, chance()))


def _seals_nothing(self: Execution) -> None:
    self._unsealed.clear()


@dataclass(frozen=True)
class Mutant:
    """A faulty product: a patch, and what its runs need so that the fault has an effect."""

    wrong: Callable[[], AbstractContextManager[object]]
    parts: Mapping[str, Any] = field(default_factory=dict)


def _mutant(place: Any, name: str, wrong: Any, **parts: Any) -> Mutant:
    return Mutant(lambda: patch.object(place, name, wrong), parts)


MUTANTS: Mapping[str, Mutant] = {
    "a create overwrites": _mutant(MemoryStore, "create", _overwrites, remote=False),
    "a result is acknowledged before it is recorded": _mutant(
        RecordStore, "put_with_bytes", _acknowledges_first
    ),
    "a writer believes its own record": _mutant(record_store, "create_or_read", _believes_its_own),
    "a list is believed": _mutant(Journal, "outcome_or_end", _believes_the_list),
    "nobody says that it joins": _mutant(
        Presence, "announce", lambda self: None, remote=True, most_processes=8, cancels=False
    ),
    "ids are reused": _mutant(
        local_flow, "new_execution_id", _id_of_the_millisecond, starts_more=True
    ),
    "a write to memory is not announced": _mutant(
        Journal, "declare_write", lambda self, id, floor: floor, most_processes=8
    ),
    "each answer counts": _mutant(Journal, "answer", _answers_always, people=2),
    "a large value is stored after its record": _mutant(blobs, "_put_blob", _blob_later),
    "a cancellation is not looked for": _mutant(
        Execution, "_check_cancelled", lambda self, end: None, cancels=True
    ),
    "the calls of other code are not compared": _mutant(
        Course, "check_may_run", lambda self, call: None, undeclared=True
    ),
    "a caught failure is not recorded": _mutant(Execution, "_seal", _seals_nothing),
    "what replays refer to is collected": _mutant(
        gc, "_is_kept", lambda *args: False, collects=True, replays=2
    ),
    "arguments are not compared": _mutant(
        execution, "check_same", lambda journal, call, record: None, replays=2
    ),
    "a retry does not look whether another process succeeded": _mutant(
        Execution, "_run_with_retries", _runs_again, fails=True, most_processes=8, remote=False
    ),
}


def caught(mutant: Mutant, seed: int) -> BaseException | None:
    """Return the failure that a mutant causes in the run of a seed, or None."""
    scenario = replace(Scenario.drawn(seed), **mutant.parts)
    return simulate(seed, scenario=scenario, wrong=[mutant.wrong()]).failure


def seeds_until_caught(mutant: Mutant, most: int, first: int = 0) -> int | None:
    """Return the number of seeds until a run fails because of a mutant, or None."""
    for seed in range(first, first + most):
        if caught(mutant, seed) is not None:
            return seed - first + 1
    return None
