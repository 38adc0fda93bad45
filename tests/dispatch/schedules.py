"""Schedules in virtual time: ticks, changes, kills, faults, and clocks that are wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import islice, pairwise, takewhile
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from kitaru.errors import KitaruError, NotFound
from kitaru.ops import schedules
from kitaru.runtime.journal import rounds
from kitaru.wire import keys
from kitaru.wire.cron import CATCHUPS, OVERLAPS, instants
from kitaru.wire.envelope import decode
from kitaru.wire.records import LaunchRecord, ScheduleEntry
from tests.dispatch.world import InOrder, Report, Violation, World, simulate
from tests.simulation.service import opened

_ID = "nightly"
_CRONS = ("* * * * *", "*/2 * * * *", "*/5 * * * *")
# Seconds of virtual time during which people change the schedule.
_LIVELY = 900.0


class ScheduleWorld(World):
    """Dispatchers, and people who create, change, trigger and delete a schedule."""

    def __init__(self, seed: int, *, keeps_trace: bool = False) -> None:
        super().__init__(seed, keeps_trace=keeps_trace)
        self.waits = {}
        self.version = 1
        self.deleted = False
        self.end = 8_000.0

    # What the processes do

    def deployed(self, store: Any) -> Any:
        """Return the deployments of a flow whose tag moves."""
        del store

        def get(name: str) -> Any:
            self.run.switch()
            if self.chance.random() < 0.05:
                raise NotFound(f"{name} has no such tag")
            return SimpleNamespace(flow="flow", number=self.version)

        return SimpleNamespace(get=get)

    def change(self) -> None:
        """Do one thing to the schedule, as its commands do."""
        store = opened(self.service)
        what = self.chance.choice(
            ["create", "create", "create", "pause", "resume", "resume", "trigger", "delete"]
        )
        if what == "create":
            self.version += 1
            schedules.create_schedule(
                store, "flow@stable", self.chance.choice(_CRONS), id=_ID,
                overlap=self.chance.choice(OVERLAPS), catchup=self.chance.choice(CATCHUPS),
            )  # fmt: skip
        else:
            getattr(schedules, f"{what}_schedule")(store, _ID)

    def people(self) -> None:
        """Change the schedule again and again; may be killed anywhere."""
        while self.run.now < _LIVELY:
            # KitaruErrors are also those of a person: there is a schedule already, or none.
            self._tried(self.change)
            self.run.block(self.chance.uniform(2.0, 150.0))

    def delete(self) -> None:
        """Delete the schedule in the end."""

        def gone() -> bool:
            try:
                schedules.delete_schedule(opened(self.service), _ID)
            except NotFound:
                return True
            return False

        self._until(gone)
        self.deleted = True

    def _tried(self, what: Callable[[], object]) -> None:
        try:
            what()
        except KitaruError as error:
            self.run.note(f"refused: {error}")

    # The whole

    def play(self) -> None:
        # The world of executions starts two more.
        self.forever(self.dispatch)
        for _ in range(2):
            self._persist(self.people)
        while self.run.now < _LIVELY:
            self.run.block(1.0)
            self._bury()
        self._persist(self.delete, lambda: self.deleted)
        super().play()

    def _is_over(self) -> bool:
        return self.deleted and not self._left()

    def _lost(self) -> list[str]:
        """Return the starts that were decided and have no end."""
        stored = self.service.objects
        started = (one.exec_id for one in self.log() if one.decision == "start")
        return [one for one in started if stored.get(keys.end(one)) is None]

    def _left(self) -> list[str]:
        # The hint of a person who was killed before the entry stays. It costs a look.
        hints = super()._left()
        newest = len(self.log())
        left = [
            one
            for one in hints
            if keys.due_schedule(one.split("/")[2]) is None or keys.due_number(one) < newest
        ]
        return [*left, *self._lost()]

    def log(self) -> list[ScheduleEntry]:
        """Return all entries of the schedule, the oldest first."""
        stored = self.service.objects
        found = []
        for key in reversed(stored.list(keys.schedule_log(_ID))):
            entry = decode(key, stored.get(key) or b"")
            assert isinstance(entry, ScheduleEntry)
            found.append(entry)
        return found

    def check(self) -> None:
        super().check()
        log = self.log()
        if [one.number for one in log] != list(range(1, len(log) + 1)):
            raise Violation("the numbers of the log have a gap")
        decided: dict[str, int] = {}
        for before, entry in pairwise(log):
            self._check_entry(before, entry)
            if entry.kind == "tick" and entry.decision == "start":
                decided[entry.instant] = decided.get(entry.instant, 0) + 1
        if twice := [instant for instant, number in decided.items() if number > 1]:
            raise Violation(f"started twice: {twice}")
        stored = self.service.objects
        launched = {}
        for key in stored.list("x/"):
            if key.endswith("/launch"):
                record = decode(key, stored.get(key) or b"")
                assert isinstance(record, LaunchRecord)
                launched[key.split("/")[1]] = record.deployment
        wanted = {one.exec_id: one.deployment for one in log if one.decision == "start"}
        if launched != wanted:
            raise Violation(f"launched {launched}, decided {wanted}")
        ran = {exec_id for exec_id, _ in self.ran}
        if missing := self._uncancelled(wanted) - ran:
            raise Violation(f"never ran: {missing}")

    def _uncancelled(self, wanted: dict[str, int]) -> set[str]:
        cancelled = {one.cancels for one in self.log()}
        return wanted.keys() - cancelled

    def _check_entry(self, before: ScheduleEntry, entry: ScheduleEntry) -> None:
        """Recompute an entry: each instant of the definition before it is decided once."""
        if entry.last < before.last:
            raise Violation(f"{entry} goes back")
        passed = instants(before.cron, before.timezone, before.last)
        found = [*islice(takewhile(lambda one: one <= entry.last, passed), 2_000)]
        if before.status != "active":
            found = []
        new = entry.instant if entry.kind == "tick" and entry.instant not in before.queue else ""
        if entry.kind != "tick" and found:
            raise Violation(f"{entry} loses {found}")
        if entry.kind == "tick" and before.status != "active":
            raise Violation(f"{entry} is a tick of a schedule that is {before.status}")
        if new and new != found[-1]:
            raise Violation(f"{entry} is not one of {found}")
        is_missed = entry.decision == "skip" and "in time" in entry.why
        if new and entry.skipped != len(found) - (not is_missed):
            raise Violation(f"{entry} loses some of {found}")
        if entry.kind == "tick" and not new and found:
            raise Violation(f"{entry} loses {found}")


def play(seed: int, wrong: Sequence[AbstractContextManager[object]] = (), **more: Any) -> Report:
    """Run a seed of a schedule."""
    made: list[ScheduleWorld] = []

    class Made(ScheduleWorld):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            made.append(self)

    patches: list[AbstractContextManager[object]] = [
        patch.object(schedules, "Deployments", lambda store: made[0].deployed(store)),
        patch.object(schedules, "_checked_inputs", lambda *_: {}),
        patch.object(schedules, "cancels_of", lambda *_: {}),
        patch.object(rounds, "MOST_LOST", 10**6),
        patch.object(schedules, "ThreadPoolExecutor", InOrder),
        *wrong,
    ]
    return simulate(seed, wrong=patches, make=Made, **more)
