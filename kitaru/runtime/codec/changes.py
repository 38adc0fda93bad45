"""Decides whether the globals of the project's modules are still what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any

from kitaru.runtime.codec import names
from kitaru.runtime.codec.digests import Merkle
from kitaru.runtime.codec.encoder import Encoder, TooLarge, kind_of
from kitaru.runtime.codec.held import Modules, class_attributes, function_state
from kitaru.runtime.codec.objects import OBJECT
from kitaru.runtime.codec.places import LIMIT
from kitaru.runtime.codec.plain import json_text


def globals_digests(modules: Modules) -> dict[str, dict[str, str]]:
    """Return, by module, a digest per global that can be recorded.

    Modules and dunder names are left out, and so is what cannot be recorded. Of functions and
    classes of the project counts what they keep: defaults, captured variables and attributes; of
    others which they are. Of a global with more than 10,000 parts, not JSON, only the length.
    """
    return {name: _digests(variables, modules) for name, variables in modules.items()}


def _digests(variables: Mapping[str, Any], modules: Modules) -> dict[str, str]:
    found = {}
    for name, value in list(variables.items()):
        if name.startswith("__") or isinstance(value, ModuleType):
            continue
        digest = _digest(_told(value, modules))
        if digest is not None:
            found[name] = digest
    return found


def _told(value: Any, modules: Modules) -> Any:
    """Return what stands for a global: for a definition which it is, and what it keeps."""
    if isinstance(value, FunctionType):
        return [value.__module__, value.__qualname__, *function_state(value, modules)]
    if isinstance(value, type):
        kept = class_attributes(value, modules)
        told = {name: _told_in(value, held, modules) for name, held in kept}
        return [value.__module__, value.__qualname__, told]
    if type(value).__module__ in modules and kind_of(value) is not OBJECT:
        # What an object of the project's own class keeps, the user's code changes.
        return names.instance_dict(value) or value
    return value


def _told_in(cls: type, held: Any, modules: Modules) -> Any:
    if isinstance(held, staticmethod | classmethod):
        held = held.__func__
    inside = isinstance(held, type) and held.__qualname__.startswith(f"{cls.__qualname__}.")
    return _told(held, modules) if inside or isinstance(held, FunctionType) else held


def _digest(value: Any) -> str | None:
    opaque: list[str] = []
    try:
        nodes, root = Encoder("", opaque=opaque, limit=LIMIT).encode([value])
    except TooLarge:
        text = json_text(value)
        if text is not None:
            return hashlib.sha256(text.encode("ascii")).hexdigest()
        return f"{type(value).__qualname__}:{len(value) if hasattr(value, '__len__') else 0}"
    # A client or a lock is left out; a container that holds one still shows its other changes.
    return Merkle(nodes).digest(root)[0] if opaque != ["[0]"] else None
