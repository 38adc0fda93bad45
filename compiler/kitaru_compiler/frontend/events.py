"""The events that `@flow` names, checked before anything is deployed."""

from __future__ import annotations

from kitaru.errors import UsageError
from kitaru.wire.expressions import VARIABLES, check_expression, members
from kitaru.wire.flow_events import EVENT, HANDLERS, INPUT, FlowEvents, flow_events, on_event
from kitaru_compiler.frontend.flows import NATIVE_TYPES, FlowDefinition, parameters
from kitaru_compiler.frontend.limits import check_inputs
from kitaru_compiler.frontend.names import Names
from kitaru_compiler.frontend.written import located, written_options

_OPTIONS = ("on", "where", "cancel_on", *HANDLERS)


def events_of(flow: FlowDefinition, names: Names) -> FlowEvents | None:
    """Return what a flow declares about events, None if it declares nothing.

    Raises:
        UsageError: with the place: an option is not written out or not valid, a path or a condition
            names no input, or the input `event` cannot be an event.
        EnvironmentFailure: a condition cannot be checked, because its library is missing.
    """
    given, line = written_options(
        flow, names, _OPTIONS, {"on_event": on_event}, 'on="invoice.created"'
    )
    with located(flow, line):
        found = flow_events(*(given.get(option) for option in _OPTIONS))
        if found is None:
            return None
        if found.where:
            # A step may lack the library. Compiling must not.
            check_expression(found.where)
        for one in found.cancel_on:
            paths = tuple(one.match.values())
            if one.where:
                check_expression(one.where, (*VARIABLES, INPUT))
                paths += tuple(f"{INPUT}.{name}" for name in members(one.where, INPUT))
            check_inputs(flow, paths)
        if found.on:
            _check_event_input(flow)
    return found


def _check_event_input(flow: FlowDefinition) -> None:
    """Raise UsageError if the input `event` of a flow that events start is not an object."""
    for one in parameters(flow.definition):
        if one.name == EVENT and one.type in NATIVE_TYPES:
            raise UsageError(
                f"The input event of {flow.name} is a {one.annotation}, and an event is an object "
                "with name, id, at and data.",
                help="Write event: dict, or give the input another name: an input other than "
                "event is the field of its name in the event's data.",
            )
