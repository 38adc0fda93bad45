"""Decides what `kitaru explain FLOW:checkpoint` says: the fingerprint, and what is in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru.cli.locate import Location
from kitaru.cli.output import Output, table
from kitaru.errors import UsageError
from kitaru.version import VERSION
from kitaru.wire.fingerprint import Package, Parts, fingerprint_parts, sources_under

if TYPE_CHECKING:
    from kitaru_compiler.frontend.names import Names, Symbol
    from kitaru_compiler.frontend.source import Source

STANDARD = "standard library"


@dataclass(frozen=True, slots=True)
class Contents:
    """A checkpoint's fingerprint; `root` is the import root of its project."""

    checkpoint: str
    root: Path
    parts: Parts


def contents(location: Location) -> Contents:
    """Return what the fingerprint of the checkpoint at `location` covers; nothing is imported.

    Raises UsageError when there is no such checkpoint, SourceError when a file is no Python.
    """
    from kitaru_compiler.frontend import project
    from kitaru_compiler.frontend.names import Names
    from kitaru_compiler.frontend.source import read

    found, module = project.locate(location.path)
    resolved = location.path.resolve()
    source = read(resolved, module, resolved.relative_to(found.root).as_posix())
    found.sources[module] = source
    symbol = _checkpoint(source, Names(found), location.flow or "")
    assert symbol.source is not None and symbol.definition is not None
    name = getattr(symbol.definition, "name", "")
    parts = fingerprint_parts(sources_under(found.root), symbol.source.module, name)
    assert parts is not None
    return Contents(name, found.root, parts)


def _checkpoint(source: Source, names: Names, wanted: str) -> Symbol:
    from kitaru_compiler.frontend.flows import checkpoint_options
    from kitaru_compiler.ir.scope import bound_names

    bound = sorted({name for stmt in source.tree.body for name in bound_names(stmt)})
    symbols = {name: names.lookup(source, name) for name in bound}
    known = {n: s for n, s in symbols.items() if s is not None and s.kind == "checkpoint"}
    for name, symbol in known.items():
        if wanted in (name, checkpoint_options(symbol).name):
            return symbol
    help = f"checkpoints here: {', '.join(known)}" if known else "it has no checkpoint"
    raise UsageError(f"{source.file} has no checkpoint called {wanted!r}.", help=help)


def to_json(found: Contents) -> dict[str, Any]:
    """Return the contents as the command line's JSON."""
    definitions = [
        {"module": p.module, "name": p.name, "file": _file(found.root, p.module), "lines": p.lines}
        for p in found.parts.definitions
    ]
    packages = [
        {"name": p.name, "version": _version(p), "names": p.names} for p in found.parts.packages
    ]
    digest = found.parts.digest
    return {
        "checkpoint": found.checkpoint,
        "fingerprint": digest,
        "definitions": definitions,
        "packages": packages,
    }


def show(found: Contents, output: Output) -> None:
    """Write the contents for people."""
    output.say(f"{found.checkpoint}  {found.parts.digest}")
    output.say("\nchanges when one of these does (comments, layout and docstrings do not count):")
    rows = [
        (
            f"  {_file(found.root, p.module)}:{line}",
            p.name if number == 0 else f"{p.name} (changed)",
        )
        for p in found.parts.definitions
        for number, line in enumerate(p.lines)
    ]
    for line in table(rows):
        output.say(line)
    if found.parts.packages:
        output.say(
            "\nor when another version of one of these is installed (the standard library and "
            "Kitaru itself excepted):"
        )
    for line in table(
        [(f"  {p.name}", _version(p), ", ".join(p.names)) for p in found.parts.packages]
    ):
        output.say(line)


def _file(root: Path, module: str) -> str:
    stem = root.joinpath(*module.split("."))
    file = stem.with_suffix(".py")
    return os.path.relpath(file if file.is_file() else stem / "__init__.py")


def _version(package: Package) -> str:
    """Return how a package's version is shown."""
    if package.is_standard:
        return STANDARD
    if package.name == "kitaru":
        return VERSION
    return package.version or "not installed"
