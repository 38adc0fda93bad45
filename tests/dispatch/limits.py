"""Limits of a flow in virtual time: places, queues, rates, kills, faults and wrong clocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from itertools import pairwise
from typing import Any

from kitaru.wire import keys
from kitaru.wire.envelope import decode
from kitaru.wire.flow_limits import ExecutionLimits, flow_limits, limit
from kitaru.wire.records import LimitEntry
from tests.dispatch.world import Report, Violation, World, simulate

_MOST, _BURST, _PER = 2, 2, 60
# Two clocks differ by at most this many seconds.
_SPREAD = 360
_CUSTOMERS = ("a", "b", "c")


class LimitedWorld(World):
    """Executions of a flow of which two run at a time, one for each customer."""

    def __init__(self, seed: int, *, keeps_trace: bool = False) -> None:
        super().__init__(seed, keeps_trace=keeps_trace)
        per_customer = limit(1, key="input.customer")
        rate = limit(1, per=_PER, burst=_BURST) if self.chance.random() < 0.5 else None
        self.declared = flow_limits([_MOST, per_customer], rate, "input.priority")
        self._given = {
            exec_id: {"customer": self.chance.choice(_CUSTOMERS), "priority": number % 3}
            for number, exec_id in enumerate(self.waits)
        }

    def inputs(self, exec_id: str) -> dict[str, Any]:
        return self._given[exec_id]

    def limits(self, inputs: Mapping[str, Any]) -> ExecutionLimits | None:
        assert self.declared is not None
        return self.declared.of("flow", inputs)

    def log(self) -> list[LimitEntry]:
        """Return the entries of the flow's limits, the oldest first."""
        stored, found = self.service.objects, []
        for key in reversed(stored.list(keys.limit_log("flow"))):
            entry = decode(key, stored.get(key) or b"")
            assert isinstance(entry, LimitEntry)
            found.append(entry)
        return found

    def check(self) -> None:
        super().check()
        log = self.log()
        if [one.number for one in log] != list(range(1, len(log) + 1)):
            raise Violation("the numbers of the log have a gap")
        for entry in log:
            values = [held["values"]["input.customer"] for held in entry.holders.values()]
            if len(values) > _MOST or len(values) > len(set(values)):
                raise Violation(f"too many have a place: {entry}")
        had = {id for entry in log for id in entry.holders}
        if strangers := {f"{exec_id}.{number}" for exec_id, number in self.ran} - had:
            raise Violation(f"ran without a place: {sorted(strangers)}")
        self._check_rate(log)

    def _check_rate(self, log: Sequence[LimitEntry]) -> None:
        assert self.declared is not None
        if not self.declared.rate_limit or not log:
            return
        empty = LimitEntry("flow", 0, log[0].at, {}, {})
        starts = [
            datetime.fromisoformat(entry.at).timestamp()
            for before, entry in pairwise([empty, *log])
            for id in entry.holders.keys() - before.holders.keys()
            if id.endswith(".1") and entry.rates != before.rates
        ]
        for index, first in enumerate(starts):
            for more, last in enumerate(starts[index:], start=1):
                if more > _BURST + (abs(last - first) + 2 * _SPREAD) / _PER + 1:
                    raise Violation(f"{more} starts from {first} to {last}")


def play(seed: int, wrong: Sequence[AbstractContextManager[object]] = (), **more: Any) -> Report:
    """Run a seed of a flow with limits."""
    return simulate(seed, wrong=wrong, make=LimitedWorld, **more)
