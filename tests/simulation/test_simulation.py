"""Seeds of whole executions, seeds that failed once, and mutants that must be detected.

This runs a part of `python -m tests.simulation`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.mutants import MUTANTS, caught
from tests.simulation.run import simulate
from tests.simulation.service import Chaos
from tests.simulation.shrink import shrink
from tests.simulation.world import Scenario

ROOT = Path(__file__).parents[2]
# Seeds that failed once, because of a fault of the product that `test_found.py` reproduces, or of
# the simulation. After a change of the product, a seed is a different run. These seeds are still
# useful.
KEPT = {
    1: "a retry ran again what another process had recorded in the pause",
    4: "an execution without its process's mark was shown as running",
    313: "a replay without its process's mark was shown as running",
    413: "a resumed replay ran again under another name what it had recorded",
    110: "processes that poll used up all steps",
    243: "a replay asked its source for artifacts that it did not have",
}
SEEDS = 12
# The maximum number of seeds for a mutant. One seed in three detects most mutants.
_MOST = 60
# Mutants that only the command runs: one in several hundred seeds detects them.
RARE = {"nobody says that it joins", "a write to memory is not announced"}


@pytest.mark.parametrize("seed", [*range(SEEDS), *KEPT])
def test_a_seed(seed: int) -> None:
    report = simulate(seed)
    if report.failure is not None:
        raise report.failure
    assert report.steps > 10


def test_the_same_seed_is_the_same_run() -> None:
    for seed in range(3):
        first, second = (simulate(seed, keeps_trace=True) for _ in range(2))
        assert first.trace == second.trace and first.fingerprint == second.fingerprint


def test_a_run_depends_on_nothing_but_its_seed() -> None:
    told = "print(*(simulate(seed).fingerprint for seed in range(4)))"
    script = f"from tests.simulation.run import simulate; {told}"
    runs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    }
    assert len(runs) == 1 and len(set(runs.pop().split())) == 4


def test_seeds_meet_faults_kills_and_both_stores() -> None:
    drawn = [Scenario.drawn(seed) for seed in range(SEEDS)]
    assert {one.remote for one in drawn} == {True, False}
    reports = [simulate(seed) for seed in range(SEEDS)]
    met = {kind for report in reports for kind in report.faults}
    assert "kill" in met and len(met) > 4
    assert sum(report.ended["completed"] for report in reports) > SEEDS // 2


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in RARE])
def test_a_mutant_is_noticed(name: str) -> None:
    assert any(caught(MUTANTS[name], seed) for seed in range(_MOST)), "not noticed"


def test_a_failing_run_is_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "a list is believed"
    seed = next(seed for seed in range(_MOST) if caught(MUTANTS[name], seed))
    with MUTANTS[name].wrong():
        drawn, smallest = Chaos.drawn(seed), shrink(seed, tries=20)
        again = simulate(seed, scenario=smallest.scenario, chaos=_chaos(smallest, drawn))
    assert again.failure is not None and again.steps == smallest.steps


def _chaos(smallest: object, drawn: Chaos) -> Chaos:
    drawn.faults, drawn.kills = smallest.faults, smallest.kills  # type: ignore[attr-defined]
    drawn.kinds = smallest.kinds  # type: ignore[attr-defined]
    return drawn
