"""Paths and intrinsic functions of a state machine, as far as our documents use them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kitaru.wire.structs import Struct

_PART = r"[A-Za-z_][A-Za-z0-9_]*"
_TEXT = r"'(?:[^'\\{}]|\{\})*'"
_TOKEN = re.compile(rf"\s*(\$\$?(?:\.{_PART})+|{_TEXT}|false|States\.[A-Za-z]+|[(),])")


class Path(Struct):
    """A value in the state's data, or in the context of the execution (`$$`)."""

    text: str

    @property
    def is_context(self) -> bool:
        return self.text.startswith("$$")

    @property
    def parts(self) -> list[str]:
        return self.text.split(".")[1:]


class Call(Struct):
    """A call of an intrinsic function."""

    name: str
    arguments: tuple[Any, ...]


def parse(text: str) -> Path | Call:
    """Return the expression of a field whose name ends with `.$`; raise ValueError otherwise.

    >>> parse("States.Format('{}/x', $.run)").name
    'States.Format'
    """
    tokens = _tokens(text)
    found = _expression(tokens)
    if tokens or not isinstance(found, Path | Call):
        raise ValueError(f"{text!r} is no path and no call")
    return found


def paths(expression: Any) -> list[Path]:
    """Return the paths in an expression."""
    if isinstance(expression, Path):
        return [expression]
    inside = expression.arguments if isinstance(expression, Call) else ()
    return [path for argument in inside for path in paths(argument)]


def evaluate(text: str, data: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
    """Return the value of an expression; raise ValueError if a path leads nowhere."""
    return _value(parse(text), data, context)


def find(path: str, data: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
    """Return the value at a path, None if there is nothing."""
    found: Any = context if path.startswith("$$") else data
    for part in path.split(".")[1:]:
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def _tokens(text: str) -> list[str]:
    found, place = [], 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"{text!r} cannot be read at {place}")
        found.append(match[1])
        place = match.end()
    return found


def _expression(tokens: list[str]) -> Any:
    if not tokens:
        raise ValueError("an expression ends too early")
    first = tokens.pop(0)
    if first.startswith("$"):
        return Path(first)
    if first.startswith("'"):
        return first[1:-1]
    if first == "false":
        return False
    if first not in FUNCTIONS or not tokens or tokens.pop(0) != "(":
        raise ValueError(f"{first!r} is no function that is used here")
    arguments = [_expression(tokens)]
    while tokens and tokens[0] == ",":
        tokens.pop(0)
        arguments.append(_expression(tokens))
    if not tokens or tokens.pop(0) != ")":
        raise ValueError(f"the call of {first} does not end")
    fewest, most, _ = FUNCTIONS[first]
    if not fewest <= len(arguments) <= most:
        raise ValueError(f"{first} takes {fewest} to {most} arguments")
    if first == "States.Format" and (
        not isinstance(arguments[0], str) or arguments[0].count("{}") != len(arguments) - 1
    ):
        raise ValueError("States.Format takes a text, and a value for each {} in it")
    return Call(first, tuple(arguments))


def _value(expression: Any, data: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
    if isinstance(expression, Path):
        found = find(expression.text, data, context)
        if found is None:
            raise ValueError(f"the path {expression.text} leads nowhere")
        return found
    if not isinstance(expression, Call):
        return expression
    values = [_value(argument, data, context) for argument in expression.arguments]
    return FUNCTIONS[expression.name][2](values)


def _format(values: Sequence[Any]) -> str:
    text, *rest = values
    texts = iter(value if isinstance(value, str) else json.dumps(value) for value in rest)
    return re.sub(re.escape("{}"), lambda _: next(texts), text)


# By name: the fewest and the most arguments, and what the function does.
FUNCTIONS: dict[str, tuple[int, int, Callable[[Sequence[Any]], Any]]] = {
    "States.Array": (1, 50, list),
    "States.Format": (1, 10, _format),
    "States.JsonMerge": (3, 3, lambda values: {**values[0], **values[1]}),
    "States.JsonToString": (1, 1, lambda values: json.dumps(values[0])),
    "States.StringToJson": (1, 1, lambda values: json.loads(values[0])),
}
