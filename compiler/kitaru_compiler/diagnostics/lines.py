"""Source lines on a terminal: no hidden characters, wrapped at the width of the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from kitaru.wire.printable import visible

TAB = "    "
MORE = "…"
FAR = 500


class Line:
    """One line as cells of a terminal, cut to `room` around the visible ranges.

    `seen` are the ranges of characters, from 0, that should stay visible, the first above all.
    """

    def __init__(self, text: str, seen: Iterable[tuple[int, int]], room: int) -> None:
        ranges = list(seen)
        # Text this far away is never shown, and a line may have a million characters.
        self._before = max(0, ranges[0][0] - FAR)
        self._text = text.rstrip()[self._before : ranges[0][0] + FAR]
        cells = _cells(self._text)
        behind = len(text.rstrip()) > self._before + len(self._text)
        spans = [(self._cell(start), self._cell(end)) for start, end in ranges]
        self._first, self._last = _window(len(cells), spans, room)
        ends = (self._first > 0 or self._before > 0, self._last < len(cells) or behind)
        self.shown = _cut(cells[self._first : self._last], *ends).rstrip()

    def under(self, start: int, end: int, mark: str) -> str:
        """Return the marks under the characters from `start` to `end`, at least one `mark`."""
        left = min(max(self._cell(start), self._first), self._last)
        right = min(self._cell(end), self._last)
        return " " * max(0, left - self._first) + mark * max(1, right - left)

    def _cell(self, character: int) -> int:
        return cells_of(self._text[: max(0, character - self._before)])


def one_line(text: str) -> str:
    """Return `text` on one line: tabs become spaces, other control characters escapes."""
    return visible(text.replace("\t", TAB)).replace("\n", "\\n")


def cells_of(text: str) -> int:
    """Return the number of cells that `text` occupies."""
    return len(_cells(text))


def _cells(text: str) -> list[str]:
    """Return the text cell by cell: a wide character is followed by an empty cell."""
    if text.isascii() and text.isprintable():
        return list(text)
    found: list[str] = []
    for character in one_line(text):
        if unicodedata.category(character) in ("Mn", "Me"):
            if found:
                found[-2 if found[-1] == "" else -1] += character
            continue
        found.append(character)
        if unicodedata.east_asian_width(character) in "WF":
            found.append("")
    return found


def _window(length: int, ranges: list[tuple[int, int]], room: int) -> tuple[int, int]:
    """Return the cells to show: all ranges if they fit, else as much of the first as fits."""
    if length <= room:
        return 0, max(length, 1)
    start, end = min(r[0] for r in ranges), max(r[1] for r in ranges)
    if end - start > room - 2:
        start, end = ranges[0]
        end = min(end, start + room - 2)
    first = max(0, start - (room - (end - start)) // 2)
    last = min(length, first + room)
    return max(0, last - room), last


def _cut(shown: list[str], before: bool, behind: bool) -> str:
    if before and shown:
        # The cut character is half of a wide character, or is followed by a half.
        shown[0] = MORE
        if len(shown) > 1 and shown[1] == "":
            shown[1] = " "
    if behind and shown:
        if shown[-1] == "" and len(shown) > 1:
            shown[-2] = " "
        shown[-1] = MORE
    return "".join(shown)
