"""Flows whose names are replaced complete with Python's result as documents, in real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compiler.test_replacing import AT_IMPORT, CHANGES, FLOW, PRELUDE
from tests.differential.real import run_dry, run_here

pytestmark = pytest.mark.slow

REAL = [
    "globals, updated from a value",
    "setattr of a name made up",
    "an attribute of the module, by a variable",
    "an object, by object",
    "a patch of an object",
]


def program(how: str) -> str:
    if how in AT_IMPORT:
        return f"{PRELUDE}\n{AT_IMPORT[how]}\n{FLOW.replace('    change(agent, n)', '    pass')}"
    return f"{PRELUDE}\ndef change(agent, n):\n    {CHANGES[how]}\n{FLOW}"


@pytest.mark.parametrize("how", [*REAL, "code", "defaults", "a class"])
def test_a_document_runs_what_replaced_its_names(how: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(program(how))
    here = run_here(path, "main", {"n": 3}, str, tmp_path)
    dry = run_dry(path, "main", {"n": 3}, str, tmp_path, "kubeflow")
    assert here.status == dry.status == "completed"
    assert (dry.result, dry.invocations) == (here.result, here.invocations)
