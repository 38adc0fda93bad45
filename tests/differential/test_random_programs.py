"""Random flows mean the same cut into steps as they mean to Python.

KITARU_FUZZ_EXAMPLES=5000 pytest tests/differential/test_random_programs.py
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kitaru.wire.plan import Granularity
from tests.differential.documents import compile_for, run_document
from tests.differential.harness import compile_text, run_cut, run_plain
from tests.differential.programs import (
    OTHER,
    helping_programs,
    programs,
    winding_programs,
)

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("KITARU_FUZZ_EXAMPLES", "30"))
INPUTS = {"a": 1, "xs": [3, 4]}
BESIDE = {"other.py": OTHER}


def examples(share: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=EXAMPLES // share,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        print_blob=True,
    )


@pytest.mark.parametrize("granularity", ["checkpoint", "fused", "single"])
@examples(1)
@given(source=programs())
def test_cut_flow_means_what_python_means(source: str, granularity: Granularity) -> None:
    agree(source, granularity)


@examples(2)
@given(
    source=st.one_of(winding_programs(), helping_programs()),
    granularity=st.sampled_from(["checkpoint", "fused"]),
)
def test_control_goes_where_python_goes(source: str, granularity: Granularity) -> None:
    agree(source, granularity)


@pytest.mark.parametrize("target", ["kubeflow", "vertex"])
@examples(4)
@given(source=st.one_of(programs(), winding_programs(), helping_programs()))
def test_the_document_starts_what_has_work_to_do(source: str, target: str) -> None:
    compiles(source)
    _, path = compile_text(source, beside=BESIDE)
    compilation = compile_for(path, target, "checkpoint")
    plain = run_plain(compilation, path, INPUTS)
    assert run_document(compilation, path, INPUTS, target).same() == plain.same(), shown(source)


def agree(source: str, granularity: Granularity) -> None:
    compiles(source)
    compilation, path = compile_text(source, granularity, BESIDE)
    plain = run_plain(compilation, path, INPUTS)
    text = shown(source) + compilation.steps_py
    assert run_cut(compilation, path, INPUTS).same() == plain.same(), text
    if granularity == "checkpoint":
        everywhere = run_cut(compilation, path, INPUTS, everywhere=True)
        assert everywhere.same() == plain.same(), text


def compiles(source: str) -> None:
    """Leave out the few that are no Python, such as a deleted name that is nonlocal as well."""
    try:
        compile(source, "program", "exec")
    except SyntaxError:
        assume(False)


def shown(source: str) -> str:
    return source.partition("def pick")[2]
