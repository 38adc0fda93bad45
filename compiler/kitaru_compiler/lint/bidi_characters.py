"""Find characters that make the source look like a different program."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.source import TEXT_IN_ANOTHER_ORDER
from kitaru_compiler.frontend.project import Project

# Embeddings, overrides and isolates: what Unicode says a compiler should warn of (UTS 55).
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")


def hidden_order(project: Project) -> Iterator[Diagnostic]:
    """Find characters that turn the order of the text around them, once a line."""
    for source in project.sources.values():
        if source is None or not _BIDI.search(source.text):
            continue
        for number, line in enumerate(source.lines, 1):
            if match := _BIDI.search(line):
                column = match.start() + 1
                span = Span(source.file, number, column, number, column + 1)
                name = f"U+{ord(match.group()):04X} {unicodedata.name(match.group()).lower()}"
                message = f"{name}: this line reads in another order than Python reads it"
                fix = f"remove it, or write `\\u{ord(match.group()):04x}` in a string that needs it"
                yield Diagnostic(TEXT_IN_ANOTHER_ORDER, span, message, "turns the text here", fix)
