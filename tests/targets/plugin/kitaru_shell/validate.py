"""Validate that a shell runs a script as intended."""

from __future__ import annotations

import re

from .script import read

_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def validate(text: str) -> list[str]:
    """Return what is wrong with a script, empty when nothing is."""
    try:
        script = read(text)
    except (ValueError, IndexError) as error:
        return [f"it cannot be read: {error}"]
    problems = [f"{name!r} is no name of a step" for name in script.steps if not _ok(name)]
    if len(set(script.steps)) < len(script.steps) or not script.steps:
        problems.append("each step belongs there once")
    return problems


def _ok(name: str) -> bool:
    return bool(_NAME.fullmatch(name))
