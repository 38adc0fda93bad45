"""Names of nodes in pipeline documents, in a form that every engine accepts."""

from __future__ import annotations

import re
import unicodedata

MAX_KEY = 120
KEY = re.compile(r"[a-z](?:-?[a-z0-9])*")
_OF_A_NODE = re.compile(r"(.*)-[0-9]+", re.ASCII)
# An engine derives its own node `<key>-driver` from a task, so no task may have such a name.
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
    """Assigns keys that are unique in one document, in the order of the calls."""

    def __init__(self, *, longest: int = MAX_KEY) -> None:
        self._longest = longest
        self._taken: set[str] = set()
        self._numbered: set[str] = set()

    def take(self, text: str, *, fallback: str, numbered: bool = False) -> str:
        """Return a new unique key for `text`.

        With `numbered`, the key followed by a hyphen and a number below 100 is reserved as well,
        because engines use such names for nodes.
        """
        longest = self._longest - len("-99") if numbered else self._longest
        base = slug(text, fallback=fallback, longest=longest)
        key, number = base, 2
        while not self._is_free(key, numbered):
            suffix = f"-n{number}" if base in self._numbered else f"-{number}"
            key = base[: longest - len(suffix)].rstrip("-") + suffix
            number += 1
        self._taken.add(key)
        if numbered:
            self._numbered.add(key)
        return key

    def _is_free(self, key: str, numbered: bool) -> bool:
        of_a_node = _OF_A_NODE.fullmatch(key)
        if key in self._taken or (of_a_node and of_a_node[1] in self._numbered):
            return False
        return not (numbered and any(f"{key}-{n}" in self._taken for n in range(100)))
