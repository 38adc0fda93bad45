"""Decides how templates are filled: the only place where Jinja2 is used."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2


def render(template: str, values: Mapping[str, Any]) -> str:
    """Return a template of this package, filled; a name it does not know is an error.

    >>> render("Dockerfile.j2", {...}).startswith("#")
    True
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("kitaru_templates", "files"),
        undefined=jinja2.StrictUndefined,
        # What the others become is no markup, and entities would stand there as text.
        autoescape=jinja2.select_autoescape(("html.j2", "svg.j2")),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
