"""Generated projects give plain Python's result in every way, or are refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from .generated import disagreement, execute, generate

# `python -m tests.shapes.generated 500` tries more.
SEEDS = range(14)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_project_gives_the_result_of_plain_python(seed: int, tmp_path: Path) -> None:
    project = generate(seed)
    outcome = execute(project, tmp_path)
    assert disagreement(project, outcome) == "", f"{project.shape}\n{outcome.output}"
