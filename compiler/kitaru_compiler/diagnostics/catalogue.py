"""The catalogue of all rules, by code.

The rules of a family are defined in one module of `rules`, as constants with the rule's name:
KIT101 is `rules.source.SYNTAX_ERROR`. The first digit of a code is its family.
"""

from __future__ import annotations

from functools import cache

from kitaru.errors import UsageError
from kitaru_compiler.diagnostics.model import Rule
from kitaru_compiler.diagnostics.rules import (
    agents,
    cutting,
    names,
    primitives,
    source,
    targets,
    values,
)


@cache
def rules() -> dict[str, Rule]:
    """Return every rule by its code, such as `KIT101`, in the order of the codes."""
    families = (source, values, cutting, primitives, targets, names, agents)
    found = [rule for family in families for rule in vars(family).values() if type(rule) is Rule]
    return {rule.code: rule for rule in sorted(found, key=lambda rule: rule.code)}


def codes() -> list[str]:
    """Return every code, in order."""
    return list(rules())


def load(code: str) -> Rule:
    """Return the rule with this code (case does not matter).

    Raises UsageError for an unknown code, naming those of the same family.
    """
    wanted = code.strip().upper()
    if wanted.isdigit():
        wanted = f"KIT{wanted}"
    if wanted not in rules():
        near = [other for other in rules() if other.startswith(wanted[:4])]
        help = f"there are {', '.join(near)}" if near else ""
        raise UsageError(f"There is no diagnostic {code!r}.", help=help)
    return rules()[wanted]
