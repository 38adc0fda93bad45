"""Flows in the idioms of Python mean the same here, cut, as documents, and killed and resumed.

KITARU_IDIOM_EXAMPLES=3000 pytest tests/differential/test_idioms.py
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st

from kitaru.wire.plan import Granularity
from tests.differential.documents import compile_for, run_document
from tests.differential.harness import compile_text, run_cut, run_plain, scratch
from tests.differential.idioms import idiomatic_programs
from tests.differential.programs import OTHER, PRELUDE
from tests.differential.test_killed_runs import check_killed
from tests.differential.test_replays import Program

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("KITARU_IDIOM_EXAMPLES", "20"))
INPUTS = {"a": 1, "xs": [3, 4]}
BESIDE = {"other.py": OTHER}
GRANULARITIES: tuple[Granularity, ...] = ("checkpoint", "fused", "single")
MAPPED = """
@flow
def main(a, xs):
    n = sum(cb(v) for v in list(cb.map((1, 2)).result()))
    n = cb(cb(0))
    return n, xs
"""
LIMITED = PRELUDE + MAPPED.replace("@flow", '@flow(concurrency=2, priority="input.a")')


def examples(share: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=max(EXAMPLES // share, 5),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        print_blob=True,
    )


@examples(1)
@given(source=idiomatic_programs(), granularity=st.sampled_from(GRANULARITIES))
@example(source=LIMITED, granularity="checkpoint")
def test_cut_flow_means_what_python_means(source: str, granularity: Granularity) -> None:
    compiles(source)
    compilation, path = compile_text(source, granularity, BESIDE)
    plain = run_plain(compilation, path, INPUTS)
    for everywhere in (False, True):
        cut = run_cut(compilation, path, INPUTS, everywhere=everywhere)
        assert cut.same() == plain.same(), source + compilation.steps_py


@examples(4)
@given(source=idiomatic_programs(), target=st.sampled_from(["kubeflow", "vertex"]))
@example(source=LIMITED, target="kubeflow")
@example(source=LIMITED, target="vertex")
def test_the_document_starts_what_has_work_to_do(source: str, target: str) -> None:
    compiles(source)
    _, path = compile_text(source, beside=BESIDE)
    compilation = compile_for(path, target, "checkpoint")
    plain = run_plain(compilation, path, INPUTS)
    assert run_document(compilation, path, INPUTS, target).same() == plain.same(), source


@examples(4)
@given(source=idiomatic_programs())
@example(source=PRELUDE + MAPPED)
@example(source=LIMITED)
def test_the_engine_runs_what_python_runs(source: str) -> None:
    compiles(source)
    compilation, path = compile_text(source, beside=BESIDE)
    plain = run_plain(compilation, path, INPUTS)
    program = Program(source, Path(tempfile.mkdtemp(dir=scratch())))
    handle = program.module().main.options(store=program.store).run(**INPUTS)
    *_, (status, _, error) = program.end(handle)
    found = repr(handle.wait()) if status == "completed" else ": ".join(error)
    assert found == plain.result, source


@settings(
    max_examples=max(EXAMPLES // 6, 5),
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)
@given(source=idiomatic_programs())
@example(source=LIMITED)
def test_a_killed_run_is_resumed_as_if_nothing_had_happened(source: str) -> None:
    compiles(source)
    check_killed(Path(tempfile.mkdtemp(dir=scratch())), source)


def compiles(source: str) -> None:
    """Leave out the few that are no Python, such as an irrefutable pattern before another."""
    try:
        compile(source, "program", "exec")
    except SyntaxError:
        assume(False)
