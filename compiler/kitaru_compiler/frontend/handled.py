"""Find project code that reads an exception that its caller may be handling.

    def report():
        log.exception("failed")     # in a handler's call of `report`, that handler's exception

In its own handler, code reads that handler's exception, which always exists.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from kitaru_compiler.frontend.source import Source
from kitaru_compiler.ir.known import EXCEPTION_READERS, reads_exception

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def exception_reader(source: Source) -> str:
    """Return where a module contains such code, for a diagnostic; empty if nowhere."""
    raises = any(node.exc is None for node in source.nodes.of(ast.Raise))
    if not raises and not any(name in source.text for name in EXCEPTION_READERS):
        return ""
    found = next(_outside_handlers(source.tree), None)
    if found is None:
        return ""
    if isinstance(found, ast.Raise):
        return f"`raise` in line {found.lineno} of {source.file}"
    line = getattr(found, "lineno", 1)
    return f"line {line} of {source.file}"


def _outside_handlers(tree: ast.AST) -> Iterator[ast.AST]:
    pending = [(tree, False)]
    while pending:
        node, handles = pending.pop()
        if not handles and reads_exception(node):
            yield node
        if isinstance(node, _Function):
            handles = False
        for child in ast.iter_child_nodes(node):
            inside = handles or (isinstance(node, ast.ExceptHandler) and child is not node.type)
            pending.append((child, inside))
