"""Async twins of the generated programs agree, whichever way they run.

Each program runs as plain Python, with the cuts that the compiler plans, and with a cut at every
block. A few also run on the real engine: killed at every record, and as dry runs. More programs:
`KITARU_ASYNC_EXAMPLES=1000`, or `python -m tests.differential.asynchronous --real`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.differential.asynchronous import TARGETS, disagreement, real_disagreement

COUNT = int(os.environ.get("KITARU_ASYNC_EXAMPLES", "8"))
# Programs with tasks, groups, a timeout and a failure.
KILLED = (0, 4, 5)

pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_cut_program_does_what_python_does() -> None:
    found = [disagreement(seed) for seed in range(COUNT)]
    assert [one for one in found if one] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", KILLED)
def test_a_killed_program_does_what_an_undisturbed_one_does(seed: int, tmp_path: Path) -> None:
    assert real_disagreement(seed, tmp_path, (), kills=True) == ""


@pytest.mark.slow
@pytest.mark.parametrize("seed,target", list(enumerate(TARGETS, start=1)))
def test_a_dry_run_does_what_a_run_here_does(seed: int, target: str, tmp_path: Path) -> None:
    assert real_disagreement(seed, tmp_path, [target], kills=False) == ""
