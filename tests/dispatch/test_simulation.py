"""Seeds of the dispatcher's simulation, and rules whose absence it must notice.

This runs a part of `python -m tests.dispatch`.
"""

from __future__ import annotations

import pytest

from tests.dispatch.mutants import MUTANTS, RARE, caught
from tests.dispatch.world import KINDS, simulate

SEEDS = 24
# The maximum number of seeds for a mutant; most need fewer than five.
_MOST = 40


def test_seeds() -> None:
    reports = [simulate(seed) for seed in range(SEEDS)]
    for report in reports:
        if report.failure is not None:
            raise AssertionError(f"seed {report.seed}") from report.failure
    assert {report.kind for report in reports} == set(KINDS)
    assert sum(report.kills for report in reports) > 100
    assert sum(report.faults for report in reports) > 100
    assert sum(report.superseded for report in reports) > 0


def test_the_same_seed_is_the_same_run() -> None:
    first, second = (simulate(9, keeps_trace=True) for _ in range(2))
    assert first.trace == second.trace


@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in RARE])
def test_a_missing_rule_is_noticed(name: str) -> None:
    assert any(caught(name, seed) for seed in range(_MOST)), "not noticed"
