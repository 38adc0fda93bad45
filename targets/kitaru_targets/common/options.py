"""Options of a target: those in `[tool.kitaru.TARGET]`, and those of one run (`--set`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from kitaru.errors import UsageError
from kitaru.wire.names import suggestion
from kitaru.wire.structs import Struct


class Option(Struct):
    """A string that fully matches `pattern`; as a number it is at most `most`, if that is not 0."""

    meaning: str
    pattern: str
    most: int = 0

    def takes(self, text: str) -> bool:
        """Return whether a string is a valid value of this option."""
        fits = re.fullmatch(self.pattern, text, re.ASCII) is not None
        return fits and not (self.most and int(text) > self.most)


def check(target: str, given: Mapping[str, str], known: Mapping[str, Option]) -> None:
    """Raise UsageError for an unknown option of the target, or an invalid value."""
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
        UsageError: the target does not have an option of that name.
    """
    unknown = sorted({*given} - {*known})
    if unknown:
        listed = f"Options of a run: {', '.join(sorted(known))}"
        raise UsageError(
            f"Unknown option {unknown[0]!r} for {target}.",
            help=suggestion(unknown[0], known, listed),
        )


def several(one: str) -> str:
    """Return the pattern of values that each match the pattern `one`, separated by commas."""
    return rf"{one}(?: *, *{one})*"


def parts(text: str) -> tuple[str, ...]:
    """Return the values of a list: `parts("a, b") == ("a", "b")`."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def pairs(text: str) -> dict[str, str]:
    """Return the values of a table: `pairs("team=ml, env=prod")["team"] == "ml"`."""
    return {key: value for key, _, value in (part.partition("=") for part in parts(text))}
