"""Show one execution: its status, pending waits, and the commands to run next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from kitaru.cli.output import Output, label
from kitaru.cli.render.comparison import short
from kitaru.config import named_stack
from kitaru.runtime.engine.questions import example, hint
from kitaru.wire.names import some

COLORS = {
    "completed": "green",
    "waiting": "yellow",
    "sleeping": "cyan",
    "answered": "yellow",
    "queued": "cyan",
    "starting": "cyan",
    "resuming": "cyan",
    "running": "cyan",
    "interrupted": "yellow",
    "failed": "red",
    "cancelled": "magenta",
}
# Default number of invocations in a JSON document.
JSON_PAGE = 1_000
_WAITS = 10
_SIGNALS = 10
_PASTED = ("answer", "child", "help", "parent", "resume")


def show_execution(document: dict[str, Any], output: Output, *, store: str | None) -> None:
    """Write an execution's status and the commands that continue it. `document` is its JSON.

    `store` is the `--store` that the user passed. It is repeated in the commands.
    """
    status = document["status"]
    head = f"{label(status, COLORS[status]) + ' ' * (7 - len(status))}  {document['flow']}"
    head = f"{head}  {document['exec_id']}  {document['deployment']}".rstrip()
    if status == "completed":
        output.note(head)
        output.answer(text_of(document["result"]))
        return
    if status == "failed" and document["error"]["traceback"]:
        output.note(document["error"]["traceback"].rstrip())
    output.say(head)
    for name, text in _more(document, store):
        # Commands are not wrapped, so that they can be pasted.
        output.say(f"{name:<7}  {text}", hang=None if name in _PASTED else 9)


def _more(document: dict[str, Any], store: str | None) -> Iterator[tuple[str, str]]:
    exec_id, error = document["exec_id"], document["error"]
    if document["replay"]:
        yield "replay", replay_text(document["replay"])
    if error:
        where = f"in {error['invocation']}: " if error["invocation"] else ""
        yield "error", f"{where}{error['type']}: {error['message']}"
        yield from (("help", line) for line in error["help"].splitlines())
    if document["status"] in ("running", "interrupted"):
        yield "seen", f"{moment(document['last_sign'])}, when it last recorded anything"
    if document["status"] == "interrupted":
        again = "its process is gone; recorded calls do not run again"
        yield "resume", f"{command('resume', exec_id, store=store)}  ({again})"
    if document["status"] == "running" and not document["submission"]:
        yield "resume", f"{command('resume', exec_id, store=store)}  (if its process is gone)"
    if document["status"] == "answered":
        yield "resume", f"{command('resume', exec_id, store=store)}  (unless its run continues)"
    if run := document["submission"]:
        yield "run", f"{run['run']} on {run['target']}, since {moment(run['at'])}"
        more = ["--again"] if document["status"] == "resuming" else []
        again = command("resume", exec_id, *more, store=store)
        yield "resume", f"{again}  (if that run is gone)"
    for timer in document["timers"][:_WAITS]:
        yield "until", f"{moment(timer['until'])}, {timer['name']}"
    if document["started_by"]:
        yield "event", f"started by {document['started_by']}"
    if document["cancelled_by"]:
        yield "by", f"cancelled by {document['cancelled_by']}"
    if document["parent"]:
        yield "parent", command("get", document["parent"], store=store)
    for child in document["waits_for"][:_WAITS]:
        yield "child", f"waits for the end of: {command('get', child, store=store)}"
    if (others := len(document["waits_for"]) - _WAITS) > 0:
        yield "", f"{others:,} more: {command('list', '--parent', exec_id, store=store)}"
    for event in document["events"][:_WAITS]:
        asked = [f"{path} = {json.dumps(value)}" for path, value in event["match"].items()]
        what = " and ".join([*asked, *filter(None, [event["where"]])])
        until = f", until {moment(event['deadline'])}" if event["deadline"] else ""
        yield "event", f"waits for {event['event']}{f' with {what}' if what else ''}{until}"
    if (others := len(document["events"]) - _WAITS) > 0:
        yield "", f"{others:,} more events: {command('get', exec_id, '--json', store=store)}"
    for wait in document["waits"][:_WAITS]:
        question = f": {wait['question']}" if wait["question"] else ""
        yield "wait", f"{wait['name']}{question} {hint(wait['schema'] or {})}"
        if wait["metadata"]:
            yield "about", json.dumps(wait["metadata"], ensure_ascii=False)
        for one in wait["evidence"]:
            read = _joined(["kitaru", "artifacts", "get", exec_id, one["artifact"]], store)
            yield "evidence", f"{one['name']}: {read}"
        if wait["refused"]:
            yield "refused", wait["refused"]
        if wait["deadline"]:
            yield "expires", moment(wait["deadline"])
        for escalation in wait["escalations"]:
            yield "asked", f"{escalation['to']}, since {moment(escalation['at'])}"
        yield "answer", answer_command(exec_id, wait, store=store)
    if (others := len(document["waits"]) - _WAITS) > 0:
        yield "", f"{others:,} more waits: {command('get', exec_id, '--json', store=store)}"


def notes(document: dict[str, Any]) -> Iterator[str]:
    """Yield a line for the notes of `kitaru.log`: of the execution, and of each checkpoint.

    What adapters note about the steps of a harness, such as its version, is in the JSON only.
    """
    logged = [one for one in document["invocations"] if one["kind"] == "checkpoint"]
    said = [("", document["notes"]), *((f"{one['id']}: ", one["notes"]) for one in logged)]
    for of, noted in said:
        if noted:
            yield f"notes    {of}{json.dumps(noted, ensure_ascii=False)}"


def progress(document: dict[str, Any]) -> Iterator[str]:
    """Yield a line for what each invocation and the body reported last."""
    for one in document["progress"]:
        yield f"progress {one['id'] or '-'}  {progress_text(one)}"


def progress_text(reported: dict[str, Any]) -> str:
    """Return progress in words, such as `3 of 10: prices`."""
    total = "" if reported["total"] is None else f" of {reported['total']:,g}"
    return f"{reported['done']:,g}{total}" + (f": {reported['note']}" if reported["note"] else "")


def signals(document: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each of the last signals: what was sent, by whom, and what read it."""
    for one in document["signals"][-_SIGNALS:]:
        read = f"read by {one['read_by']}" if one["read_by"] else "not read yet"
        by = f" by {one['by']}" if one["by"] else ""
        sent = f"{one['inbox']} {one['number']} = {short(one['value'])}"
        yield f"signal   {sent}  {moment(one['sent_at'])}{by}, {read}"


