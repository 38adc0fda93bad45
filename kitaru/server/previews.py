"""Previews of stored values: a bounded part of a large one."""

from __future__ import annotations

from typing import Any

from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.to_json import as_json
from kitaru.wire.records import StoredValue

# A larger value is only downloaded: reading it would take memory for each request.
MOST_BYTES = 2 * 1024 * 1024
MOST_NODES = 2_000
MOST_TEXT = 8 * 1024
_CUT = "…"


def preview(journal: Journal, stored: StoredValue) -> tuple[Any, bool]:
    """Return a value as JSON and true; for a large one, a part of it (or None) and false."""
    if stored.size > MOST_BYTES:
        return None, False
    cut = _Cut()
    return cut.value(as_json(journal.fetch(stored))), not cut.is_cut


def within(value: Any, *, nodes: int, text: int) -> Any:
    """Return the first nodes of a JSON value, and the first characters of each text."""
    return _Cut(nodes, text).value(value)


class _Cut:
    def __init__(self, nodes: int = MOST_NODES, text: int = MOST_TEXT) -> None:
        self.is_cut = False
        self._left = nodes
        self._text = text

    def value(self, value: Any) -> Any:
        """Return the first nodes of a value; those left out are missing or `…`."""
        self._left -= 1
        if isinstance(value, str) and len(value) > self._text:
            self.is_cut = True
            return value[: self._text] + _CUT
        if isinstance(value, list):
            return [self.value(one) for one in self._first(value)]
        if isinstance(value, dict):
            return {key: self.value(value[key]) for key in self._first(value)}
        return value

    def _first(self, items: Any) -> Any:
        for item in items:
            if self._left <= 0:
                self.is_cut = True
                return
            yield item
