"""Determine whether the steps of a flow need the library that validates JSON schemas.

A step that waits for a plain type validates it itself. For any other schema it needs jsonschema-rs,
which is 6 MB that a container installs before it starts. Only flows that may use such a schema get
the library:

    kitaru.wait(schema=bool)                    no
    kitaru.wait(schema=Review)                  yes: the schema is checked when the wait is asked
    kitaru.llm("…", schema=Review)              no: pydantic checks the answer
    kitaru.llm("…", schema={"type": "object"})  yes
"""

from __future__ import annotations

import ast

from kitaru_compiler.frontend.names import Names
from kitaru_compiler.frontend.source import Source

REQUIREMENT = "jsonschema-rs==0.61.2"
_PLAIN = frozenset({"bool", "int", "float", "str", "list", "dict"})


def with_validator(pins: tuple[str, ...], names: Names, module: str) -> tuple[str, ...]:
    """Return the pins of a flow's steps, with the library if project code may need it.

    A version that the project itself pins is kept.
    """
    name = REQUIREMENT.partition("==")[0]
    if any(pin.partition("==")[0].lower().replace("_", "-") == name for pin in pins):
        return pins
    sources = names.project.closure(module).sources.values()
    needed = any(_needs_validator(source, names) for source in sources)
    return tuple(sorted([*pins, REQUIREMENT])) if needed else pins


def _needs_validator(source: Source, names: Names) -> bool:
    for node in source.nodes.of(ast.Call):
        # The names in `**options` are known only when the call is made.
        schemas = [k.value for k in node.keywords if k.arg in ("schema", None)]
        asked = _asked(node, source, names) if schemas else ""
        if asked and any(not _is_light(value, asked, source, names) for value in schemas):
            return True
    return False


def _asked(call: ast.Call, source: Source, names: Names) -> str:
    """Return the primitive that a call or a partial calls: `wait`, `llm`, or empty."""
    for callee in (call.func, *call.args[:1]):
        symbol = names.resolve(source, callee)
        if symbol is not None and symbol.kind == "primitive":
            name = symbol.name.removeprefix("aio.")
            if name in ("wait", "llm"):
                return name
        # An import inside a function binds a name that its module does not have.
        if symbol is None and isinstance(callee, ast.Name | ast.Attribute):
            last = callee.id if isinstance(callee, ast.Name) else callee.attr
            if callee is call.func and last in ("wait", "llm"):
                return last
    return ""


def _is_light(value: ast.expr, asked: str, source: Source, names: Names) -> bool:
    match value:
        case ast.Constant(value=None):
            return True
        case ast.Name(id=name) if name in _PLAIN:
            return True
        case ast.Subscript() | ast.BinOp():  # `list[int]`, `int | None`
            return asked == "llm"
        case ast.Name() | ast.Attribute():
            symbol = names.resolve(source, value)
            return asked == "llm" and symbol is not None and symbol.kind == "class"
    return False
