"""Options of a target: those in `[tool.kitaru.TARGET]`, and those of one run (`--set`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kitaru.errors import UsageError
from kitaru.wire.names import suggestion


@dataclass(frozen=True, slots=True)
class Option:
    """A text that matches `pattern` as a whole; a number of it is at most `most`, if not 0."""

    meaning: str
    pattern: str
    most: int = 0

    def takes(self, text: str) -> bool:
        """Return whether a text is a value of this option."""
        fits = re.fullmatch(self.pattern, text, re.ASCII) is not None
        return fits and not (self.most and int(text) > self.most)


def check(target: str, given: Mapping[str, str], known: Mapping[str, Option]) -> None:
    """Raise UsageError for an option that the target does not have, or a value it cannot be."""
    for name, text in given.items():
        if name not in known:
            raise UsageError(
                f"[tool.kitaru.{target}] in pyproject.toml: there is no option {name!r}.",
                help=suggestion(name, known, f"options: {', '.join(sorted(known))}"),
            )
        if not known[name].takes(text):
            most = f" and at most {known[name].most:,}" if known[name].most else ""
            raise UsageError(
                f"[tool.kitaru.{target}] in pyproject.toml: {name} cannot be {text!r}.",
                help=f"{name} is {known[name].meaning}{most}",
            )


def check_run(target: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Check the names of a run's options.

    Raises:
        UsageError: an option that the target does not have.
    """
    unknown = sorted({*given} - {*known})
    if unknown:
        listed = f"Options of a run: {', '.join(sorted(known))}"
        raise UsageError(
            f"Unknown option {unknown[0]!r} for {target}.",
            help=suggestion(unknown[0], known, listed),
        )
