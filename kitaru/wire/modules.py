"""Decides under which module name a definition is recorded, and which modules are the project's."""

from __future__ import annotations

import functools
import importlib
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType

OURS = ("kitaru", "kitaru_compiler", "kitaru_targets", "kitaru_templates")
_OUTSIDE = ("site-packages", "dist-packages")


def recorded_name(module: str) -> str:
    """Return the importable name of `module`; a script's `__main__` becomes its file's name.

    `python flow.py` and `kitaru run flow.py` load one file under two names. Records hold the name
    under which both, and a step on another machine, can import it.
    """
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None) or ""
    # A console script has no suffix and shares its name with the package it starts.
    return _dotted_name(file) if file.endswith(".py") else module


@lru_cache(maxsize=8)
def _dotted_name(file: str) -> str:
    """Return the name under which a script's file is imported from above its outermost package."""
    path = Path(file).resolve()
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)


def loaded(name: str) -> ModuleType | None:
    """Return the module recorded as `name` when this process has it already, else None."""
    if name == recorded_name("__main__"):
        return sys.modules["__main__"]
    return sys.modules.get(name)


def load(name: str) -> ModuleType:
    """Return the module recorded as `name`, importing it when needed; raises ImportError."""
    return loaded(name) or importlib.import_module(name)


def file_of(name: str) -> Path | None:
    """Return the source file of the loaded module recorded as `name`, None when it has none."""
    found = getattr(loaded(name), "__file__", None)
    return Path(found).resolve() if found and found.endswith(".py") else None


def of_project(name: str) -> bool:
    """Say whether the loaded module recorded as `name` is the project's own source."""
    file = None if name.partition(".")[0] in OURS else file_of(name)
    return file is not None and is_project(file)


def is_project(file: Path) -> bool:
    """Say whether a source file is neither the standard library's nor an installed package's."""
    return not any(part in _OUTSIDE for part in file.parts) and not file.is_relative_to(_stdlib())


@lru_cache(maxsize=1)
def _stdlib() -> Path:
    return Path(functools.__file__).resolve().parent
