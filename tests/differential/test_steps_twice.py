"""A step that is started again says what it said before, in every kind of step of a document.

Orchestrators start a container again when its node is lost behind the last record, and before its
outputs are. Here each step of a dry run is started twice: the second one must write the same
outputs, and nothing of the flow may run in it. Here run the targets that ask natively, which need
the outputs of a step that waits; `KITARU_TWICE_EXAMPLES=200` runs random programs on all of them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from kitaru_targets.dry_run.process import Ended, Machine, Start

from tests.differential.programs import OTHER, PRELUDE, programs
from tests.differential.real import TRACE, run_dry, run_here
from tests.differential.test_real_runs import INPUTS, answer

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("KITARU_TWICE_EXAMPLES", "0"))
# Waits behind a fan-out, behind an answer, and in front of a branch.
WAITS = """
@flow
def main(a=1, xs=()):
    parts = [future.result() for future in ca.map(list(xs))]
    if kitaru.wait(name="ok") and kitaru.wait(name="no"):
        return cc(parts)
    return cb(parts)
"""
ASKING = ["airflow", "argo", "sagemaker", "stepfunctions"]
TARGETS = [*ASKING, "azureml", "kubeflow", "vertex"] if EXAMPLES else ASKING


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Ended, Ended]]:
    """Start each container that succeeds once more; return how both ended."""
    pairs: list[tuple[Ended, Ended]] = []
    run: Callable[[Machine, Start], Ended] = Machine.run

    def twice(machine: Machine, start: Start) -> Ended:
        first = run(machine, start)
        if first.succeeded:
            pairs.append((first, run(machine, replace(start, attempt=start.attempt + 1))))
        return first

    monkeypatch.setattr(Machine, "run", twice)
    return pairs


@pytest.mark.parametrize("target", TARGETS)
@settings(
    max_examples=max(1, EXAMPLES),
    deadline=None,
    phases=[Phase.explicit, Phase.generate] if EXAMPLES else [Phase.explicit],
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ],
)
@example(source=PRELUDE + WAITS)
@given(source=programs())
def test_a_step_started_twice_says_the_same(
    folder: Path, told: list[tuple[Ended, Ended]], target: str, source: str
) -> None:
    try:
        compile(source, "program", "exec")
    except SyntaxError:
        assume(False)
    told.clear()
    here = Path(tempfile.mkdtemp(dir=folder))
    path = here / f"program_{here.name.replace('-', '_')}.py"
    path.write_text(source + TRACE, encoding="utf-8")
    (here / "other.py").write_text(OTHER + TRACE, encoding="utf-8")
    local = run_here(path, "main", INPUTS, answer, here)
    dry = run_dry(path, "main", INPUTS, answer, here, target)
    assert dry == local, source.partition("def pick")[2]
    # The only step of a program may fail.
    assert told or local.status == "failed"
    for first, second in told:
        assert second.outputs == first.outputs, (first, second)
