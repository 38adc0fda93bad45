"""Each program of `hazards.md` means the same cut as uncut, and is cut where it must be."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from kitaru_compiler import Compilation

from kitaru.wire.plan import Granularity
from tests.differential import hazards
from tests.differential.harness import Outcome, compile_text, cuts_of, run_cut, run_plain

pytestmark = [
    pytest.mark.slow,
    # Python closes the coroutines that some programs never await.
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HAZARDS = hazards.read()
# What became of each program in the test of its meaning, where that ran before.
BECAME: dict[str, dict[str, int]] = {}
GRANULARITIES: tuple[Granularity, ...] = ("checkpoint", "fused", "single")


@pytest.mark.parametrize("hazard", HAZARDS, ids=lambda hazard: hazard.title)
def test_means_the_same_however_it_is_cut(hazard: hazards.Hazard) -> None:
    plain: list[tuple[Any, ...]] = []
    ran = set()
    for granularity in GRANULARITIES:
        compilation, path = compile_text(hazard.source, granularity, hazard.beside)
        every = [hazards.inputs_for(compilation.plan, given) for given in hazards.INPUTS]
        plain = plain or [run_plain(compilation, path, inputs).same() for inputs in every]
        for everywhere in (False, True):
            # Other granularities often have the same blocks, and then the same cuts at every block.
            cuts = cuts_of(compilation.plan, everywhere=everywhere)
            program = _program(compilation, cuts)
            if program in ran:
                continue
            ran.add(program)
            for inputs, expected in zip(every, plain, strict=True):
                cut = run_cut(compilation, path, inputs, everywhere=everywhere)
                assert cut.same() == expected, compilation.steps_py
                if granularity == "checkpoint" and everywhere and inputs is every[0]:
                    BECAME[hazard.title] = _counted(compilation, cut)


def test_is_cut_where_it_can_be() -> None:
    found = {hazard.title: BECAME.get(hazard.title) or _becomes(hazard) for hazard in HAZARDS}
    if os.environ.get("KITARU_WRITE"):
        hazards.write(found)
    else:
        assert found == {hazard.title: hazard.expected for hazard in HAZARDS}


def test_titles_are_unique() -> None:
    assert len({hazard.title for hazard in HAZARDS}) == len(HAZARDS) > 200


def _becomes(hazard: hazards.Hazard) -> dict[str, int]:
    compilation, path = compile_text(hazard.source, beside=hazard.beside)
    inputs = hazards.inputs_for(compilation.plan, hazards.INPUTS[0])
    cut = run_cut(compilation, path, inputs, everywhere=True)
    return _counted(compilation, cut)


def _program(compilation: Compilation, cuts: frozenset[str]) -> str:
    """Return all that a run depends on, besides its inputs."""
    # Steps are where a plan cuts, and a run takes its cuts from `cuts`.
    same = replace(compilation.plan, granularity="checkpoint", steps=(), layout=())
    return f"{same}{compilation.steps_py}{sorted(cuts)}"


def _counted(compilation: Compilation, cut: Outcome) -> dict[str, int]:
    return {"steps": len(compilation.plan.steps), "crossed": cut.cuts, "kept": cut.elided}
