"""Encode a value as a graph of nodes. Reject values that would not be restored exactly.

A node is `[tag, data, slots]`. A slot is an atom, or `[n]` for node n. Nodes are numbered in the
order in which they are found. The encoder does not recurse, and an object found twice is one node.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from kitaru.errors import ValueNotEncodable
from kitaru.runtime.codec import json_fast_path, pickles, user_codecs
from kitaru.runtime.codec.builtin_types import BUILTINS, Kind, Taken, inlined
from kitaru.runtime.codec.classes import Look, look_of, title
from kitaru.runtime.codec.global_refs import Place
from kitaru.runtime.codec.instances import LOOKED_AT, kind_of_object
from kitaru.runtime.codec.registry import kind_of_type
from kitaru.wire import modules
from kitaru.wire.chunked_bytes import Part

# Longer strings become nodes, so that a string with several references is written once.
_LONG_TEXT = 256
# The approximate size of a reference to another node.
_SLOT_BYTES = 8
# An `encode` that returns a new object of its own type each time would never end.
_MAX_DEPTH = 10_000


class Encoder:
    """Encodes one graph; `opaque`, if passed, collects the paths of parts that cannot be encoded.

    `parts` does not copy large bytes and strings, but refers to the value's memory. `stand_ins` are
    the nodes of some objects, by identity.
    """

    def __init__(
        self,
        where: str,
        *,
        placed: Mapping[int, Place] | None = None,
        opaque: list[str] | None = None,
        may_pickle: pickles.MayPickle = pickles.never,
        parts: bool = False,
        stand_ins: Mapping[int, list[Any]] | None = None,
    ) -> None:
        self._stand_ins = stand_ins or {}
        self._where = where
        self._placed = placed or {}
        self._opaque = opaque
        self._may_pickle = may_pickle
        self.parts = parts
        self.pickle: pickles.Writer | None = None
        self._index: dict[int, int] = {}
        # References every object found, so that no identity is reused meanwhile.
        self._values: list[Any] = []
        self._origins: list[tuple[int, int]] = []
        # The nesting depth of each value in objects with a codec, and the depth of the current
        # value.
        self._depths: list[int] = []
        self._depth = 0

    def encode(self, value: Any) -> tuple[list[Any], Any]:
        """Return (nodes, root slot); raise ValueNotEncodable."""
        root = self.add(value)
        return self.finish(), root

    def add(self, value: Any) -> Any:
        """Return the slot of a value, for a graph of several values."""
        return self._slot(value, (-1, 0))

    def finish(self) -> list[Any]:
        """Return the nodes of all added values; raise ValueNotEncodable."""
        nodes: list[Any] = []
        while len(nodes) < len(self._values):
            nodes.append(self._node(len(nodes)))
        self._check_shared(nodes)
        return nodes

    def classes(self, nodes: list[Any]) -> list[Any]:
        """Return the documents' form of `looks`."""
        return [[index, look.to_json()] for index, look in sorted(self.looks(nodes).items())]

    def looks(self, nodes: list[Any]) -> dict[int, Look]:
        """Return the declarations of the classes of a graph's objects and named tuples, by node."""
        found = {
            node[2][0][0]: self._values[node[2][0][0]] for node in nodes if node[0] in LOOKED_AT
        }
        return {index: look_of(cls) for index, cls in found.items()}

    def _slot(self, value: Any, origin: tuple[int, int]) -> Any:
        if json_fast_path.is_atom(value) and not (type(value) is str and len(value) > _LONG_TEXT):
            return value
        index = self._index.get(id(value))
        if index is None:
            index = self._index[id(value)] = len(self._values)
            self._values.append(value)
            self._origins.append(origin)
            self._depths.append(self._depth)
        return [index]

    def _node(self, index: int) -> list[Any]:
        value = self._values[index]
        if id(value) in self._stand_ins:
            return self._stand_ins[id(value)]
        kind = kind_of(value)
        place = self._placed.get(id(value))
        if place is not None:
            way = place.way()
            if way is not None:
                return ["global", way]
            if kind is not None and kind.mutable:
                raise _elsewhere(place, self._path(index))
        if kind is None:
            return self._refuse(index)
        self._depth = self._depths[index]
        if kind.tag == user_codecs.TAG:
            data, children = self._take_own(kind, value, index)
        else:
            data, children = kind.take(value)
        if not self.parts:
            data = inlined(data)
        if not children:
            return [kind.tag, data]
        return [kind.tag, data, [self._slot(c, (index, at)) for at, c in enumerate(children)]]

    def _take_own(self, kind: Kind, value: Any, index: int) -> Taken:
        self._depth += 1
        try:
            if self._depth > _MAX_DEPTH:
                raise user_codecs.EncodeError(f"leads to objects in objects, {_MAX_DEPTH:,} deep")
            return kind.take(value)
        except user_codecs.EncodeError as error:
            help = "Fix its functions: `encode` returns the parts of an object, `view` JSON."
            raise self.unfit(index, str(error), help) from error.__cause__

    def unfit(self, index: int, why: str, help: str) -> ValueNotEncodable:
        """Return the error for an object that its codec cannot record."""
        value, path = self._values[index], self._path(index)
        codec = user_codecs.codec_of(type(value))
        return ValueNotEncodable(
            f"{path or 'the value'} is a {title(type(value))}, which cannot be recorded: "
            f"{codec.title} {why}",
            path=path,
            help=help,
        )

    def value_of(self, index: int) -> Any:
        """Return the value of node `index`."""
        return self._values[index]

    def _refuse(self, index: int) -> list[Any]:
        value = self._values[index]
        path = self._path(index)
        label = f"{type(value).__module__}.{type(value).__qualname__}"
        if self._opaque is None:
            return self._pickled(value, path, label)
        self._opaque.append(path)
        return ["opaque", label]

    def _pickled(self, value: Any, path: str, label: str) -> list[Any]:
        if not self._may_pickle(value):
            raise refusal(value, path)
        self.pickle = self.pickle or pickles.Writer()
        try:
            return ["pickled", [self.pickle.write(value), label]]
        except MemoryError:
            raise
        except Exception as error:
            raise ValueNotEncodable(
                f"{path or 'the value'} is a {label}, which can neither be recorded exactly nor be "
                f"pickled: {error}",
                path=path,
                help=_advice(value),
            ) from error

    def _check_shared(self, nodes: list[Any]) -> None:
        """Reject an object that is pickled and encoded elsewhere: it would become two objects."""
        for identity, value in (self.pickle.seen if self.pickle else {}).items():
            kind, index = kind_of(value), self._index.get(identity)
            if kind is not None and not kind.mutable:
                continue
            if (place := self._placed.get(identity)) is not None:
                raise _elsewhere(place, f"what is pickled, and holds a {type(value).__name__},")
            if index is not None and nodes[index][0] != "pickled":
                path = self._path(index)
                raise ValueNotEncodable(
                    f"{path or 'the value'} is held by what must be pickled, too, and would become "
                    "another object there",
                    path=path,
                    help="Copy it, or leave it out and take it from what is pickled.",
                )

    def _path(self, index: int) -> str:
        pieces: list[str] = []
        parent, position = self._origins[index]
        while parent >= 0:
            kind = kind_of(self._values[parent])
            pieces.append(kind.piece(self._values[parent], position) if kind else "")
            parent, position = self._origins[parent]
        return self._where + "".join(reversed(pieces))


