"""Turn a flow's inputs into typed pipeline parameters, and values for them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from kitaru.errors import InputError, UsageError
from kitaru.runtime.schema.validate import problem
from kitaru.wire.names import suggestion
from kitaru.wire.plan import OWN_DEFAULT, Parameter, ParameterType, Plan, is_rounded
from kitaru.wire.structs import Struct
from kitaru_targets.base import Transport
from kitaru_targets.common.annotations import schema_of

EXECUTION = "kitaru_execution"
STORE = "kitaru_store"
INPUTS = "kitaru_inputs"
Native = Literal["string", "integer", "number", "boolean"]
# Engines accept only these characters in parameter names. Python accepts more.
_OURS = "kitaru_"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_NATIVE: dict[ParameterType, Native] = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "json": "string",
}
# Command lines cannot contain these characters.
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
# A longer integer is described instead of shown.
_LONGEST_BITS = 200


class Carried(Struct):
    """The inputs of a run: `given` as parameters, `stored` as texts by name."""

    given: dict[str, Any]
    stored: dict[str, str]


class Declared(Struct):
    """A parameter of the compiled pipeline; without a `default` it is required."""

    name: str
    type: Native
    default: str | int | float | bool | None = None
    description: str = ""


def portable(plan: Plan, transport: Transport) -> Plan:
    """Return the plan without defaults that a document cannot contain.

    Engines expand `{{…}}` everywhere, so no text of the user's that contains it may be in the
    document. Such a default, a long one, and an integer that no double can represent become "the
    flow's own default", which the step applies. So does an empty default, if a target accepts no
    empty text.
    """
    return plan.replace(parameters=tuple(_portable(p, transport) for p in plan.parameters))


def declared(plan: Plan, store: str, execution: str = "") -> tuple[Declared, ...]:
    """Return the parameters of the compiled pipeline; raise UsageError on an invalid name."""
    for name in (p.name for p in plan.parameters):
        if name.startswith(_OURS) or not _NAME.fullmatch(name):
            raise UsageError(
                f"{plan.file}:{plan.line}: the input {name!r} of {plan.flow} cannot be a parameter "
                "of the compiled pipeline.",
                help=f"use ASCII letters, digits and underscores, and no {_OURS} in front",
            )
    goes_on = "Resume this execution; empty starts a new one."
    holds = "URL of the store that holds bundle and journal."
    stored = Declared(INPUTS, "string", "", "Key of inputs that no parameter can carry.")
    return (
        *map(_declared, plan.parameters),
        Declared(EXECUTION, "string", execution, goes_on),
        Declared(STORE, "string", store or None, holds),
        *([stored] if plan.parameters else []),
    )


def native_type(parameter: Parameter) -> Native:
    """Return the type of the pipeline parameter for this input."""
    return _declared(parameter).type


def values(plan: Plan, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return native parameter values for a flow's inputs; raise InputError if they do not fit.

    >>> values(plan, {"topic": "owls", "limits": {"words": 3}})
    {'topic': 'owls', 'limits': '{"words": 3}'}
    """
    known = {p.name: p for p in plan.parameters}
    unknown = sorted(set(inputs) - set(known))
    missing = [p.name for p in plan.parameters if p.required and p.name not in inputs]
    if unknown or missing:
        found = f"unknown input {unknown[0]!r}" if unknown else f"missing input {missing[0]!r}"
        listed = f"its inputs are: {', '.join(known) or 'none'}"
        raise InputError(
            f"{plan.file}:{plan.line}: {found} for {plan.flow}",
            help=suggestion(unknown[0], known, listed) if unknown else listed,
        )
    given = {name: _value(plan, known[name], value) for name, value in inputs.items()}
    for name, value in inputs.items():
        _check_annotation(plan, known[name], value)
    return given


def carried(plan: Plan, inputs: Mapping[str, Any], transport: Transport) -> Carried:
    """Return a flow's inputs as the parameters of a target, and as texts for the store.

    A parameter carries no integer beyond 2**53, because engines convert it to a double, and no text
    that is longer than the target allows, or that the target would expand. Those inputs are stored
    under one key. The parameters then have values that the step ignores.

    Raises:
        InputError: an input is missing, unknown or of the wrong type.
    """
    given = values(plan, inputs)
    texts = {name: value for name, value in given.items() if isinstance(value, str)}
    stored = {
        p.name: _as_json(given[p.name])
        for p in plan.parameters
        if p.type == "int" and is_rounded(given.get(p.name))
    }
    stored |= {
        name: text
        for name, text in texts.items()
        if len(text) > transport.longest_input
        or not (text or transport.takes_empty)
        or ("{{" in text and not transport.takes_braces)
    }
    together = {n: len(_as_json({n: value})) for n, value in given.items() if n not in stored}
    while transport.longest_together and sum(together.values()) > transport.longest_together:
        longest = max(together, key=lambda name: (together[name], name))
        if longest not in texts:
            break
        del together[longest]
        stored[longest] = texts[longest]
    left = {name: value for name, value in given.items() if name not in stored}
    for parameter in plan.parameters:
        if parameter.name not in stored:
            continue
        if native_type(parameter) == "string":
            left[parameter.name] = OWN_DEFAULT
        elif parameter.required:
            left[parameter.name] = 0
    return Carried(left, stored)


