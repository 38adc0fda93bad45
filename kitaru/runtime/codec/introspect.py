"""List the objects that code can reach through an object, and the steps to them."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

from kitaru.runtime.codec import json_fast_path, qualified_names
from kitaru.runtime.codec.instances import slots_of

Modules = Mapping[str, Mapping[str, Any]]
# A dot and an attribute name, or a bracket and an index or key.
Step = tuple[str, Any]
Held = Iterator[tuple[Step | None, Any]]
CONTAINERS = (list, tuple, dict, deque, OrderedDict, defaultdict, Counter)


def held_by(value: Any, modules: Modules) -> Held:
    """Yield the objects that `value` contains, each with the step that leads to it, if any.

    `modules` are the project's modules. Functions and classes of other modules are skipped.
    """
    if isinstance(value, ModuleType):
        inside = vars(value).values() if value.__name__ not in modules else ()
        return ((None, held) for held in list(inside))
    if isinstance(value, type):
        return (((".", name), held) for name, held in class_attributes(value, modules))
    if isinstance(value, FunctionType):
        return ((None, held) for held in function_state(value, modules))
    return _instance(value)


def class_attributes(cls: type, modules: Modules) -> list[tuple[str, Any]]:
    """Return the attributes of a project's class, except those with names defined by Python."""
    if cls.__module__ not in modules:
        return []
    return [(name, held) for name, held in vars(cls).items() if not is_dunder(name)]


def function_state(function: FunctionType, modules: Modules) -> list[Any]:
    """Return the state that a project's function keeps between calls.

    The wrappers created by a library's decorators belong to the library.
    """
    if function.__globals__.get("__name__") not in modules:
        return []
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return [*defaults, *vars(function).values(), *map(_content, function.__closure__ or ())]


def attributes(value: Any) -> dict[str, Any]:
    """Return the attributes that `held_by` finds, by name."""
    if isinstance(value, type):
        return dict(vars(value))
    return {**qualified_names.instance_dict(value), **slots_of(value)}


def is_dunder(name: str) -> bool:
    """Return whether Python defines the meaning of a name."""
    return name.startswith("__") and name.endswith("__")


def _instance(value: Any) -> Held:
    if isinstance(value, list | tuple | deque):
        yield from ((("[", at), child) for at, child in enumerate(list(value)))
    elif isinstance(value, dict):
        for key, child in list(dict.items(value)):
            yield None, key
            yield (("[", key) if json_fast_path.is_atom(key) else None), child
    elif isinstance(value, set | frozenset):
        yield from ((None, child) for child in list(value))
    elif isinstance(value, MethodType):
        yield None, value.__self__
    yield from (((".", name), child) for name, child in attributes(value).items())


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None
