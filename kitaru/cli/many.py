"""Commands for many executions: list what a filter selects, ask, then act on each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kitaru.cli.output import Output, counted, label
from kitaru.cli.render.execution import COLORS, moment
from kitaru.errors import UsageError
from kitaru.ops.where import parse_where
from kitaru.wire.structs import fields_of

if TYPE_CHECKING:
    from kitaru.ops.many import Verb
    from kitaru.runtime.executions.listing import Listed
    from kitaru.stores.base import Store

F = TypeVar("F", bound=Callable[..., Any])


def many(function: F) -> F:
    """Add the options of a command that works on one execution, or on many with `--where`."""
    for option in (
        click.option("--yes", is_flag=True, help="With --where: do it. Without it, list only."),
        click.option(
            "--limit", type=click.IntRange(min=1), default=100, show_default=True,
            help="With --where: at most this many executions, the newest first.",
        ),
        click.option(
            "--where", "wheres", multiple=True, metavar="FIELD=VALUE",
            help="Select executions by flow, status, older_than, newer_than, input.NAME, tag.NAME, "
            "tag, target, version or text, instead of EXEC. Repeatable; all must hold.",
        ),
    ):  # fmt: skip
        function = option(function)
    return function


def check_one_or_many(execution: str | None, wheres: Sequence[str]) -> None:
    """Raise UsageError unless a command names either an execution or a filter."""
    if (execution is None) == (not wheres):
        raise UsageError(
            "Name one execution, or several with --where.",
            help="For example --where flow=review --where older_than=2d",
        )


def run_many(
    store: Store, verb: Verb, wheres: Sequence[str], limit: int, yes: bool, output: Output
) -> int:
    """List the selected executions, and cancel or retry each if the user agrees.

    Returns 1 if an execution refused, otherwise 0.
    """
    from kitaru.ops.many import carry_out, select

    page = select(store, verb, parse_where(wheres), limit=limit)
    if not agreed(page.items, verb, yes, output):
        return 0
    done = []
    for one in carry_out(store, verb, [item.exec_id for item in page.items]):
        done.append(one)
        refused = f"  {one.error}" if one.error else ""
        if not output.as_json:
            shown = label(one.status, COLORS[one.status])
            output.say(f"{shown}  {one.exec_id}  {one.flow}{refused}", hang=2)
    if output.as_json:
        output.document({"items": [fields_of(one) for one in done], "more": page.next is not None})
    elif page.next is not None:
        output.note("There may be more: repeat the command.")
    return 1 if any(one.error for one in done) else 0


def agreed(items: Sequence[Listed], verb: str, yes: bool, output: Output) -> bool:
    """List the selected executions, and return whether the command may work on them."""
    if output.as_json:
        if not yes:
            output.document({"would": verb, "items": items, "count": len(items)})
        return yes
    rows = [
        (label(one["status"], COLORS[one["status"]]), one.exec_id, one["flow"],
         moment(one.started_at), one["title"])
        for one in items
    ]  # fmt: skip
    if not yes or not items:
        output.table(rows, empty="no execution matches")
    if yes or not items:
        return bool(items)
    what = f"{verb} {counted(len(items), 'execution')}"
    if output.interactive:
        return click.confirm(f"{what.capitalize()}?", err=True)
    output.note(f"Nothing was done. To {what}, repeat the command with --yes.")
    return False
