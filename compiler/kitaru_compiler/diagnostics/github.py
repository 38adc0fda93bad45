"""Findings as GitHub workflow commands, which GitHub shows next to the lines."""

from __future__ import annotations

from collections.abc import Iterable

from kitaru_compiler.diagnostics.model import Diagnostic, Severity
from kitaru_compiler.diagnostics.render import in_order, told

_COMMANDS: dict[Severity, str] = {"error": "error", "warning": "warning", "note": "notice"}


def to_github(diagnostics: Iterable[Diagnostic]) -> list[str]:
    """Return one workflow command per finding, such as `::warning file=…,line=…,col=…::…`.

    Silenced findings have none.
    """
    return [_command(diagnostic) for diagnostic in in_order(told(diagnostics))]


def _command(diagnostic: Diagnostic) -> str:
    span = diagnostic.span
    properties = {
        "file": span.file,
        "line": span.line,
        "endLine": span.end_line,
        "col": span.column,
        "title": f"{diagnostic.code} {diagnostic.rule.name}",
    }
    told = ",".join(f"{name}={_property(str(value))}" for name, value in properties.items())
    help = f"\nhelp: {diagnostic.help}" if diagnostic.help else ""
    return f"::{_COMMANDS[diagnostic.severity]} {told}::{_data(diagnostic.message + help)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
