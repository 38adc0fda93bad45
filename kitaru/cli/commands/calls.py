"""`kitaru executions calls`: the model calls of an execution, with tokens, latency and cost."""

from __future__ import annotations

from typing import Any

import click

from kitaru.cli import options
from kitaru.cli.clients import reader_of
from kitaru.cli.output import JSON_ITEMS, LINES, Output, counted, label, part_of, show_more
from kitaru.cli.render.comparison import dollars, short
from kitaru.cli.render.execution import text_of

_UNANSWERED = {"error": "failed ({})", "given up": "given up"}
# The number of calls in an overview. A flow may call a model a thousand times.
_MOST = 10
_TEXTS = ("system", "prompt", "response", "tool_calls")


@click.command(short_help="Show the model calls: prompt, response, tokens, latency, cost.")
@options.execution
@click.argument("invocation", metavar="[INVOCATION]", required=False)
@options.page
@options.store
@options.as_json
@options.pass_output
def calls(
    output: Output, execution: str, invocation: str | None, limit: int | None, skip: int,
    store: str | None,
) -> None:  # fmt: skip
    """Show every model call of an execution with its prompt and its response.

    With INVOCATION, show only the calls of that invocation. Prompts and responses are missing if
    `capture` excluded them. Each is also an artifact:
    kitaru artifacts get EXEC INVOCATION/call-1/response
    """
    from kitaru.ops.calls import calls as calls_of

    most = limit or (JSON_ITEMS if output.as_json else LINES)
    asked = calls_of(reader_of(store).store, execution, invocation, limit=most + 1, skip=skip)
    some = part_of(asked, most, skip)
    found = some.items
    if output.as_json:
        output.document({"exec_id": execution, **some.document(found)})
        return
    for call, line in zip(found, output.rows([_row(call) for call in found]), strict=True):
        output.say(line, block=True)
        for name in _TEXTS:
            if call.get(name):
                output.say(f"  {name}")
                for text in text_of(call[name]).splitlines() or [""]:
                    output.say(f"    {text}", hang=4)
    if not found:
        output.say("no model calls")
    show_more(output, some)


def show_calls(calls: list[dict[str, Any]], output: Output, *, more: str) -> None:
    """Print a line for each of the first calls, with its prompt and response shortened.

    `more` is the command that shows all calls in full.
    """
    if not calls:
        return
    output.note(f"{counted(len(calls), 'model call')}, as a whole: {more}")
    rows = [_row(call) for call in calls[:_MOST]]
    for call, line in zip(calls, output.rows(rows, note=True), strict=False):
        output.note(f"  {label('◦', 'cyan')} {line}", hang=4)
        for name in ("prompt", "response"):
            if call.get(name):
                output.note(f"    {name:<8}  {short(call[name])}", hang=14)
    if len(calls) > _MOST:
        output.note(f"  … {counted(len(calls) - _MOST, 'more call')}")


def _row(call: dict[str, Any]) -> tuple[str, ...]:
    failed = f", attempt {call['attempt']}" if call["attempt"] else ""
    number = f", call {call['call']}" if call["call"] > 1 else ""
    tokens = call.get("tokens")
    facts = [
        f"{tokens['prompt']:,} + {tokens['completion']:,} tokens" if tokens else "",
        f"{call['latency_s']:.2f} s" if "latency_s" in call else "",
        dollars(call["cost"]) if call.get("cost") else "",
        _UNANSWERED.get(call.get("finish", ""), "").format(call.get("status") or "no answer"),
        "" if call["made_here"] else "not made again",
    ]
    return f"{call['invocation']}{failed}{number}", str(call["resolved"]), *facts
