"""`kitaru schedule`: start deployed flows at the instants of a cron expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import completion, options
from kitaru.cli.clients import reader_of
from kitaru.cli.groups import Group
from kitaru.cli.output import Output, counted, label
from kitaru.cli.render.execution import moment
from kitaru.cli.values import parse_inputs
from kitaru.config import setting
from kitaru.wire.cron import CATCHUPS, OVERLAPS

if TYPE_CHECKING:
    from kitaru.ops.schedules import Schedule

_id = click.argument("id", metavar="SCHEDULE")
_COLORS = {"active": "green", "paused": "yellow"}


@click.group(cls=Group, short_help="Start deployed flows at certain times.")
def schedule() -> None:
    """Start deployed flows at certain times.

    A running `kitaru dispatcher run` or `kitaru serve` starts them. An execution at an instant has
    one id, so any number of dispatchers start it once.
    """


@schedule.command()
@click.argument("name", metavar="FLOW[@TAG|@vN]", shell_complete=completion.deployed_flows)
@click.option(
    "--cron", required=True, metavar="CRON",
    help="Minute, hour, day of month, month and day of week, such as '0 2 * * *'.",
)  # fmt: skip
@click.option(
    "--timezone", default="UTC", metavar="ZONE", show_default=True,
    help="IANA time zone of the expression, such as Europe/Berlin.",
)  # fmt: skip
@options.inputs
@click.option(
    "--overlap", type=click.Choice(OVERLAPS), default="skip", show_default=True,
    help="What a tick does while the previous execution has not ended.",
)  # fmt: skip
@click.option(
    "--catchup", type=click.Choice(CATCHUPS), default="last", show_default=True,
    help="Which ticks start that no dispatcher decided in time.",
)  # fmt: skip
@click.option("--id", metavar="SCHEDULE", help="Id of the schedule. Default: the flow's name.")
@options.store
@options.as_json
@options.pass_output
def create(
    output: Output, name: str, cron: str, timezone: str, pairs: tuple[str, ...],
    inputs_from: str | None, overlap: Any, catchup: Any, id: str | None, store: str | None,
) -> None:  # fmt: skip
    """Create a schedule. It follows the tag: each tick starts the version that has the tag then."""
    from kitaru.client import KitaruClient
    from kitaru.ops.invoke import find
    from kitaru.ops.submit import plan_of

    client = KitaruClient(setting("store", argument=store).value)
    plan = plan_of(client.store, find(client.store, name))
    texts = {one.name for one in plan.parameters if one.type == "str"}
    made = client.schedules.create(
        name, cron, timezone=timezone, inputs=parse_inputs(pairs, inputs_from, texts=texts),
        overlap=overlap, catchup=catchup, id=id,
    )  # fmt: skip
    if output.as_json:
        output.document(made.to_dict())
        return
    output.say(f"{label('created', 'green')}  {made.id} starts {made.name}")
    _show_next(output, made)
    output.note("help: a dispatcher starts it: kitaru dispatcher run")


@schedule.command("list")
@click.option("--flow", metavar="FLOW", help="Only schedules of this flow.")
@options.store
@options.as_json
@options.pass_output
def list_schedules(output: Output, flow: str | None, store: str | None) -> None:
    """List the schedules, each with its next tick."""
    found = reader_of(store).schedules.list(flow=flow)
    if output.as_json:
        output.document({"items": [one.to_dict() for one in found], "count": len(found)})
        return
    rows = [
        (
            one.id,
            one.name,
            one.entry.cron,
            one.entry.timezone,
            moment(one.next[0]) if one.next else one.entry.status,
        )
        for one in found
    ]
    output.table(rows, empty="there is no schedule")


@schedule.command()
@_id
@options.store
@options.as_json
@options.pass_output
def get(output: Output, id: str, store: str | None) -> None:
    """Show a schedule: its definition, its next ticks and its last runs."""
    found = reader_of(store).schedules.get(id)
    if output.as_json:
        output.document(found.to_dict())
        return
    entry = found.entry
    output.say(f"{label(entry.status, _COLORS[entry.status])}  {found.id} starts {found.name}")
    output.say(f"cron     {entry.cron} in {entry.timezone}")
    for name, value in entry.inputs.items():
        output.say(f"input    {name} = {value!r}")
    output.say(f"overlap  {entry.overlap}")
    output.say(f"catchup  {entry.catchup}")
    if entry.queue:
        output.say(f"queued   {counted(len(entry.queue), 'tick')}")
    _show_next(output, found)
    if found.runs:
        output.table([_row(one) for one in found.runs])


@schedule.command("next")
@_id
@click.option("--count", type=click.IntRange(1, 1_000), default=5, help="Number of ticks.")
@options.store
@options.as_json
@options.pass_output
def next_ticks(output: Output, id: str, count: int, store: str | None) -> None:
    """List the next ticks of a schedule in UTC, also of one that is paused."""
    found = reader_of(store).schedules.next(id, count)
    if output.as_json:
        output.document({"id": id, "next": found})
        return
    for one in found:
        output.say(moment(one))


@schedule.command()
@_id
@options.store
@options.as_json
@options.pass_output
def pause(output: Output, id: str, store: str | None) -> None:
    """Pause a schedule. Its ticks until `resume` start nothing, and are not caught up."""
    _say_status(output, reader_of(store).schedules.pause(id))


@schedule.command()
@_id
@options.store
@options.as_json
@options.pass_output
def resume(output: Output, id: str, store: str | None) -> None:
    """Resume a paused schedule from now on."""
    _say_status(output, reader_of(store).schedules.resume(id))


@schedule.command()
@_id
@options.store
@options.as_json
@options.pass_output
def delete(output: Output, id: str, store: str | None) -> None:
    """Delete a schedule. Its executions remain."""
    reader_of(store).schedules.delete(id)
    if output.as_json:
        output.document({"id": id, "status": "deleted"})
        return
    output.say(f"{label('deleted', 'green')}  {id}")


@schedule.command()
@_id
@options.store
@options.as_json
@options.pass_output
def trigger(output: Output, id: str, store: str | None) -> None:
    """Start an execution of a schedule now, also of one that is paused."""
    exec_id = reader_of(store).schedules.trigger(id)
    if output.as_json:
        output.document({"id": id, "exec_id": exec_id})
        return
    output.say(f"{label('starting', 'cyan')}  {exec_id}")
    output.note("help: a dispatcher starts it: kitaru dispatcher run")


def _say_status(output: Output, found: Schedule) -> None:
    if output.as_json:
        output.document(found.to_dict())
        return
    status = found.entry.status
    output.say(f"{label(status, _COLORS[status])}  {found.id}")
    _show_next(output, found)


def _show_next(output: Output, found: Schedule) -> None:
    if found.next:
        output.say(f"next     {moment(found.next[0])}")


def _row(entry: Any) -> tuple[str, ...]:
    what = f"{entry.decision} v{entry.deployment}" if entry.deployment else entry.decision
    skipped = f"{counted(entry.skipped, 'older tick')} skipped" if entry.skipped else ""
    return moment(entry.instant), what, entry.exec_id, ", ".join(filter(None, [entry.why, skipped]))
