"""Find the modules of a project in which a name can refer to Kitaru.

A name refers to a primitive, a checkpoint or a flow through imports: of `kitaru` itself, or of a
module in which a name can refer to it. Most modules of a large project have no such import:

    from kitaru import flow            near
    from app.agents import review      near, if app/agents.py is
    import app; app.agents.review      near, if any module below app is: the name leads there
    from app.text import clean         not near, if app/text.py is not
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from kitaru_compiler.frontend.source import Source


def near_kitaru(sources: Iterable[Source]) -> frozenset[str]:
    """Return the modules of one project that are near Kitaru, by name."""
    read = {source.module: source for source in sources}
    near = {module for module, source in read.items() if "kitaru" in source.text}
    above = {prefix for module in near for prefix in _prefixes(module)}
    others = {module: _reached(read[module]) for module in read.keys() - near}
    while True:
        found = {
            module
            for module, (modules, packages) in others.items()
            if not near.isdisjoint(modules) or not above.isdisjoint(packages)
        }
        if not found:
            return frozenset(near)
        near |= found
        above.update(prefix for module in found for prefix in _prefixes(module))
        others = {module: reached for module, reached in others.items() if module not in found}


def _reached(source: Source) -> tuple[set[str], set[str]]:
    """Return the modules that names may reach, and the packages below which they may reach any."""
    modules: set[str] = set()
    packages: set[str] = set()
    for node in source.nodes.imports:
        if isinstance(node, ast.Import):
            packages.update(alias.name.partition(".")[0] for alias in node.names)
            continue
        base = source.absolute(node.level, node.module or "")
        modules.update(_prefixes(base))
        packages.update(f"{base}.{alias.name}" for alias in node.names)
    return modules, packages


def _prefixes(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]
