"""Random flows mean the same cut into steps as they mean to Python."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings

from kitaru.wire.plan import Granularity
from tests.differential.harness import compile_text, run_cut, run_plain
from tests.differential.programs import programs

EXAMPLES = int(os.environ.get("KITARU_FUZZ_EXAMPLES", "400"))
INPUTS = {"a": 1, "xs": [3, 4]}


@pytest.mark.parametrize("granularity", ["checkpoint", "fused", "single"])
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)
@given(source=programs())
def test_cut_flow_means_what_python_means(source: str, granularity: Granularity) -> None:
    compilation, path = compile_text(source, granularity)
    plain = run_plain(compilation, path, INPUTS)
    shown = source.partition("def pick")[2] + compilation.steps_py
    assert run_cut(compilation, path, INPUTS).same() == plain.same(), shown
    if granularity == "checkpoint":
        everywhere = run_cut(compilation, path, INPUTS, everywhere=True)
        assert everywhere.same() == plain.same(), shown
