"""Decides which rules there are: one file each in `rules`, found by its name."""

from __future__ import annotations

import importlib
import pkgutil
from typing import cast

from kitaru.errors import UsageError
from kitaru_compiler.diagnostics import rules
from kitaru_compiler.diagnostics.model import Rule


def codes() -> list[str]:
    """Return every code there is, in order, such as `KIT101`."""
    names = (module.name for module in pkgutil.iter_modules(rules.__path__))
    return sorted(name.upper() for name in names if name.startswith("kit"))


def load(code: str) -> Rule:
    """Return the rule called `code` (case does not matter).

    Raises UsageError when there is none, naming those of the same family.
    """
    wanted = code.strip().upper()
    if wanted.isdigit():
        wanted = f"KIT{wanted}"
    known = codes()
    if wanted not in known:
        near = [other for other in known if other.startswith(wanted[:4])]
        help = f"there are {', '.join(near)}" if near else ""
        raise UsageError(f"There is no diagnostic {code!r}.", help=help)
    module = importlib.import_module(f"{rules.__name__}.{wanted.lower()}")
    return cast(Rule, module.RULE)
