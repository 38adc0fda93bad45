"""The tables of behaviours, faults and attacks are whole, and name tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROW = re.compile(r"^\| (\d+) \| .+ \| (.+) \|$", re.MULTILINE)


@cache
def defined_in(file: str) -> set[str]:
    path = TESTS / file
    tree = ast.parse(path.read_text("utf-8")) if path.is_file() else ast.Module([], [])
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def missing(named: str) -> list[str]:
    pairs = [name.strip("`").split("::") for name in named.split()]
    return [f"{file}::{test}" for file, test in pairs if test not in defined_in(file)]


@pytest.mark.parametrize(("table", "lasts"), [("behaviours", [57]), ("faults", [40, 40])])
def test_every_row_names_tests(table: str, lasts: list[int]) -> None:
    rows = ROW.findall((TESTS / f"{table}.md").read_text("utf-8"))
    numbers = [number for last in lasts for number in range(1, last + 1)]
    assert [int(number) for number, _ in rows] == numbers
    assert [gone for _, named in rows for gone in missing(named)] == []


def test_a_test_that_is_gone_is_noticed() -> None:
    assert missing("`project/test_tables.py::test_gone`") == ["project/test_tables.py::test_gone"]
    assert missing("`project/gone.py::test_x`") == ["project/gone.py::test_x"]
