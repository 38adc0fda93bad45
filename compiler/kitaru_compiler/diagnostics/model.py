"""Diagnostics: a code, a place, a reason and a fix."""

from __future__ import annotations

from typing import Literal

from kitaru.errors import FlowError
from kitaru.wire.plan import Span
from kitaru.wire.structs import Struct

Severity = Literal["error", "warning", "note"]


class Fix(Struct):
    """A code change by `kitaru check --fix` that removes a finding.

    A safe fix does not change the meaning of working code. An unsafe fix may change it, and is
    applied with `--unsafe-fixes` only.
    """

    what: str
    is_safe: bool


class Rule(Struct):
    """One kind of finding: its description, its reason, a bad and a good example.

    `explain` prints it, and the rule pages of the docs are generated from it. A rule without a
    `fix` needs a person's decision about the code.
    """

    code: str
    name: str
    severity: Severity
    what: str
    why: str
    bad: str
    good: str
    fix: Fix | None = None


class Diagnostic(Struct):
    """One finding at one place.

    `related` are further spans that explain the finding, each with a short label. `help` is a fix
    that can be pasted, or the next step. `label` is the text next to the carets. `silenced` means
    that a comment on the line suppresses the finding.
    `replacement` is the text of the fix if only the finding knows it: a name, a number, a function.
    """

    rule: Rule
    span: Span
    message: str
    label: str = ""
    help: str = ""
    related: tuple[tuple[Span, str], ...] = ()
    silenced: bool = False
    replacement: str = ""

    @property
    def code(self) -> str:
        return self.rule.code

    @property
    def severity(self) -> Severity:
        return self.rule.severity


class SourceError(FlowError):
    """The source has errors; `diagnostics` are all findings, `sources` the text of each file."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...], sources: dict[str, str]) -> None:
        errors = [d for d in diagnostics if d.severity == "error"]
        first = errors[0]
        place = f"{first.span.file}:{first.span.line}:{first.span.column}"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"{first.code} {place} {first.message}{more}", help=first.help)
        self.diagnostics = diagnostics
        self.sources = sources
