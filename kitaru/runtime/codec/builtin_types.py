"""Codecs for built-in types: the fields and children of each kind of node.

A *value* is built in one step from its children and cannot change. A *shell* is created empty and
filled later, so that it can contain itself.
"""

from __future__ import annotations

import binascii
import json
import struct
from collections.abc import Callable, Sequence
from enum import Enum
from types import SimpleNamespace
from typing import Any

from kitaru.runtime.codec import json_fast_path, qualified_names
from kitaru.wire import chunked_bytes
from kitaru.wire.chunked_bytes import Part
from kitaru.wire.limits import PART_BYTES
from kitaru.wire.structs import Struct

Taken = tuple[Any, Sequence[Any]]


def _no_piece(value: Any, position: int) -> str:
    return ""


def has_no_more(value: Any) -> bool:
    """Return whether `value` has no additional attributes of its own."""
    return not qualified_names.instance_dict(value)


class ValueKind(Struct):
    """`take` returns (data, children), `make` builds from them, `piece` names a child in a path.

    `fits` returns whether a single value is of this kind. `mutable` means that code with a
    reference may change the value.
    """

    tag: str
    take: Callable[[Any], Taken]
    make: Callable[[Any, list[Any]], Any]
    piece: Callable[[Any, int], str] = _no_piece
    fits: Callable[[Any], bool] = has_no_more
    mutable: bool = False


class ShellKind(Struct):
    """Like a value kind, but built in two steps: `create` from data and first child, then `fill`.

    `hashes` means that `fill` needs complete children.
    """

    tag: str
    take: Callable[[Any], Taken]
    create: Callable[[Any, Any], Any]
    fill: Callable[[Any, Any, list[Any]], None]
    piece: Callable[[Any, int], str] = _no_piece
    hashes: bool = False
    fits: Callable[[Any], bool] = has_no_more
    mutable: bool = True


Kind = ValueKind | ShellKind


class LibraryType(Struct):
    """A type of a library, which is not imported until a value of the type is encoded or decoded.

    `tag` is the module and the name of the type, and its name in records. `build` receives the tag
    and the module and returns the kind. `subclasses` means that the kind also applies to all
    subclasses defined by the library itself.
    """

    tag: str
    build: Callable[[str, Any], Kind]
    subclasses: bool = False

    @property
    def module(self) -> str:
        """The module that defines the type."""
        return self.tag.rpartition(".")[0]

    def type_in(self, module: Any) -> type | None:
        """Return the type, None if the module does not define it."""
        found: type | None = getattr(module, self.tag.rpartition(".")[2], None)
        return found


def index_piece(value: Any, position: int) -> str:
    """Return the path piece of an element of a sequence."""
    return f"[{position}]"


