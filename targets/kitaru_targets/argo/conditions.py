"""Write and read conditions of tasks: comparisons of texts, joined by `&&` and `||`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from kitaru.wire.structs import Struct, replace

_REFERENCE = r"\{\{(?:tasks\.[a-z0-9-]+\.outputs|inputs)\.parameters\.[a-z0-9-]+\}\}"
_EQUAL = re.compile(rf"'(?P<value>{_REFERENCE})' (?P<operator>==|!=) '(?P<word>[^'\\\s]+)'")
_LESS = re.compile(rf"(?P<value>{_REFERENCE}) < (?P<most>[0-9]+)")
# Asks a text for its value: a reference such as `{{inputs.parameters.round}}`.
Lookup = Callable[[str], str]


class Comparison(Struct):
    """The output of a step is one of `words`, or if `negated` a different word.

    `value` is the reference to the output where the condition is written.
    """

    step: str
    output: str
    words: tuple[str, ...]
    negated: bool = False
    value: str = ""

    def replace(self, *, value: str) -> Comparison:
        """Return the comparison with a reference."""
        return replace(self, value=value)


def write(comparisons: Sequence[Comparison], rounds: str = "") -> str:
    """Return a condition that requires all comparisons, and `rounds`, which is written as it is."""
    parts = []
    for one in comparisons:
        operator, joint = ("!=", " && ") if one.negated else ("==", " || ")
        text = joint.join(f"'{one.value}' {operator} '{word}'" for word in one.words)
        several = len(one.words) > 1 and not one.negated and (len(comparisons) > 1 or rounds)
        parts.append(f"({text})" if several else text)
    return " && ".join([*parts, *([rounds] if rounds else [])])


def holds(condition: str, lookup: Lookup) -> bool:
    """Return whether a condition holds; raise ValueError if it is not one of ours."""
    return all(_term(term, lookup) for term in _split(condition, " && "))


def references(condition: str) -> list[str]:
    """Return the references in a condition; raise ValueError if it is not one of ours."""
    found: list[str] = []

    def note(reference: str) -> str:
        found.append(reference)
        return "0"

    for term in _split(condition, " && "):
        for part in _alternatives(term):
            _holds(part, note)
    return found


def _term(term: str, lookup: Lookup) -> bool:
    return any(_holds(part, lookup) for part in _alternatives(term))


def _alternatives(term: str) -> list[str]:
    inside = term[1:-1] if term.startswith("(") and term.endswith(")") else term
    return _split(inside, " || ")


def _split(text: str, joint: str) -> list[str]:
    return text.split(joint)


def _holds(text: str, lookup: Lookup) -> bool:
    if match := _EQUAL.fullmatch(text):
        return (lookup(match["value"]) == match["word"]) == (match["operator"] == "==")
    if match := _LESS.fullmatch(text):
        return int(lookup(match["value"])) < int(match["most"])
    raise ValueError(f"the condition {text!r} is not one of ours")
