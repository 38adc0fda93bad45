"""Show what the fingerprint of a checkpoint covers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru.cli.output import Output
from kitaru.version import VERSION

if TYPE_CHECKING:
    from kitaru.ops.fingerprint import Contents
    from kitaru.wire.fingerprint import Package

STANDARD = "standard library"


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
    output.say()
    changing = "changes when one of these does (comments, layout and docstrings do not count):"
    output.say(changing, hang=0)
    rows = [
        (
            f"  {_file(found.root, p.module)}:{line}",
            p.name if number == 0 else f"{p.name} (changed)",
        )
        for p in found.parts.definitions
        for number, line in enumerate(p.lines)
    ]
    output.table(rows)
    output.say()
    output.say(
        "The cache also compares the arguments and the current values of all globals, defaults "
        "and captured variables that this code reaches.",
        hang=0,
    )
    if found.parts.packages:
        output.say()
        output.say(
            "or when another version of one of these is installed (the standard library and "
            "Kitaru itself excepted):",
            hang=0,
        )
        output.table(
            [(f"  {p.name}", _version(p), ", ".join(p.names)) for p in found.parts.packages]
        )


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
