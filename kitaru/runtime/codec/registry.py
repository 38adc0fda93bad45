"""The registry of recorded types: the kind of each type and each tag.

Types of libraries are looked up when the first value of the type is found. The lookup imports
nothing: a process with such a value has imported its library. Models are classes that declare their
attributes. They are recorded attribute by attribute.
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


# The order matters: pydantic's dataclasses are dataclasses, too.
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
    """Register kinds that are found only by their tags, such as that of project objects."""
    _tagged.update((kind.tag, kind) for kind in kinds)


def add_type(cls: type, kind: Kind) -> None:
    """Register the kind for instances of exactly `cls`."""
    _kinds[cls] = kind


def remove_type(cls: type) -> None:
    """Remove a registration made with `add_type`."""
    _kinds.pop(cls, None)


def kind_of_type(cls: type) -> Kind | None:
    """Return the kind for instances of exactly `cls`, None if the class is not registered.

    The kind applies to a value of the class if it `fits`.
    """
    known = _kinds.get(cls)
    if known is None:
        for one in _by_package.get(cls.__module__.partition(".")[0], ()):
            if _is(cls, one):
                known = _kinds[cls] = kind_of_tag(one.tag)
                break
    return known


def kind_of_tag(tag: str) -> Kind:
    """Return the kind with the recorded tag `tag`; raise KeyError for an unknown tag."""
    known = _tagged.get(tag)
    if known is None:
        one = _by_tag[tag]
        known = _tagged[tag] = one.build(tag, importlib.import_module(one.module))
    return known


def model_kind(cls: type) -> str | None:
    """Return the kind of model that a class is, None if it is not a model."""
    return next((name for name, matches in _MODELS.items() if matches(cls)), None)


def _is(cls: type, one: LibraryType) -> bool:
    # A class may claim to belong to a module that is not imported in this process.
    its_own = cls.__module__ == one.module
    module = importlib.import_module(one.module) if its_own else sys.modules.get(one.module)
    found = one.type_in(module)
    return found is cls or (one.subclasses and found is not None and issubclass(cls, found))
