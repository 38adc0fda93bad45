"""Structs: frozen classes like dataclasses, whose methods are generated at first use.

The standard library writes and compiles the methods of every dataclass when it is defined. For the
classes of this package, that took a third of `import kitaru` and of each start of a step.
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
    """Declare a default that is created for each object."""
    return _Factory(default_factory)  # type: ignore[return-value]


class _OfDataclass:
    """Makes structs look like dataclasses to `dataclasses`, `pprint` and other readers.

    Created at the first access to a class, and stored in the class.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, struct: object, cls: type) -> Any:
        from dataclasses import make_dataclass

        made = make_dataclass(cls.__name__, cls.__annotations__.items(), frozen=True)
        setattr(cls, self._name, getattr(made, self._name))
        return getattr(cls, self._name)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class _StructType(type):
    __match_args__: tuple[str, ...]
    _defaults: dict[str, Any]
    _values: Callable[[object], tuple[Any, ...]]

    def __new__(mcs, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> _StructType:
        names = tuple(body.get("__annotations__", ()))
        defaults = {each: body.pop(each) for each in names if each in body}
        body |= {"__slots__": names, "__match_args__": names}
        cls = super().__new__(mcs, name, bases, body)
        cls._defaults = defaults
        cls._values = _getter(names)
        return cls


def _getter(names: tuple[str, ...]) -> Callable[[object], tuple[Any, ...]]:
    # With a single name, attrgetter returns no tuple.
    return attrgetter(*names) if len(names) > 1 else lambda it: tuple(getattr(it, n) for n in names)


def _initializer(cls: _StructType) -> Callable[..., None]:
    """Return the `__init__` that a person would write."""
    scope: dict[str, Any] = {}
    taken, body = ["self"], ["pass"]
    for name in cls.__match_args__:
        scope[f"put_{name}"] = vars(cls)[name].__set__
        value, default = name, cls._defaults.get(name)
        if type(default) is _Factory:
            value = f"default_{name}.make() if {name} is default_{name} else {name}"
        if name in cls._defaults:
            scope[f"default_{name}"] = default
        taken.append(f"{name}=default_{name}" if name in cls._defaults else name)
        body.append(f"put_{name}(self, {value})")
    exec(f"def __init__({', '.join(taken)}):\n " + "\n ".join(body), scope)
    made: Callable[..., None] = scope["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


class Struct(metaclass=_StructType):
    """Base of frozen classes with slots, whose fields are their own annotated names.

    A struct is a dataclass for `dataclasses.replace`, `asdict` and similar functions. Code that has
    to start fast uses the functions of this module instead.

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
        __dataclass_fields__ = _OfDataclass("__dataclass_fields__")
        __dataclass_params__ = _OfDataclass("__dataclass_params__")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Generated for the first object of the class: most classes of a process never have one.
        made = _initializer(type(self))
        type(self).__init__ = made  # type: ignore[method-assign]
        made(self, *args, **kwargs)

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
        return type(self), type(self)._values(self)


def fields_of(struct: Struct) -> dict[str, Any]:
    """Return the values of a struct by name, without copying the values."""
    cls = type(struct)
    return dict(zip(cls.__match_args__, cls._values(struct), strict=True))


def defaults_of(cls: type[Struct]) -> dict[str, Callable[[], Any]]:
    """Return the factory of each field's default, by name."""
    return {name: _maker(default) for name, default in cls._defaults.items()}


def _maker(default: Any) -> Callable[[], Any]:
    return default.make if type(default) is _Factory else lambda: default


def replace(struct: S, **changes: Any) -> S:
    """Return a copy of a struct with the given fields changed."""
    return type(struct)(**{**fields_of(struct), **changes})
