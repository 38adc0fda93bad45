"""Decides how a flow's inputs become typed pipeline parameters, and values for them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kitaru.errors import InputError, UsageError
from kitaru.wire.plan import OWN_DEFAULT, Parameter, ParameterType, Plan

EXECUTION = "kitaru_execution"
STORE = "kitaru_store"
INPUTS = "kitaru_inputs"
Native = Literal["string", "integer", "number", "boolean"]
# Engines take parameter names of these characters only; Python takes more.
_OURS = "kitaru_"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# Open-source Kubeflow refuses run parameters over 10,000 bytes: all of them together.
MAX_DEFAULT_CHARACTERS = 2_000
_NATIVE: dict[ParameterType, Native] = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "json": "string",
}
# No command line carries these.
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
# Numbers travel as doubles, which hold integers exactly up to here.
_MAX_EXACT = 2**53


@dataclass(frozen=True, slots=True)
class Declared:
    """A parameter of the compiled pipeline; one without a `default` has to be given a value."""

    name: str
    type: Native
    default: str | int | float | bool | None = None
    description: str = ""


def portable(plan: Plan, longest: int = 0) -> Plan:
    """Return the plan with defaults that cannot stand in a document left to the flow itself.

    Engines expand `{{…}}` wherever they find it, so that no text of the user's that holds it may
    stand in the document. Such a default, a long one, and an integer that no double holds become
    "the flow's own default", which the step applies; so do those of more than `longest` characters,
    and empty ones, where a target takes no others.
    """
    return plan.replace(parameters=tuple(_portable(p, longest) for p in plan.parameters))


def declared(plan: Plan, store: str, execution: str = "") -> tuple[Declared, ...]:
    """Return the parameters of the compiled pipeline; raise UsageError on a bad name."""
    for name in (p.name for p in plan.parameters):
        if name.startswith(_OURS) or not _NAME.fullmatch(name):
            raise UsageError(
                f"{plan.file}:{plan.line}: the input {name!r} of {plan.flow} cannot be a parameter "
                "of the compiled pipeline.",
                help=f"use ASCII letters, digits and underscores, and no {_OURS} in front",
            )
    goes_on = "Resume this execution; empty starts a new one."
    holds = "URL of the store that holds bundle and journal."
    return (
        *map(_declared, plan.parameters),
        Declared(EXECUTION, "string", execution, goes_on),
        Declared(STORE, "string", store or None, holds),
    )


def native_type(parameter: Parameter) -> Native:
    """Return the type of the pipeline's parameter that carries this input."""
    return _declared(parameter).type


def values(plan: Plan, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return native parameter values for a flow's inputs; raise InputError when they do not fit.

    >>> values(plan, {"topic": "owls", "limits": {"words": 3}})
    {'topic': 'owls', 'limits': '{"words": 3}'}
    """
    known = {p.name: p for p in plan.parameters}
    unknown = sorted(set(inputs) - set(known))
    missing = [p.name for p in plan.parameters if p.required and p.name not in inputs]
    if unknown or missing:
        found = f"unknown input {unknown[0]!r}" if unknown else f"missing input {missing[0]!r}"
        raise InputError(
            f"{plan.file}:{plan.line}: {found} for {plan.flow}",
            help=f"its inputs are: {', '.join(known) or 'none'}",
        )
    return {name: _value(plan, known[name], value) for name, value in inputs.items()}


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


def _portable(parameter: Parameter, longest: int) -> Parameter:
    if not parameter.has_literal_default:
        return parameter
    text = _as_json(parameter.default)
    fits = "{{" not in text and len(text) <= (longest or MAX_DEFAULT_CHARACTERS)
    if (
        fits
        and not (longest and parameter.default == "")
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
            exact = isinstance(value, int) and abs(value) <= _MAX_EXACT
            return exact and not isinstance(value, bool)
        case "float":
            finite = isinstance(value, (int, float)) and math.isfinite(value)
            return finite and not isinstance(value, bool)
    return True


def _value(plan: Plan, parameter: Parameter, value: Any) -> Any:
    if parameter.type == "json":
        return _as_json(value)
    if isinstance(value, str) and _NO_TEXT.search(value):
        raise InputError(
            f"{plan.file}:{plan.line}: input {parameter.name!r} of {plan.flow} holds a character "
            "that cannot be handed to a step: a null, or half a surrogate pair.",
            help="remove it, or let a checkpoint read the text from where it lies",
        )
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
    if parameter.has_literal_default or parameter.required:
        return value
    return value if isinstance(value, str) else _as_json(value)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=False)
