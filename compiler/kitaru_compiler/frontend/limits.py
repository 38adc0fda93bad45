"""The limits that `@flow` declares, checked before anything is deployed."""

from __future__ import annotations

import ast
from typing import Any

from kitaru.errors import UsageError
from kitaru.wire.flow_limits import FlowLimits, Limit, flow_limits, limit
from kitaru_compiler.frontend.flows import FlowDefinition, literal_of, parameters
from kitaru_compiler.frontend.names import Names

_OPTIONS = ("concurrency", "rate_limit", "priority")


def limits_of(flow: FlowDefinition, names: Names) -> FlowLimits | None:
    """Return the limits of a flow, None if it declares none.

    Raises UsageError with the place if an option is not written out or not valid, or if a path
    names no input.
    """
    given: dict[str, Any] = {}
    line = flow.definition.lineno
    try:
        for option in flow.options:
            if option.arg in _OPTIONS:
                line = option.value.lineno
                given[option.arg] = _value(flow, names, option.arg, option.value)
        found = flow_limits(*(given.get(option) for option in _OPTIONS))
        _check_paths(flow, found)
    except UsageError as error:
        raise UsageError(f"{flow.source.file}:{line}: {error.message}", help=error.help) from None
    return found


def _value(flow: FlowDefinition, names: Names, option: str, value: ast.expr) -> Any:
    """Return the value of an option: a number, a limit, a list of these, or a path."""
    if isinstance(value, ast.List | ast.Tuple):
        return [_value(flow, names, option, item) for item in value.elts]
    if isinstance(value, ast.Call):
        symbol = names.resolve(flow.source, value.func)
        if symbol is not None and (symbol.kind, symbol.name) == ("primitive", "limit"):
            return _limit(option, value)
    return _literal(option, value)


def _limit(option: str, call: ast.Call) -> Limit:
    """Return the limit that a call makes. Its arguments were checked like those of each call."""
    first = [_literal(option, one) for one in call.args]
    named = {}
    for one in call.keywords:
        # `**options` has no name.
        if one.arg is None:
            raise _not_written(option)
        named[one.arg] = _literal(option, one.value)
    return limit(*first, **named)


def _literal(option: str, value: ast.expr) -> Any:
    is_literal, found = literal_of(value)
    if not is_literal:
        raise _not_written(option)
    return found


def _not_written(option: str) -> UsageError:
    return UsageError(
        f"{option}= of @flow is not written out.",
        help='Compiling runs no code: write numbers and text, such as kitaru.limit(60, per="1m").',
    )


def _check_paths(flow: FlowDefinition, found: FlowLimits | None) -> None:
    known = [one.name for one in parameters(flow.definition)]
    for path in found.paths if found is not None else ():
        name = path.split(".")[1]
        if name not in known:
            raise UsageError(
                f"{flow.name} has no input {name}, which {path} names.",
                help=f"Its inputs: {', '.join(known) or 'none'}.",
            )