def largest(value: Any, where: str) -> tuple[str, int]:
    """Return the path to the part of a value with the most bytes of its own, and their number."""
    encoder = Encoder(where, opaque=[], parts=True)
    sizes = [_own_size(node) for node in encoder.encode(value)[0]]
    at = max(range(len(sizes)), key=sizes.__getitem__)
    return encoder._path(at), sizes[at]


def _own_size(node: list[Any]) -> int:
    data = node[1] if type(node[1]) is list else [node[1]]
    own = sum(each.size for each in data if type(each) is Part)
    texts = sum(len(each) for each in data if type(each) is str)
    return own + texts + (_SLOT_BYTES * len(node[2]) if len(node) > 2 else 0)


def kind_of(value: Any) -> Kind | None:
    """Return the kind with which `value` is recorded, None if it cannot be recorded."""
    known = BUILTINS.get(type(value))
    if known is not None:
        return known
    registered = kind_of_type(type(value))
    if registered is not None:
        return registered if registered.fits(value) else None
    if user_codecs.codec_of_base(type(value)) is not None:
        return None
    return kind_of_object(value)


def refusal(value: Any, path: str) -> ValueNotEncodable:
    """Return the error for a value that cannot be recorded exactly."""
    cls = type(value)
    return ValueNotEncodable(
        f"{path or 'the value'} is a {cls.__module__}.{cls.__qualname__}, "
        "which cannot be recorded exactly",
        path=path,
        help=_advice(value),
    )


def _elsewhere(place: Place, path: str) -> ValueNotEncodable:
    root = f"{place.root.module}.{place.root.name}"
    return ValueNotEncodable(
        f"{path} is held by the module's {root}, too, and a copy would be another object",
        path=path,
        help=f"Copy it when it is taken out of {place.root.name}, or keep it in the flow alone.",
    )


def _advice(value: Any) -> str:
    cls = type(value)
    if hasattr(cls, "__next__"):
        return "Return a list: list(...) of it keeps the items."
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return "Define it at the top level of a module, so that it can be recorded by name."
    if cls.__module__.partition(".")[0] in ("numpy", "pandas", "polars", "PIL"):
        return "Return it in a plain form, such as .copy() or .tolist(), or write it to a file."
    known = user_codecs.codec_of_base(cls)
    if known is not None:
        return (
            f"Its base {known.cls.__qualname__} has {known.title}, which is for that class alone. "
            f"Register {cls.__qualname__} as well:\n{_registration(cls)}"
        )
    if "<locals>" in cls.__qualname__:
        return "Define its class at the top level of a module, so that it can be found by name."
    for base in (list, dict, set, str, bytes, int, float, tuple):
        if isinstance(value, base):
            return f"Return a plain {base.__name__}: {base.__name__}(...) of it."
    return (
        "Return what is needed of it as plain values, or make its class one of the project's own, "
        "at the top level of a module, that neither copies nor ends its objects in its own way."
    ) + _offer(cls)


def _offer(cls: type) -> str:
    # Objects of the standard library without a codec are locks, files and the like, which cannot be
    # recorded.
    if cls.__module__.partition(".")[0] in (*sys.stdlib_module_names, *modules.OURS):
        return ""
    return (
        f" Or declare how it is recorded, in a module that the flow imports:\n{_registration(cls)}"
    )


def _registration(cls: type) -> str:
    module = modules.recorded_name(cls.__module__).partition(".")[0]
    return (
        f'    kitaru.register_codec({cls.__qualname__}, name="{module}.{cls.__qualname__}", '
        "encode=…, decode=…)"
    )
