"""Render diagnostics on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from kitaru.wire.plan import Span
from kitaru.wire.printable import styled
from kitaru.wire.structs import Struct
from kitaru_compiler.diagnostics.lines import Line, one_line
from kitaru_compiler.diagnostics.model import Diagnostic, Severity

WIDTH = 160
_COLORS: Mapping[str, str] = {"error": "1;31", "warning": "1;33", "note": "1;36"}
_ORDER: Mapping[Severity, int] = {"error": 0, "warning": 1, "note": 2}


class _Mark(Struct):
    """A span to underline, with the text next to the underline."""

    span: Span
    label: str
    primary: bool


@dataclass(frozen=True, slots=True)
class _Paint:
    color: bool

    def __call__(self, code: str, text: str) -> str:
        return styled(text, code) if self.color and text else text


class _Look(Struct):
    """The layout of one finding: the digits of line numbers, and the total width."""

    gutter: int
    width: int
    paint: _Paint

    @property
    def room(self) -> int:
        return max(self.width - self.gutter - 3, 20)

    def line(self, number: int, shown: str) -> str:
        return f"{self.paint('34', f'{number:>{self.gutter}} |')} {shown}".rstrip()

    def beside(self, under: str = "") -> str:
        return f"{' ' * self.gutter} {self.paint('34', '|')} {under}".rstrip()


def render(
    diagnostics: Iterable[Diagnostic],
    sources: Mapping[str, str],
    *,
    color: bool = False,
    width: int = WIDTH,
) -> str:
    """Return all findings as text for a terminal, a blank line between them.

    `sources` contains the text of each file by the name in the spans. For a missing file, only the
    place is shown. `color` adds ANSI styles. Lines of source are cut around the marked parts to fit
    into `width` cells. Silenced findings are omitted. The result is empty if there are no other
    findings.
    """
    return "\n".join(_one(d, sources, width, _Paint(color)) for d in in_order(told(diagnostics)))


def told(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return the findings that no comment silences."""
    return [diagnostic for diagnostic in diagnostics if not diagnostic.silenced]


def in_order(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return the findings in reading order: by file and place, then errors first."""
    return sorted(
        diagnostics,
        key=lambda d: (d.span.file, d.span.line, d.span.column, _ORDER[d.severity], d.code),
    )


def summary(diagnostics: Iterable[Diagnostic]) -> str:
    """Return a count such as `1 error, 2 notes, 1 silenced`, or "" without findings."""
    listed = list(diagnostics)
    found = [d.severity for d in told(listed)]
    counts = ((severity, found.count(severity)) for severity in _ORDER)
    parts = [f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in counts if n]
    silenced = len(listed) - len(found)
    return ", ".join([*parts, f"{silenced} silenced"] if silenced else parts)


def to_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """Return one finding as JSON data; lines and columns count from 1, ends are exclusive."""
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        **_place(diagnostic.span),
        "message": diagnostic.message,
        "help": diagnostic.help,
        "related": [{**_place(span), "message": text} for span, text in diagnostic.related],
        "silenced": diagnostic.silenced,
    }


def _place(span: Span) -> dict[str, Any]:
    return {
        "file": span.file,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }


def _one(diagnostic: Diagnostic, sources: Mapping[str, str], width: int, paint: _Paint) -> str:
    severity = diagnostic.severity
    marks = [_Mark(diagnostic.span, diagnostic.label, True)]
    marks += [_Mark(span, label, False) for span, label in diagnostic.related]
    look = _Look(len(str(max(mark.span.line for mark in marks))), width, paint)
    head = paint(_COLORS[severity], f"{severity}[{diagnostic.code}]")
    lines = [f"{head}{paint('1', ': ' + one_line(diagnostic.message))}"]
    for number, (file, group) in enumerate(_by_file(marks)):
        first = group[0].span
        arrow = "-->" if number == 0 else ":::"
        lines.append(
            f"{' ' * look.gutter}{paint('34', arrow)} {one_line(file)}:{first.line}:{first.column}"
        )
        if file in sources:
            lines += _snippet(group, sources[file], look, severity)
    if diagnostic.help:
        lines += _help(diagnostic.help, look)
    return "\n".join(lines) + "\n"


def _by_file(marks: list[_Mark]) -> list[tuple[str, list[_Mark]]]:
    groups: dict[str, list[_Mark]] = {}
    for mark in marks:
        groups.setdefault(mark.span.file, []).append(mark)
    return list(groups.items())


def _snippet(marks: list[_Mark], source: str, look: _Look, severity: Severity) -> Iterator[str]:
    text = _split(source)
    yield look.beside()
    before = 0
    for number in sorted({mark.span.line for mark in marks}):
        if not 1 <= number <= len(text):
            continue
        if before and number == before + 2:
            yield look.line(before + 1, Line(text[before], [(0, 0)], look.room).shown)
        elif before and number > before + 2:
            yield look.paint("34", "...")
        before = number
        here = [mark for mark in marks if mark.span.line == number]
        ranges = [_range(mark, text[number - 1]) for mark in here]
        line = Line(text[number - 1], ranges, look.room)
        yield look.line(number, line.shown)
        for mark, (start, end) in zip(here, ranges, strict=True):
            under = line.under(start, end, "^" if mark.primary else "-")
            style = _COLORS[severity] if mark.primary else "34"
            yield look.beside(look.paint(style, f"{under} {_words(mark)}".rstrip()))


@lru_cache(maxsize=8)
def _split(source: str) -> list[str]:
    # Python ends a line at these three only; `splitlines` also splits at form feeds and U+2028.
    return source.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _range(mark: _Mark, text: str) -> tuple[int, int]:
    """Return the underlined range on the first line of a span, where the reader looks first."""
    several = mark.span.end_line > mark.span.line
    end = len(text.rstrip()) if several else mark.span.end_column - 1
    return min(mark.span.column - 1, len(text)), end


def _words(mark: _Mark) -> str:
    span = mark.span
    until = f"(to line {span.end_line})" if span.end_line > span.line else ""
    return " ".join(part for part in (one_line(mark.label), until) if part)


def _help(text: str, look: _Look) -> Iterator[str]:
    yield look.beside()
    for number, line in enumerate(map(one_line, text.split("\n"))):
        lead = f"{look.paint('34', '=')} {look.paint('1', 'help')}:" if number == 0 else " " * 7
        yield f"{' ' * look.gutter} {lead} {line}".rstrip()
