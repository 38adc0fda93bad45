"""Findings as a SARIF 2.1.0 document for code hosts and editors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from kitaru.version import VERSION
from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic, Rule
from kitaru_compiler.diagnostics.render import in_order


def to_sarif(diagnostics: Iterable[Diagnostic]) -> dict[str, Any]:
    """Return the findings and their rules as one SARIF document.

    Files are relative URIs; columns count characters from 1, ends are exclusive.
    """
    found = in_order(diagnostics)
    rules = sorted({d.code: d.rule for d in found}.values(), key=lambda rule: rule.code)
    index = {rule.code: number for number, rule in enumerate(rules)}
    driver = {"name": "kitaru", "version": VERSION, "rules": [_rule(rule) for rule in rules]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(d, index[d.code]) for d in found],
    }
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": rule.what},
        "fullDescription": {"text": f"{rule.what} {rule.why}"},
        "help": {"text": f"{rule.why}\n\nWrite for example:\n\n{rule.good}"},
        "defaultConfiguration": {"level": rule.severity},
    }


def _result(diagnostic: Diagnostic, rule: int) -> dict[str, Any]:
    help = f"\nhelp: {diagnostic.help}" if diagnostic.help else ""
    result: dict[str, Any] = {
        "ruleId": diagnostic.code,
        "ruleIndex": rule,
        "level": diagnostic.severity,
        "message": {"text": diagnostic.message + help},
        "locations": [_location(diagnostic.span)],
    }
    if diagnostic.silenced:
        result["suppressions"] = [{"kind": "inSource"}]
    if diagnostic.related:
        result["relatedLocations"] = [
            {"id": number, **_location(span), "message": {"text": label}}
            for number, (span, label) in enumerate(diagnostic.related, 1)
        ]
    return result


def _location(span: Span) -> dict[str, Any]:
    region = {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
    uri = quote(span.file.replace("\\", "/"))
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
