"""Write and read conditions in the subset of CEL that all engines evaluate in the same way.

The Go driver evaluates CEL, and `kfp.local` translates it to Python. Both agree on comparisons of
one string input with words, and on `&&` between comparisons.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kitaru.wire.structs import Struct

_NAME = r"inputs\.parameter_values\['(?P<{0}>pipelinechannel--[a-z0-9-]+--[a-z]+)'\]"
_WORD = r"'[A-Za-z0-9_-]+'"
_WORDS = rf"\[{_WORD}(?:, {_WORD})*\]"
_TERM = re.compile(
    rf"{_NAME.format('one')} (?P<operator>==|!=) (?P<word>{_WORD})"
    rf"|{_NAME.format('some')} in (?P<words>{_WORDS})"
    rf"|!\({_NAME.format('none')} in (?P<others>{_WORDS})\)"
)


class Comparison(Struct):
    """The input called `name` is one of `words`, or is not one of them if `negated`."""

    name: str
    words: tuple[str, ...]
    negated: bool = False

    def text(self) -> str:
        """Return the comparison as CEL."""
        name = f"inputs.parameter_values['{self.name}']"
        if len(self.words) == 1:
            return f"{name} {'!=' if self.negated else '=='} '{self.words[0]}'"
        words = ", ".join(f"'{word}'" for word in self.words)
        inside = f"{name} in [{words}]"
        return f"!({inside})" if self.negated else inside

    def holds(self, value_of: Callable[[str], object]) -> bool:
        """Return whether the comparison is true for the inputs' values."""
        return (value_of(self.name) in self.words) != self.negated


def write(comparisons: list[Comparison]) -> str:
    """Return a condition that requires all comparisons."""
    return " && ".join(comparison.text() for comparison in comparisons)


def read(text: str) -> list[Comparison]:
    """Parse a condition's comparisons; raise ValueError if engines could disagree on it.

    >>> read("inputs.parameter_values['pipelinechannel--draft--status'] == 'go'")
    [Comparison(name='pipelinechannel--draft--status', words=('go',), negated=False)]
    """
    return [_term(term) for term in text.split(" && ")]


def _term(term: str) -> Comparison:
    match = _TERM.fullmatch(term)
    if not match:
        raise ValueError(f"engines could disagree on the condition {term!r}")
    words = match["word"] or match["words"] or match["others"]
    negated = match["operator"] == "!=" or match["others"] is not None
    name = match["one"] or match["some"] or match["none"]
    return Comparison(name, tuple(re.findall(r"'([^']+)'", words)), negated)
