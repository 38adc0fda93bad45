"""The registry of recorded types: for each type and each tag, how its values are recorded.

Types of libraries are looked up when the first value of the type is met. Nothing is imported for
them then: the caller who has a value has imported its library. Models are classes that declare
their attributes, and are recorded attribute by attribute.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable

from kitaru.runtime.codec import array_types, stdlib_types
from kitaru.runtime.codec.builtin_types import BUILTINS, Kind, LibraryType


def _is_pydantic(cls: type) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(cls, pydantic.BaseModel)


# In this order: the dataclasses of pydantic are dataclasses.
_MODELS: dict[str, Callable[[type], bool]] = {
    "pydantic": _is_pydantic,
    "dataclass": lambda cls: hasattr(cls, "__dataclass_fields__"),
    "attrs": lambda cls: hasattr(cls, "__attrs_attrs__"),
}
_LIBRARIES = (*stdlib_types.TYPES, *array_types.TYPES)
_by_tag: dict[str, LibraryType] = {one.tag: one for one in _LIBRARIES}
_by_package: dict[str, list[LibraryType]] = {}
for _one in _LIBRARIES:
    _by_package.setdefault(_one.tag.partition(".")[0], []).append(_one)

_kinds: dict[type, Kind] = {}
_tagged: dict[str, Kind] = {kind.tag: kind for kind in BUILTINS.values()}


def add_tags(kinds: Iterable[Kind]) -> None:
    """Register kinds that are found by their tags only, such as that of the project's objects."""
    _tagged.update((kind.tag, kind) for kind in kinds)


def add_type(cls: type, kind: Kind) -> None:
    """Register how instances of exactly `cls` are recorded."""
    _kinds[cls] = kind


def remove_type(cls: type) -> None:
    """Forget what `add_type` registered."""
    _kinds.pop(cls, None)


def kind_of_type(cls: type) -> Kind | None:
    """Return how instances of exactly `cls` are recorded, None for a class that is not registered.

    A value of the class is recorded so if it `fits`.
    """
    known = _kinds.get(cls)
    if known is None:
        for one in _by_package.get(cls.__module__.partition(".")[0], ()):
            if _is(cls, one):
                known = _kinds[cls] = kind_of_tag(one.tag)
                break
    return known


def kind_of_tag(tag: str) -> Kind:
    """Return the kind that records call `tag`; raises KeyError for an unknown one."""
    known = _tagged.get(tag)
    if known is None:
        one = _by_tag[tag]
        known = _tagged[tag] = one.build(tag, importlib.import_module(one.module))
    return known


def model_kind(cls: type) -> str | None:
    """Return the kind of model that a class is, None when it is not a model."""
    return next((name for name, matches in _MODELS.items() if matches(cls)), None)


def _is(cls: type, one: LibraryType) -> bool:
    # A class that says itself that it is of a module may have been made without that.
    its_own = cls.__module__ == one.module
    module = importlib.import_module(one.module) if its_own else sys.modules.get(one.module)
    found = one.type_in(module)
    return found is cls or (one.subclasses and found is not None and issubclass(cls, found))
