"""Reads the programs of `hazards.md`: a heading, a block of Python, what becomes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kitaru.wire.plan import Plan

FILE = Path(__file__).with_name("hazards.md")
INPUTS: tuple[dict[str, Any], ...] = (
    {"x": 1, "q": [1, 2]},
    {"x": 0, "q": []},
    {"x": 2, "q": [[3], 0, 1]},
)
_PART = re.compile(r"^### (?P<title>.+)$|^```python *(?P<info>.*)\n(?P<code>(?s:.*?))^```$", re.M)


@dataclass
class Hazard:
    """One program: `source` is its module, `expected` what its block says of it."""

    title: str
    source: str
    beside: dict[str, str] = field(default_factory=dict)
    expected: dict[str, int] = field(default_factory=dict)


def read() -> list[Hazard]:
    """Return the programs in the order of the file."""
    found: list[Hazard] = []
    title, prelude, beside = "", "", {}
    for part in _PART.finditer(FILE.read_text(encoding="utf-8")):
        info, code = part["info"], part["code"]
        if part["title"]:
            title, beside = part["title"], {}
        elif info == "prelude":
            prelude = code
        elif info.startswith("beside="):
            beside[info.removeprefix("beside=")] = code
        else:
            source = code if re.search(r"^(def )?main\b", code, re.M) else prelude + _flow(code)
            expected = {key: int(n) for key, n in re.findall(r"(\w+)=(\d+)", info)}
            found.append(Hazard(title, source, beside, expected))
    return found


def write(expected: dict[str, dict[str, int]]) -> None:
    """Write what becomes of each program, by title, into the file."""
    title = ""

    def replaced(part: re.Match[str]) -> str:
        nonlocal title
        title = part["title"] or title
        if part["title"] or part["info"].startswith(("prelude", "beside=")):
            return part[0]
        words = " ".join(f"{key}={n}" for key, n in expected[title].items())
        return f"```python {words}\n{part['code']}```"

    text = FILE.read_text(encoding="utf-8")
    FILE.write_text(_PART.sub(replaced, text), encoding="utf-8")


def inputs_for(plan: Plan, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs that the flow takes, its literal defaults included."""
    defaults = {p.name: p.default for p in plan.parameters if p.has_literal_default}
    names = [parameter.name for parameter in plan.parameters]
    return {name: inputs.get(name, defaults.get(name)) for name in names}


def _flow(body: str) -> str:
    lines = "".join(f"    {line}" for line in body.splitlines(keepends=True))
    # The programs of async flows come after a prelude of their own.
    colour = "async " if re.search(r"\b(await|async)\b", body) else ""
    return f"\n@flow\n{colour}def main(x=1, q=[1, 2]):\n{lines}"