def versions(document: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each version of the code, and one for records that were not used."""
    for code in document["codes"]:
        short = code["fingerprint"].removeprefix("sha256:")[:12]
        since = f", since {moment(code['at'])} in {code['process']}" if code["process"] else ""
        yield f"code     {short}{since}"
    if document["unasked"]:
        ids = some(document["unasked"])
        yield f"unasked  {ids}: recorded by an earlier run, and not called by the last one"


def replay_text(replay: dict[str, Any]) -> str:
    """Return the source, start and changes of a replay in one line."""
    changed = [some(replay["results"])] if replay["results"] else []
    changed += replay["inputs"]
    changed += [f"{alias}={model}" for alias, model in replay["models"].items()]
    start = f" from {replay['start']}" if replay["start"] else ""
    return f"of {replay['source']}{start}" + (f", with {', '.join(changed)}" if changed else "")


def command(verb: str, exec_id: str, *more: str, store: str | None) -> str:
    """Return a command of executions, such as `kitaru executions get EXEC`, to paste."""
    return _joined(["kitaru", "executions", verb, exec_id, *more], store)


def _joined(words: list[str], store: str | None) -> str:
    """Return a command to paste; it names the store and the stack as this command did."""
    tail = ["--store", store] if store else []
    tail += ["--stack", named] if (named := named_stack()) else []
    return shlex.join([*words, *tail])


def answer_command(exec_id: str, wait: dict[str, Any], *, store: str | None) -> str:
    """Return a command that answers a wait with an example of the right type."""
    value = example(wait["schema"] or {})
    return command("input", exec_id, "--wait", wait["name"], "--value", value, store=store)


def moment(at: str) -> str:
    """Return the time of a record in local time, such as `2026-11-22 14:06:23 +01:00`.

    `--json` contains the recorded time, in UTC.
    """
    shown = datetime.fromisoformat(at).astimezone().isoformat(" ", "seconds")
    return f"{shown[:-6]} {shown[-6:]}"


def clock(at: str) -> str:
    """Return the local time of day of a record, such as `14:06:23.512`."""
    return datetime.fromisoformat(at).astimezone().time().isoformat("milliseconds")


def text_of(value: Any) -> str:
    """Return a result for people: a string unchanged, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def exit_code(document: dict[str, Any]) -> int:
    """Return the exit code for this execution: 1 if it failed, otherwise 0."""
    return 1 if document["status"] == "failed" else 0
