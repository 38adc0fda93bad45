"""The dialog that replays an execution: from where, and what is different."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from kitaru import hints
from kitaru.errors import InputError, NotFound, StateError, UsageError
from kitaru.ops.access import OPERATOR
from kitaru.ops.replay import replay
from kitaru.runtime.executions.invocation_ref import execution_id
from kitaru.runtime.executions.replay import Changes
from kitaru.server.access import needs
from kitaru.server.context import Client
from kitaru.server.pages.execution import title_of
from kitaru.server.pages.posted import Fields
from kitaru.server.pages.render import go, page
from kitaru.view import ExecutionView

router = APIRouter(include_in_schema=False)

_LISTED = 500
_FIELDS = ("start", "alias", "model", "result_of", "result")


@router.get("/executions/{exec_id}/replay")
@needs(OPERATOR)
def show_replay(
    request: Request, client: Client, exec_id: str,
    start: Annotated[str, Query(alias="from")] = "",
) -> Response:  # fmt: skip
    """Show the dialog."""
    return _show(request, client.executions.get(exec_id), {"start": start})


@router.post("/executions/{exec_id}/replay")
@needs(OPERATOR)
def start_replay(request: Request, client: Client, exec_id: str, posted: Fields) -> Response:
    """Start the replay of a deployed execution, or show the command for a local one."""
    exec_id = execution_id(client.store, exec_id)
    execution = client.executions.get(exec_id)
    typed = {name: texts[-1].strip() for name, texts in posted.items()}
    changes, errors = _changes(execution, typed)
    if errors or execution.journal.execution.mode != "deployed":
        status = 422 if errors else 200
        return _show(request, execution, typed, changes, errors, status)
    try:
        done = replay(client.store, exec_id, changes)
    except (InputError, NotFound, StateError, UsageError) as error:
        return _show(request, execution, typed, changes, {"": error.message}, 422)
    return go(f"/executions/{done.handle.exec_id}")


def _changes(execution: ExecutionView, typed: dict[str, str]) -> tuple[Changes, dict[str, str]]:
    errors: dict[str, str] = {}
    results: dict[str, Any] = {}
    inputs: dict[str, Any] = {}
    if typed.get("result_of"):
        results[typed["result_of"]] = _json(typed.get("result", ""), "result", errors)
    held = execution.inputs if isinstance(execution.inputs, dict) else {}
    for name, value in held.items():
        field = f"input.{name}"
        text = typed.get(field, "")
        if text and text != _text(value):
            inputs[name] = text if _is_plain(value) else _json(text, field, errors)
    alias, model = typed.get("alias", ""), typed.get("model", "")
    if bool(alias) != bool(model):
        errors["model"] = "Enter both the alias and the model."
    models = {alias: model} if alias and model else {}
    is_unchanged = typed.get("start") == "unchanged changes only"
    start = "" if is_unchanged else typed.get("start", "")
    return Changes(start, False, results, inputs, models, is_unchanged), errors


def _json(text: str, field: str, errors: dict[str, str]) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        errors[field] = f"This is not JSON: {error}. A text needs double quotes."
        return None


def _is_plain(value: Any) -> bool:
    """Return whether a value is a text that a field of a form sends back as it is."""
    if not isinstance(value, str):
        return False
    rest = value.replace("\n", "").replace("\t", "")
    return (not rest or rest.isprintable()) and value == value.strip()


def _text(value: Any) -> str:
    """Return a value as it is entered: a plain text without quotes, everything else as JSON."""
    return value if _is_plain(value) else json.dumps(value)


def _show(
    request: Request, execution: ExecutionView, typed: dict[str, str],
    changes: Changes | None = None, errors: dict[str, str] | None = None, status: int = 200,
) -> Response:  # fmt: skip
    seen = execution.overview(limit=_LISTED)
    records = [one for one in seen.page if one.kind != "log"]
    aliases = sorted({str(call.get("model", "")) for one in records for call in one.calls} - {""})
    inputs = execution.inputs if isinstance(execution.inputs, dict) else {}
    return page(
        request, "replay.html", status,
        execution=execution, title=title_of(execution), records=records,
        aliases=aliases, typed=dict.fromkeys(_FIELDS, "") | typed, errors=errors or {},
        inputs={name: typed.get(f"input.{name}", _text(value)) for name, value in inputs.items()},
        is_deployed=execution.journal.execution.mode == "deployed",
        command=_command(execution, changes) if changes is not None and not errors else "",
    )  # fmt: skip


def _command(execution: ExecutionView, changes: Changes) -> str:
    """Return the command that starts a replay."""
    options: list[str] = []
    if changes.start:
        options += ["--from", changes.start]
    if changes.reuse_unchanged:
        options.append("--reuse-unchanged")
    for name, value in changes.results.items():
        options += ["--set", f"checkpoint.{name}={json.dumps(value, ensure_ascii=False)}"]
    for name, value in changes.inputs.items():
        options += ["--input", f"{name}={_text(value)}"]
    for alias, model in changes.models.items():
        options += ["--set", f"model.{alias}={model}"]
    verb = ["replay", execution.exec_id, *options]
    return hints.command(execution.journal.store, "executions", *verb)
