"""Decides which inputs a flow is run with: bound like a Python call, and their types checked."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Union

from kitaru.errors import AnswerInvalid, InputError, UsageError, ValueNotEncodable
from kitaru.runtime import codec
from kitaru.runtime.running.schema import from_json

if TYPE_CHECKING:
    from inspect import BoundArguments, Signature

Function = Callable[..., Any]


def bind(
    flow: str, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> BoundArguments:
    """Return the inputs as Python binds a call, defaults applied.

    Raises:
        InputError: one is missing, unknown, given twice, or not of its annotated type.
    """
    signature = _signature(function)
    unknown = [name for name in kwargs if not _accepts(signature, name)]
    if unknown:
        raise _error(flow, signature, f"has no input {unknown[0]!r}")
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise _error(flow, signature, f"cannot be run with these inputs: {error}") from None
    given = set(bound.arguments)
    bound.apply_defaults()
    hints = _hints(function)
    for name in given:
        _check(flow, signature, name, bound.arguments[name], hints.get(name, Any))
    return bound


def bind_json(flow: str, function: Function, given: Mapping[str, Any]) -> BoundArguments:
    """Return JSON inputs by name as a call, made instances of their annotated types.

    Raises:
        InputError: one is missing, unknown or does not fit its annotation.
    """
    signature = _signature(function)
    hints = _hints(function)
    values = {name: _convert(flow, name, value, hints) for name, value in given.items()}
    by_position = [
        values.pop(name)
        for name, parameter in signature.parameters.items()
        if parameter.kind.name == "POSITIONAL_ONLY" and name in values
    ]
    return bind(flow, function, tuple(by_position), values)


def encode(flow: str, bound: BoundArguments) -> Any:
    """Return the codec's document of bound inputs; a default that cannot be recorded is left out.

    Raises:
        ValueNotEncodable: an input cannot be recorded.
    """
    try:
        return codec.encode(dict(bound.arguments), parts=True)
    except ValueNotEncodable:
        kept = {k: v for k, v in bound.arguments.items() if _kept(bound, flow, k, v)}
        return codec.encode(kept, parts=True)


def changed(
    flow: str, function: Function, values: Mapping[str, Any], given: Mapping[str, Any]
) -> Any:
    """Return the document of recorded inputs with JSON ones in their places.

    Raises:
        InputError: one is unknown or does not fit its annotation.
    """
    signature, hints = _signature(function), _hints(function)
    arguments = dict(restore(function, values).arguments)
    for name, value in given.items():
        if name not in signature.parameters:
            raise _error(flow, signature, f"has no input {name!r}")
        arguments[name] = _convert(flow, name, value, hints)
        _check(flow, signature, name, arguments[name], hints.get(name, Any))
    return encode(flow, _bound(signature, arguments))


def changed_json(flow: str, document: Any, given: Mapping[str, Any]) -> Any:
    """Return what `changed` does where the flow is not at hand: for inputs that are plain JSON.

    Raises:
        InputError: one is unknown, of another type than it was, or no plain JSON.
    """
    if not codec.is_json(document):
        raise InputError(
            f"The inputs of {flow} are not plain JSON; without its code none can be changed.",
            help="Start a new execution with the inputs that you want.",
        )
    values = codec.decode(document)
    for name, value in given.items():
        if name not in values:
            raise InputError(
                f"The flow {flow} has no input {name!r}.", help=f"It has: {', '.join(values)}"
            )
        if not _same_kind(value, values[name]):
            was = type(values[name]).__name__
            raise InputError(f"{flow}: the input {name} was {was}, not {type(value).__name__}.")
    return codec.encode({**values, **given})


def _same_kind(value: Any, before: Any) -> bool:
    if value is None or before is None:
        return True
    return type(value) is type(before) or {type(value), type(before)} == {int, float}


def restore(function: Function, values: Mapping[str, Any]) -> BoundArguments:
    """Return recorded inputs as a call of `function`; those left out have their defaults."""
    signature = _signature(function)
    # In the signature's order, in which positional arguments are taken.
    ordered = {name: values[name] for name in signature.parameters if name in values}
    bound = _bound(signature, ordered)
    bound.apply_defaults()
    return bound


def call(function: Function, values: Mapping[str, Any]) -> Any:
    """Call `function` with recorded inputs."""
    bound = restore(function, values)
    return function(*bound.args, **bound.kwargs)


def _kept(bound: BoundArguments, flow: str, name: str, value: Any) -> bool:
    try:
        codec.encode(value)
    except ValueNotEncodable as error:
        if value is bound.signature.parameters[name].default:
            return False
        path = name + error.path
        raise ValueNotEncodable(
            f"{flow}: the input {path} cannot be recorded: {error.message}",
            path=path,
            help=error.help,
        ) from None
    return True


def _signature(function: Function) -> Signature:
    # Costs milliseconds to import, and most steps of a pipeline bind no call.
    from inspect import signature

    return signature(function)


def _bound(signature: Signature, arguments: dict[str, Any]) -> BoundArguments:
    from inspect import BoundArguments

    return BoundArguments(signature, arguments)


def _accepts(signature: Signature, name: str) -> bool:
    kinds = {each: parameter.kind.name for each, parameter in signature.parameters.items()}
    return "VAR_KEYWORD" in kinds.values() or kinds.get(name, "VAR_POSITIONAL") != "VAR_POSITIONAL"


def _hints(function: Function) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # a name that only a type checker can see; then nothing is checked
        return {}


def _check(flow: str, signature: Signature, name: str, value: Any, hint: Any) -> None:
    if signature.parameters[name].kind.name in ("VAR_POSITIONAL", "VAR_KEYWORD"):
        return
    if not _fits(value, hint):
        wanted = getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint)
        raise _error(
            flow, signature, f"needs {name} as {wanted}, not {value!r} ({type(value).__name__})"
        )


def _fits(value: Any, hint: Any) -> bool:
    """Say no only where it is certain."""
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    kind = origin if isinstance(origin, type) else hint
    if kind in (None, type(None)):
        return value is None
    if kind in (int, float) and isinstance(value, bool):
        return False
    try:
        return isinstance(value, (int, float) if kind is float else kind)
    except TypeError:  # Any, a protocol, a type variable, …
        return True


def _convert(flow: str, name: str, value: Any, hints: Mapping[str, Any]) -> Any:
    hint = hints.get(name, Any)
    try:
        return from_json(value, hint, name)
    except AnswerInvalid as error:
        raise InputError(f"{flow}: {error.message}", help=error.help) from None
    except UsageError:  # a type that JSON knows nothing of; binding checks what it can
        return value


def _error(flow: str, signature: Signature, what: str) -> InputError:
    return InputError(f"The flow {flow} {what}.", help=f"Its inputs: {flow}{signature}")
