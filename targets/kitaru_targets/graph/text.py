"""Decides how the user's text is shown: every character visible, every line in its place."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import unicodedata
from collections.abc import Sequence

# What reorders or hides the text around it, so that source would read as what it is not.
_HIDDEN = [0x061C, *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF]
_CONTROL = [*range(0x09), *range(0x0A, 0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000)]
# No XML and no HTML has these.
_NONCHARACTERS = [0xFFFE, 0xFFFF]
_SHOWN = {code: f"[U+{code:04X}]" for code in [*_HIDDEN, *_CONTROL, *_NONCHARACTERS]}


def visible(text: str) -> str:
    """Return text with controls, and characters that reorder or hide others, by their numbers.

    >>> visible("a\\x00b")
    'a[U+0000]b'
    """
    return text.translate(_SHOWN)


def decoded(data: bytes) -> str:
    """Return the text of a source file that the compiler has read, line ends as `\\n`."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return io.TextIOWrapper(io.BytesIO(data), encoding, newline=None).read()


def lines_of(text: str) -> list[str]:
    """Return the lines as Python counts them: `str.splitlines` knows more line ends than it."""
    return text.removesuffix("\n").split("\n")


def written(lines: Sequence[str], node: ast.expr | ast.stmt) -> str:
    """Return the source of a node, its first line when it has several.

    What the compiler made has no source, and is written as it would be in Python.
    """
    first, last = node.lineno, node.end_lineno or node.lineno
    if not 0 < first <= len(lines):
        return ast.unparse(node)
    data = lines[first - 1].encode("utf-8", "surrogatepass")
    end = node.end_col_offset if first == last else None
    text = data[node.col_offset : end].decode("utf-8", "replace").strip()
    return f"{text} …" if text and last > first else text or ast.unparse(node)


def shortened(text: str, width: int) -> str:
    """Return the text in at most `width` columns, on one line."""
    text = visible(re.sub(r"[ \t\n]+", " ", text))
    if columns(text) <= width:
        return text
    while columns(text) > width - 1:
        text = text[: min(len(text) - 1, width)]
    return f"{text.rstrip()}…"


def columns(text: str) -> int:
    """Return how many columns of a fixed-width font the text takes."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
