"""Encode values and frames. A value that cannot be restored exactly is rejected.

A tree of JSON values is recorded as that JSON. Other values become a graph, which preserves
sharing, cycles and types. A value that would not be restored exactly is rejected with the path to
it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextvars import Token
from functools import partial
from typing import Any

from kitaru.errors import ClassChanged, FlowError, RecordCorrupt, RecordTooNew, ValueNotEncodable
from kitaru.runtime.codec import json_fast_path, pickles, round_trip_check, user_codecs
from kitaru.runtime.codec.builtin_types import dump_bytes, inlined, load_bytes
from kitaru.runtime.codec.classes import look_from_json
from kitaru.runtime.codec.decoder import Decoder
from kitaru.runtime.codec.digests import (
    ArgumentsDigest,
    digest_arguments,
    shares_mutable,
)
from kitaru.runtime.codec.encoder import Encoder, largest
from kitaru.runtime.codec.global_refs import Place, find, places
from kitaru.runtime.codec.instances import future_factory
from kitaru.runtime.codec.introspect import Modules
from kitaru.runtime.codec.pickles import MayPickle, always, came_pickled, never
from kitaru.wire import redaction
from kitaru.wire.chunked_bytes import MARK
from kitaru.wire.limits import PART_BYTES
from kitaru.wire.structs import Struct, fields_of

__all__ = [
    "ArgumentsDigest",
    "MayPickle",
    "Modules",
    "always",
    "came_pickled",
    "decode",
    "decode_frame",
    "digest_arguments",
    "encode",
    "encode_frame",
    "form_of",
    "is_json",
    "largest",
    "never",
    "set_future_factory",
    "shares_mutable",
]

GRAPH = "graph/1"
# A graph with objects of registered types, which earlier releases cannot read.
GRAPH_OF_OWN = "graph/2"
# Readers of records may sort the keys of JSON objects. A string preserves their order.
_TEXT = "json/1"


def encode(
    value: Any, *, where: str = "", may_pickle: MayPickle = never, parts: bool = False
) -> Any:
    """Return the JSON document of `value`. It shares no objects with `value`.

    Args:
        value: the value to record.
        where: the start of the paths in errors, such as `result`.
        may_pickle: whether a part without an exact form may be pickled.
        parts: do not copy large bytes and strings, but refer to them as
            `kitaru.wire.chunked_bytes`; for a caller that stores the document before the value can
            change.

    Raises:
        ValueNotEncodable: a part would not be restored exactly; `path` points to that part.

    Example:
        >>> encode([1, "a"])
        [1, 'a']
        >>> decode(encode((1, 2)))
        (1, 2)
    """
    return _encode(value, _Options(where, {}, may_pickle, parts))


def decode(document: Any, *, unpickle: bool = False, where: str = "") -> Any:
    """Decode a document to a value made of new objects of the recorded types.

    Args:
        unpickle: load pickles, which runs the code in them.
        where: the description of the value in errors, such as `The result of "research"`.

    Raises:
        PickleRefused: the document contains a pickle, and `unpickle` is false.
        RecordCorrupt: the document is not valid.
        RecordTooNew: a newer version of Kitaru wrote the document.
        FlowError: a class or function named in the document does not exist.
        ClassChanged: the record does not fit its class, which has changed.
    """
    try:
        return _decode(document, {}, unpickle)
    except ClassChanged as error:
        if not where:
            raise
        message = f"{where} cannot be read: {error.message[0].lower()}{error.message[1:]}"
        raise ClassChanged(message, help=error.help) from error.__cause__


def encode_frame(variables: dict[str, Any], modules: Modules, may_pickle: MayPickle = never) -> Any:
    """Return one document for all live variables of a flow. Store it before they change.

    Objects that belong to the project's `modules` (by identity: functions, sentinels, global lists
    and their content) are recorded as paths. Raises ValueNotEncodable with a path that starts with
    the variable.
    """
    ordered = {name: variables[name] for name in sorted(variables)}
    try:
        return _encode(ordered, _Options("", places(modules), may_pickle, True))
    except ValueNotEncodable as error:
        raise _in_frame(error) from None


def decode_frame(document: Any, modules: Modules, *, unpickle: bool = False) -> dict[str, Any]:
    """Return the variables of a frame; paths in it are resolved in `modules`.

    Raises the errors of `decode`, and FlowError if a global no longer exists.
    """
    variables = _decode(document, modules, unpickle)
    if type(variables) is not dict:
        raise RecordCorrupt("A recorded frame holds no variables.")
    return variables


def is_json(document: Any) -> bool:
    """Return whether a document is plain JSON, which can be read without any class."""
    return not (type(document) is dict and document.get(MARK) in (GRAPH, GRAPH_OF_OWN))


def form_of(nodes: list[Any]) -> str:
    """Return the format name of a graph with these nodes."""
    return GRAPH_OF_OWN if any(node[0] == user_codecs.TAG for node in nodes) else GRAPH


def set_future_factory(
    factory: Callable[[str], Any] | None,
) -> Token[Callable[[str], Any] | None]:
    """Set the function that creates a future from its id when a frame is decoded in this context.

    A future has an `id`. With `frame_state()` and `set_frame_state(state)`, the frame contains its
    decoded outcome, too; `None` means that there is no outcome.
    """
    return future_factory.set(factory)


class _Options(Struct):
    where: str
    placed: Mapping[int, Place]
    may_pickle: MayPickle
    parts: bool


def _encode(value: Any, options: _Options) -> Any:
    document = _document(value, options)
    if redaction.has_values() and (name := redaction.find_secret_in_document(document)):
        where = options.where
        pairs = value.items() if type(value) is dict else ()
        holders = (k for k, v in pairs if redaction.find_secret_in_document(_document(v, options)))
        path = next((f"{where}[{json.dumps(key)}]" for key in holders), where)
        raise ValueNotEncodable(
            f"{path or 'the value'} contains the value of the secret {name}, which must not be in "
            "the store",
            path=path,
            help=f'Pass the name, and call kitaru.secret("{name}") where the value is used.',
        )
    return document


def _document(value: Any, options: _Options) -> Any:
    if type(value) is str and value.isascii() and len(value) < PART_BYTES:
        return value
    copier = json_fast_path.Copier(options.placed)
    try:
        copied = copier.copy(value)
    except json_fast_path.NotPlain:
        return _encode_graph(value, options)
    return copied if copier.ordered else {MARK: _TEXT, "text": json_fast_path.to_text(copied)}


def _encode_graph(value: Any, options: _Options) -> Any:
    encoder = Encoder(**fields_of(options))
    nodes, root = encoder.encode(value)
    form = form_of(nodes)
    if form == GRAPH_OF_OWN:
        round_trip_check.check(encoder, nodes, options.where)
    document = {MARK: form, "nodes": nodes, "root": root}
    if looks := encoder.classes(nodes):
        document["classes"] = looks
    if encoder.pickle is not None:
        data = dump_bytes(encoder.pickle.data())
        document["pickle"] = data if options.parts else inlined(data)
        document["pickles"] = encoder.pickle.count
    if encoder.pickle is not None or _fragile(nodes):
        _try(document, options.where)
    return document


def _fragile(nodes: list[Any]) -> bool:
    """Return whether decoding runs a project's own `__hash__` and `__eq__`, which may raise."""
    hashed = [slot for node in nodes for slot in _hashed_slots(node)]
    own_hash = any(node[0] in ("object", user_codecs.TAG) for node in nodes)
    return any(type(slot) is list for slot in hashed) and own_hash


