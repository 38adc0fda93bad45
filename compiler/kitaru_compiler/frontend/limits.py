"""The limits that `@flow` declares, checked before anything is deployed."""

from __future__ import annotations

from kitaru.errors import UsageError
from kitaru.wire.flow_limits import FlowLimits, flow_limits, limit
from kitaru_compiler.frontend.flows import FlowDefinition, parameters
from kitaru_compiler.frontend.names import Names
from kitaru_compiler.frontend.written import located, written_options

_OPTIONS = ("concurrency", "rate_limit", "priority")
_EXAMPLE = 'kitaru.limit(60, per="1m")'


def limits_of(flow: FlowDefinition, names: Names) -> FlowLimits | None:
    """Return the limits of a flow, None if it declares none.

    Raises UsageError with the place if an option is not written out or not valid, or if a path
    names no input.
    """
    given, line = written_options(flow, names, _OPTIONS, {"limit": limit}, _EXAMPLE)
    with located(flow, line):
        found = flow_limits(*(given.get(option) for option in _OPTIONS))
        check_inputs(flow, found.paths if found is not None else ())
    return found


def check_inputs(flow: FlowDefinition, paths: tuple[str, ...]) -> None:
    """Raise UsageError if a path such as `input.order.id` names no input of a flow."""
    known = [one.name for one in parameters(flow.definition)]
    for path in paths:
        name = path.split(".")[1]
        if name not in known:
            raise UsageError(
                f"{flow.name} has no input {name}, which {path} names.",
                help=f"Its inputs: {', '.join(known) or 'none'}.",
            )
