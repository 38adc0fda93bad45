"""Resolve a `FLOW` argument to a file and a flow in it, without an import."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from kitaru.errors import UsageError
from kitaru.wire.names import nearest

FORMS = "path.py, path.py:flow_name or module:flow_name"


@dataclass(frozen=True, slots=True)
class Location:
    """A source file, and the name of a flow in it, `None` for its only flow.

    `module` is the dotted name of the file if the user passed one. `flows.agent:main` may refer to
    a folder without an `__init__.py`, which cannot be detected from the file.
    """

    path: Path
    flow: str | None
    module: str = ""


def locate(spec: str) -> Location:
    """Resolve a `FLOW` argument; raise UsageError if the file or module does not exist."""
    if spec.endswith(".py"):
        return Location(_existing(Path(spec), spec), None)
    left, colon, name = spec.rpartition(":")
    if not colon or not left or not name.isidentifier():
        raise UsageError(f"{spec!r} does not name a flow.", help=_suggest(spec))
    if left.endswith(".py"):
        return Location(_existing(Path(left), left), name)
    return Location(_module_file(left), name, left)


def _existing(path: Path, spec: str) -> Path:
    if path.is_file():
        return path
    if path.is_dir():
        raise UsageError(f"The path {spec} is a directory.", help=f"FLOW is {FORMS}")
    # Compare without the suffix, which would make all names similar.
    near = nearest(path.stem, (file.stem for file in path.parent.glob("*.py")))
    meant = f"Did you mean {path.with_name(near + '.py')}?\n" if near else ""
    raise UsageError(f"The file {spec} does not exist.", help=f"{meant}FLOW is {FORMS}")


def _module_file(module: str) -> Path:
    parts = module.split(".")
    if not all(part.isidentifier() for part in parts):
        raise UsageError(f"{module!r} is not a module.", help=f"FLOW is {FORMS}")
    for root in dict.fromkeys([Path(), Path("src"), *map(Path, sys.path)]):
        base = root.joinpath(*parts)
        for candidate in (base.with_suffix(".py"), base / "__init__.py"):
            if candidate.is_file():
                return candidate
    raise UsageError(f"There is no module {module!r} here.", help=f"FLOW is {FORMS}")


def _suggest(spec: str) -> str:
    if Path(f"{spec}.py").is_file():
        return f"Did you mean {spec}.py?"
    return f"FLOW is {FORMS}"
