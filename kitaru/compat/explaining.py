"""Errors for attributes of Kitaru 0.21 and earlier, which state what to write instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


class Explaining:
    """Base of classes with attributes that `kitaru.compat.removed` may explain."""

    __slots__ = ()

    # Hidden from type checkers and `check`, so that they report a missing attribute.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            from kitaru.compat.removed import ATTRIBUTES

            owner = type(self).__name__
            instead = f". {ATTRIBUTES[key]}" if (key := f"{owner}.{name}") in ATTRIBUTES else ""
            message = f"{owner!r} object has no attribute {name!r}{instead}"
            raise AttributeError(message, name=name, obj=self)
