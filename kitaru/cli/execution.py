"""Decides how one execution is shown: what it is, what it waits for, what to paste next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

from kitaru.cli.ask import example, hint
from kitaru.cli.output import Output, label
from kitaru.config import named_stack

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
    head = f"{label(status, COLORS[status]) + ' ' * (7 - len(status))}  {document['flow']}"
    head = f"{head}  {document['exec_id']}  {document['deployment']}".rstrip()
    if status == "completed":
        output.note(head)
        output.say(text_of(document["result"]))
        return
    if status == "failed" and document["error"]["traceback"]:
        output.note(document["error"]["traceback"].rstrip())
    output.say(head)
    for name, text in _more(document, store):
        output.say(f"{name:<7}  {text}")


def _more(document: dict[str, Any], store: str | None) -> Iterator[tuple[str, str]]:
    exec_id, error = document["exec_id"], document["error"]
    if document["replay"]:
        yield "replay", replay_text(document["replay"])
    if error:
        where = f"in {error['invocation']}: " if error["invocation"] else ""
        yield "error", f"{where}{error['type']}: {error['message']}"
        yield from (("help", line) for line in error["help"].splitlines())
    if document["status"] == "running":
        yield "resume", f"{command('resume', exec_id, store=store)}  (if its process is gone)"
    for wait in document["waits"]:
        question = f": {wait['question']}" if wait["question"] else ""
        yield "wait", f"{wait['name']}{question} {hint(wait['schema'] or {})}"
        if wait["metadata"]:
            yield "about", json.dumps(wait["metadata"], ensure_ascii=False)
        if wait["refused"]:
            yield "refused", wait["refused"]
        yield "answer", answer_command(exec_id, wait, store=store)


def notes(document: dict[str, Any]) -> Iterator[str]:
    """Yield a line for what `kitaru.log` said of the execution, and of each checkpoint."""
    logged = [one for one in document["invocations"] if one["kind"] != "log"]
    said = [("", document["notes"]), *((f"{one['id']}: ", one["notes"]) for one in logged)]
    for of, noted in said:
        if noted:
            yield f"notes    {of}{json.dumps(noted, ensure_ascii=False)}"


def replay_text(replay: dict[str, Any]) -> str:
    """Return what an execution replays, from where and with what changed, in one line."""
    changed = [*replay["results"], *replay["inputs"]]
    changed += [f"{alias}={model}" for alias, model in replay["models"].items()]
    start = f" from {replay['start']}" if replay["start"] else ""
    return f"of {replay['source']}{start}" + (f", with {', '.join(changed)}" if changed else "")


def command(verb: str, exec_id: str, *more: str, store: str | None) -> str:
    """Return a `kitaru executions` command to paste."""
    tail = ["--store", store] if store else []
    tail += ["--stack", named] if (named := named_stack()) else []
    return shlex.join(["kitaru", "executions", verb, exec_id, *more, *tail])


def answer_command(exec_id: str, wait: dict[str, Any], *, store: str | None) -> str:
    """Return the command that answers a wait with an answer of the right type."""
    value = example(wait["schema"] or {})
    return command("input", exec_id, "--wait", wait["name"], "--value", value, store=store)


def moment(at: str) -> str:
    """Return a moment of a record as people read it, such as `2026-11-22 13:06:23 UTC`."""
    return f"{at[:19].replace('T', ' ')} UTC"


def text_of(value: Any) -> str:
    """Return a result as people read it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def exit_code(document: dict[str, Any]) -> int:
    """Return what a command that ran this execution ends with: 1 when it failed, else 0."""
    return 1 if document["status"] == "failed" else 0
