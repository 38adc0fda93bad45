"""Conditions on events, in the Common Expression Language: `data.amount > 100`.

An expression reads the variables `data`, `id`, `name` and `at` of an event. It has no loops and no
side effects. Evaluation of nested macros can take long, so an expression has at most one of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from kitaru.errors import EnvironmentFailure, UsageError

VARIABLES = ("data", "id", "name", "at")
_MOST_CHARACTERS = 2_048
_MACRO = re.compile(r"\.\s*(?:all|exists_one|exists|map|filter)\s*\(\s*(\w*)")
_TEXT = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"")
_PLACE = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?(.*)")
# The functions of the language; the names of operators contain other characters.
_FUNCTIONS = frozenset(
    {
        *("bytes", "double", "duration", "int", "string", "timestamp", "uint"),
        *("contains", "endsWith", "has", "matches", "size", "startsWith"),
        *("getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours"),
        *("getMilliseconds", "getMinutes", "getMonth", "getSeconds"),
    }
)
_EXAMPLE = "For example data.amount > 100 && data.currency == 'EUR'"


class InvalidExpression(UsageError):
    """An expression is not valid. `line` and `column`, from 1, say where; 0 if unknown."""

    def __init__(self, expression: str, reason: str, line: int = 0, column: int = 0) -> None:
        place = f" at line {line}, column {column}" if line else ""
        super().__init__(
            f"{expression!r} is not a valid expression{place}: {reason}", help=_EXAMPLE
        )
        self.reason = reason
        self.line = line
        self.column = column


def is_installed() -> bool:
    """Return whether expressions can be evaluated here."""
    return find_spec("cel") is not None


def check_expression(expression: Any, known: Sequence[str] = VARIABLES) -> str:
    """Return an expression if it is valid.

    Args:
        known: the variables that it may use.

    Raises:
        InvalidExpression: it is too long, cannot be parsed, has more than one macro, or uses a
            variable that is not known.
        EnvironmentFailure: the library is missing.
    """
    if not isinstance(expression, str) or not expression.strip():
        raise UsageError(f"{expression!r} is not an expression.", help=_EXAMPLE)
    if len(expression) > _MOST_CHARACTERS:
        raise InvalidExpression(
            f"{expression[:40]}…", f"it has more than {_MOST_CHARACTERS:,} characters"
        )
    program = _compiled(expression)
    macros = [*_MACRO.finditer(_plain(expression))]
    if len(macros) > 1:
        place = _place(expression, macros[1].start() + 1)
        raise InvalidExpression(expression, "at most one of all, exists, map and filter", *place)
    own = {found[1] for found in macros}
    for variable in program.variables():
        if variable not in known and variable not in own:
            reason = f"there is no {variable}; variables are {', '.join(known)}"
            raise InvalidExpression(expression, reason, *_found(expression, variable))
    for function in program.functions():
        if function.isidentifier() and not (function in _FUNCTIONS or function.startswith("_")):
            reason = f"there is no function {function}"
            raise InvalidExpression(expression, reason, *_found(expression, function))
    return expression


def members(expression: str, variable: str) -> list[str]:
    """Return the fields of a variable that an expression names, such as `order` of `input.order`.

    Example:
        >>> members("input.order == data.id && input.most > 1", "input")
        ['order', 'most']
    """
    named = re.findall(rf"(?<![\w.]){variable}\s*\.\s*(\w+)", _plain(expression))
    return list(dict.fromkeys(named))


def is_true(expression: str, variables: dict[str, Any]) -> bool:
    """Return whether an expression is true. A missing field or a wrong type means that it is not.

    Raises:
        EnvironmentFailure: the library is missing.
    """
    try:
        program = _compiled(expression)
    except InvalidExpression:
        return False
    try:
        return program.execute(variables) is True
    except Exception:
        # Data of senders: fields may be missing, of another type, or numbers too large.
        return False


@lru_cache(maxsize=1_000)
def _compiled(expression: str) -> Any:
    try:
        import cel
    except ImportError:
        raise EnvironmentFailure(
            "Expressions on events need the package common-expression-language.",
            help="python -m pip install 'common-expression-language>=0.10,<1'",
        ) from None
    try:
        return cel.compile(expression)
    except ValueError as error:
        found = _PLACE.search(str(error))
        if found is None:
            raise InvalidExpression(expression, "it cannot be parsed") from None
        line, column, reason = found.groups()
        raise InvalidExpression(expression, reason, int(line), int(column)) from None


def _found(expression: str, name: str) -> tuple[int, int]:
    found = re.search(rf"\b{re.escape(name)}\b", _plain(expression))
    return _place(expression, found.start() if found is not None else 0)


def _plain(expression: str) -> str:
    """Return an expression with spaces in place of its strings."""
    return _TEXT.sub(lambda text: " " * len(text[0]), expression)


def _place(expression: str, index: int) -> tuple[int, int]:
    before = expression[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1
