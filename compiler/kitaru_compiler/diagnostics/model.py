"""Diagnostics: a code, a place, a reason and a fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kitaru.errors import FlowError
from kitaru.wire.plan import Span

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Fix:
    """What `kitaru check --fix` changes to make a finding disappear.

    A safe fix leaves the meaning of working code as it is. One that is not safe may change it, and
    is applied with `--unsafe-fixes` only.
    """

    what: str
    is_safe: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of finding: what it is, why it matters, a bad and a good example.

    `explain` prints it, and the docs' rule pages are generated from it. Without a `fix`, only a
    person can decide what the code should be.
    """

    code: str
    name: str
    severity: Severity
    what: str
    why: str
    bad: str
    good: str
    fix: Fix | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding in one place.

    `related` are further spans that help to understand it, each with a short label; `help` is a fix
    that can be pasted, or what to do next; `label` is the text beside the carets. `silenced` means
    that a comment on the line asks not to be told.
    `replacement` is what a fix writes, where only the finding knows: a name, a number, a function.
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
    """The source has errors; `diagnostics` holds all findings, `sources` the text of each file."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...], sources: dict[str, str]) -> None:
        errors = [d for d in diagnostics if d.severity == "error"]
        first = errors[0]
        place = f"{first.span.file}:{first.span.line}:{first.span.column}"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(f"{first.code} {place} {first.message}{more}", help=first.help)
        self.diagnostics = diagnostics
        self.sources = sources
