"""Digests of values: equal content has an equal digest, regardless of shared objects.

Equal tuples may be one object in one process and two objects in another, and a set has no order.
Therefore neither sharing nor the order of a set's elements affects the digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from kitaru.runtime.codec import json_fast_path, qualified_names, user_codecs
from kitaru.runtime.codec.encoder import Encoder
from kitaru.runtime.codec.introspect import attributes
from kitaru.wire.structs import Struct

# A larger tree is hashed as a graph, which is necessary for a value that repeats one part.
_TREE_NODES = 100_000
_ALIAS_NODES = 100_000
_NO_SLOTS: list[Any] = []


class ArgumentsDigest(Struct):
    """The digest of a call's arguments.

    `opaque` contains the paths of parts that cannot be recorded. Such parts count by their class
    only. `size` is the number of digested bytes.
    """

    digest: str
    opaque: tuple[str, ...]
    size: int

    @property
    def has_opaque(self) -> bool:
        """Whether different arguments may have this digest, because some parts are opaque."""
        return bool(self.opaque)


def digest_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ArgumentsDigest:
    """Return the digest, by value, of a call's arguments; keyword order does not count.

    >>> digest_arguments(([1],), {}).digest == digest_arguments(([1],), {}).digest
    True
    """
    return _digest([list(args), {key: kwargs[key] for key in sorted(kwargs)}])


def _digest(call: list[Any]) -> ArgumentsDigest:
    try:
        _Tree().check(call)
    except json_fast_path.NotPlain:
        opaque: list[str] = []
        nodes, root = Encoder("", opaque=opaque, parts=True).encode(call)
        digest, size = Merkle(nodes).digest(root)
        return ArgumentsDigest(f"sha256:{digest}", tuple(map(_argument_path, opaque)), size)
    data = json_fast_path.to_text(call).encode("ascii")
    return ArgumentsDigest(f"sha256:{hashlib.sha256(data).hexdigest()}", (), len(data))


def _argument_path(path: str) -> str:
    kind, rest = path[:3], path[3:]
    return ("args" if kind == "[0]" else "kwargs") + rest


class _Tree:
    """Checks that a value is a JSON tree of limited size, even if parts of it are shared."""

    def __init__(self) -> None:
        self._left = _TREE_NODES

    def check(self, value: Any, depth: int = 0) -> None:
        kind = type(value)
        if kind is not list and kind is not dict:
            if not json_fast_path.is_atom(value):
                raise json_fast_path.NotPlain
            return
        self._left -= len(value)
        if depth > json_fast_path.MAX_DEPTH or self._left < 0:
            raise json_fast_path.NotPlain
        if kind is dict and not all(type(k) is str and json_fast_path.is_text(k) for k in value):
            raise json_fast_path.NotPlain
        for item in value.values() if kind is dict else value:
            self.check(item, depth + 1)


class Merkle:
    """Hashes a graph from its leaves upwards."""

    def __init__(self, nodes: list[Any]) -> None:
        self._nodes = nodes
        self._hashes: list[str | None] = [None] * len(nodes)
        self._size = 0

    def digest(self, root: Any) -> tuple[str, int]:
        """Return the digest of slot `root`, and the number of hashed bytes."""
        opened = [False] * len(self._nodes)
        stack = self._unhashed([root])
        while stack:
            index = stack[-1]
            if not opened[index]:
                opened[index] = True
                stack += [i for i in self._unhashed(self._slots(index)) if not opened[i]]
                continue
            stack.pop()
            if self._hashes[index] is None:
                self._hashes[index] = self._hash(index)
        return self._part(root), self._size

    def _hash(self, index: int) -> str:
        tag, data = self._nodes[index][:2]
        if tag == "name":
            data = qualified_names.first_name(data)
        elif tag == user_codecs.TAG:
            # The module of a codec and its JSON view do not affect equality.
            data = data[:2]
        parts = [self._part(slot) for slot in self._slots(index)]
        if tag in ("set", "frozenset"):
            parts.sort()
        text = json_fast_path.to_text([tag, data, parts])
        self._size += len(text)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def _part(self, slot: Any) -> str:
        if type(slot) is list:
            return self._hashes[slot[0]] or "cycle"
        return json_fast_path.to_text([slot])

    def _slots(self, index: int) -> list[Any]:
        node = self._nodes[index]
        return node[2] if len(node) > 2 else _NO_SLOTS

    def _unhashed(self, slots: list[Any]) -> list[int]:
        return [s[0] for s in slots if type(s) is list and self._hashes[s[0]] is None]


def shares_mutable(result: Any, arguments: Any) -> bool:
    """Return whether `result` contains a mutable object that `arguments` contain, too.

    Checks at most 100,000 objects of each.
    """
    if type(result) in (str, int, float, bool, type(None), bytes):
        return False
    mine = set(_mutable_identities(result))
    return bool(mine) and any(identity in mine for identity in _mutable_identities(arguments))


def _mutable_identities(root: Any) -> Iterator[int]:
    seen: set[int] = set()
    stack = [root]
    while stack and len(seen) < _ALIAS_NODES:
        value = stack.pop()
        if id(value) in seen or isinstance(value, type | FunctionType | ModuleType):
            continue
        children = _held(value)
        if children is None:
            continue
        seen.add(id(value))
        if not isinstance(value, tuple | frozenset):
            yield id(value)
        stack += children


def _held(value: Any) -> list[Any] | None:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, bytearray):
        return []
    return list(attributes(value).values()) or None
