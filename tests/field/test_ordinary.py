"""Ordinary flows mean the same however they are cut, and most of their calls are steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from kitaru_compiler import compile_flow

from tests.differential.harness import run_cut, run_plain
from tests.differential.hazards import inputs_for
from tests.field.shares import FOLDER, SAMPLES, flows_of, share

pytestmark = pytest.mark.slow

FILES = sorted(FOLDER.glob("*.py"))
# The percentage of calls that are steps on a target with native fan-out, in each sample.
LEAST = {"first": 81, "second": 76}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_ordinary_flow_means_the_same(path: Path) -> None:
    for flow in flows_of(path):
        compilation = compile_flow(path, flow)
        inputs = inputs_for(compilation.plan, {})
        plain = run_plain(compilation, path, inputs)
        cut = run_cut(compilation, path, inputs, everywhere=True)
        assert cut.same() == plain.same(), compilation.steps_py


@pytest.mark.parametrize("sample", SAMPLES)
def test_most_calls_are_steps(sample: str) -> None:
    found = share(sorted(FOLDER.glob(f"{sample}_*.py")), "any")
    assert found.steps >= LEAST[sample], "\n".join(found.reasons)
