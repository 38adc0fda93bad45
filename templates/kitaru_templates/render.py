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
        # The results are Markdown and a Dockerfile, not HTML.
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
