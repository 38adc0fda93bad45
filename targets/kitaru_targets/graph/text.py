"""Lay out source text in the available width, with every line in its place."""

from __future__ import annotations

import ast
import contextlib
import io
import keyword
import re
import tokenize
import unicodedata
from collections.abc import Iterator, Sequence

from kitaru.wire.printable import visible


def decoded(data: bytes) -> str:
    """Return the text of a source file that the compiler has read, with `\\n` as line ends."""
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return io.TextIOWrapper(io.BytesIO(data), encoding, newline=None).read()


def lines_of(text: str) -> list[str]:
    """Return the lines as Python counts them: `str.splitlines` splits at more characters."""
    return text.removesuffix("\n").split("\n")


def highlighted(text: str) -> list[list[tuple[str, str]]]:
    """Return the lines in parts, each with `keyword`, `string`, `comment`, or nothing as its kind.

    A line's parts together are the line.
    """
    lines = lines_of(text)
    spans: dict[int, list[tuple[int, int, str]]] = {}
    with contextlib.suppress(tokenize.TokenError, SyntaxError):
        for kind, (first, start), (last, end) in _spans(text):
            for row in range(first, last + 1):
                stop = end if row == last else len(lines[row - 1])
                spans.setdefault(row, []).append((start if row == first else 0, stop, kind))
    return [_parts(line, spans.get(row, [])) for row, line in enumerate(lines, 1)]


def _spans(text: str) -> Iterator[tuple[str, tuple[int, int], tuple[int, int]]]:
    """Yield keywords, strings and comments; a formatted string is one string."""
    opened: list[tuple[int, int]] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        name = tokenize.tok_name[token.type]
        # Since Python 3.12, a formatted string has tokens of its own inside.
        if name == "FSTRING_START":
            opened.append(token.start)
        elif name == "FSTRING_END":
            start = opened.pop()
            if not opened:
                yield "string", start, token.end
        elif opened:
            continue
        elif name == "STRING":
            yield "string", token.start, token.end
        elif name == "COMMENT":
            yield "comment", token.start, token.end
        elif name == "NAME" and keyword.iskeyword(token.string):
            yield "keyword", token.start, token.end


def _parts(line: str, spans: Sequence[tuple[int, int, str]]) -> list[tuple[str, str]]:
    parts, at = [], 0
    for start, stop, kind in spans:
        parts += [("", line[at:start]), (kind, line[start:stop])]
        at = stop
    return [(kind, part) for kind, part in (*parts, ("", line[at:])) if part]


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
