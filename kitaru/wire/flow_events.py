"""What events do to a flow: they start its deployed version, and cancel its executions.

    @flow(
        on="invoice.created",
        where="data.amount > 100",
        cancel_on=kitaru.on_event("invoice.deleted", match={"id": "input.id"}),
    )

An event that starts an execution gives it its inputs: the input `event` is the whole event, and
every other input is the field of the same name of its data.

`on_failure` and `on_waiting` are the same from the other side: the events `kitaru.execution.failed`
and `kitaru.execution.waiting` of executions of this flow start the flow that they name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kitaru.errors import UsageError
from kitaru.wire import expressions
from kitaru.wire.events import FAILED, WAITING, check_sent_name, is_value
from kitaru.wire.flow_limits import at_path, check_path
from kitaru.wire.names import check_name
from kitaru.wire.plan import Parameter
from kitaru.wire.structs import Struct, fields_of

EVENT = "event"
"""The name of the input that is the whole event."""
INPUT = "input"
"""The variable of the inputs in a condition of `cancel_on`."""
HANDLERS = {"on_failure": FAILED, "on_waiting": WAITING}
"""The options of `@flow` that name a flow, each with the event that starts it."""
_MOST = 20
_MOST_PATHS = 10


class EventPattern(Struct):
    """Events that cancel an execution, made by `kitaru.on_event`.

    Attributes:
        name: name of the events.
        match: paths in the event's data, each with the path of the input that it must equal.
        where: a condition on the event and the inputs; empty without one.
    """

    name: str
    match: dict[str, str]
    where: str = ""

    def __str__(self) -> str:
        """Return the pattern in words, such as `order.gone with id = input.id`."""
        asked = [f"{path} = {one}" for path, one in self.match.items()]
        what = " and ".join([*asked, *filter(None, [self.where])])
        return f"{self.name} with {what}" if what else self.name


class FlowEvents(Struct):
    """What starts a flow: events of the names `on` for which `where` is true; what cancels it.

    `on_failure` and `on_waiting` are the flows that start when one of its executions fails, or asks
    a question: `FLOW`, `FLOW@TAG` or `FLOW@vN`, empty for none.
    """

    on: tuple[str, ...] = ()
    where: str = ""
    cancel_on: tuple[EventPattern, ...] = ()
    on_failure: str = ""
    on_waiting: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON."""
        cancels = [fields_of(one) for one in self.cancel_on]
        return {**fields_of(self), "on": list(self.on), "cancel_on": cancels}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> FlowEvents:
        """Return what a document of `to_json` says."""
        cancels = tuple(EventPattern(**one) for one in data["cancel_on"])
        # Plans of earlier releases name no such flows.
        named = {name: data[name] for name in HANDLERS if name in data}
        return FlowEvents(tuple(data["on"]), data["where"], cancels, **named)


def on_event(
    name: str, *, match: Mapping[str, str] | None = None, where: str | None = None
) -> EventPattern:
    """Return the events that cancel an execution, for `@flow(cancel_on=…)`.

    Args:
        name: name of the event, such as `order.cancelled`.
        match: paths in the event's data, each with the path of the input that has the same value,
            such as `{"order.id": "input.order"}`. They are found by key, however many executions
            there are.
        where: a condition in the Common Expression Language on `data`, `id`, `name` and `at` of the
            event, and on `input`, such as `"data.amount > input.most"`. It needs the extra
            `events`.

    Raises:
        UsageError: a value is not valid.

    Example:
        @flow(cancel_on=kitaru.on_event("order.cancelled", match={"order.id": "input.order"}))
        def ship(order: int) -> None: ...
    """
    check_sent_name(name)
    found = dict(match) if isinstance(match, Mapping) else {} if match is None else None
    if found is None or len(found) > _MOST_PATHS or not all(isinstance(one, str) for one in found):
        raise UsageError(
            f"match={match!r} is not valid.",
            help=f"Use at most {_MOST_PATHS} paths in the event's data, each with the path of an "
            'input: {"order.id": "input.order"}',
        )
    for path in found.values():
        check_path("match", path)
    return EventPattern(name, found, _condition(where, (*expressions.VARIABLES, INPUT)))