def _hashed_slots(node: list[Any]) -> list[Any]:
    if len(node) < 3 or node[0] not in ("set", "frozenset", "dict"):
        return []
    slots: list[Any] = node[2]
    return slots[::2] if node[0] == "dict" else slots


def _try(document: Any, where: str) -> None:
    token = future_factory.set(lambda _: _AnyFuture())
    why = "holds what was pickled and cannot be loaded again"
    try:
        loaded = _unpickled(document)
        why = "holds a set or a dict whose keys cannot be hashed while it is built again"
        _decoder(document, lambda _: None, loaded).build(document["root"])
    except (FlowError, MemoryError):
        raise
    except Exception as error:
        raise ValueNotEncodable(
            f"{where or 'the value'} {why}: {error}",
            path=where,
            help="Use plain keys, such as texts and numbers, and classes whose pickles load.",
        ) from error
    finally:
        future_factory.reset(token)


def _unpickled(document: Any) -> list[Any]:
    if "pickle" not in document:
        return []
    return list(pickles.load(load_bytes(document["pickle"]), document["pickles"]))


class _AnyFuture:
    def set_frame_state(self, state: Any) -> None:
        """Accept any state: this future is discarded."""


def _decode(document: Any, modules: Modules, unpickle: bool) -> Any:
    if type(document) is not dict or MARK not in document:
        return json_fast_path.fresh(document)
    form = document[MARK]
    try:
        if form == _TEXT:
            return json.loads(document["text"])
        if form in (GRAPH, GRAPH_OF_OWN):
            return _decode_graph(document, modules, unpickle)
    except (KeyError, TypeError, ValueError) as error:
        raise RecordCorrupt(f"A recorded value is damaged: {error}") from error
    raise RecordTooNew(
        f"A recorded value has the form {form!r}, which this Kitaru cannot read.",
        help="Upgrade Kitaru here to at least the version that recorded it.",
    )


def _decode_graph(document: Any, modules: Modules, unpickle: bool) -> Any:
    if "pickle" in document and not unpickle:
        raise pickles.refused()
    try:
        loaded = _unpickled(document)
    except MemoryError:
        raise
    except Exception as error:
        raise FlowError(
            f"A recorded pickle cannot be loaded: {type(error).__name__}: {error}",
            help="Install what it was made with, in the same version, or start a new execution.",
        ) from error
    for value in loaded:
        pickles.remember(value)
    return _decoder(document, partial(find, modules), loaded).build(document["root"])


def _decoder(document: Any, placed: Callable[[list[Any]], Any], loaded: list[Any]) -> Decoder:
    looks = {index: look_from_json(look) for index, look in document.get("classes", ())}
    return Decoder(document["nodes"], placed, loaded, looks)


def _in_frame(error: ValueNotEncodable) -> ValueNotEncodable:
    """Convert `["name"][0]` to `name[0]`."""
    name, _, rest = error.path.removeprefix('["').partition('"]')
    path = name + rest
    return ValueNotEncodable(error.message.replace(error.path, path), path=path, help=error.help)
