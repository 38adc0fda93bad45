"""Decides under which path a finding names its file: one that the reader can open from here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kitaru_compiler.diagnostics.model import Diagnostic, SourceError

from kitaru.wire.plan import Span

Findings = tuple[tuple[Diagnostic, ...], dict[str, str]]


def from_here(
    diagnostics: tuple[Diagnostic, ...], sources: dict[str, str], source: Path
) -> Findings:
    """Return findings and sources with files relative to the working directory.

    The compiler names files relative to the import root of `source`, because what it writes must
    not depend on where it ran.
    """
    from kitaru_compiler.frontend.project import locate

    root = locate(source)[0].root

    def named(file: str) -> str:
        return os.path.relpath(root / file) if (root / file).exists() else file

    def moved(span: Span) -> Span:
        return replace(span, file=named(span.file))

    found = tuple(
        replace(d, span=moved(d.span), related=tuple((moved(s), text) for s, text in d.related))
        for d in diagnostics
    )
    return found, {named(file): text for file, text in sources.items()}


@contextmanager
def named_from_here(source: Path) -> Iterator[None]:
    """Raise SourceErrors again with files that can be opened from the working directory."""
    try:
        yield
    except SourceError as error:
        raise SourceError(*from_here(error.diagnostics, error.sources, source)) from None
