"""Faults of the compiler itself, reported as notes instead of ending the command.

A valid program must compile. If a pass or a check fails unexpectedly, the caller continues without
it and reports KIT325, which names the failed part and the line:

    note[KIT325]: Kitaru's own `hoist` failed (NotNormal: line 11: … at verify.py:85)

With KITARU_TRACEBACK=1 the exception is raised, for bug reports and for the tests. No test passes
while a part of the compiler fails.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from kitaru.errors import KitaruError
from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules.cutting import INTERNAL_FAULT

VARIABLE = "KITARU_TRACEBACK"
HELP = (
    "this is a fault of Kitaru, and the flow is correct: please report it, with what "
    f"{VARIABLE}=1 prints"
)


def describe_fault(part: str, error: Exception) -> str:
    """Return the failed part, the reason and the place in one line.

    Raise `error` if it is not a fault of the compiler: a finding, a rejection, source that nests
    too deeply, or an exception that the user wants to see.
    """
    if isinstance(error, KitaruError | RecursionError) or os.environ.get(VARIABLE):
        raise error
    frame = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return f"Kitaru's own `{part}` failed ({said} at {Path(frame.filename).name}:{frame.lineno})"


def findings_of(
    check: str, place: Span, find: Callable[[], Iterable[Diagnostic]]
) -> list[Diagnostic]:
    """Return the findings of a check of the source at `place`, or a note that the check failed."""
    try:
        return [*find()]
    except Exception as error:
        message = f"{describe_fault(check, error)}: what it would report is missing"
        return [Diagnostic(INTERNAL_FAULT, place, message, "", HELP)]
