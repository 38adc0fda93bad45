"""Paths in findings, relative to the current directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kitaru_compiler.diagnostics.model import Diagnostic, SourceError

from kitaru.ops.flow_ref import Location
from kitaru.wire import disk
from kitaru.wire.plan import Span

Findings = tuple[tuple[Diagnostic, ...], dict[str, str]]
Report = Callable[[tuple[Diagnostic, ...], dict[str, str]], None]
"""Called with the findings of a source, and its texts by file, before anything is written."""


def is_fatal(diagnostics: Iterable[Diagnostic], *, strict: bool) -> bool:
    """Return whether findings prevent a compilation: errors do, with `strict` all findings."""
    return any(not d.silenced and (strict or d.severity == "error") for d in diagnostics)


def from_here(diagnostics: tuple[Diagnostic, ...], sources: dict[str, str], base: Path) -> Findings:
    """Return findings and sources with files relative to the working directory.

    The compiler names files relative to `base`, the base folder of the project, because its output
    must not depend on the working directory.
    """

    def moved(span: Span) -> Span:
        return replace(span, file=file_from_here(span.file, base))

    found = tuple(
        replace(d, span=moved(d.span), related=tuple((moved(s), text) for s, text in d.related))
        for d in diagnostics
    )
    return found, {file_from_here(file, base): text for file, text in sources.items()}


def file_from_here(file: str, base: Path) -> str:
    """Return the path of a file below `base` relative to the working directory."""
    return os.path.relpath(base / file) if disk.exists(base / file) else file


@contextmanager
def named_from_here(location: Location) -> Iterator[None]:
    """Re-raise SourceErrors with file names that can be opened from the working directory."""
    try:
        yield
    except SourceError as error:
        from kitaru_compiler.frontend.project import base_of

        base = base_of(location.path, location.module)
        raise SourceError(*from_here(error.diagnostics, error.sources, base)) from None
