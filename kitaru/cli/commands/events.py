"""`kitaru events`: send events, and list what was received."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import options
from kitaru.cli.clients import reader_of
from kitaru.cli.groups import Group
from kitaru.cli.output import Output, label
from kitaru.cli.render.execution import moment
from kitaru.cli.values import parse_json

if TYPE_CHECKING:
    from kitaru.ops.triggers import Trigger
    from kitaru.wire.records import EventEffect

_SHOWN = 60
_name = click.argument("name", metavar="NAME")


@click.group(cls=Group, short_help="Send events, and list what was received.")
def events() -> None:
    """Send events, and list what was received.

    An event continues the executions that wait for it with kitaru.wait_event, starts flows with
    @flow(on=…), and cancels executions with @flow(cancel_on=…). A running `kitaru dispatcher run`
    or `kitaru serve` continues and starts them.
    """


@events.command()
@_name
@click.option(
    "--data", default="null", metavar="JSON", help="The data of the event. Default: null."
)
@click.option(
    "--id", metavar="ID",
    help="Id of the event: with the same id, it is the same event. Default: a new one.",
)  # fmt: skip
@options.store
@options.as_json
@options.pass_output
def send(output: Output, name: str, data: str, id: str | None, store: str | None) -> None:
    """Send an event, such as invoice.created. It is stored when the command ends."""
    sent = reader_of(store).events.send(name, parse_json(data, "--data"), id=id)
    if output.as_json:
        output.document(sent.to_dict())
        return
    output.say(f"{label('stored', 'green')}  {sent.name} {sent.id}")
    output.note("help: a dispatcher continues and starts what it is for: kitaru dispatcher run")


@events.command("list")
@click.option("--name", metavar="NAME", help="Only events of this name.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, help="At most this many.")
@options.store
@options.as_json
@options.pass_output
def list_events(output: Output, name: str | None, limit: int, store: str | None) -> None:
    """List the newest events, newest first."""
    found = reader_of(store).events.list(name, limit=limit)
    if output.as_json:
        output.document({"items": [one.to_dict() for one in found], "count": len(found)})
        return
    rows = [(moment(one.at), one.name, one.id, _short(one.data)) for one in found]
    output.table(rows, empty="there is no event")


@events.command()
@_name
@click.argument("id", metavar="ID")
@options.store
@options.as_json
@options.pass_output
def get(output: Output, name: str, id: str, store: str | None) -> None:
    """Show an event: its data, who sent it, and the executions that it started or cancelled."""
    found = reader_of(store).events.get(name, id)
    if output.as_json:
        output.document(found.to_dict())
        return
    head = label("ordered", "green") if found.number else label("stored", "yellow")
    output.say(f"{head}  {found.name} {found.id}")
    output.say(f"received {moment(found.at)} from {found.by}")
    output.say(f"data     {json.dumps(found.data, ensure_ascii=False)}")
    for one in found.effects:
        output.say(_effect(one))
    if not found.number:
        output.note("help: a dispatcher puts it into the log: kitaru dispatcher run")


@events.command()
@click.option("--flow", metavar="FLOW", help="Only of this flow.")
@options.store
@options.as_json
@options.pass_output
def triggers(output: Output, flow: str | None, store: str | None) -> None:
    """List which events start deployed flows, and which cancel their executions."""
    found = reader_of(store).events.triggers(flow)
    if output.as_json:
        output.document({"items": [one.to_dict() for one in found], "count": len(found)})
        return
    rows = [(f"{one.flow}@v{one.version}", *row) for one in found for row in trigger_rows(one)]
    output.table(rows, empty="no event starts or cancels a flow")


def trigger_rows(trigger: Trigger) -> list[tuple[str, str]]:
    """Return what events do to a flow: a word and the events, for each."""
    found, where = trigger.events, f" with {trigger.events.where}" if trigger.events.where else ""
    return [
        *(("starts on", f"{name}{where}") for name in found.on),
        *(("cancelled on", str(one)) for one in found.cancel_on),
        *([("on failure", f"starts {found.on_failure}")] if found.on_failure else []),
        *([("on waiting", f"starts {found.on_waiting}")] if found.on_waiting else []),
    ]


def _effect(one: EventEffect) -> str:
    if one.kind == "cancel":
        return f"cancels  {one.exec_id} of {one.flow}"
    version = f"{one.flow} v{one.deployment}"
    if one.kind == "refuse":
        return f"refused  {version}: {one.why}"
    return f"starts   {one.exec_id} of {version}"


def _short(data: Any) -> str:
    text = json.dumps(data, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
