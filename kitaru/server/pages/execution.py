"""One execution: what happened, the timeline, one row in detail, the output, what to do next."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from kitaru import hints
from kitaru.errors import UsageError
from kitaru.ops.access import OPERATOR, VIEWER
from kitaru.ops.cancel import cancel
from kitaru.ops.resume import check_elsewhere, resume
from kitaru.ops.retry import retry
from kitaru.ops.signal import signal
from kitaru.runtime.engine.questions import parse_answer
from kitaru.runtime.executions.downloads import read_file
from kitaru.runtime.executions.invocation_ref import execution_id
from kitaru.runtime.executions.model_calls import ModelCall, calls_in
from kitaru.runtime.executions.model_calls import shown as facts_of
from kitaru.runtime.telemetry.logs import streamed
from kitaru.server.access import needs
from kitaru.server.context import Client
from kitaru.server.pages.posted import Fields
from kitaru.server.pages.render import go, page
from kitaru.server.pages.source import source
from kitaru.server.pages.timeline import Row, timeline
from kitaru.server.pages.values import Shown, shown
from kitaru.view import ExecutionView
from kitaru.wire.records import AttemptRecord, ErrorInfo, InvocationRecord, StoredValue

router = APIRouter(include_in_schema=False)

_ROWS = 200
_LINES = 300
_SIGNALS = 20
_TEXTS = ("prompt", "response")


@dataclass(slots=True)
class Detail:
    """One row in detail.

    Attributes:
        tabs: key and label of each tab; `tab` is the key of the one that is shown.
        call: the facts of the model call, without its texts, which are `texts`.
    """

    row: Row
    record: InvocationRecord | None
    tabs: list[tuple[str, str]]
    tab: str
    value: Shown | None = None
    saved: dict[str, Shown] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, Shown] = field(default_factory=dict)
    attempts: list[AttemptRecord] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


@router.get("/executions/{exec_id}")
@needs(VIEWER)
def show_execution(
    request: Request, client: Client, exec_id: str, row: Annotated[str, Query()] = "",
    tab: Annotated[str, Query()] = "", opened: Annotated[str, Query()] = "",
    after: Annotated[str, Query()] = "", scale: Annotated[str, Query()] = "",
    only: Annotated[str, Query()] = "", lines: Annotated[str, Query()] = "",
) -> Response:  # fmt: skip
    """Show an execution."""
    execution = client.executions.get(exec_id)
    return _show(request, client, execution, row, tab, opened, after, scale, only, lines)


@router.get("/executions/{exec_id}/images/{name:path}")
@needs(VIEWER)
def show_image(client: Client, exec_id: str, name: str) -> Response:
    """Return a recorded image for a page. Nothing else is shown by a browser."""
    found = read_file(client.store, execution_id(client.store, exec_id), name)
    if not found.is_image:
        raise UsageError(f"The value {name!a} is not an image.")
    headers = {"content-security-policy": "sandbox; default-src 'none'"}
    return Response(found.data, headers=headers, media_type=found.media_type)


@router.post("/executions/{exec_id}")
@needs(OPERATOR)
def change_execution(request: Request, client: Client, exec_id: str, posted: Fields) -> Response:
    """Cancel, retry or resume an execution, or send it a signal."""
    exec_id = execution_id(client.store, exec_id)
    match posted.get("act"):
        case ["cancel"]:
            cancel(client.store, exec_id)
        case ["retry"]:
            check_elsewhere(client.store, exec_id, "retry")
            retry(client.store, exec_id)
        case ["resume"]:
            check_elsewhere(client.store, exec_id, "resume")
            resume(client.store, exec_id)
        case ["signal"]:
            inbox, value = (posted.get(name, [""])[0] for name in ("inbox", "value"))
            signal(client.store, exec_id, inbox.strip(), parse_answer(value, {}))
    return go(request.url.path)


def _show(
    request: Request, client: Client, execution: ExecutionView, row: str, tab: str, opened: str,
    after: str, scale: str, only: str, source_lines: str,
) -> Response:  # fmt: skip
    journal = execution.journal
    seen = execution.overview(limit=_ROWS, after=after)
    now = execution.state_at if execution.status.is_finished else datetime.now(UTC).isoformat()
    drawn = timeline(
        execution.started_at, seen, list(journal.wait_requests()),
        [one.name for one in (*execution.waits, *execution.timers, *execution.events)],
        execution.signs.under_way,
        now=now, opened=opened, folds=scale != "true",
    )  # fmt: skip
    selected = _selected(execution, drawn.rows, row)
    detail = None if selected is None else _detail(client, execution, selected, seen.attempts, tab)
    log_of = detail.row.key.partition("/call-")[0] if detail and only == "row" else None
    lines = list(islice(client.executions.logs(execution.exec_id, log_of), _LINES + 1))

    def link(**changes: str) -> str:
        """Return the address of this page with other parameters."""
        given = {"row": row, "tab": tab, "opened": opened, "after": after, "scale": scale,
                 "only": only, "lines": source_lines, **changes}  # fmt: skip
        query = urlencode({name: value for name, value in given.items() if value})
        return f"{request.url.path}?{query}" if query else request.url.path

    # Without a choice of the reader, the line that runs now.
    running = next((one.id for one in execution.signs.under_way), "")
    current = running if running and not row else selected.key if selected is not None else ""
    source_row = current.partition("/")[0]
    error, failed_at = _error_of(execution, seen.attempts, source_row, is_chosen=bool(row))
    is_deployed = journal.execution.mode == "deployed"
    # The dispatcher of this service continues a deployed execution whose wait is answered.
    is_due = execution.status == "answered" and request.app.state.dispatcher is not None
    return page(
        request, "execution.html",
        execution=execution,
        title=title_of(execution),
        seen=seen,
        texts=_texts(execution),
        signals=execution.signals[-_SIGNALS:],
        inboxes=sorted({r.name.removeprefix("inbox_") for r in seen.page if r.kind == "inbox"}),
        timeline=drawn,
        source=source(
            journal, drawn.rows, source_row, error, failed_at, whole=source_lines == "all"
        ),
        detail=detail,
        lines=lines[:_LINES],
        has_more_lines=len(lines) > _LINES,
        only=only,
        link=link,
        opened=opened,
        after=after,
        is_folded=scale != "true",
        silent_since=execution.silent_since(seen.last_sign),
        result=_result(execution),
        is_deployed=is_deployed,
        command="" if is_deployed and is_due else _command(execution),
        runs_on=journal.execution.target or "this machine",
    )  # fmt: skip


def _error_of(
    execution: ExecutionView, attempts: list[AttemptRecord], row: str, *, is_chosen: bool
) -> tuple[ErrorInfo | None, str]:
    """Return how a row failed; and when, for a failure of the flow itself, with no chosen row."""
    record = execution.journal.invocation(row) if row else None
    if record is not None:
        found = record.error
    else:
        found = next((one.error for one in reversed(attempts) if one.id == row), None)
    flow_error = execution.error
    if flow_error is not None and not flow_error.invocation and not is_chosen and not found:
        return flow_error, execution.state_at
    return found, ""


def _texts(execution: ExecutionView) -> dict[str, str]:
    """Return the end of what models stream now, by invocation."""
    running = [one.id for one in execution.signs.under_way]
    return streamed(execution.journal, running) if running else {}


def title_of(execution: ExecutionView) -> str:
    """Return what people call an execution, as in the list; else a part of its id."""
    # Ids of the same hour end alike.
    return execution.journal.summary().title or f"{execution.exec_id[:8]}…"


def _command(execution: ExecutionView) -> str:
    """Return the command that continues an execution which no process continues by itself."""
    status = str(execution.status)
    if status == "failed":
        verb = "retry"
    elif status in ("answered", "interrupted"):
        verb = "resume"
    else:
        return ""
    return hints.command(execution.journal.store, "executions", verb, execution.exec_id)


def _result(execution: ExecutionView) -> Shown | None:
    end = execution.journal.end()
    if end is None or end.result is None:
        return None
    return shown(execution.journal, end.result)


def _selected(execution: ExecutionView, rows: list[Row], key: str) -> Row | None:
    """Return the row that is asked for: by default the failed one, the open wait or the last."""
    by_key = {row.key: row for row in rows}
    if key:
        return by_key.get(key) or by_key.get(key.partition("/")[0]) or Row(key, "completed", key)
    failed = execution.error.invocation if execution.error is not None else ""
    if failed in by_key:
        return by_key[failed]
    waits = [one.name for one in execution.waits if one.name in by_key]
    if waits:
        return by_key[waits[0]]
    return next((row for row in reversed(rows) if not row.opens), None)


def _detail(
    client: Client, execution: ExecutionView, row: Row, attempts: list[AttemptRecord], tab: str
) -> Detail:
    journal = execution.journal
    id, _, call = row.key.partition("/call-")
    record = journal.invocation(id)
    failed = [one for one in attempts if one.id == id]
    calls = list(calls_in(journal, id))
    tabs = []
    if calls:
        tabs.append(("call", "Model call" if len(calls) == 1 else f"Model calls ({len(calls)})"))
    if failed or (record is not None and record.error is not None):
        tabs.insert(0, ("why", "Why"))
    if record is not None and record.value is not None:
        tabs.append(("result", "Result"))
    if record is not None and record.kind not in ("wait", "log"):
        tabs.append(("from", "Made from"))
    if record is not None and record.metadata:
        tabs.append(("notes", "Notes"))
    known = [key for key, _ in tabs]
    default = "call" if call and calls else known[0] if known else ""
    detail = Detail(row, record, tabs, tab if tab in known else default, attempts=failed)
    match detail.tab:
        case "call":
            number = int(call) if call.isdecimal() else 1
            _fill_call(execution, detail, calls, number)
        case "result" if record is not None and record.value is not None:
            detail.value = shown(execution.journal, record.value, id)
            for kept in record.artifacts:
                if isinstance(value := kept.get("value"), StoredValue):
                    name = str(kept["name"])
                    detail.saved[name] = shown(execution.journal, value, name)
        case "from":
            detail.parents = list(client.executions.lineage(execution.exec_id, id).get(id, ()))
        case "notes" if record is not None:
            from kitaru.runtime.journal.to_json import as_json

            detail.notes = {key: as_json(value) for key, value in record.metadata.items()}
    return detail


def _fill_call(
    execution: ExecutionView, detail: Detail, calls: list[ModelCall], number: int
) -> None:
    made = [call for call in calls if call.attempt == 0] or calls
    call = made[min(max(number, 1), len(made)) - 1]
    for name in _TEXTS:
        if isinstance(stored := call.facts.get(name), StoredValue):
            detail.texts[name] = shown(execution.journal, stored, f"{call.name}/{name}")
    without = {name: value for name, value in call.facts.items() if name not in _TEXTS}
    facts = facts_of(execution.journal, ModelCall(
        call.invocation, call.number, call.attempt, call.made_here, without, call.at
    ))  # fmt: skip
    detail.call = {**facts, "at": call.at, "number": call.number, "of": len(made)}
