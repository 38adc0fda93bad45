"""Comments that suppress findings: `# kitaru: ignore[KIT202, KIT310]`."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

from kitaru.wire.plan import Span
from kitaru.wire.structs import Struct
from kitaru_compiler.diagnostics.catalogue import codes
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.source import IGNORE_WITHOUT_EFFECT

_IGNORE = re.compile(r"#\s*kitaru:\s*ignore\b(?:\s*\[(?P<codes>[^\]]*)\])?")
MOST_CODES = 100
_WORD = re.compile(r"[^\s,]+")


class Ignore(Struct):
    """One comment: its position, and each code in it with the position of the code.

    `first` is the first line that it covers. A line that ends in a backslash or inside a string has
    no room for a comment: the next comment covers it.
    """

    span: Span
    codes: tuple[tuple[str, Span], ...]
    first: int

    @property
    def lines(self) -> range:
        """The lines whose findings the comment may suppress."""
        return range(self.first, self.span.line + 1)


def ignores(texts: Mapping[str, str]) -> list[Ignore]:
    """Return the comments that suppress findings in the files with these texts."""
    return [ignore for file, text in texts.items() for ignore in _in_file(file, text)]


def silence(found: Iterable[Diagnostic], comments: Iterable[Ignore]) -> list[Diagnostic]:
    """Mark the findings that a comment on their line suppresses; errors cannot be suppressed."""
    asked = {
        (comment.span.file, line, code)
        for comment in comments
        for line in comment.lines
        for code, _ in comment.codes
    }

    def is_silenced(d: Diagnostic) -> bool:
        return d.severity != "error" and (d.span.file, d.span.line, d.code) in asked

    return [replace(d, silenced=True) if is_silenced(d) else d for d in found]


def without_effect(
    found: Iterable[Diagnostic], comments: Iterable[Ignore], looked_at: Iterable[Span]
) -> Iterator[Diagnostic]:
    """Find codes in comments that suppress nothing, in the parts of the source `looked_at`.

    In other parts another flow may need them.
    """
    parts = tuple(looked_at)
    listed = {(d.span.file, d.span.line, d.code): d for d in found}
    for comment in comments:
        span = comment.span
        if not any(_holds(part, span) for part in parts):
            continue
        if not comment.codes:
            message = "this silences nothing: it names no code"
            yield Diagnostic(
                IGNORE_WITHOUT_EFFECT, span, message, help="`# kitaru: ignore[KIT202]`"
            )
        for code, place in comment.codes:
            hits = (listed.get((span.file, line, code)) for line in comment.lines)
            hit = next(filter(None, hits), None)
            if hit is None or not hit.silenced:
                yield Diagnostic(
                    IGNORE_WITHOUT_EFFECT, place, _said(code, hit), help=_fix(code, hit)
                )


def _said(code: str, hit: Diagnostic | None) -> str:
    if hit is not None:
        return f"{code} is an error, and errors cannot be silenced"
    if code not in codes():
        return f"there is no {code}"
    return f"this silences nothing: no {code} on this line"


def _fix(code: str, hit: Diagnostic | None) -> str:
    return f"remove {code} from the comment" + (", and the error itself" if hit else "")


def _holds(part: Span, span: Span) -> bool:
    return part.file == span.file and part.line <= span.line <= part.end_line


def _in_file(file: str, text: str) -> Iterator[Ignore]:
    if not _IGNORE.search(text):
        return
    for line, column, comment, covered in _comments(file, text):
        match = _IGNORE.search(comment)
        if match:

            def place(start: int, end: int, line: int = line, before: int = column + 1) -> Span:
                return Span(file, line, before + start, line, before + end)

            first = match.start("codes")
            words = islice(_WORD.finditer(match["codes"] or ""), MOST_CODES)
            named = ((w.group().upper(), place(first + w.start(), first + w.end())) for w in words)
            yield Ignore(place(*match.span()), tuple(named), covered)


def _comments(file: str, text: str) -> Iterator[tuple[int, int, str, int]]:
    """Yield line, column from 0, text and first covered line of possible comments.

    In valid Python, comments are certain.
    """
    if not file.endswith(".py"):
        for number, line in enumerate(text.split("\n"), 1):
            yield number, 0, line, number
        return
    # The last line that ended where a comment could be.
    ended = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text, newline=None).readline):
            if token.type == tokenize.COMMENT:
                yield *token.start, token.string, ended + 1
            elif token.type in (tokenize.NL, tokenize.NEWLINE):
                ended = token.start[0]
    except (tokenize.TokenError, SyntaxError):  # reported by the file's own finding
        return
