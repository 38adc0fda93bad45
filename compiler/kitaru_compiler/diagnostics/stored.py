"""Findings as JSON, for the cache of the same version of the compiler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kitaru.wire.plan import Span
from kitaru.wire.structs import fields_of
from kitaru_compiler.diagnostics.catalogue import load
from kitaru_compiler.diagnostics.model import Diagnostic


def to_stored(findings: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """Return findings as JSON values for `from_stored`."""
    return [
        {
            "code": d.code,
            "span": fields_of(d.span),
            "message": d.message,
            "label": d.label,
            "help": d.help,
            "related": [[fields_of(span), text] for span, text in d.related],
            "silenced": d.silenced,
        }
        for d in findings
    ]


def from_stored(stored: Iterable[dict[str, Any]]) -> tuple[Diagnostic, ...]:
    """Return the findings that were passed to `to_stored`."""
    return tuple(
        Diagnostic(
            load(each["code"]),
            Span(**each["span"]),
            each["message"],
            each["label"],
            each["help"],
            tuple((Span(**span), text) for span, text in each["related"]),
            each["silenced"],
        )
        for each in stored
    )
