"""Classes whose instances consist of attributes only, and the slots that store these.

A dataclass, an attrs class and a pydantic model say so. Of other classes only the project's own are
taken: what a library keeps beside an object, such as a finalizer's registry, nobody can see.
"""

from __future__ import annotations

from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from kitaru.runtime.codec.registry import model_kind
from kitaru.wire import modules

_HEAP_TYPE = 1 << 9
_POINTER = 8
# Bases without anything of their own, by name: not every project imports their modules.
_EMPTY = {("abc", "ABC"), ("typing", "Generic"), ("typing", "Protocol")}
# A class with one of these methods creates, copies or destroys objects in its own way.
_UNUSUAL = (
    "__new__", "__del__", "__copy__", "__deepcopy__", "__reduce__", "__reduce_ex__",
    "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__",
)  # fmt: skip
_layouts: dict[type, dict[str, Any] | None] = {}


def layout_of(cls: type) -> dict[str, Any] | None:
    """Return the slots of a class whose instances consist of attributes; None for others."""
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
        # A metaclass that is called itself may hand out one object again and again.
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
    """Return whether instances are larger than their attributes, or made by native code."""
    try:
        object.__new__(cls)
    except TypeError:
        return True
    pointers = slots + (cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0)
    return cls.__basicsize__ > object.__basicsize__ + _POINTER * pointers
