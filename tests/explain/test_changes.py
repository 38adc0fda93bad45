"""A proposed change removes its finding, and says correctly whether the meaning stays the same."""

from __future__ import annotations

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler import compile_flow

from .page import FOLDER, Page, explained

CHANGED = [
    path for path in sorted(FOLDER.glob("*.md")) if "\nchange " in path.read_text(encoding="utf-8")
]
SAME = [path for path in CHANGED if "\nmeaning  Stays the same." in path.read_text("utf-8")]
# By annotation: the inputs of the flows that are run.
INPUTS = {
    "str": ("bad", "search", "calculate"),
    "list[str]": (["ab", "search"], ["bad", "c"], ["bad"]),
}
_HUNK = re.compile(r"^@@ -(\d+)(?:,\d+)? .*@@$")


def patched(text: str, diff: str) -> str:
    """Return a text with a unified diff applied, each line of which must fit."""
    old = text.splitlines(keepends=True)
    new: list[str] = []
    at = 0
    for line in diff.splitlines(keepends=True)[2:]:
        if hunk := _HUNK.match(line.rstrip("\n")):
            start = int(hunk[1]) - 1
            new += old[at:start]
            at = start
        elif line[0] == "+":
            new.append(line[1:])
        else:
            assert old[at] == line[1:]
            at += 1
            if line[0] == " ":
                new.append(line[1:])
    return "".join([*new, *old[at:]])


def changed(path: Path) -> tuple[str, str, str]:
    """Return a page's source, its source after the change, and the code of the change."""
    source = Page(path).source
    part = next(part for part in explained(path).uncut if part.proposal)
    assert part.proposal is not None
    return source, patched(source, part.proposal.diff), part.code


def returned(folder: Path, source: str, value: Any) -> Any:
    """Run a flow with a value for each input, and return its result or the name of its error."""
    path = folder / "changed_flow.py"
    path.write_text(source, encoding="utf-8")
    sys.modules.pop("changed_flow", None)
    spec = spec_from_file_location("changed_flow", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["changed_flow"] = module
    spec.loader.exec_module(module)
    plan = compile_flow(path).plan
    inputs = {parameter.name: value for parameter in plan.parameters}
    try:
        return getattr(module, plan.flow).options(store="memory:changes").run(**inputs).wait()
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("path", CHANGED, ids=lambda path: path.stem)
def test_the_changed_source_has_no_such_finding(path: Path, tmp_path: Path) -> None:
    _, after, code = changed(path)
    file = tmp_path / "flow.py"
    file.write_text(after, encoding="utf-8")
    assert code not in {finding.code for finding in compile_flow(file).diagnostics}


@pytest.mark.parametrize("path", SAME, ids=lambda path: path.stem)
def test_the_results_are_the_same(path: Path, tmp_path: Path) -> None:
    before, after, _ = changed(path)
    annotation = compile_flow(written(tmp_path, before)).plan.parameters[0].annotation
    results = [returned(tmp_path, before, value) for value in INPUTS[annotation]]
    assert [returned(tmp_path, after, value) for value in INPUTS[annotation]] == results
    assert not all(str(result).endswith("Error") for result in results)


def written(folder: Path, source: str) -> Path:
    path = folder / "flow.py"
    path.write_text(source, encoding="utf-8")
    return path
