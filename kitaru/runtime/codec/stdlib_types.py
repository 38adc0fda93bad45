"""Codecs for types of the standard library, without importing their modules.

A process with a `Decimal` has already imported `decimal`. Other processes do not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kitaru.runtime.codec.builtin_types import (
    Kind,
    LibraryType,
    ShellKind,
    ValueKind,
    dump_text,
    load_text,
    pair_piece,
)

Load = Callable[[Any, Any], Any]


def _leaf(dump: Callable[[Any], Any], load: Load) -> Callable[[str, type], Kind]:
    def build(tag: str, cls: type) -> Kind:
        return ValueKind(tag, lambda value: (dump(value), ()), lambda data, _: load(cls, data))

    return build


def _iso_with_zone(tag: str, cls: Any) -> Kind:
    return ValueKind(
        tag,
        lambda value: ([value.replace(tzinfo=None).isoformat(), value.fold], (value.tzinfo,)),
        lambda data, zone: cls.fromisoformat(data[0]).replace(fold=data[1], tzinfo=zone[0]),
        lambda _, __: ".tzinfo",
    )


def _timezone(tag: str, cls: Any) -> Kind:
    return ValueKind(
        tag, lambda value: (None, value.__getinitargs__()), lambda _, parts: cls(*parts)
    )


def _fraction(tag: str, cls: Any) -> Kind:
    return ValueKind(
        tag,
        lambda value: (None, (value.numerator, value.denominator)),
        lambda _, parts: cls(*parts),
    )


def _deque(tag: str, cls: Any) -> Kind:
    return ShellKind(
        tag,
        lambda value: (value.maxlen, tuple(value)),
        lambda maxlen, _: cls((), maxlen),
        lambda target, _, children: target.extend(children),
        lambda _, position: f"[{position}]",
    )


def _mapping(tag: str, cls: Any) -> Kind:
    return ShellKind(
        tag,
        lambda value: (None, [part for item in value.items() for part in item]),
        lambda _, __: cls(),
        lambda target, _, children: _fill(target, children),
        pair_piece,
        hashes=True,
    )


def _defaultdict(tag: str, cls: Any) -> Kind:
    def fill(target: Any, data: Any, children: list[Any]) -> None:
        target.default_factory = children[0]
        _fill(target, children[1:])

    return ShellKind(
        tag,
        lambda value: (None, [value.default_factory, *(p for kv in value.items() for p in kv)]),
        lambda _, __: cls(),
        fill,
        lambda value, at: pair_piece(value, at - 1) if at else ".default_factory",
        hashes=True,
    )


def _fill(target: Any, children: list[Any]) -> None:
    for key, value in zip(children[::2], children[1::2], strict=True):
        target[key] = value
    if len(target) != len(children) // 2:
        raise ValueError("distinct keys became equal")


_PATH = _leaf(lambda value: dump_text(str(value)), lambda cls, data: cls(load_text(data)))


def _safe(name: str) -> Any:
    from uuid import SafeUUID

    return SafeUUID[name]


_BUILDERS: dict[str, Callable[[str, type], Kind]] = {
    "datetime.datetime": _iso_with_zone,
    "datetime.time": _iso_with_zone,
    "datetime.date": _leaf(lambda value: value.isoformat(), lambda cls, d: cls.fromisoformat(d)),
    "datetime.timedelta": _leaf(
        lambda value: [value.days, value.seconds, value.microseconds], lambda cls, d: cls(*d)
    ),
    "datetime.timezone": _timezone,
    "zoneinfo.ZoneInfo": _leaf(lambda value: value.key, lambda cls, key: cls(key)),
    "decimal.Decimal": _leaf(str, lambda cls, text: cls(text)),
    "fractions.Fraction": _fraction,
    "uuid.UUID": _leaf(
        lambda value: [value.hex, value.is_safe.name],
        lambda cls, data: cls(hex=data[0], is_safe=_safe(data[1])),
    ),
    "pathlib.PurePosixPath": _PATH,
    "pathlib.PureWindowsPath": _PATH,
    "pathlib.PosixPath": _PATH,
    "pathlib.WindowsPath": _PATH,
    "collections.deque": _deque,
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "collections.defaultdict": _defaultdict,
    "pydantic_core._pydantic_core.TzInfo": _leaf(
        lambda value: value.utcoffset(None).total_seconds(), lambda cls, seconds: cls(seconds)
    ),
}


def _type(tag: str) -> LibraryType:
    return LibraryType(tag, lambda tag, module: _BUILDERS[tag](tag, getattr(module, _name(tag))))


def _name(tag: str) -> str:
    return tag.rpartition(".")[2]


TYPES = tuple(map(_type, _BUILDERS))
