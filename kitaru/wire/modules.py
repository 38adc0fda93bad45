"""Decides under which module name a definition is recorded, so that any process finds it."""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType


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
