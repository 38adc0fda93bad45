"""Decides how the file that holds a flow is imported: once, and under the name that is recorded."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

from kitaru.errors import UsageError
from kitaru.wire.modules import loaded


def import_file(file: Path, module: str | None = None) -> ModuleType:
    """Import `file` as `module`; by default under the name that compiling it would give.

    The import root goes to the front of `sys.path`. A script that is this process's `__main__` is
    not imported a second time. What the module raises while it runs passes through.

    Raises:
        UsageError: there is no such file, or another module of that name is imported already.
    """
    file = file.resolve()
    if not file.is_file():
        raise UsageError(f"There is no file {file}.", help="Name the file that holds the flow.")
    root, name = locate(file) if module is None else (_root(file, module), module)
    present = loaded(name)
    if present is None:
        if str(root) not in sys.path:
            sys.path.insert(0, str(root))
        importlib.invalidate_caches()
        present = importlib.import_module(name)
    found = getattr(present, "__file__", None)
    if found is None or Path(found).resolve() != file:
        raise UsageError(
            f"{file} cannot be imported as {name}: that is {found or 'a built-in module'}.",
            help="Rename the file, so that no other module has its name.",
        )
    return present


def locate(file: Path) -> tuple[Path, str]:
    """Return the import root of `file`, above its outermost package, and its dotted name."""
    parts = [] if file.stem == "__init__" else [file.stem]
    folder = file.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def _root(file: Path, module: str) -> Path:
    depth = module.count(".") + (file.stem == "__init__")
    return file.parents[depth]