def pair_piece(value: Any, position: int) -> str:
    """Return the path piece of a key or a value of a mapping, whose children alternate."""
    key = list(value)[position // 2]
    try:
        shown = type(key) is str and json_fast_path.is_text(key)
        text = json.dumps(key, ensure_ascii=False) if shown else repr(key)
    except Exception:
        text = f"#{position // 2}"
    return f"[{text}]" if position % 2 else f".keys()[{position // 2}]"


def element_piece(value: Any, position: int) -> str:
    """Return the path piece of an element of a set, which has no position."""
    return "{…}"


def to_base64(data: bytes | bytearray) -> str:
    """Return `data` as a base64 string."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def from_base64(text: str) -> bytes:
    """Return the bytes of a base64 string; raise ValueError if it is damaged."""
    return binascii.a2b_base64(text, strict_mode=True)


def dump_bytes(data: Any) -> Any:
    """Return base64 of any contiguous bytes, or a part that refers to them if they are large."""
    return (
        chunked_bytes.of_bytes(data) if memoryview(data).nbytes >= PART_BYTES else to_base64(data)
    )


def load_bytes(data: Any) -> bytes:
    """Reverse `dump_bytes`, `inlined` or not."""
    if type(data) is Part:
        return data.join()
    return from_base64(data if type(data) is str else data[0])


def fill_bytes(target: memoryview, data: Any) -> None:
    """Write the output of `dump_bytes` into memory of exactly that size."""
    if type(data) is Part:
        data.fill(target)
    else:
        target[:] = load_bytes(data)


def dump_text(text: str) -> Any:
    """Return `text` for JSON: base64 if it contains lone surrogates, a part if it is long."""
    if len(text) >= PART_BYTES:
        return chunked_bytes.of_text(text)
    return (
        text if json_fast_path.is_text(text) else [to_base64(text.encode("utf-8", "surrogatepass"))]
    )


def load_text(data: Any) -> str:
    """Reverse `dump_text`, `inlined` or not."""
    if type(data) is Part:
        return data.text()
    return data if type(data) is str else from_base64(data[0]).decode("utf-8", "surrogatepass")


def inlined(data: Any) -> Any:
    """Return a node's data with its parts as base64, without memory shared with the value."""
    if type(data) is Part:
        return [to_base64(data.join())]
    if type(data) is list:
        return [inlined(each) if type(each) is Part else each for each in data]
    return data


def _load_bytearray(data: Any) -> bytearray:
    made = bytearray(data.size if type(data) is Part else load_bytes(data))
    if type(data) is Part:
        data.fill(memoryview(made))
    return made


def _dump_float(value: float) -> str:
    return struct.pack(">d", value).hex()


def _load_float(text: str) -> float:
    return float(struct.unpack(">d", bytes.fromhex(text))[0])


def _fill_dict(target: dict[Any, Any], data: Any, children: list[Any]) -> None:
    target.update(zip(children[::2], children[1::2], strict=True))
    _check_count(target, len(children) // 2)


def _elements(value: set[Any] | frozenset[Any]) -> tuple[Any, ...]:
    """Return plain elements in an order that is the same in every process.

    A model's record of its set fields is such a set. Otherwise its document would differ between
    processes.
    """
    try:
        return tuple(sorted(value, key=_rank))
    except (json_fast_path.NotPlain, RecursionError):
        return tuple(value)


def _rank(element: Any) -> tuple[Any, ...]:
    """Return a sort key for plain values of any type and tuples of them."""
    kind = type(element)
    if kind in (str, int, bytes, bool):
        return kind.__name__, element
    if kind is float:
        return kind.__name__, _dump_float(element)
    if kind is tuple:
        return kind.__name__, *map(_rank, element)
    if isinstance(element, Enum):
        return kind.__name__, kind.__module__, element.name
    if element is None:
        return ("",)
    raise json_fast_path.NotPlain


def _fill_set(target: set[Any], data: Any, children: list[Any]) -> None:
    target.update(children)
    _check_count(target, len(children))


def _make_frozenset(data: Any, children: list[Any]) -> frozenset[Any]:
    made = frozenset(children)
    _check_count(made, len(children))
    return made


def _check_count(container: Any, expected: int) -> None:
    if len(container) != expected:
        raise ValueError("distinct keys or elements became equal")


def _pairs(value: dict[Any, Any]) -> list[Any]:
    return [part for item in value.items() for part in item]


def _leaf(tag: str, dump: Callable[[Any], Any], load: Callable[[Any], Any]) -> ValueKind:
    return ValueKind(tag, lambda value: (dump(value), ()), lambda data, _: load(data))


BUILTINS: dict[type, Kind] = {
    int: _leaf("int", hex, lambda text: int(text, 16)),
    float: _leaf("float", _dump_float, _load_float),
    complex: _leaf(
        "complex",
        lambda value: [_dump_float(value.real), _dump_float(value.imag)],
        lambda data: complex(_load_float(data[0]), _load_float(data[1])),
    ),
    str: _leaf("str", dump_text, load_text),
    bytes: _leaf("bytes", dump_bytes, load_bytes),
    bytearray: ValueKind(
        "bytearray",
        lambda value: (dump_bytes(value), ()),
        lambda data, _: _load_bytearray(data),
        mutable=True,
    ),
    range: ValueKind(
        "range",
        lambda value: (None, (value.start, value.stop, value.step)),
        lambda _, parts: range(*parts),
    ),
    slice: ValueKind(
        "slice",
        lambda value: (None, (value.start, value.stop, value.step)),
        lambda _, parts: slice(*parts),
        lambda _, position: (".start", ".stop", ".step")[position],
    ),
    tuple: ValueKind(
        "tuple", lambda value: (None, value), lambda _, parts: tuple(parts), index_piece
    ),
    frozenset: ValueKind(
        "frozenset", lambda value: (None, _elements(value)), _make_frozenset, element_piece
    ),
    list: ShellKind(
        "list",
        lambda value: (None, value),
        lambda _, __: [],
        lambda target, _, children: target.extend(children),
        index_piece,
    ),
    dict: ShellKind(
        "dict",
        lambda value: (None, _pairs(value)),
        lambda _, __: {},
        _fill_dict,
        pair_piece,
        hashes=True,
    ),
    set: ShellKind(
        "set",
        lambda value: (None, _elements(value)),
        lambda _, __: set(),
        _fill_set,
        element_piece,
        hashes=True,
    ),
    SimpleNamespace: ShellKind(
        "namespace",
        lambda value: (None, _pairs(vars(value))),
        lambda _, __: SimpleNamespace(),
        lambda target, _, children: _fill_dict(vars(target), None, children),
        lambda value, position: f".{list(vars(value))[position // 2]}",
    ),
    type(...): _leaf("ellipsis", lambda _: None, lambda _: ...),
    type(NotImplemented): _leaf("notimplemented", lambda _: None, lambda _: NotImplemented),
}
