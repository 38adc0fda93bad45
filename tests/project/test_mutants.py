"""The changes of the code that were judged to matter to no promise are changes of today's code."""

from __future__ import annotations

import tomllib

import pytest

from .conftest import ROOT

MUTANTS = tomllib.loads((ROOT / "tests/mutants/survivors.toml").read_text())["mutant"]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one["after"])
def test_the_changed_line_exists(mutant: dict[str, str]) -> None:
    assert mutant.keys() == {"module", "before", "after", "reason"}
    lines = [line.strip() for line in (ROOT / mutant["module"]).read_text().splitlines()]
    assert mutant["before"] in lines and mutant["after"] not in lines
