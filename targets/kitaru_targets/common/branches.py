"""Names and conditions of branches, as the source states them."""

from __future__ import annotations

from collections.abc import Iterator

from kitaru.wire.plan import BranchItem, LayoutItem
from kitaru.wire.structs import Struct
from kitaru_targets.common.node_names import slug

_LONGEST = 40
# Different conditions should have different names.
_OPERATORS = {"!=": "not", ">=": "ge", "<=": "le", ">": "gt", "<": "lt"}


class Arm(Struct):
    """An arm: its name, the condition for a reader, and its items."""

    name: str
    when: str
    items: tuple[LayoutItem, ...]


def name(item: BranchItem) -> str:
    """Return the name of a branch: that of its condition, never of its line.

    >>> name(BranchItem("classify", (), Span("f.py", 3, 1, 4, 1), 'kind == "billing"'))
    'if-kind-billing'
    """
    return f"if-{_words(item)}"


def arms(item: BranchItem) -> Iterator[Arm]:
    """Yield the arms, with an `elif` chain as siblings: one step decides all of them."""
    yield from _arms(item, "then", ())


def _arms(item: BranchItem, first: str, given: tuple[str, ...]) -> Iterator[Arm]:
    """Yield the arms of a branch that is reached if the conditions `given` hold."""
    words = _words(item)
    tests = (*given, item.test) if item.test else given
    for number, arm in enumerate(item.arms):
        inner = arm[0] if len(arm) == 1 else None
        if isinstance(inner, BranchItem) and item.decider and inner.decider == item.decider:
            yield from _arms(inner, "elif", given) if number else _arms(inner, first, tests)
        elif number == 0:
            yield Arm(f"{first}-{words}", " and ".join(tests), arm)
        else:
            yield Arm(f"else-{words}", "else" if item.test else "", arm)


def _words(item: BranchItem) -> str:
    text = item.test or f"after-{item.decider or 'several-steps'}"
    for operator, word in _OPERATORS.items():
        text = text.replace(operator, f" {word} ")
    words = slug(text, fallback="test", longest=1_000)
    if len(words) > _LONGEST:
        words = words[: _LONGEST + 1].rpartition("-")[0] or words[:_LONGEST]
    return words
