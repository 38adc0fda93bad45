"""Classes whose instances consist only of attributes, and the slots that store them.

Dataclasses, attrs classes and pydantic models declare this. Of other classes only the project's own
are accepted: a library may store state outside an object, such as a registry of finalizers, which
cannot be detected.
"""

from __future__ import annotations

from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from kitaru.runtime.codec.registry import model_kind
from kitaru.wire import modules

_HEAP_TYPE = 1 << 9
_POINTER = 8
# Bases without state, by name: not every project imports their modules.
_EMPTY = {("abc", "ABC"), ("typing", "Generic"), ("typing", "Protocol")}
# A class with one of these methods customises how objects are created, copied or destroyed.
_UNUSUAL = (
    "__new__", "__del__", "__copy__", "__deepcopy__", "__reduce__", "__reduce_ex__",
    "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__",
)  # fmt: skip
_layouts: dict[type, dict[str, Any] | None] = {}


def layout_of(cls: type) -> dict[str, Any] | None:
    """Return the slots of a class whose instances consist of attributes; None for other classes."""
    if cls not in _layouts:
        _layouts[cls] = _find_layout(cls)
    return _layouts[cls]


def _find_layout(cls: type) -> dict[str, Any] | None:
    classes = [k for k in cls.__mro__ if k is not object]
    if cls is object or not all(
        k.__flags__ & _HEAP_TYPE and k.__module__ != "builtins" for k in classes
    ):
        return None
    if not (model_kind(cls) or all(map(_is_ordinary, classes))):
        return None
    layout = _slots_of(classes)
    return None if layout is None or _has_hidden_state(cls, len(layout)) else layout


def _is_ordinary(cls: type) -> bool:
    if (cls.__module__, cls.__qualname__) in _EMPTY:
        return True
    own = vars(cls)
    return (
        modules.of_project(modules.recorded_name(cls.__module__))
        # A metaclass with its own `__call__` may return the same object again and again.
        and type(cls).__call__ is type.__call__
        and not any(name in own for name in _UNUSUAL)
        and isinstance(own.get("__dict__"), GetSetDescriptorType | None)
    )


def _slots_of(classes: list[type]) -> dict[str, Any] | None:
    layout: dict[str, Any] = {}
    for klass in classes:
        for name, slot in vars(klass).items():
            if isinstance(slot, MemberDescriptorType):
                if name in layout:
                    return None
                layout[name] = slot
    return layout


def _has_hidden_state(cls: type, slots: int) -> bool:
    """Return whether instances are larger than their attributes, or created by native code."""
    try:
        object.__new__(cls)
    except TypeError:
        return True
    pointers = slots + (cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0)
    return cls.__basicsize__ > object.__basicsize__ + _POINTER * pointers
