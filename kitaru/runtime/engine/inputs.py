"""Bind the inputs of a flow like a Python call, and check their types."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Union

from kitaru.errors import AnswerInvalid, InputError, UsageError, ValueNotEncodable
from kitaru.runtime import codec
from kitaru.runtime.schema.annotations import hints_of
from kitaru.runtime.schema.types import from_json
from kitaru.wire.names import suggestion

if TYPE_CHECKING:
    from inspect import BoundArguments, Signature

Function = Callable[..., Any]


def bind(
    flow: str, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> BoundArguments:
    """Bind the inputs like a Python call, with defaults applied.

    Raises:
        InputError: an input is missing, unknown, passed twice, or not of its annotated type.
    """
    bound, given = _called(flow, function, args, kwargs)
    hints = hints_of(function)
    for name in given:
        check_type(flow, bound.signature, name, bound.arguments[name], hints.get(name, Any))
        _check_constraints(flow, name, bound.arguments[name], hints.get(name, Any))
    return bound


def _called(
    flow: str, function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[BoundArguments, set[str]]:
    """Bind the inputs like a Python call; return them with the names of those passed explicitly."""
    signature = signature_of(function)
    unknown = [name for name in kwargs if not _accepts(signature, name)]
    if unknown:
        raise _unknown(flow, signature, unknown[0])
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise _error(flow, signature, f"cannot be run with these inputs: {error}") from None
    given = set(bound.arguments)
    bound.apply_defaults()
    return bound, given


def bind_json(flow: str, function: Function, given: Mapping[str, Any]) -> BoundArguments:
    """Convert JSON inputs to their annotated types and return them as a call.

    Raises:
        InputError: an input is missing, unknown or does not fit its annotation.
    """
    signature = signature_of(function)
    hints = hints_of(function)
    values = {name: _convert(flow, name, value, hints) for name, value in given.items()}
    by_position = [
        values.pop(name)
        for name, parameter in signature.parameters.items()
        if parameter.kind.name == "POSITIONAL_ONLY" and name in values
    ]
    bound, names = _called(flow, function, tuple(by_position), values)
    for name in names:
        check_type(flow, signature, name, bound.arguments[name], hints.get(name, Any))
    return bound


def encode(flow: str, bound: BoundArguments) -> Any:
    """Encode bound inputs as a codec document, without defaults that cannot be recorded.

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
    """Return the document of inputs with the JSON inputs replaced.

    `values` are all inputs of the flow by name.

    Raises:
        InputError: an input is unknown or does not fit its annotation.
    """
    signature, hints = signature_of(function), hints_of(function)
    arguments = dict(values)
    for name, value in given.items():
        if name not in signature.parameters:
            raise _unknown(flow, signature, name)
        arguments[name] = _convert(flow, name, value, hints)
        check_type(flow, signature, name, arguments[name], hints.get(name, Any))
    return encode(flow, bound_of(signature, arguments))


def changed_json(flow: str, document: Any, given: Mapping[str, Any]) -> Any:
    """Do what `changed` does without the code of the flow, for inputs that are plain JSON.

    Raises:
        InputError: an input is unknown, has another type than before, or is not plain JSON.
    """
    if not codec.is_json(document):
        raise InputError(
            f"The inputs of {flow} are not plain JSON, so they cannot be changed without its code.",
            help="Start a new execution with the inputs that you want.",
        )
    values = codec.decode(document)
    for name, value in given.items():
        if name not in values:
            help = suggestion(name, values, f"It has: {', '.join(values)}")
            raise InputError(f"The flow {flow} has no input {name!r}.", help=help)
        if not _same_kind(value, values[name]):
            was = type(values[name]).__name__
            raise InputError(f"{flow}: the input {name} was {was}, not {type(value).__name__}.")
    return codec.encode({**values, **given})


