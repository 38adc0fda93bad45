"""Declarations of objects without state that a result depends on."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

# Weak references to the declared objects, by identity. An object that allows none is kept for ever,
# so that no other object gets its identity.
_declared: dict[int, Any] = {}


def stateless(value: T) -> T:
    """Declare that an object has no state that a result depends on; return the object.

    The cache and the steps of a pipeline then treat the object as unchanged. In a pipeline, each
    step creates it again when the step imports the module.

    Args:
        value: a client, a connection or a function such as one behind `functools.cache`; for a
            class, the declaration applies to all its instances.

    Example:
        engine = kitaru.stateless(sqlalchemy.create_engine(URL))

        @kitaru.stateless
        class Metrics:
            ...
    """
    key = id(value)
    _declared[key] = value
    with suppress(TypeError):
        _declared[key] = weakref.ref(value, lambda _: _declared.pop(key, None))
    return value


def is_stateless(value: Any) -> bool:
    """Return whether a value, or one of its classes, was declared stateless."""
    return bool(_declared) and (
        id(value) in _declared or any(id(cls) in _declared for cls in type(value).__mro__)
    )
