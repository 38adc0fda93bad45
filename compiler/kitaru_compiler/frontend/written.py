"""Options of `@flow` that are written out in the source: compiling runs no code."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kitaru.errors import UsageError
from kitaru_compiler.frontend.flows import FlowDefinition, literal_of
from kitaru_compiler.frontend.names import Names


def written_options(
    flow: FlowDefinition,
    names: Names,
    options: tuple[str, ...],
    makers: Mapping[str, Callable[..., Any]],
    example: str,
) -> tuple[dict[str, Any], int]:
    """Return the values of these options, and the line of the last one.

    Args:
        makers: functions that an option may call, by name, such as `limit`.
        example: what to write instead, for the error.

    Raises UsageError, with the place, if a value is not written out or a call is not valid.
    """
    given: dict[str, Any] = {}
    line = flow.definition.lineno
    reader = _Reader(flow, names, makers, example)
    for option in flow.options:
        if option.arg in options:
            line = option.value.lineno
            with located(flow, line):
                given[option.arg] = reader.value(option.arg, option.value)
    return given, line


@contextmanager
def located(flow: FlowDefinition, line: int) -> Iterator[None]:
    """Add the place to a UsageError of the block."""
    try:
        yield
    except UsageError as error:
        place = f"{flow.source.file}:{line}: {error.message}"
        raise UsageError(place, help=error.help) from None


class _Reader:
    def __init__(
        self,
        flow: FlowDefinition,
        names: Names,
        makers: Mapping[str, Callable[..., Any]],
        example: str,
    ) -> None:
        self._flow = flow
        self._names = names
        self._makers = makers
        self._example = example

    def value(self, option: str, value: ast.expr) -> Any:
        """Return the value of an option: a literal, a call of a maker, or a list of these."""
        if isinstance(value, ast.List | ast.Tuple):
            return [self.value(option, item) for item in value.elts]
        if isinstance(value, ast.Call):
            symbol = self._names.resolve(self._flow.source, value.func)
            if symbol is not None and symbol.kind == "primitive" and symbol.name in self._makers:
                return self._made(option, self._makers[symbol.name], value)
        return self._literal(option, value)

    def _made(self, option: str, make: Callable[..., Any], call: ast.Call) -> Any:
        """Return what a call makes. Its arguments were checked like those of each call."""
        first = [self._literal(option, one) for one in call.args]
        named = {}
        for one in call.keywords:
            # `**options` has no name.
            if one.arg is None:
                raise self._not_written(option)
            named[one.arg] = self._literal(option, one.value)
        return make(*first, **named)

    def _literal(self, option: str, value: ast.expr) -> Any:
        is_literal, found = literal_of(value)
        if not is_literal:
            raise self._not_written(option)
        return found

    def _not_written(self, option: str) -> UsageError:
        return UsageError(
            f"{option}= of @flow is not written out.",
            help=f"Compiling runs no code: write numbers and text, such as {self._example}.",
        )
