"""Codecs for functions, classes and instances of a project's classes.

Instances are rebuilt from their whole state. No `__init__`, validator or `__reduce__` runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from enum import EnumMeta, Flag
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from kitaru.runtime.codec import classes, json_fast_path, qualified_names, registry
from kitaru.runtime.codec.builtin_types import Kind, ShellKind, Taken, ValueKind
from kitaru.runtime.codec.slots import layout_of

# attrs recomputes it. Hashes of strings differ between processes.
_CACHED_HASH = "_attrs_cached_hash"
_CONTAINERS = (list, dict, set, str, bytes, bytearray, tuple, frozenset)
future_factory: ContextVar[Callable[[str], Any] | None] = ContextVar(
    "kitaru_future_factory", default=None
)


def _take_name(value: Any) -> Taken:
    return list(qualified_names.name_of(value) or ()), ()


def _take_object(value: Any) -> Taken:
    state, slots = qualified_names.instance_dict(value), slots_of(value)
    held = [part for item in (*state.items(), *slots.items()) for part in item]
    if _CACHED_HASH in state or _CACHED_HASH in slots:
        held[held.index(_CACHED_HASH) + 1] = None
    return 2 * len(state), [type(value), *held]


def slots_of(value: Any) -> dict[str, Any]:
    """Return the values in the slots of an instance with a known layout, by name."""
    found = {}
    for name, slot in (layout_of(type(value)) or {}).items():
        try:
            found[name] = slot.__get__(value)
        except AttributeError:
            continue
    return found


def _fill_object(target: Any, attributes: int, children: list[Any]) -> None:
    own = children[1 : 1 + attributes]
    if own:
        state = object.__getattribute__(target, "__dict__")
        state.clear()
        state.update(zip(own[::2], own[1::2], strict=True))
    layout = layout_of(type(target)) or {}
    slots = children[1 + attributes :]
    for name, value in zip(slots[::2], slots[1::2], strict=True):
        layout[name].__set__(target, value)


def _object_piece(value: Any, position: int) -> str:
    _, children = _take_object(value)
    return f".{children[position - 1]}" if position else ".__class__"


def _take_future(value: Any) -> Taken:
    state = value.frame_state() if hasattr(value, "frame_state") else None
    return value.id, (None, state)


def _create_future(future_id: str, _: Any) -> Any:
    factory = future_factory.get()
    if factory is None:
        raise LookupError("a frame holds a future, and nothing here makes futures")
    return factory(future_id)


def _fill_future(target: Any, _: Any, children: list[Any]) -> None:
    if children[1] is not None:
        target.set_frame_state(children[1])


NAME = ValueKind("name", _take_name, lambda data, _: qualified_names.find(*data))
MODULE = ValueKind(
    "module",
    lambda value: (qualified_names.module_name(value), ()),
    lambda name, _: qualified_names.load_module(name),
)
ENUM = ValueKind(
    "enum",
    lambda value: (value.name, (type(value),)),
    lambda name, parts: classes.enum_member(parts[0], name),
)
FLAG = ValueKind(
    "flag",
    lambda value: (value.value, (type(value),)),
    lambda value, parts: classes.flag_value(parts[0], value),
)
NAMED_TUPLE = ValueKind(
    "namedtuple",
    lambda value: (None, (type(value), *value)),
    lambda look, parts: classes.named_tuple(parts[0], look, parts[1:]),
    lambda value, at: f".{type(value)._fields[at - 1]}" if at else ".__class__",
)
METHOD = ValueKind(
    "method",
    lambda value: (None, (value.__func__, value.__self__)),
    lambda _, parts: MethodType(*parts),
    lambda _, position: ".__self__" if position else ".__func__",
)
BUILTIN_METHOD = ValueKind(
    "builtin-method",
    lambda value: (value.__name__, (value.__self__,)),
    lambda name, parts: getattr(parts[0], name),
    lambda _, __: ".__self__",
)
OBJECT = ShellKind(
    "object",
    _take_object,
    lambda _, cls: classes.new_object(cls),
    _fill_object,
    _object_piece,
)
FUTURE = ShellKind("future", _take_future, _create_future, _fill_future, lambda _, __: ".result()")

# Tags of nodes whose first slot is a class that declares fields.
LOOKED_AT = ("object", "namedtuple")
registry.add_tags((NAME, MODULE, ENUM, FLAG, NAMED_TUPLE, METHOD, BUILTIN_METHOD, OBJECT, FUTURE))


def kind_of_object(value: Any) -> Kind | None:
    """Return the kind with which a value of no built-in type is recorded, or None."""
    cls = type(value)
    if cls is ModuleType:
        return MODULE if qualified_names.module_name(value) else None
    if cls in (FunctionType, BuiltinFunctionType, MethodType) or isinstance(value, type):
        return _kind_of_callable(value)
    if isinstance(cls, EnumMeta):
        return _kind_of_member(value)
    if _is_future(cls):
        return FUTURE
    if issubclass(cls, tuple):
        fields = getattr(cls, "_fields", None)
        whole = type(fields) is tuple and len(fields) == len(value)
        return NAMED_TUPLE if whole and not qualified_names.instance_dict(value) else None
    if qualified_names.name_of(value):
        return NAME
    # A class defined in a function is a different class in each call.
    known = layout_of(cls) is not None and qualified_names.name_of(cls)
    return OBJECT if known and _has_plain_names(value) else None


def _kind_of_callable(value: Any) -> Kind | None:
    if type(value) is MethodType:
        return METHOD
    if qualified_names.name_of(value):
        return NAME
    receiver = getattr(value, "__self__", None)
    return BUILTIN_METHOD if type(receiver) in _CONTAINERS else None


def _kind_of_member(value: Any) -> Kind | None:
    if type(value).__members__.get(value.name) is value:
        return ENUM
    if isinstance(value, Flag) and json_fast_path.is_atom(value.value):
        return FLAG if type(value)(value.value) is value else None
    return None


def _is_future(cls: type) -> bool:
    futures = sys.modules.get("kitaru.runtime.engine.futures")
    return futures is not None and issubclass(cls, futures.Future)


def _has_plain_names(value: Any) -> bool:
    return all(type(name) is str for name in qualified_names.instance_dict(value))
