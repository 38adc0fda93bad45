"""`kitaru dispatcher`: continue what was answered or invoked, and show what is due."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import options
from kitaru.cli.clients import client_of, reader_of
from kitaru.cli.groups import Group
from kitaru.cli.output import Output, counted, label
from kitaru.cli.render.execution import moment
from kitaru.errors import EnvironmentFailure
from kitaru.runtime.engine.signals import Terminated
from kitaru.wire.structs import fields_of

if TYPE_CHECKING:
    from kitaru.ops.dispatch import Moved
    from kitaru.ops.notifications import Sent
    from kitaru.ops.triggers import Delivery
    from kitaru.wire.records import ScheduleEntry

# Without a dispatcher, what is due stays due for longer than this.
_LATE_SECONDS = 120.0
# Executions in the JSON document: of a long run, the last ones.
_LISTED = 1_000
# Schedules that `status` shows with their next tick.
_SOON = 5
# What an event did: a word, its color, and how the event is named after it.
_EVENT_KINDS = {
    "answer": ("answered", "green", "with"),
    "start": ("started ", "green", "by"),
    "cancel": ("cancelled", "yellow", "by"),
    "refuse": ("refused ", "yellow", "by"),
}


@click.group(cls=Group, short_help="Continue what was answered or invoked.")
def dispatcher() -> None:
    """Continue executions that were answered or invoked, and show what is due.

    Any number of dispatchers may run on one store, and each may be killed at any time. `kitaru
    serve` contains one.
    """


@dispatcher.command()
@click.option(
    "--once", is_flag=True, help="Do what is due now, and return. For cron, or a serverless job."
)
@options.processes
@options.store
@options.as_json
@options.pass_output
def run(output: Output, once: bool, processes: int, store: str | None) -> int:
    """Continue what is due, until Ctrl-C or SIGTERM.

    An answered execution continues on its target. Executions of the target `local` are processes of
    this command; with --once, it returns when they have ended or wait. What a service refuses is
    tried again later. Notifications are sent through the channels in [tool.kitaru.notify].
    """
    from kitaru.ops.dispatch import Dispatcher

    opened = client_of(store).store
    moved = deque[dict[str, Any]](maxlen=_LISTED)
    sent = deque[dict[str, Any]](maxlen=_LISTED)

    def report(one: Moved) -> None:
        moved.append(_document(one))
        if not output.as_json:
            output.say(_line(one))

    def notified(one: Sent) -> None:
        sent.append(fields_of(one))
        if not output.as_json:
            output.say(_sent(one))

    made = Dispatcher(opened, processes=processes, report=report, notified=notified)
    if once:
        made.once()
    else:
        output.note(f"dispatching {opened.url}; Ctrl-C stops")
        with suppress(KeyboardInterrupt, Terminated):
            made.run()
    if output.as_json:
        output.document({"store": opened.url, "moved": list(moved), "notified": list(sent)})
    elif once:
        count = len({one["exec_id"] for one in moved if one["exec_id"] and not one["error"]})
        output.say(f"{label('done', 'green')}  {counted(count, 'execution')} started or continued")
    return EnvironmentFailure.exit_code if once and any(one["error"] for one in moved) else 0


@dispatcher.command()
@options.store
@options.as_json
@options.pass_output
def status(output: Output, store: str | None) -> None:
    """Show what is due and for how long, queues of flows with limits, and next ticks."""
    from kitaru.ops.dispatch import due

    client = reader_of(store)
    opened, schedules = client.store, client.schedules.list()
    found = due(opened)
    if output.as_json:
        output.document(
            {
                "store": opened.url,
                "due": found.hints,
                "is_more": found.is_more,
                "executions": found.executions,
                "oldest_seconds": found.oldest_seconds,
                "open": found.open,
                "queued": found.queued,
                "schedules": [
                    {"id": one.id, "status": one.entry.status, "next": list(one.next)}
                    for one in schedules
                ],
            }
        )
        return
    if found.oldest_seconds is None:
        output.say(f"{label('good', 'green')}  nothing is due in {opened.url}")
    else:
        late = found.oldest_seconds > _LATE_SECONDS
        head = label("late", "yellow") if late else label("due", "cyan")
        more = "more than " if found.is_more else ""
        output.say(f"{head}  {more}{counted(found.executions, 'execution')} to continue")
        output.say(f"oldest   {found.oldest_seconds:,.0f} s")
        if late:
            output.note("help: continue them: kitaru dispatcher run")
    output.say(f"open     {counted(found.open, 'run')} in progress")
    for flow, number in found.queued.items():
        output.say(f"queued   {counted(number, 'execution')} of {flow}, which wait for a place")
    if schedules:
        paused = sum(one.entry.status == "paused" for one in schedules)
        tail = f", {paused} paused" if paused else ""
        output.say(f"schedules  {len(schedules)}{tail}")
        soon = sorted((one.next[0], one.id) for one in schedules if one.next)
        output.table([(id, moment(at)) for at, id in soon[:_SOON]])


def _sent(one: Sent) -> str:
    if one.status == "delivered":
        return f"{label('notified', 'green')} {one.exec_id}  {one.event}: {one.channel}"
    head = label("later" if one.status == "failed" else one.status, "yellow")
    return f"{head}    {one.exec_id}  {one.event}: {one.channel}: {one.error}"


def _document(one: Moved) -> dict[str, Any]:
    run = one.done.submission if one.done is not None else None
    return {
        "exec_id": one.exec_id,
        "schedule": one.schedule,
        "ticks": [{"instant": t.instant, "decision": t.decision} for t in one.ticks],
        "events": [
            {
                "name": e.event,
                "id": e.id,
                "kind": e.kind,
                "exec_id": e.exec_id,
                "wait": e.wait,
                "flow": e.flow,
                "why": e.why,
            }
            for e in one.events
        ],
        "target": run.target if run is not None else "",
        "run": run.run_id if run is not None else "",
        "error": one.error.message if one.error is not None else "",
    }


def _tick(entry: ScheduleEntry) -> str:
    color = "green" if entry.decision == "start" else "yellow"
    what = entry.exec_id or entry.why
    head = label(entry.decision.ljust(9), color)
    return f"{head} {entry.schedule} at {moment(entry.instant)}  {what}".rstrip()


def _event(done: Delivery) -> str:
    head, color, what = _EVENT_KINDS[done.kind]
    shown = f"{done.exec_id}  {done.wait or done.flow}  {what} {done.event} {done.id}"
    return f"{label(head, color)} {shown}{f': {done.why}' if done.why else ''}"


def _line(one: Moved) -> str:
    if one.error is not None:
        what = one.exec_id or one.schedule
        return f"{label('later', 'yellow')}    {what}  {one.error.message}"
    if one.ticks:
        return "\n".join(_tick(tick) for tick in one.ticks)
    if one.events:
        return "\n".join(_event(event) for event in one.events)
    assert one.done is not None
    if one.done.submission is not None:
        run = one.done.submission
        return f"{label('started', 'green')}  {one.exec_id}  {run.run_id} on {run.target}"
    notice = one.done.notice
    assert notice is not None
    if notice.outcome == "unreachable":
        return f"{label('later', 'yellow')}    {one.exec_id}  {notice.variable} is not set"
    return f"{label('notified', 'green')} {one.exec_id}  {notice.title} continues its run"
