"""What the user declares to keep no state that a result depends on."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")

# The objects themselves, so that no identity is used twice.
_declared: dict[int, Any] = {}


def stateless(value: T) -> T:
    """Declare that an object keeps no state that a result depends on, and return it.

    The cache and the steps of a pipeline then take the object for unchanged. A pipeline creates it
    again in each step, when the step imports the module.

    Args:
        value: a client, a connection or a function such as one behind `functools.cache`; of a
            class, all its instances are meant.

    Example:
        engine = kitaru.stateless(sqlalchemy.create_engine(URL))

        @kitaru.stateless
        class Metrics:
            ...
    """
    _declared[id(value)] = value
    return value


def is_stateless(value: Any) -> bool:
    """Return whether a value, or one of its classes, was declared stateless."""
    return bool(_declared) and (
        id(value) in _declared or any(id(cls) in _declared for cls in type(value).__mro__)
    )
