"""`kitaru notifications`: test the channels of notifications, and show what was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kitaru.cli import options
from kitaru.cli.clients import reader_of
from kitaru.cli.groups import Group
from kitaru.cli.output import Output, label
from kitaru.cli.render.execution import moment
from kitaru.errors import EnvironmentFailure
from kitaru.wire.structs import fields_of

if TYPE_CHECKING:
    from kitaru.ops.notifications import Notification


@click.group(cls=Group, short_help="Test channels of notifications, and show what is pending.")
def notifications() -> None:
    """Test the channels of notifications, and show what was sent.

    `kitaru dispatcher run` and `kitaru serve` send them, through the channels in
    [tool.kitaru.notify].
    """


@notifications.command("list")
@options.optional_execution
@options.store
@options.as_json
@options.pass_output
def list_notifications(output: Output, execution: str | None, store: str | None) -> None:
    """List the notifications that are pending; of an execution, also those that were sent."""
    found = reader_of(store).notifications.list(execution)
    if output.as_json:
        output.document({"items": [fields_of(one) for one in found], "count": len(found)})
        return
    heads = ["execution", "event", "channel", "status", "tries", "at", "error"]
    output.table([_row(one) for one in found], heads, empty="no notifications")


@notifications.command()
@options.store
@options.as_json
@options.pass_output
def channels(output: Output, store: str | None) -> None:
    """List the channels of the settings in force."""
    found = reader_of(store).notifications.channels()
    if output.as_json:
        output.document({"items": [fields_of(one) for one in found], "count": len(found)})
        return
    rows = [
        (one.name, one.kind, one.place, ", ".join(one.on), ", ".join(one.flows) or "all flows")
        for one in found
    ]
    heads = ["name", "kind", "sends to", "on", "flows"]
    output.table(rows, heads, empty="no channels: define one in [tool.kitaru.notify.NAME]")


@notifications.command()
@click.argument("channel", metavar="CHANNEL")
@options.store
@options.as_json
@options.pass_output
def test(output: Output, channel: str, store: str | None) -> int:
    """Send a test message through a channel now, once."""
    sent = reader_of(store).notifications.test(channel)
    if output.as_json:
        output.document(fields_of(sent))
    elif sent.status == "delivered":
        output.say(f"{label('delivered', 'green')}  {channel} accepted the message")
    else:
        output.say(f"{label('failed', 'red')}  {channel}: {sent.error}")
    return 0 if sent.status == "delivered" else EnvironmentFailure.exit_code


def _row(one: Notification) -> tuple[str, ...]:
    event = f"{one.event} {one.subject}".strip()
    at = moment(one.at) if one.at else ""
    return one.exec_id, event, one.channel, one.status, str(one.tries), at, one.error
