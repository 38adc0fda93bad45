"""Fill templates. This is the only module that uses Jinja2."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2

from kitaru.wire.printable import visible


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return a template of this package, filled; a name it does not know is an error.

    Raises TypeError when something that is no plain literal would stand in a Python file.

    >>> render("Dockerfile.j2", {...}).startswith("#")
    True
    """
    environment = _python() if template.endswith(".py.j2") else _text()
    return environment.get_template(template).render(values)


class _Code(str):
    """Text that may stand in a Python file: the filters below have made it."""

    __slots__ = ()


def literal(value: Any) -> str:
    """Return a plain value as a Python literal, the same text for equal values.

    Raises TypeError on anything else, subclasses of plain types included.

    >>> literal({"a": [1, "it's"]})
    '{\'a\': [1, "it\'s"]}'
    """
    match value:
        case dict():
            inside = (f"{literal(key)}: {literal(item)}" for key, item in value.items())
            return _Code(f"{{{', '.join(inside)}}}")
        case list():
            return _Code(f"[{', '.join(map(literal, value))}]")
    if type(value) in (str, int, bool, type(None)) or (
        type(value) is float and math.isfinite(value)
    ):
        return _Code(repr(value))
    raise TypeError(f"{value!r} is no plain literal")


def word(value: Any) -> str:
    """Return a name of the template's own unchanged. Raise TypeError if it is not a name."""
    if type(value) is str and value.isidentifier() and value.isascii():
        return _Code(value)
    raise TypeError(f"{value!r} is no name")


def comment(text: str) -> str:
    """Return a text as a comment of Python on one line.

    >>> comment("a")
    '# a'
    """
    return _Code(f"# {''.join(c if c.isprintable() else '?' for c in text)}")


def code(text: str) -> str:
    """Return a text as code in Markdown: on one line, and none of it is markup.

    >>> code("a`b")
    '``a`b``'
    """
    shown = _one_line(text)
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    edge = " " if not shown.strip() or "`" in (shown[0], shown[-1]) else ""
    return f"{fence}{edge}{shown}{edge}{fence}"


def cell(text: str) -> str:
    """Return a text as code in a cell of a Markdown table."""
    return code(text).replace("|", "\\|")


def sh(text: str) -> str:
    """Return a text as one word of a line of shell."""
    return shlex.quote(_one_line(text))


def _one_line(text: str) -> str:
    return visible(text).replace("\n", "\\n")


def _only_code(value: Any) -> str:
    if isinstance(value, _Code):
        return value
    raise TypeError(f"{value!r} would stand in a Python file as it is")


@cache
def _text() -> jinja2.Environment:
    # What the others become is no markup, and entities would stand there as text.
    environment = _environment(autoescape=jinja2.select_autoescape(("html.j2", "svg.j2")))
    environment.filters.update(code=code, cell=cell, sh=sh)
    return environment


@cache
def _python() -> jinja2.Environment:
    environment = _environment(finalize=_only_code)
    environment.filters.update(py=literal, word=word, comment=comment)
    return environment


def _environment(**options: Any) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("kitaru_templates", "files"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
