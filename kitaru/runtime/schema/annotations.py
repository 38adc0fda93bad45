"""Resolve the annotations of a function, as far as possible.

Names under `if TYPE_CHECKING:` do not exist at run time. The function's source shows where they are
imported from. Only modules that the steps of a pipeline have as well are imported for this purpose,
the standard library's and the project's, so that an input has the same type everywhere.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ast

Function = Callable[..., Any]
_UNRESOLVED = object()


def hints_of(function: Function) -> dict[str, Any]:
    """Return the annotations that can be resolved, independently of those that cannot.

    Imports under `if TYPE_CHECKING:` are made where possible. An annotation from a missing module
    stays unknown, and so does an invalid return annotation.
    """
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:
        written = getattr(function, "__annotations__", {})
        space = {**_for_type_checkers(function), **getattr(function, "__globals__", {})}
        found = {name: _resolved(one, space) for name, one in written.items()}
        return {name: hint for name, hint in found.items() if hint is not _UNRESOLVED}


def _for_type_checkers(function: Function) -> dict[str, Any]:
    """Return the imports under `if TYPE_CHECKING:` of a function's module, by name."""
    import ast
    from pathlib import Path

    space = getattr(function, "__globals__", {})
    try:
        tree = ast.parse(Path(space["__file__"]).read_bytes())
    except (KeyError, OSError, ValueError, SyntaxError):
        return {}
    found: dict[str, Any] = {}
    for block in tree.body:
        if isinstance(block, ast.If) and _is_for_type_checkers(block.test):
            for node in block.body:
                found |= _imported(node, space.get("__package__") or "")
    return found


def _is_for_type_checkers(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def _imported(node: ast.stmt, package: str) -> dict[str, Any]:
    """Return the names that an import statement binds, without those that cannot be imported."""
    import ast
    from importlib.util import resolve_name

    found: dict[str, Any] = {}
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return found
    for alias in node.names:
        try:
            if isinstance(node, ast.ImportFrom):
                module = resolve_name("." * node.level + (node.module or ""), package)
                found[alias.asname or alias.name] = getattr(_module(module), alias.name)
            else:
                module = _module(alias.name)
                top = alias.name.partition(".")[0]
                found[alias.asname or top] = module if alias.asname else _module(top)
        except Exception:  # a missing module, or one that fails
            continue
    return found


def _module(name: str) -> Any:
    """Import a module that every step has as well. Raise ImportError for any other.

    Other modules may be missing in steps. An input must not be converted here and remain JSON
    there.
    """
    import sys
    from importlib.util import find_spec
    from pathlib import Path

    from kitaru.wire.importing import import_module
    from kitaru.wire.modules import is_project

    top = name.partition(".")[0]
    if top not in sys.stdlib_module_names:
        spec = find_spec(top)
        if spec is None or not spec.origin or not is_project(Path(spec.origin)):
            raise ImportError(name)
    return import_module(name)


def _resolved(annotation: Any, space: dict[str, Any]) -> Any:
    def alone() -> None:
        """Has one annotation, and the names that the function sees."""

    alone.__annotations__ = {"value": annotation}
    try:
        return typing.get_type_hints(alone, globalns=space, include_extras=True)["value"]
    except Exception:
        return _UNRESOLVED
