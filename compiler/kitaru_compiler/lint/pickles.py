"""Find checkpoints that do not declare whether their results may be pickled."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.primitives import PICKLE_NOT_LITERAL
from kitaru_compiler.lint.body import Body


def pickle_option(body: Body) -> Iterator[Diagnostic]:
    """Find a `pickle=` that is neither True nor False."""
    for keyword in body.options:
        value = keyword.value
        plain = isinstance(value, ast.Constant) and type(value.value) is bool
        if keyword.arg == "pickle" and not plain:
            message = f"pickle={ast.unparse(value)} does not say whether results may be pickled"
            yield body.find(
                PICKLE_NOT_LITERAL, value, message, help="write pickle=True, or leave it out"
            )
