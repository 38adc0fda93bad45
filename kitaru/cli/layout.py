"""Tables and lines that fit a terminal.

A file or a pipe gets tables as wide as their cells need. A narrower terminal would break lines
anywhere, in the middle of a word or an id. So a line breaks at a space, and continues below its
column:

    editor_approves  waiting  Do the facts hold, as
                              far as you can tell?

If that leaves no room for the last column, a row continues with whole cells, each after the name of
its column, if there is one:

    3sa75frx-1m8kc6yk1  took: 0.06 s
        now: 0.04 s

A word that is longer than a line, such as a path, is not broken, so that it can be copied.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TextIO

from kitaru.wire.printable import plain as unstyled

_GAP = "  "
_HANG = 4
# In fewer columns than this, a text becomes a stack of single words.
_LEAST_ROOM = 12


def columns(stream: TextIO) -> int:
    """Return the width of a terminal; 0 for a file or a pipe, whose lines are never broken."""
    try:
        if not stream.isatty():
            return 0
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns)
    except (OSError, ValueError):
        return 0


def wrap(text: str, width: int, hang: int) -> str:
    """Break lines at spaces so that they fit `width` columns. 0 means no limit.

    Continued lines start at column `hang`.
    """
    if not width:
        return text
    return "\n".join(part for line in text.split("\n") for part in _broken(line, width, hang))


def table(rows: Sequence[Sequence[str]], width: int = 0, heads: Sequence[str] = ()) -> list[str]:
    """Return rows as aligned lines that fit `width` columns. 0 means no limit.

    Returns one string per row, the heads first. A row that continues contains line breaks.
    """
    titled = [heads, *rows] if heads else rows
    shown = [[cell.replace("\n", " ") for cell in row] for row in titled]
    aligned = _aligned(shown, width)
    if aligned is not None:
        return aligned
    if heads:
        return [_stacked(row, heads, width) for row in shown[1:]]
    # One row that is too wide must not break the other rows.
    narrow = _aligned([row for row in shown if _breadth(row) <= width], width)
    rest = iter(narrow or ())
    fits = [narrow is not None and _breadth(row) <= width for row in shown]
    return [
        next(rest) if fit else _stacked(row, heads, width)
        for row, fit in zip(shown, fits, strict=True)
    ]


def cells(text: str) -> int:
    """Return the display width of a text. Styles take no column, wide characters two."""
    plain = unstyled(text)
    if plain.isascii():
        return len(plain)
    from rich.cells import cell_len

    return cell_len(plain)


def _broken(line: str, width: int, hang: int) -> list[str]:
    if cells(line) <= width:
        return [line]
    parts = [""]
    # Pairs of a gap and a word; a line that starts with a word has an empty first gap.
    for gap, word in re.findall(r"( *)([^ ]+)", line):
        if parts[-1].strip() and cells(parts[-1] + gap + word) > width:
            parts.append(" " * hang + word)
        else:
            parts[-1] += gap + word
    return parts


def _aligned(rows: Sequence[Sequence[str]], width: int) -> list[str] | None:
    """Return rows with aligned columns, the last one wrapped; None if there is no room."""
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    lead = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
    if width and lead + max(widths[-1:], default=0) > width:
        longest = max(cells(word) for row in rows for word in row[-1].split(" "))
        if lead + max(longest, _LEAST_ROOM) > width:
            return None
    lines = (_GAP.join(map(_padded, row, widths)).rstrip() for row in rows)
    return [wrap(line, width, lead) for line in lines]


def _breadth(row: Sequence[str]) -> int:
    return cells(_GAP.join(row).rstrip())


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - cells(cell))


def _stacked(row: Sequence[str], heads: Sequence[str], width: int) -> str:
    lines: list[str] = []
    for place, cell in enumerate(row):
        head = heads[place] if heads and place else ""
        named = f"{head}: {cell}" if head else cell
        if not cell.strip():
            continue
        if lines and cells(lines[-1] + _GAP + named) <= width:
            lines[-1] += _GAP + named
        else:
            lines += _broken(" " * _HANG * bool(lines) + named, width, _HANG)
    return "\n".join(lines)
