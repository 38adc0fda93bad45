"""The inbox: what waits for an answer, one question with its form, and what became of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from kitaru import hints
from kitaru.errors import AnswerInvalid, InputError, NotFound, StateError, WaitConflict
from kitaru.ops.access import APPROVER, VIEWER
from kitaru.ops.answer import answer
from kitaru.ops.cancel import abort
from kitaru.ops.dispatch import Dispatcher
from kitaru.ops.inbox import Inbox, inbox
from kitaru.runtime.executions.invocation_ref import execution_id
from kitaru.runtime.journal import evidence
from kitaru.server.access import needs, principal
from kitaru.server.context import Client
from kitaru.server.pages.forms import ABSENT, Form
from kitaru.server.pages.posted import Fields
from kitaru.server.pages.render import go, page
from kitaru.server.pages.values import Shown, shown
from kitaru.view import ExecutionView
from kitaru.wire.records import WaitRequest

router = APIRouter(include_in_schema=False)

Flow = Annotated[str, Query()]
Cursor = Annotated[str, Query()]
_LISTED = 50
# Results of these kinds can be what a question is about.
_RESULTS = ("checkpoint", "llm", "tool", "agent")


@dataclass(frozen=True, slots=True)
class Note:
    """What happened to an answer."""

    kind: str
    title: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A value beside a question."""

    title: str
    shown: Shown


@router.get("/inbox")
@needs(VIEWER)
def show_inbox(request: Request, client: Client, flow: Flow = "", cursor: Cursor = "") -> Response:
    """Show the open questions."""
    return page(request, "inbox.html", **_queue(client, flow, cursor), selected=None)


@router.get("/inbox/{exec_id}/{name:path}")
@needs(VIEWER)
def show_question(request: Request, client: Client, exec_id: str, name: str) -> Response:
    """Show a question with its form, or its answer."""
    execution = client.executions.get(exec_id)
    asked = _asked(execution, name)
    form = None
    if _is_open(execution, asked):
        form = Form(asked.schema)
    return _question(request, client, execution, asked, form)


@router.post("/inbox/{exec_id}/{name:path}")
@needs(APPROVER)
def answer_question(
    request: Request, client: Client, exec_id: str, name: str, posted: Fields
) -> Response:
    """Answer a question, or end its execution instead."""
    exec_id = execution_id(client.store, exec_id)
    execution = client.executions.get(exec_id)
    asked = _asked(execution, name)
    here = request.url.path
    if posted.get("act") == ["abort"]:
        abort(client.store, exec_id, name)
        return go(here)
    if not _is_open(execution, asked):
        note = Note("failed", "This question was answered before.", "Your answer is not recorded.")
        return _question(request, client, execution, asked, None, note, 409)
    if posted.get("asked") != [digest_of(asked)]:
        note = Note("waiting", "The question has changed.", "Read it again, and answer it then.")
        form = Form(asked.schema)
        return _question(request, client, execution, asked, form, note, 409)
    form = Form(asked.schema, posted)
    if form.is_changed:
        return _question(request, client, execution, asked, form)
    if form.value is ABSENT:
        return _question(request, client, execution, asked, form, None, 422)
    try:
        dispatcher = dispatcher_of(request, execution)
        answer(client.store, exec_id, form.value, name, submits=dispatcher is None, runs_here=False)
        if dispatcher is not None:
            dispatcher.wake()
    except (AnswerInvalid, InputError) as error:
        form.refuse(error.message)
        return _question(request, client, execution, asked, form, None, 422)
    except (WaitConflict, StateError) as error:
        note = Note("failed", "Your answer is not recorded.", error.message)
        execution = client.executions.get(exec_id)
        return _question(request, client, execution, asked, None, note, 409)
    return go(here)


