"""Comparison of trees, on which the text of generated code depends."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise

import pytest
from kitaru_compiler.ir.walk import is_same

ALIKE = [
    "0.0", "-0.0", "1", "True", "1.0", "1j", "'a'", "b'a'", "u'a'", "...", "None", "x", "y", "x.a",
    "f(a=1)", "f(**a)", "{**a}", "{a: a}", "1 + 2", "1 - 2", "a < b < c", "a < b", "[a]", "(a,)",
    "f'{a}'", "f'{a!r}'", "lambda: a", "lambda a: a", "del x", "x = 1", "x: int = 1", "x: int",
    "global x", "global x, y", "def f(): pass", "async def f(): pass", "def f(*, a=1): pass",
    "def f(*, a): pass", "import a", "import a as b", "from . import a", "from .. import a",
]  # fmt: skip


@pytest.mark.parametrize("one", ALIKE)
def test_small_differences_count(one: str) -> None:
    for other in ALIKE:
        left, right = ast.parse(one), ast.parse(f"\n\n{other}")
        assert is_same(left, right) is (ast.dump(left) == ast.dump(right)), other


def test_it_agrees_with_dump_over_a_module() -> None:
    body = ast.parse(inspect.getsource(inspect)).body
    for stmt, following in pairwise(body):
        assert is_same(stmt, ast.parse(ast.unparse(stmt)).body[0])
        assert is_same(stmt, following) is (ast.dump(stmt) == ast.dump(following))
