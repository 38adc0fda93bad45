"""Decides how nodes of a pipeline document are called, so that every engine accepts the names."""

from __future__ import annotations

import re
import unicodedata

MAX_KEY = 120
KEY = re.compile(r"[a-z](?:-?[a-z0-9])*")
# An engine derives its own node `<key>-driver` from a task; a task may not be called like one.
RESERVED_SUFFIX = "-driver"


def slug(text: str, *, fallback: str, longest: int = MAX_KEY) -> str:
    """Return `text` as lower-case letters, digits and single hyphens, starting with a letter."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    key = re.sub(r"[^a-z0-9]+", "-", ascii_text.lower()).strip("-")
    if not key or not key[0].isalpha():
        key = f"{fallback}-{key}".rstrip("-")
    key = key[:longest].rstrip("-")
    return f"{key[: longest - 5]}-step" if key.endswith(RESERVED_SUFFIX) else key


class Keys:
    """Hands out keys that are unique in one document, in the order they are asked for."""

    def __init__(self, *, longest: int = MAX_KEY) -> None:
        self._longest = longest
        self._taken: set[str] = set()

    def take(self, text: str, *, fallback: str) -> str:
        """Return a key for `text` that nobody was given before."""
        base = slug(text, fallback=fallback, longest=self._longest)
        key, number = base, 2
        while key in self._taken:
            suffix = f"-{number}"
            key = base[: self._longest - len(suffix)].rstrip("-") + suffix
            number += 1
        self._taken.add(key)
        return key
