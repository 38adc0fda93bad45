"""List the definitions and packages that the fingerprint of a checkpoint covers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.errors import UsageError
from kitaru.ops.flow_ref import Location
from kitaru.wire.fingerprint import Parts, fingerprint_parts, sources_under
from kitaru.wire.names import suggestion

if TYPE_CHECKING:
    from kitaru_compiler.frontend.names import Names, Symbol
    from kitaru_compiler.frontend.source import Source


@dataclass(frozen=True, slots=True)
class Contents:
    """A checkpoint's fingerprint; `root` is the import root of its project."""

    checkpoint: str
    root: Path
    parts: Parts


def fingerprint(location: Location) -> Contents:
    """Return the content of the fingerprint of the checkpoint at `location`, without importing it.

    Raises UsageError if the checkpoint does not exist, SourceError if a file is not valid Python.
    """
    from kitaru_compiler.frontend.names import Names
    from kitaru_compiler.frontend.project import open_project

    from kitaru.ops.findings import named_from_here

    with named_from_here(location):
        found, source = open_project(location.path, location.module)
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
    help = "it has no checkpoint"
    if known:
        help = suggestion(wanted, known, f"checkpoints here: {', '.join(known)}")
    raise UsageError(f"{source.file} has no checkpoint called {wanted!r}.", help=help)
