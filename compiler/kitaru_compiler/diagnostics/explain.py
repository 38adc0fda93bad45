"""Decides how a rule is explained: on a terminal, and as the reference page of all rules.

python -m kitaru_compiler.diagnostics.explain > docs/rules.md
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import textwrap
from typing import cast

from kitaru.errors import UsageError
from kitaru_compiler.diagnostics import rules
from kitaru_compiler.diagnostics.model import Rule

WIDTH = 96
FAMILIES = {
    "1": "Source",
    "2": "Data that crosses a cut",
    "3": "Control flow",
    "4": "Misuse of a primitive",
    "5": "What a target allows",
    "6": "Names and limits",
}


def codes() -> list[str]:
    """Return every code there is, in order, such as `KIT101`."""
    names = (module.name for module in pkgutil.iter_modules(rules.__path__))
    return sorted(name.upper() for name in names if name.startswith("kit"))


def load(code: str) -> Rule:
    """Return the rule called `code` (case does not matter).

    Raises UsageError when there is none, naming those of the same family.
    """
    wanted = code.strip().upper()
    if wanted.isdigit():
        wanted = f"KIT{wanted}"
    known = codes()
    if wanted not in known:
        near = [other for other in known if other.startswith(wanted[:4])]
        help = f"there are {', '.join(near)}" if near else ""
        raise UsageError(f"there is no diagnostic {code!r}", help=help)
    module = importlib.import_module(f"{rules.__name__}.{wanted.lower()}")
    return cast(Rule, module.RULE)


def explain(rule: Rule) -> str:
    """Return a rule as text for a terminal."""
    parts = [f"{rule.code} {rule.name} ({rule.severity})", _wrap(rule.what), _wrap(rule.why)]
    if rule.bad:
        parts.append("Instead of\n\n" + _code(rule.bad))
    if rule.good:
        parts.append(("write" if rule.bad else "For example") + "\n\n" + _code(rule.good))
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown() -> str:
    """Return the reference page of all rules as Markdown."""
    parts = ["# Diagnostics", "Made from the rules themselves; `kitaru explain CODE` prints one."]
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
        parts += ["Instead of", _fence(rule.bad)]
    if rule.good:
        parts += ["write" if rule.bad else "For example", _fence(rule.good)]
    return [part for part in parts if part]


def _wrap(text: str) -> str:
    paragraphs = textwrap.dedent(text).strip().split("\n\n")
    return "\n\n".join(textwrap.fill(_flow(p), WIDTH, break_on_hyphens=False) for p in paragraphs)


def _flow(text: str) -> str:
    return " ".join(text.split())


def _code(text: str) -> str:
    return textwrap.indent(textwrap.dedent(text).strip("\n"), "    ")


def _fence(text: str) -> str:
    body = textwrap.dedent(text).strip("\n")
    language = "sh" if body.startswith("kitaru ") else "python"
    return f"```{language}\n{body}\n```"


if __name__ == "__main__":
    sys.stdout.write(markdown())
