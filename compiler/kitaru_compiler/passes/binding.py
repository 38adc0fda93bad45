"""Bind the arguments of a helper call to its parameters, as Python does."""

from __future__ import annotations

import ast

from kitaru.wire.structs import Struct
from kitaru_compiler.ir.build import assign, at
from kitaru_compiler.ir.known import is_literal
from kitaru_compiler.ir.nodes import Arguments, FlowIR
from kitaru_compiler.ir.scope import argument_names

Why = tuple[str, str]


class Bound(Struct):
    """The `arguments` in evaluation order, and the statements that bind the other parameters."""

    arguments: Arguments
    defaults: list[ast.stmt]


def bind(call: ast.Call, helper: FlowIR) -> Bound | Why:
    """Bind a call's arguments, or return why the binding is unknown."""
    name = f"`{helper.name}`"
    if any(isinstance(a, ast.Starred) for a in call.args) or any(not k.arg for k in call.keywords):
        return f"{name} is called with `*` or `**`", "write each argument out"
    signature = helper.definition.args
    positional = [a.arg for a in [*signature.posonlyargs, *signature.args]]
    unnamed = [*_receiver(call, helper), *call.args]
    by_name = {a.arg for a in [*signature.args, *signature.kwonlyargs]}
    given = [*positional[: len(unnamed)], *(str(k.arg) for k in call.keywords)]
    named = {str(k.arg) for k in call.keywords}
    wrong = len(unnamed) > len(positional) or len(set(given)) < len(given)
    missing = [n for n in argument_names(signature) if n not in given]
    defaults = _defaults(helper)
    if wrong or not named <= by_name or not defaults.keys() >= set(missing):
        return f"the arguments do not fit `{helper.name}`", "this call raises a TypeError"
    unsafe = [n for n in missing if defaults[n] is None]
    if unsafe:
        reason = f"the default of `{unsafe[0]}` in {name} is one object for all calls"
        return reason, f"pass `{unsafe[0]}`, or use None as its default"
    values = [*unnamed, *(k.value for k in call.keywords)]
    # `defaults` contains None only for unsafe defaults, which were rejected above.
    made = [assign(value, n, value) for n in missing if (value := defaults[n]) is not None]
    return Bound(list(zip(given, values, strict=True)), [*made])


def _receiver(call: ast.Call, helper: FlowIR) -> list[ast.expr]:
    """Return the object whose method is called; None for a function."""
    if helper.outer or "." not in helper.function:
        return []
    assert isinstance(call.func, ast.Attribute)
    return [call.func.value]


def _defaults(helper: FlowIR) -> dict[str, ast.expr | None]:
    """Return an expression for each optional parameter's default; None if one is not safe.

    A default is evaluated once. A default that may be changed or rebound is therefore read from the
    function.
    """
    signature = helper.definition.args
    positional = [a.arg for a in [*signature.posonlyargs, *signature.args]]
    found: dict[str, ast.expr | None] = {}
    tail = positional[len(positional) - len(signature.defaults) :]
    for index, (name, default) in enumerate(zip(tail, signature.defaults, strict=True)):
        found[name] = _value(default, helper, "__defaults__", ast.Constant(index))
    for argument, only in zip(signature.kwonlyargs, signature.kw_defaults, strict=True):
        if only is not None:
            key = ast.Constant(argument.arg)
            found[argument.arg] = _value(only, helper, "__kwdefaults__", key)
    return found


def _value(default: ast.expr, helper: FlowIR, attribute: str, key: ast.Constant) -> ast.expr | None:
    """Return an expression that evaluates to a default's object in the helper's scope."""
    if is_literal(default):
        return default
    root = default
    while isinstance(root, ast.Attribute):
        root = root.value
    owner, *rest = helper.function.split(".")
    if not isinstance(root, ast.Name) or owner in helper.locals or owner not in helper.constants:
        return None
    function: ast.expr = ast.Name(owner, ast.Load())
    for part in [*rest, *(["function"] if helper.definition.decorator_list else []), attribute]:
        function = ast.Attribute(function, part, ast.Load())
    return at(default, ast.Subscript(function, key, ast.Load()))
