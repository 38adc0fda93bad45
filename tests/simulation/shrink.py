"""Reduce a failing run: remove parts and faults while the run still fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from tests.simulation.run import simulate
from tests.simulation.service import Chaos
from tests.simulation.world import Scenario


@dataclass(frozen=True)
class Smallest:
    """The smallest failing run that was found: its parts, faults and kills, and its failure."""

    scenario: Scenario
    faults: int
    kills: int
    kinds: frozenset[str]
    steps: int
    failure: str

    def __str__(self) -> str:
        parts = [f"{f.name}={getattr(self.scenario, f.name)}" for f in fields(self.scenario)]
        found = f"{self.faults} faults of {sorted(self.kinds)}, {self.kills} kills"
        return f"{', '.join(parts)}; {found}; {self.steps} steps: {self.failure}"


def shrink(seed: int, tries: int = 200) -> Smallest:
    """Return the smallest run of a seed that still fails; raises ValueError if it does not fail.

    Removing a part changes the rest of the run, so the smaller run may fail differently.
    """
    best = _run(Scenario.drawn(seed), Chaos.drawn(seed))
    if best is None:
        raise ValueError(f"seed {seed} does not fail")
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for scenario, chaos in _smaller(best):
            tries -= 1
            found = _run(scenario, chaos)
            if found is not None and (found.steps < best.steps or found.faults < best.faults):
                best, is_smaller = found, True
                break
            if tries == 0:
                return best
    return best


def _smaller(run: Smallest) -> Iterator[tuple[Scenario, Chaos]]:
    for field in fields(run.scenario):
        value = getattr(run.scenario, field.name)
        if field.name == "seed" or not value:
            continue
        less = False if isinstance(value, bool) else value // 2
        yield replace(run.scenario, **{field.name: less}), _chaos(run)
    for kind in sorted(run.kinds):
        yield run.scenario, _chaos(run, kinds=run.kinds - {kind})
    for count in {0, run.faults // 2, run.faults - 1} - {run.faults, -1}:
        yield run.scenario, _chaos(run, faults=count)
    for count in {0, run.kills // 2, run.kills - 1} - {run.kills, -1}:
        yield run.scenario, _chaos(run, kills=count)


def _chaos(
    run: Smallest,
    *,
    faults: int | None = None,
    kills: int | None = None,
    kinds: frozenset[str] | None = None,
) -> Chaos:
    return replace(
        Chaos.drawn(run.scenario.seed),
        faults=run.faults if faults is None else faults,
        kills=run.kills if kills is None else kills,
        kinds=run.kinds if kinds is None else kinds,
    )


def _run(scenario: Scenario, chaos: Chaos) -> Smallest | None:
    faults, kills, kinds = chaos.faults, chaos.kills, chaos.kinds
    report = simulate(scenario.seed, scenario=scenario, chaos=chaos)
    if report.failure is None:
        return None
    return Smallest(scenario, faults, kills, kinds, report.steps, str(report.failure)[:200])
