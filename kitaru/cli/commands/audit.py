"""The command `kitaru audit`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import click

from kitaru.cli import options
from kitaru.cli.clients import reader_of
from kitaru.cli.output import Output
from kitaru.runtime.journal.audit import Action, AuditEntry
from kitaru.wire.structs import fields_of

_DEFAULT = 50


@click.command(short_help="Show who answered, invoked, deployed or changed something.")
@click.option("--by", metavar="NAME", help="Only entries whose name contains NAME.")
@click.option("--action", type=click.Choice(get_args(Action)), help="Only this action.")
@click.option("--flow", metavar="FLOW", help="Only entries of this flow.")
@click.option("--execution", "exec_id", metavar="EXEC", help="Only entries of this execution.")
@click.option(
    "--since", callback=options.optional_age, metavar="AGE",
    help="Only entries of this time, such as 7d, 12h or 30m.",
)  # fmt: skip
@click.option("--after", default="", metavar="CURSOR", help="`next` of the previous page.")
@options.limit
@options.store
@options.as_json
@options.pass_output
def audit(
    output: Output, by: str | None, action: str | None, flow: str | None, exec_id: str | None,
    since: timedelta | None, after: str, limit: int | None, store: str | None,
) -> None:  # fmt: skip
    """Show who answered, cancelled, invoked, deployed or changed something, newest first.

    It also lists who resumed, retried or replayed an execution, moved a tag, or changed a token.
    Commands are recorded with the user of the operating system, requests of a service with the
    token or the person. Who can write to the bucket can bypass the log.
    """
    begin = None if since is None else datetime.now(UTC) - since
    page = reader_of(store).audit(
        by=by, action=action, flow=flow, exec_id=exec_id, since=begin, limit=limit or _DEFAULT,
        after=after,
    )  # fmt: skip
    if output.as_json:
        items = [fields_of(one) for one in page.items]
        output.document({"items": items, "count": len(items), "next": page.next})
        return
    heads = ["at", "by", "action", "subject", "flow", "execution"]
    output.table([_row(one) for one in page.items], heads, empty="no entries")
    if page.next is not None:
        output.note(f"older entries: kitaru audit --after {page.next}")


def _row(entry: AuditEntry) -> tuple[str, ...]:
    action = f"{entry.action} (refused: {entry.error})" if entry.error else entry.action
    at = entry.at[:19].replace("T", " ")
    return at, entry.by, action, entry.subject, entry.flow, entry.exec_id