def _same_kind(value: Any, before: Any) -> bool:
    if value is None or before is None:
        return True
    return type(value) is type(before) or {type(value), type(before)} == {int, float}


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


def signature_of(function: Function) -> Signature:
    """Return the parameters of a flow's function."""
    # The import takes milliseconds, and most steps of a pipeline bind no call.
    from inspect import signature

    return signature(function)


def bound_of(signature: Signature, arguments: dict[str, Any]) -> BoundArguments:
    """Convert arguments by name to a call."""
    from inspect import BoundArguments

    return BoundArguments(signature, arguments)


def _accepts(signature: Signature, name: str) -> bool:
    kinds = {each: parameter.kind.name for each, parameter in signature.parameters.items()}
    return "VAR_KEYWORD" in kinds.values() or kinds.get(name, "VAR_POSITIONAL") != "VAR_POSITIONAL"


def check_type(flow: str, signature: Signature, name: str, value: Any, hint: Any) -> None:
    """Raise InputError if an input is certainly not of its annotated type."""
    if signature.parameters[name].kind.name in ("VAR_POSITIONAL", "VAR_KEYWORD"):
        return
    if not _fits(value, hint):
        wanted = getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint)
        raise _error(
            flow, signature, f"needs {name} as {wanted}, not {value!r} ({type(value).__name__})"
        )


def _check_constraints(flow: str, name: str, value: Any, hint: Any) -> None:
    """Check constraints such as `Annotated[int, Field(gt=0)]` that pydantic supports."""
    if not _is_constrained(hint):
        return
    try:
        from_json(value, hint, name)
    except AnswerInvalid as error:
        raise InputError(f"{flow}: {error.message}", help=error.help) from None
    except UsageError:
        return


def _is_constrained(hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Annotated:
        return True
    return any(map(_is_constrained, typing.get_args(hint)))


def _fits(value: Any, hint: Any) -> bool:
    """Return False only if the value certainly does not fit."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _fits(value, typing.get_args(hint)[0])
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
        fits = isinstance(value, (int, float) if kind is float else kind)
    except TypeError:  # Any, a protocol, a type variable, …
        return True
    return fits and _items_fit(value, kind, typing.get_args(hint))


def _items_fit(value: Any, kind: Any, parts: tuple[Any, ...]) -> bool:
    if kind is dict and len(parts) == 2:
        return all(_fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items())
    if kind is tuple and parts and parts[-1] is not Ellipsis:
        same = len(value) == len(parts)
        return same and all(map(_fits, value, parts))
    if kind in (list, set, frozenset, tuple) and parts:
        return all(_fits(item, parts[0]) for item in value)
    return True


def _convert(flow: str, name: str, value: Any, hints: Mapping[str, Any]) -> Any:
    _check_finite(flow, name, value)
    hint = hints.get(name, Any)
    try:
        return from_json(value, hint, name, strict=True)
    except AnswerInvalid as error:
        raise InputError(f"{flow}: {error.message}", help=error.help) from None
    except UsageError:  # a type without a JSON form; binding checks what it can
        return value


def _check_finite(flow: str, name: str, value: Any) -> None:
    """Refuse the floats that `json.loads` returns for NaN, Infinity and 1e400: not JSON."""
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, float) and not math.isfinite(part):
            raise InputError(
                f"{flow}: the input {name} holds {part}, which is no JSON: its number is not "
                "finite, or beyond the largest float (about 1.8e308).",
                help="Pass a finite number, or a string that the flow parses.",
            )
        if isinstance(part, dict):
            pending += part.values()
        elif isinstance(part, list):
            pending += part


def _unknown(flow: str, signature: Signature, name: str) -> InputError:
    error = _error(flow, signature, f"has no input {name!r}")
    return InputError(error.message, help=suggestion(name, signature.parameters, error.help))


def _error(flow: str, signature: Signature, what: str) -> InputError:
    return InputError(f"The flow {flow} {what}.", help=f"Its inputs: {flow}{signature}")