def as_text(value: Any) -> str:
    """Return the value of a parameter as the text that a step reads."""
    return value if isinstance(value, str) else json.dumps(value)


def _declared(parameter: Parameter) -> Declared:
    native = _NATIVE[parameter.type]
    description = "JSON text." if parameter.type == "json" else ""
    if parameter.required:
        return Declared(parameter.name, native, None, description)
    if not parameter.has_literal_default:
        own = f"{OWN_DEFAULT} means the flow's own default."
        return Declared(parameter.name, "string", OWN_DEFAULT, own)
    default = _as_json(parameter.default) if parameter.type == "json" else parameter.default
    return Declared(parameter.name, native, default, description)


def _portable(parameter: Parameter, transport: Transport) -> Parameter:
    if not parameter.has_literal_default:
        return parameter
    text = _as_json(parameter.default)
    fits = "{{" not in text and len(text) <= transport.longest_input
    if (
        fits
        and (transport.takes_empty or parameter.default != "")
        and _is_native(parameter.type, parameter.default)
    ):
        return parameter
    return Parameter(
        parameter.name, parameter.kind, parameter.type, parameter.annotation, False, False
    )


def _is_native(kind: str, value: Any) -> bool:
    match kind:
        case "str":
            return isinstance(value, str) and not _NO_TEXT.search(value)
        case "bool":
            return isinstance(value, bool)
        case "int":
            return type(value) is int and not is_rounded(value)
        case "float":
            return isinstance(value, (int, float)) and _is_finite(value)
    return True


def _is_finite(number: Any) -> bool:
    try:
        return not isinstance(number, bool) and math.isfinite(number)
    except OverflowError:  # an integer beyond the largest float
        return False


def _value(plan: Plan, parameter: Parameter, value: Any) -> Any:
    if parameter.type == "json":
        return _json_text(plan, parameter, value)
    if isinstance(value, str) and _NO_TEXT.search(value):
        raise InputError(
            f"{plan.file}:{plan.line}: input {parameter.name!r} of {plan.flow} holds a character "
            "that cannot be handed to a step: a null, or half a surrogate pair.",
            help="remove it, or let a checkpoint read the text from where it lies",
        )
    as_text = not (parameter.has_literal_default or parameter.required)
    if parameter.type == "int" and is_rounded(value):
        return _as_json(value) if as_text else value
    if parameter.type == "float" and isinstance(value, (int, float)) and _is_infinite(value):
        raise _not_finite(plan, parameter, _short(value))
    if not _is_native(parameter.type, value):
        raise InputError(
            f"{plan.file}:{plan.line}: input {parameter.name!r} of {plan.flow} must be "
            f"{parameter.annotation or parameter.type}, not {type(value).__name__}",
            help=f"give it as --input {parameter.name}=VALUE",
        )
    if value == OWN_DEFAULT:
        raise InputError(
            f"{plan.file}:{plan.line}: input {parameter.name!r} of {plan.flow} cannot be "
            f"{OWN_DEFAULT!r}: that text stands for the flow's own default.",
            help="leave the input out for the default",
        )
    return _as_json(value) if as_text and not isinstance(value, str) else value


def _check_annotation(plan: Plan, parameter: Parameter, value: Any) -> None:
    """Reject inputs that the first step would reject, as far as the annotation's text shows."""
    schema = schema_of(parameter.annotation)
    reason = problem(value, schema) if schema else None
    if reason is not None:
        raise InputError(
            f"{plan.file}:{plan.line}: input {parameter.name!r} of {plan.flow} does not fit "
            f"{parameter.annotation}: {reason}.",
            help=f"give it as --input {parameter.name}=VALUE",
        )


def _is_infinite(number: Any) -> bool:
    return not isinstance(number, bool) and not _is_finite(number)


def _json_text(plan: Plan, parameter: Parameter, value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=True, allow_nan=False)
    except ValueError:
        raise _not_finite(plan, parameter, "holding NaN or an infinity") from None


def _not_finite(plan: Plan, parameter: Parameter, what: str) -> InputError:
    return InputError(
        f"{plan.file}:{plan.line}: input {parameter.name!r} of {plan.flow} is {what}: JSON has no "
        "number that is not finite, or beyond the largest float (about 1.8e308).",
        help="give a finite number, or a text that the flow reads",
    )


def _short(number: float) -> str:
    # Python refuses to print integers with thousands of digits.
    if isinstance(number, int) and number.bit_length() > _LONGEST_BITS:
        return f"an integer of {number.bit_length():,} bits"
    return str(number)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=False)