def _question(
    request: Request, client: Client, execution: ExecutionView, asked: WaitRequest,
    form: Form | None, note: Note | None = None, status: int = 200,
) -> Response:  # fmt: skip
    given = None if form else execution.journal.wait_answer(asked.name)
    dispatches = dispatcher_of(request, execution) is not None
    if given is not None and note is None:
        note = _outcome(execution, dispatches=dispatches)
    waits_here = not dispatches and execution.status in ("answered", "interrupted")
    return page(
        request, "question.html", status,
        **_queue(client, "", ""),
        selected=(execution.exec_id, asked.name),
        execution=execution,
        wait=asked,
        asked=digest_of(asked),
        refused=execution.journal.refused(asked.name),
        effort=execution.effort,
        evidence=evidence_of(execution, asked) if form else [],
        form=form,
        may_answer=principal().may(APPROVER, execution.flow),
        note=note,
        answer=given,
        next=hints.resume_command(execution.journal) if waits_here else "",
    )  # fmt: skip


def dispatcher_of(request: Request, execution: ExecutionView) -> Dispatcher | None:
    """Return the dispatcher of this process, if it continues the execution."""
    dispatcher: Dispatcher | None = request.app.state.dispatcher
    return dispatcher if execution.journal.execution.mode == "deployed" else None


def _outcome(execution: ExecutionView, *, dispatches: bool) -> Note:
    match str(execution.status):
        case "resuming":
            run = execution.submission
            where = f"Submitted to {run.target}." if run is not None else ""
            return Note("running", "The answer is recorded, and the execution continues.", where)
        case "answered" if dispatches:
            text = "The dispatcher of this service continues the execution."
            return Note("running", "The answer is recorded.", text)
        case "answered":
            text = "No process continues this execution by itself."
            return Note("waiting", "The answer is recorded.", text)
        case _:
            return Note("completed", "The answer is recorded.")


def _queue(client: Client, flow: str, cursor: str) -> dict[str, Any]:
    found: Inbox = inbox(client.store, flow=flow or None, limit=_LISTED, after=cursor)
    return {
        "page": found,
        "kinds": [_kind(wait.request.schema) for wait in found.items],
        "flows": sorted({wait.flow for wait in found.items}),
        "flow": flow,
    }


def _kind(schema: Any) -> str:
    """Return what kind of answer a question needs, in two words."""
    root = Form(schema).root
    match root.kind:
        case "choice" if root.schema.get("type") == "boolean":
            return "yes / no"
        case "choice":
            return f"1 of {len(root.choices)}"
        case "object" | "list" | "tuple" | "map" | "choices":
            return "form"
        case "integer" | "number":
            return "number"
        case "json":
            return "JSON"
        case _:
            return "text"


def _asked(execution: ExecutionView, name: str) -> WaitRequest:
    found = {one.name: one for one in execution.journal.wait_requests()}
    if name not in found:
        raise NotFound(f'The execution {execution.exec_id} has no wait "{name}".')
    return found[name]


def _is_open(execution: ExecutionView, asked: WaitRequest) -> bool:
    return asked.name in {one.name for one in execution.waits}


def digest_of(asked: WaitRequest) -> str:
    """Return a digest of a question: an answer is to the question that a person has read."""
    text = json.dumps([asked.question, asked.schema, asked.metadata], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def evidence_of(execution: ExecutionView, asked: WaitRequest) -> list[Evidence]:
    """Return the evidence of a question; without any, the result before it."""
    journal = execution.journal
    if asked.evidence:
        found = enumerate(evidence.values(journal, asked), 1)
        return [
            Evidence(title, shown(journal, stored, f"{asked.name}/evidence/{number}"))
            for number, (title, stored) in found
        ]
    last = max(
        (
            (one["position"], one["id"])
            for one in journal.glances()
            if one["kind"] in _RESULTS
            and one["status"] == "completed"
            and one["position"] < asked.position
        ),
        default=None,
    )
    for record in journal.outcomes([last[1]]) if last is not None else ():
        if record.value is None:
            continue
        models = {str(call.get("resolved", "")) for call in record.calls} - {""}
        writer = f" · written by {', '.join(sorted(models))}" if models else ""
        found_value = shown(journal, record.value, record.id)
        return [Evidence(f"Result of {record.id}{writer}", found_value)]
    return []
