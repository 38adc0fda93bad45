"""Decides how one execution is shown: what it is, what it waits for, what to paste next."""

from __future__ import annotations

import json
import shlex
from typing import Any

from kitaru.cli.ask import example, hint
from kitaru.cli.output import Output, label

COLORS = {
    "completed": "green",
    "waiting": "yellow",
    "running": "cyan",
    "failed": "red",
    "cancelled": "magenta",
}


def show_execution(document: dict[str, Any], output: Output, *, store: str | None) -> None:
    """Write an execution's status and whatever helps to go on; `document` is its JSON.

    `store` is the `--store` the user gave, repeated in the commands to paste.
    """
    status = document["status"]
    head = f"{label(status, COLORS[status])}  {document['flow']}  {document['exec_id']}"
    if status == "completed":
        output.note(head)
        output.say(text_of(document["result"]))
        return
    output.say(head)
    if status == "failed":
        _show_error(document["error"], output)
        output.say(f"retry    {command('retry', document['exec_id'], store=store)}")
    elif status == "running":
        output.say(f"look     {command('get', document['exec_id'], store=store)}")
        output.say(f"resume   {command('resume', document['exec_id'], store=store)}")
    for wait in document["waits"]:
        output.say(
            f"wait     {wait['name']}: {wait['question'] or ''} {hint(wait['schema'] or {})}"
        )
        output.say(f"answer   {answer_command(document['exec_id'], wait, store=store)}")


def command(verb: str, exec_id: str, *more: str, store: str | None) -> str:
    """Return a `kitaru executions` command to paste."""
    tail = ["--store", store] if store else []
    return shlex.join(["kitaru", "executions", verb, exec_id, *more, *tail])


def answer_command(exec_id: str, wait: dict[str, Any], *, store: str | None) -> str:
    """Return the command that answers a wait with an answer of the right type."""
    value = example(wait["schema"] or {})
    return command("input", exec_id, "--wait", wait["name"], "--value", value, store=store)


def text_of(value: Any) -> str:
    """Return a result as people read it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def exit_code(document: dict[str, Any]) -> int:
    """Return what a command that ran this execution ends with: 1 when it failed, else 0."""
    return 1 if document["status"] == "failed" else 0


def _show_error(error: dict[str, Any] | None, output: Output) -> None:
    if not error:
        return
    if error.get("traceback"):
        output.note(error["traceback"].rstrip())
    where = f" in {error['invocation']}" if error.get("invocation") else ""
    output.say(f"error{where}: {error['type']}: {error['message']}")
    for line in (error.get("help") or "").splitlines():
        output.say(f"help     {line}")
