"""Follow a dry run: its steps, prompts for waits, Ctrl-C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kitaru.cli.follow import answer_waits, finish, interrupted
from kitaru.cli.output import Output, label
from kitaru.ops.dry_run import dry_run
from kitaru.runtime.engine.questions import parse_answer
from kitaru.runtime.engine.signals import Terminated

if TYPE_CHECKING:
    from kitaru_targets.dry_run import Ended, Report

    from kitaru.client import KitaruClient


def attend_dry_run(
    exec_id: str,
    client: KitaruClient,
    output: Output,
    *,
    answers: Mapping[str, str],
    asking: bool,
    store: str | None,
    skip_time: bool = False,
    events: Sequence[tuple[str, Any]] = (),
) -> int:
    """Execute the build of a dry run until it ends or waits, and show it.

    With `skip_time`, sleeps end at once, and waits without an answer expire.
    `events` are names and data of the events that come, in order.
    `answers` maps wait names to answers, as strings. With `asking`, other answers are prompted for.
    Raises StateError if this machine does not have the build, or if an answer names no wait.
    """

    def ask(waiting: str) -> bool:
        return asking and answer_waits(client, waiting, output) is not None

    try:
        dry_run(
            client.store,
            exec_id,
            answers=answers,
            read=parse_answer,
            ask=ask,
            report=_reporting(output),
            skip_time=skip_time,
            events=events,
        )
    except (KeyboardInterrupt, Terminated) as interruption:
        return interrupted(interruption, exec_id, client, output, store)
    return finish(exec_id, client, output, store)


def _reporting(output: Output) -> Report:
    def report(ended: Ended) -> None:
        if not output.as_json:
            output.note(_line(ended))

    return report


def _line(ended: Ended) -> str:
    mark = label("✓", "green") if ended.code == 0 else label("✗", "red")
    status = ended.outputs.get("status", "")
    facts = [{"go": "", "end": "", "skip": "nothing to do"}.get(status, status)]
    if ended.code != 0:
        facts.append(f"exit code {ended.code}")
    if ended.attempt > 1:
        facts.append(f"attempt {ended.attempt}")
    return f"  {mark} {ended.step:<16}  {', '.join(filter(None, facts))}".rstrip()
