"""A program of each library, migrated: it runs, is answered, and compiles for all targets."""

from __future__ import annotations

import ast
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from kitaru_compiler.migrations import migrate

from kitaru.wire.migrations import Library
from tests.cli.conftest import Kitaru, kitaru

__all__ = ["kitaru"]

FOLDER = Path(__file__).with_name("pages")
START = "## After the migration\n"
_BLOCK = re.compile(r"^```python\n(?P<code>(?s:.*?))^```$", re.M)
_RUN = re.compile(
    r"Run with (?P<inputs>\{.*\}); answer (?P<answers>\{.*\}); result (?P<result>.*)\."
)


@dataclass(frozen=True)
class Page:
    """A program, how it is run, and what is expected of its migration."""

    path: Path
    head: str
    expected: str

    @property
    def library(self) -> Library:
        return self.path.stem  # type: ignore[return-value]

    @property
    def source(self) -> str:
        found = _BLOCK.search(self.head)
        assert found is not None
        return found["code"]

    @property
    def run(self) -> tuple[dict[str, Any], dict[str, Any], Any]:
        found = _RUN.search(self.head)
        assert found is not None
        return (
            json.loads(found["inputs"]),
            json.loads(found["answers"]),
            json.loads(found["result"]),
        )

    def actual(self) -> str:
        done = migrate(self.library, self.source)
        marks = "".join(f"- line {mark.line}: {mark.text}\n" for mark in done.marks) or "Nothing.\n"
        return f"\n```python\n{done.text}```\n\nTo decide:\n\n{marks}"


def page(library: str) -> Page:
    path = FOLDER / f"{library}.md"
    head, _, expected = path.read_text(encoding="utf-8").partition(START)
    return Page(path, head, expected)


LIBRARIES = get_args(Library)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_page_shows_the_migration(library: str) -> None:
    found = page(library)
    if os.environ.get("KITARU_WRITE"):
        found.path.write_text(f"{found.head}{START}{found.actual()}", encoding="utf-8")
    else:
        assert found.actual() == found.expected


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_migrated_program_runs_and_is_answered(library: str, kitaru: Kitaru) -> None:
    found = page(library)
    inputs, answers, result = found.run
    kitaru.write("flow.py", migrate(found.library, found.source).text)
    done = kitaru("run", "flow.py", "--inputs", json.dumps(inputs), "--no-input", "--json").document
    for wait, answer in answers.items():
        assert done["status"] == "waiting"
        value = ["--wait", wait, "--value", json.dumps(answer)]
        done = kitaru("executions", "input", done["exec_id"], *value, "--json").document
    assert (done["status"], done["result"]) == ("completed", result)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_migrated_program_compiles_for_all_targets(library: str, kitaru: Kitaru) -> None:
    found = page(library)
    kitaru.write("flow.py", migrate(found.library, found.source).text)
    kitaru("compile", "flow.py", "--target", "all", "--json")
    targets = {folder.name for folder in kitaru.folder.glob("build/*/*")}
    assert {"airflow", "azureml", "kubeflow", "sagemaker", "vertex"} <= targets


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_other_libraries_are_called_is_left_alone(library: str) -> None:
    """The migrated text imports nothing of the library, and keeps every comment."""
    found = page(library)
    text = migrate(found.library, found.source).text
    modules = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not [name for name in modules if name.startswith((library, "temporalio"))]
    for comment in re.findall(r"#.*", found.source):
        assert comment in text
