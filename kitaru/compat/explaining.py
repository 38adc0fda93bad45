"""Errors for attributes of Kitaru 0.21 and earlier that state what to write instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any


class Explaining:
    """Base of classes whose missing attributes `kitaru.compat.removed` may know."""

    __slots__ = ()

    # Hidden from type checkers and from `check`, for which a missing attribute stays missing.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            from kitaru.compat.removed import ATTRIBUTES

            owner = type(self).__name__
            instead = f". {ATTRIBUTES[key]}" if (key := f"{owner}.{name}") in ATTRIBUTES else ""
            message = f"{owner!r} object has no attribute {name!r}{instead}"
            raise AttributeError(message, name=name, obj=self)
