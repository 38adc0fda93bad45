"""Decides what a class of named values is: a frozen dataclass that costs nothing until it is used.

The standard library writes and compiles the methods of every dataclass when it is defined. For the
classes of this package that took a third of `import kitaru`, and of each start of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from dataclasses import Field

T = TypeVar("T")
S = TypeVar("S", bound="Struct")


class _Factory:
    __slots__ = ("make",)

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def field(*, default_factory: Callable[[], T]) -> T:
    """Give a field a default that is made anew for each object."""
    return _Factory(default_factory)  # type: ignore[return-value]


class _DataclassFields:
    """Tells `dataclasses`, and whoever else looks there, that a struct is one of them."""

    def __get__(self, struct: object, cls: type) -> dict[str, Field[Any]]:
        from dataclasses import fields, make_dataclass

        annotated = cls.__annotations__.items()
        return {each.name: each for each in fields(make_dataclass(cls.__name__, annotated))}


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class _StructType(type):
    __match_args__: tuple[str, ...]
    _defaults: dict[str, Any]
    _factories: tuple[tuple[str, Callable[[], Any]], ...]
    _setters: tuple[tuple[str, Callable[[object, Any], None]], ...]
    _values: Callable[[object], Any]

    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> _StructType:
        names = tuple(body.get("__annotations__", ()))
        given = {each: body.pop(each) for each in names if each in body}
        body |= {"__slots__": names, "__match_args__": names}
        cls = super().__new__(mcs, name, bases, body)
        cls._factories = tuple((n, f.make) for n, f in given.items() if type(f) is _Factory)
        cls._defaults = {n: value for n, value in given.items() if type(value) is not _Factory}
        cls._setters = tuple((each, vars(cls)[each].__set__) for each in names)
        cls._values = attrgetter(*names) if names else type
        return cls


class Struct(metaclass=_StructType):
    """The base of frozen classes with slots, whose fields are their own annotated names.

    To `dataclasses.replace`, `asdict` and the like a struct is a dataclass; what has to start fast
    has functions of its own here.

    Example:
        >>> class Point(Struct):
        ...     x: int
        ...     y: int = 0
        >>> replace(Point(1), y=2)
        Point(x=1, y=2)
    """

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    else:
        __dataclass_fields__ = _DataclassFields()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        named = {**dict(zip(cls.__match_args__, args, strict=False)), **kwargs}
        values = {**cls._defaults, **named}
        for name, make in cls._factories:
            if name not in values:
                values[name] = make()
        try:
            for name, put in cls._setters:
                put(self, values[name])
        except KeyError as missing:
            raise TypeError(f"{cls.__name__} needs {missing}") from None
        if len(named) < len(args) + len(kwargs) or len(values) > len(cls._setters):
            raise TypeError(f"{cls.__name__} takes only {', '.join(cls.__match_args__)}, each once")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} of {type(self).__name__} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name} of {type(self).__name__} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        values = type(self)._values
        return bool(values(self) == values(other))

    def __hash__(self) -> int:
        return hash(type(self)._values(self))

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in fields_of(self).items())
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(fields_of(self).values())


def fields_of(struct: Struct) -> dict[str, Any]:
    """Return the values of a struct by name, the values themselves and no copies."""
    return {name: getattr(struct, name) for name in type(struct).__match_args__}


def replace(struct: S, **changes: Any) -> S:
    """Return a struct that differs in the fields that are named."""
    return type(struct)(**{**fields_of(struct), **changes})
