"""Lay out source text in the available width, with every line in its place."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import unicodedata
from collections.abc import Sequence

from kitaru.wire.printable import visible


def decoded(data: bytes) -> str:
    """Return the text of a source file that the compiler has read, with `\\n` as line ends."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return io.TextIOWrapper(io.BytesIO(data), encoding, newline=None).read()


def lines_of(text: str) -> list[str]:
    """Return the lines as Python counts them: `str.splitlines` splits at more characters."""
    return text.removesuffix("\n").split("\n")


def written(lines: Sequence[str], node: ast.expr | ast.stmt) -> str:
    """Return the source of a node, or its first line if there are several.

    A node created by the compiler has no source and is written as Python code.
    """
    first, last = node.lineno, node.end_lineno or node.lineno
    if not 0 < first <= len(lines):
        return ast.unparse(node)
    data = lines[first - 1].encode("utf-8", "surrogatepass")
    end = node.end_col_offset if first == last else None
    text = data[node.col_offset : end].decode("utf-8", "replace").strip()
    return f"{text} …" if text and last > first else text or ast.unparse(node)


def shortened(text: str, width: int) -> str:
    """Shorten the text to at most `width` columns, on one line."""
    text = visible(re.sub(r"[ \t\n]+", " ", text))
    if columns(text) <= width:
        return text
    while columns(text) > width - 1:
        text = text[: min(len(text) - 1, width)]
    return f"{text.rstrip()}…"


def columns(text: str) -> int:
    """Return the number of columns of the text in a fixed-width font."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
