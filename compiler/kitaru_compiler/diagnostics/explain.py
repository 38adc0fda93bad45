"""Explanations of rules, for a terminal and for the reference page of all rules.

This command generates the page:

    python -m kitaru_compiler.diagnostics.explain > docs/reference/rules.md
"""

from __future__ import annotations

import sys
import textwrap
import unicodedata

from kitaru_compiler.diagnostics.catalogue import codes, load
from kitaru_compiler.diagnostics.model import Rule

WIDTH = 96
HEAD = """
Generated from the rules. `kitaru explain CODE` prints one of them. A comment at the end of the
line, such as `# kitaru: ignore[KIT202]`, silences a warning or note:
[silence a finding](../how-to/fixing.md#silence-a-finding). With `--fix`, `kitaru check` makes the
safe changes listed here and keeps formatting and comments: see [fix a flow](../how-to/fixing.md).
"""
FAMILIES = {
    "1": "Source",
    "2": "Data that crosses a cut",
    "3": "Control flow",
    "4": "Misuse of a primitive",
    "5": "What a target allows",
    "6": "Names and limits",
    "7": "Agents of other harnesses",
}


def explain(rule: Rule) -> str:
    """Return a rule as text for a terminal."""
    parts = [f"{rule.code} {rule.name} ({rule.severity})", _wrap(rule.what), _wrap(rule.why)]
    if rule.bad:
        parts.append("Instead of:\n\n" + _code(rule.bad))
    if rule.good:
        parts.append(("Write:" if rule.bad else "For example:") + "\n\n" + _code(rule.good))
    parts.append(_wrap(_fix(rule)))
    if rule.severity != "error":
        parts.append(f"If this is intended, end the line with  # kitaru: ignore[{rule.code}]")
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown() -> str:
    """Return the reference page of all rules as Markdown."""
    parts = ["# Diagnostics", _flow(HEAD)]
    family = ""
    for code in codes():
        if code[3] != family:
            family = code[3]
            parts.append(f"## {family}xx {FAMILIES[family]}")
        parts += _section(load(code))
    return "\n\n".join(parts) + "\n"


def _section(rule: Rule) -> list[str]:
    parts = [f"### {rule.code} {rule.name}", f"*{rule.severity}.* {_flow(rule.what)}"]
    parts.append(_flow(rule.why))
    if rule.bad:
        parts += ["Instead of:", _fence(rule.bad)]
    if rule.good:
        parts += ["Write:" if rule.bad else "For example:", _fence(rule.good)]
    parts.append(_flow(_fix(rule)))
    return [part for part in parts if part]


def _fix(rule: Rule) -> str:
    """Return how `kitaru check --fix` fixes a finding of the rule."""
    if rule.fix is None:
        return "No automatic fix."
    if rule.fix.is_safe:
        return f"Fixed by `kitaru check --fix`. {rule.fix.what}"
    return f"Fixed by `kitaru check --fix --unsafe-fixes`. {rule.fix.what}"


def _wrap(text: str) -> str:
    paragraphs = textwrap.dedent(text).strip().split("\n\n")
    return "\n\n".join(textwrap.fill(_flow(p), WIDTH, break_on_hyphens=False) for p in paragraphs)


def _flow(text: str) -> str:
    return " ".join(text.split())


def _code(text: str) -> str:
    return textwrap.indent(_visible(textwrap.dedent(text).strip("\n")), "    ")


def _visible(text: str) -> str:
    # An example with a silencing comment must not silence itself.
    return "".join(f"[U+{ord(c):04X}]" if unicodedata.category(c) == "Cf" else c for c in text)


def _fence(text: str) -> str:
    body = _visible(textwrap.dedent(text).strip("\n"))
    language = "sh" if body.startswith("kitaru ") else "python"
    return f"```{language}\n{body}\n```"


if __name__ == "__main__":
    sys.stdout.write(markdown())
