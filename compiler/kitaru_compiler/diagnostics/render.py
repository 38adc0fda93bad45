"""Decides how a diagnostic looks: on a terminal, and as JSON."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic, Severity

TAB = "    "
_COLORS: Mapping[str, str] = {"error": "1;31", "warning": "1;33", "note": "1;36"}
_ORDER: Mapping[Severity, int] = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True, slots=True)
class _Mark:
    """A span to underline, with the text beside the underline."""

    span: Span
    label: str
    primary: bool


@dataclass(frozen=True, slots=True)
class _Paint:
    color: bool

    def __call__(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and text else text


def render(
    diagnostics: Iterable[Diagnostic], sources: Mapping[str, str], *, color: bool = False
) -> str:
    """Return all findings as text for a terminal, a blank line between them.

    `sources` holds the text of each file by the name the spans use; a file that is missing from it
    is shown by its place alone. `color` adds ANSI styles. Empty when there are no findings; those
    that are silenced are left out.
    """
    return "\n".join(_one(d, sources, _Paint(color)) for d in in_order(told(diagnostics)))


def told(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return the findings that no comment silences."""
    return [diagnostic for diagnostic in diagnostics if not diagnostic.silenced]


def in_order(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return the findings as people read them: by file and place, then errors first."""
    return sorted(
        diagnostics,
        key=lambda d: (d.span.file, d.span.line, d.span.column, _ORDER[d.severity], d.code),
    )


def summary(diagnostics: Iterable[Diagnostic]) -> str:
    """Return a count such as `1 error, 2 notes, 1 silenced`; empty when there are no findings."""
    listed = list(diagnostics)
    found = [d.severity for d in told(listed)]
    counts = ((severity, found.count(severity)) for severity in _ORDER)
    parts = [f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in counts if n]
    silenced = len(listed) - len(found)
    return ", ".join([*parts, f"{silenced} silenced"] if silenced else parts)


def to_json(diagnostic: Diagnostic) -> dict[str, Any]:
    """Return one finding as plain data; lines and columns count from 1, ends are exclusive."""
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


def _one(diagnostic: Diagnostic, sources: Mapping[str, str], paint: _Paint) -> str:
    severity = diagnostic.severity
    marks = [_Mark(diagnostic.span, diagnostic.label, True)]
    marks += [_Mark(span, label, False) for span, label in diagnostic.related]
    gutter = len(str(max(mark.span.line for mark in marks)))
    head = paint(_COLORS[severity], f"{severity}[{diagnostic.code}]")
    lines = [f"{head}{paint('1', ': ' + diagnostic.message)}"]
    for number, (file, group) in enumerate(_by_file(marks)):
        first = group[0].span
        arrow = "-->" if number == 0 else ":::"
        lines.append(f"{' ' * gutter}{paint('34', arrow)} {file}:{first.line}:{first.column}")
        if file in sources:
            lines += _snippet(group, sources[file], gutter, severity, paint)
    if diagnostic.help:
        lines += _help(diagnostic.help, gutter, paint)
    return "\n".join(lines) + "\n"


def _by_file(marks: list[_Mark]) -> list[tuple[str, list[_Mark]]]:
    groups: dict[str, list[_Mark]] = {}
    for mark in marks:
        groups.setdefault(mark.span.file, []).append(mark)
    return list(groups.items())


def _snippet(
    marks: list[_Mark], source: str, gutter: int, severity: Severity, paint: _Paint
) -> Iterator[str]:
    text = _split(source)
    bar = paint("34", "|")
    yield f"{' ' * gutter} {bar}"
    before = 0
    for line in sorted({mark.span.line for mark in marks}):
        if not 1 <= line <= len(text):
            continue
        if before and line == before + 2:
            yield _source_line(line - 1, text[line - 2], gutter, paint)
        elif before and line > before + 2:
            yield paint("34", "...")
        before = line
        yield _source_line(line, text[line - 1], gutter, paint)
        for mark in (m for m in marks if m.span.line == line):
            under = _underline(mark, text[line - 1])
            style = _COLORS[severity] if mark.primary else "34"
            yield f"{' ' * gutter} {bar} {paint(style, under)}"


def _split(source: str) -> list[str]:
    # Python ends a line at these three only; `splitlines` would also at form feeds and U+2028.
    return source.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _source_line(number: int, text: str, gutter: int, paint: _Paint) -> str:
    shown = _printable(text).rstrip()
    prefix = paint("34", f"{number:>{gutter}} |")
    return f"{prefix} {shown}".rstrip()


def _underline(mark: _Mark, text: str) -> str:
    """A span over several lines is underlined on its first: that line is where the reader looks."""
    span = mark.span
    several = span.end_line > span.line
    end = len(text.rstrip()) if several else span.end_column - 1
    start = min(span.column - 1, len(text))
    width = max(1, _width(text[start:end]))
    until = f"(to line {span.end_line})" if several else ""
    words = " ".join(part for part in (mark.label, until) if part)
    return f"{' ' * _width(text[:start])}{('^' if mark.primary else '-') * width} {words}".rstrip()


def _printable(text: str) -> str:
    # A control character in a source line must not drive the reader's terminal.
    expanded = text.replace("\t", TAB)
    return "".join(c if unicodedata.category(c) not in ("Cc", "Cf") else "\ufffd" for c in expanded)


def _width(text: str) -> int:
    return sum(_cells(c) for c in _printable(text))


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _help(text: str, gutter: int, paint: _Paint) -> Iterator[str]:
    pad = " " * gutter
    yield f"{pad} {paint('34', '|')}"
    for number, line in enumerate(text.splitlines()):
        lead = f"{paint('34', '=')} {paint('1', 'help')}:" if number == 0 else " " * 7
        yield f"{pad} {lead} {line}".rstrip()
