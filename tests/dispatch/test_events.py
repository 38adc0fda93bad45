"""Seeds of the simulation of events, and rules whose absence it must notice.

More: `python -m tests.dispatch --events --seconds 60`.
"""

from __future__ import annotations

import pytest

from tests.dispatch.events import MUTANTS, play

SEEDS = 3
_MOST = 12


def test_seeds() -> None:
    reports = [play(seed) for seed in range(SEEDS)]
    for report in reports:
        if report.failure is not None:
            raise AssertionError(f"seed {report.seed}") from report.failure
    assert sum(report.kills for report in reports) > 20
    assert sum(report.faults for report in reports) > 20


@pytest.mark.parametrize("name", MUTANTS)
def test_a_missing_rule_is_noticed(name: str) -> None:
    assert any(play(seed, MUTANTS[name]()).failure for seed in range(_MOST)), "not noticed"
