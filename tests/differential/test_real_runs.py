"""Random flows give the same run here and as the emitted document, on the real engine and store.

Slower than the stand-ins of the other tests, since each step is a process: fewer programs, but the
result, the failure, the invocation ids, the argument digests and every effect are compared.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings

from tests.differential.programs import OTHER, programs
from tests.differential.real import TRACE, run_dry, run_here

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("KITARU_REAL_EXAMPLES", "6"))
INPUTS = {"a": 1, "xs": [3, 4]}
ANSWERS = {"ok": True, "no": False, "number": True}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.mark.parametrize(
    "target",
    [
        "airflow",
        "argo",
        "azureml",
        "kubeflow",
        "kubernetes",
        "sagemaker",
        "stepfunctions",
        "vertex",
    ],
)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    # A step is a process: shrinking would take longer than reading the program.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(source=programs())
def test_a_dry_run_is_the_run(folder: Path, target: str, source: str) -> None:
    try:
        compile(source, "program", "exec")
    except SyntaxError:
        assume(False)
    here = Path(tempfile.mkdtemp(dir=folder))
    path = here / f"program_{here.name.replace('-', '_')}.py"
    path.write_text(source + TRACE, encoding="utf-8")
    (here / "other.py").write_text(OTHER + TRACE, encoding="utf-8")
    local = run_here(path, "main", INPUTS, answer, here)
    dry = run_dry(path, "main", INPUTS, answer, here, target)
    assert dry == local, source.partition("def pick")[2]


def answer(name: str) -> Any:
    """Return the answer to a wait by its id: the name, perhaps with a number."""
    return ANSWERS[name.rstrip("0123456789").rstrip("_")]
