"""Decides which distributions a container needs beyond its image: the project's own pinned list."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

from kitaru.wire.plan import Span
from kitaru_compiler.diagnostics.model import Diagnostic
from kitaru_compiler.diagnostics.rules import kit501, kit502
from kitaru_compiler.frontend.project import RESERVED, Project
from kitaru_compiler.frontend.source import Source

DEFAULT_FILE = "requirements.txt"
PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?==[A-Za-z0-9.!+*_-]+$")


def requirements(
    project: Project, source: Source, settings: dict[str, Any]
) -> tuple[tuple[str, ...], list[Diagnostic]]:
    """Return the requirements named by the project, sorted, and what is doubtful about them."""
    path = _file(project, settings)
    found: list[Diagnostic] = []
    pins: list[str] = []
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        text = line.partition(" #")[0].partition(" --hash")[0].strip().rstrip("\\").strip()
        if not text or text.startswith(("#", "-")):
            continue
        text = text.partition(";")[0].strip()
        pins.append(text)
        if not PINNED.match(text):
            span = Span(path.name, number, 1, number, len(line) + 1)
            message = f"`{text}` has no exact version: two runs may run different code"
            found.append(Diagnostic(kit501.RULE, span, message, help="pin it with =="))
    return tuple(sorted(pins)), [*found, *_missing(project, source, pins)]


def requirement_texts(project: Project, settings: dict[str, Any]) -> dict[str, str]:
    """Return the text of the list, by the name that findings call it; empty without one."""
    path = _file(project, settings)
    return {path.name: path.read_text(encoding="utf-8")} if path.is_file() else {}


def _file(project: Project, settings: dict[str, Any]) -> Path:
    return Path(settings.get("requirements") or project.root / DEFAULT_FILE)


def _missing(project: Project, source: Source, pins: list[str]) -> list[Diagnostic]:
    """Warn of imports that nothing provides; a module may differ a little from its distribution."""
    _, outside = project.closure(source.module)
    known = {_normal(re.split(r"[\[=<>!~ ]", pin)[0]) for pin in pins}
    found = []
    places = _imports(source)
    for name in sorted(outside - RESERVED - set(sys.stdlib_module_names) - {"__future__"}):
        if any(_normal(name) in pin or pin in _normal(name) for pin in known):
            continue
        node = places.get(name, source.tree)
        message = (
            f"`{name}` is imported, and no requirement provides it: a step may fail to import it"
        )
        fix = f"add it to {DEFAULT_FILE} with its exact version, or use an image that has it"
        found.append(Diagnostic(kit502.RULE, source.span(node), message, help=fix))
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imports(source: Source) -> dict[str, ast.AST]:
    """Return where each outside name is first imported."""
    found: dict[str, ast.AST] = {}
    for node in ast.walk(source.tree):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    found.setdefault(alias.name.split(".")[0], node)
            case ast.ImportFrom(module=str(module), level=0):
                found.setdefault(module.split(".")[0], node)
    return found
