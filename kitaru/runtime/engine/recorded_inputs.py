"""Bind the recorded inputs of an execution to its flow, whose code may have changed.

    recorded  {"payee": "alice", "amount": 3}
    now       def pay_flow(recipient: str = "nobody", amount: int = 0, dry: bool = False)

A recorded input that the flow no longer has is an error, even if the other inputs can be bound:
dropping `payee` could mean that nobody is paid. A new input gets its default, with a note. Without
a default it is an error. A recorded value must be of the annotated type. All checks run before the
body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kitaru.errors import InputError, ValueNotEncodable
from kitaru.runtime import codec
from kitaru.runtime.engine import declared_changes
from kitaru.runtime.engine.inputs import bound_of, check_type, signature_of
from kitaru.runtime.schema.annotations import hints_of
from kitaru.wire.names import nearest
from kitaru.wire.structs import Struct

if TYPE_CHECKING:
    from inspect import BoundArguments, Parameter, Signature

Function = Callable[..., Any]
_MANY = ("VAR_POSITIONAL", "VAR_KEYWORD")


class Restored(Struct):
    """Recorded inputs as a call. `filled` are the new inputs bound to their defaults."""

    bound: BoundArguments
    filled: tuple[str, ...]


def restore(flow: str, function: Function, recorded: Mapping[str, Any]) -> Restored:
    """Bind recorded inputs to `function` and return the call.

    Raises:
        InputError: an input no longer belongs to the flow, is new and has no default, or is not of
            its annotated type.
    """
    signature = signature_of(function)
    values, unknown = _placed(signature, recorded)
    new = [name for name, one in signature.parameters.items() if _is_new(name, one, values)]
    needed = [name for name in new if signature.parameters[name].default is signature.empty]
    if unknown or needed:
        raise _changed(flow, signature, unknown, new, needed)
    # Use the order of the signature, in which positional arguments are bound.
    bound = bound_of(signature, {n: values[n] for n in signature.parameters if n in values})
    hints = hints_of(function)
    for name, value in bound.arguments.items():
        if not _is_default(value, signature.parameters[name]):
            _check_type(flow, signature, name, value, hints.get(name, Any))
    bound.apply_defaults()
    # Records do not contain defaults that cannot be recorded.
    filled = [name for name in new if _is_recordable(signature.parameters[name].default)]
    return Restored(bound, tuple(filled))


def call(flow: str, function: Function, recorded: Mapping[str, Any]) -> Any:
    """Call `function` with recorded inputs."""
    bound = restore(flow, function, recorded).bound
    return function(*bound.args, **bound.kwargs)


def check(flow: str, function: Function, recorded: Mapping[str, Any]) -> None:
    """Raise the errors of `restore`, and log the new inputs bound to their defaults."""
    filled = restore(flow, function, recorded).filled
    if filled:
        # The import takes milliseconds, and most executions have the inputs that they started with.
        import logging

        parameters = signature_of(function).parameters
        logging.getLogger("kitaru").warning(
            "%s has new inputs, which this execution began without; their defaults are used: %s",
            flow,
            ", ".join(f"{name}={parameters[name].default!r}" for name in filled),
        )


def _placed(
    signature: Signature, recorded: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return recorded inputs by their current names, and the inputs that no longer exist."""
    kinds = {name: one.kind.name for name, one in signature.parameters.items()}
    rest = next((name for name, kind in kinds.items() if kind == "VAR_KEYWORD"), "")
    values: dict[str, Any] = {}
    unknown: dict[str, Any] = {}
    for name, value in recorded.items():
        found = next((n for n in declared_changes.input_names(name) if n in kinds), "")
        if found:
            values[found] = value
        elif not declared_changes.is_removed_input(name):
            unknown[name] = value
    if rest:
        others = {**values.get(rest, {}), **unknown}
        named = {n: v for n, v in others.items() if n in kinds and kinds[n] not in _MANY}
        values |= {n: v for n, v in named.items() if n not in values}
        values[rest] = {n: v for n, v in others.items() if n not in named}
        unknown = {}
    return values, unknown


def _is_new(name: str, parameter: Parameter, values: Mapping[str, Any]) -> bool:
    return name not in values and parameter.kind.name not in _MANY


def _is_default(value: Any, parameter: Parameter) -> bool:
    """Return whether a value is the default, which may differ from the annotated type."""
    if parameter.default is parameter.empty:
        return False
    try:
        return bool(codec.encode(value) == codec.encode(parameter.default))
    except ValueNotEncodable:
        return False


def _is_recordable(value: Any) -> bool:
    try:
        codec.encode(value)
    except ValueNotEncodable:
        return False
    return True


def _check_type(flow: str, signature: Signature, name: str, value: Any, hint: Any) -> None:
    try:
        check_type(flow, signature, name, value, hint)
    except InputError as error:
        raise InputError(
            f"An input has another type than when this execution started. {error.message}",
            help="Let the flow accept values of the recorded type too, or start a new execution. "
            + error.help,
        ) from None


def _changed(
    flow: str, signature: Signature, unknown: Mapping[str, Any], new: list[str], needed: list[str]
) -> InputError:
    told = [f"{name} is recorded and not an input any more" for name in unknown]
    told += [f"{name} is new" + (" and has no default" if name in needed else "") for name in new]
    remedies = []
    for name in unknown:
        meant = new[0] if len(new) == 1 else nearest(name, new) or "NEW_NAME"
        remedies += [f'    kitaru.renamed("{name}", input="{meant}")'] if new else []
        remedies += [f'    kitaru.removed(input="{name}")']
    help = []
    if remedies:
        help = [f"Declare in the flow's file what became of {', '.join(unknown)}:", *remedies]
    elif needed:
        help = [f"Give {', '.join(needed)} a default, or start a new execution."]
    return InputError(
        f"The inputs of the flow {flow} have changed since this execution began: "
        f"{'; '.join(told)}. Nothing ran.",
        help="\n".join([*help, f"Its inputs: {flow}{signature}"]),
    )
