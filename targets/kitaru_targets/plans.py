"""Validate a plan that was read: the types of all values, and unique names.

A step runs the compiled plan, verified by its digest. Commands read plans of builds and stores that
may be damaged or written by hand. A fault there is an error message, never a crash.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from kitaru.errors import StateError
from kitaru.wire import plan as wire
from kitaru.wire.plan import BranchItem, FanItem, LayoutItem, Plan, StepItem
from kitaru.wire.structs import Struct, fields_of
from kitaru_targets import lock


def read_plan(data: bytes, where: str) -> Plan:
    """Parse the plan in `data`; `where` names its container.

    Raises StateError if it is damaged or was written by another version of Kitaru.

        read_plan(contents["kitaru_build/plan.json"], "build/review/vertex")
    """
    try:
        # This checks the size and the depth.
        lock.load(data)
        plan = Plan.from_json(data)
        for problem in (*_wrong(plan, Plan, "plan"), *_unknown(plan)):
            raise ValueError(problem)
        return plan
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        missing = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise StateError(
            f"{where} holds no plan that can be used: {missing}.",
            help="Compile again with this Kitaru: kitaru compile FLOW --target T",
        ) from error


@cache
def _hints(kind: str) -> dict[str, Any]:
    """Return the field types of a class in the plan's module."""
    return get_type_hints(getattr(wire, kind))


def _wrong(value: Any, hint: Any, name: str) -> Iterator[str]:
    """Yield the parts of a value that are not of its type."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return
    if origin is Literal:
        if value not in inner:
            yield f"{name} is {value!r}"
    elif origin in (Union, types.UnionType):
        if all(any(_wrong(value, each, name)) for each in inner):
            yield f"{name} is {value!r}"
    elif origin is tuple:
        kinds = inner if inner[-1] is not ... else inner[:1] * len(value)
        if not isinstance(value, tuple) or len(kinds) != len(value):
            yield f"{name} is {value!r}"
            return
        for each, kind in zip(value, kinds, strict=True):
            yield from _wrong(each, kind, name)
    elif origin is dict:
        if not isinstance(value, dict):
            yield f"{name} is {value!r}"
            return
        for key, each in value.items():
            yield from _wrong(each, inner[1], f"{name}.{key}")
    elif isinstance(hint, type) and issubclass(hint, Struct):
        if type(value) is not hint:
            yield f"{name} is {value!r}"
            return
        hints = _hints(hint.__name__)
        for field, each in fields_of(value).items():
            yield from _wrong(each, hints[field], f"{name}.{field}")
    elif not _is_plain(value, hint):
        yield f"{name} is {value!r}"


def _is_plain(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is kind


def _unknown(plan: Plan) -> Iterator[str]:
    """Yield names that refer to nothing."""
    blocks, steps = [b.name for b in plan.blocks], [s.name for s in plan.steps]
    if not blocks or not steps:
        yield "it has no steps"
    for what, names in (("block", blocks), ("step", steps)):
        if len({*names}) < len(names):
            yield f"two of its {what}s have the same name"
    indices = {b.name: b.index for b in plan.blocks}
    if [*indices.values()] != sorted({*indices.values()}):
        yield "its blocks are out of order"
    for block in plan.blocks:
        for name in block.next:
            if name is not None and indices.get(name, -1) <= block.index:
                yield f"the block {block.name} leads to {name!r}"
    for step in plan.steps:
        for name in (step.entry, *step.blocks):
            if name not in indices:
                yield f"the step {step.name} runs {name!r}, which is no block"
        for exit in step.exits:
            if exit is not None and exit not in steps:
                yield f"the step {step.name} leads to {exit!r}, which is no step"
    for name in _placed(plan.layout):
        if name not in {*steps, *blocks}:
            yield f"its layout has {name!r}, which is no step and no block"
    callers = {a.name for a in plan.activations} | {""}
    for activation in plan.activations:
        if activation.caller not in callers:
            yield f"the helper {activation.name} is called by {activation.caller!r}"


def _placed(items: Sequence[LayoutItem]) -> Iterator[str]:
    for item in items:
        match item:
            case StepItem(step=name):
                yield name
            case FanItem(fan=name, producer=producer):
                yield name
                if producer:
                    yield producer
            case BranchItem(decider=decider, arms=arms):
                if decider is not None:
                    yield decider
                for arm in arms:
                    yield from _placed(arm)
            case _:
                yield item.block