def flow_events(
    on: Any, where: Any, cancel_on: Any, on_failure: Any = None, on_waiting: Any = None
) -> FlowEvents | None:
    """Return what the options of `@flow` say about events; None if they say nothing.

    Raises UsageError if an option is not valid.
    """
    names = tuple(
        one if one in HANDLERS.values() else check_sent_name(one) for one in _listed("on", on)
    )
    cancels = tuple(
        one if isinstance(one, EventPattern) else on_event(one)
        for one in _listed("cancel_on", cancel_on)
    )
    if where is not None and not names:
        raise UsageError(
            "where= selects events, and this flow has no on=.",
            help='Add the names of events, such as on="invoice.created".',
        )
    condition = _condition(where, expressions.VARIABLES)
    handlers = [
        "" if one is None else _flow_name(option, one)
        for option, one in (("on_failure", on_failure), ("on_waiting", on_waiting))
    ]
    return (
        FlowEvents(names, condition, cancels, *handlers)
        if names or cancels or any(handlers)
        else None
    )


def recorded_cancels(
    events: Mapping[str, Any], parameters: Iterable[Parameter], inputs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the start of an execution records about the events that cancel it.

    Args:
        events: the JSON of a `FlowEvents`; empty without one.
        inputs: its inputs by name, as JSON. For one that is absent, a literal default counts.

    Returns an empty dict if no event cancels it.
    """
    cancels = events.get("cancel_on", ())
    if not cancels:
        return {}
    literal = {p.name: p.default for p in parameters if p.has_literal_default}
    defaults = {name: value for name, value in literal.items() if name not in inputs}
    known = {**defaults, **inputs}
    found = []
    for one in cancels:
        values = {path: at_path(known, of) for path, of in one["match"].items()}
        # The event's value is a text, a number or a bool: nothing else can be equal.
        if all(value is not None and is_value(value) for value in values.values()):
            found.append({"name": one["name"], "match": values, "where": one["where"]})
    return {"events": found, "defaults": defaults} if found else {}


def started_inputs(
    parameters: Iterable[Parameter], event: Mapping[str, Any], data: Any
) -> dict[str, Any]:
    """Return the inputs of the execution that an event starts, as JSON by name.

    Args:
        event: the whole event, as a condition sees it.
        data: its data. Its fields that are no inputs are left out.

    Example:
        >>> amount = Parameter("amount", "positional_or_keyword", "int", "int", True, False)
        >>> started_inputs([amount], {}, {"amount": 7, "currency": "EUR"})
        {'amount': 7}
    """
    fields = data if isinstance(data, Mapping) else {}
    names = [one.name for one in parameters]
    given = {name: fields[name] for name in names if name in fields and name != EVENT}
    return {EVENT: dict(event), **given} if EVENT in names else given


def _condition(where: Any, variables: tuple[str, ...]) -> str:
    if where is None:
        return ""
    if expressions.is_installed():
        return expressions.check_expression(where, variables)
    if not isinstance(where, str) or not where.strip():
        raise UsageError(f"where={where!r} is not an expression.")
    return where


def _flow_name(option: str, given: Any) -> str:
    if not isinstance(given, str):
        raise UsageError(
            f"{option}={given!r} is not the name of a flow.",
            help=f'Use the name of a deployed flow, such as {option}="notify" or "notify@stable".',
        )
    flow, at, version = given.partition("@")
    check_name("flow", flow)
    if at:
        check_name("tag", version)
    return given


def _listed(option: str, given: Any) -> list[Any]:
    found = list(given) if isinstance(given, list | tuple) else [] if given is None else [given]
    if len(found) > _MOST:
        raise UsageError(f"{option}= of @flow names more than {_MOST} events.")
    return found
