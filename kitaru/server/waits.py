"""Waits: the questions of executions, and their answers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from kitaru.ops.access import APPROVER, VIEWER
from kitaru.ops.answer import answer
from kitaru.ops.cancel import abort
from kitaru.ops.inbox import OpenWait, inbox, open_waits
from kitaru.ops.resume import is_local
from kitaru.runtime.executions.invocation_ref import execution_id
from kitaru.runtime.journal.evidence import shown
from kitaru.server.access import needs
from kitaru.server.context import (
    Client,
    Cursor,
    Dispatching,
    Exec,
    Limit,
    Within,
    problems,
    started,
)  # fmt: skip
from kitaru.server.models import Answer, Answered, GivenAnswers, WaitList, WaitPage
from kitaru.wire.structs import fields_of

router = APIRouter(prefix="/api/v1", tags=["waits"])

Name = Annotated[str, Path(description="Name of the wait.")]


@router.get("/waits", response_model=WaitPage, responses=problems(404))
@needs(VIEWER)
def list_waits(
    client: Client,
    flow: Annotated[str | None, Query(description="Only executions of this flow.")] = None,
    limit: Limit = 20,
    cursor: Cursor = "",
    within: Within = 10_000,
) -> dict[str, Any]:
    """List the questions of all executions that have no answer, the oldest first."""
    page = inbox(client.store, flow=flow, limit=limit, within=within, after=cursor)
    items = [_document(wait) for wait in page.items]
    return {"items": items, "next_cursor": page.next, "looked_at": page.looked_at}


@router.get("/executions/{exec_id}/waits", response_model=WaitList, responses=problems(404))
@needs(VIEWER)
def list_waits_of_execution(client: Client, exec_id: Exec) -> dict[str, Any]:
    """List the questions of one execution that have no answer."""
    whole = execution_id(client.store, exec_id)
    return {"items": [_document(wait) for wait in open_waits(client.store, whole)]}


@router.get("/executions/{exec_id}/answers", response_model=GivenAnswers, responses=problems(404))
@needs(VIEWER)
def list_answers(client: Client, exec_id: Exec) -> dict[str, Any]:
    """List the answers of an execution's waits, with who gave each."""
    return {"items": [fields_of(one) for one in client.executions.get(exec_id).answers]}


@router.post(
    "/executions/{exec_id}/waits/{name}/answer",
    response_model=Answered,
    responses=problems(404, 409, 413, 415),
)
@needs(APPROVER)
def answer_wait(
    client: Client, exec_id: Exec, name: Name, body: Answer, dispatcher: Dispatching = None
) -> dict[str, Any]:
    """Answer a wait. The first valid answer counts, and repeating it is no error.

    A deployed execution continues on its target. A local execution continues in the process that
    waits for the answer, or with the command in `next`.
    """
    whole = execution_id(client.store, exec_id)
    dispatches = dispatcher is not None and not is_local(client.store, whole)
    done = answer(client.store, whole, body.value, name, submits=not dispatches, runs_here=False)
    if dispatches:
        dispatcher.wake()
    after = started(client.store, whole, done.submission, dispatches=dispatches)
    return {"wait": done.wait, **after}


@router.post(
    "/executions/{exec_id}/waits/{name}/abort",
    response_model=Answered,
    responses=problems(404, 409, 415),
)
@needs(APPROVER)
def abort_wait(client: Client, exec_id: Exec, name: Name) -> dict[str, Any]:
    """Cancel the execution instead of answering its wait."""
    whole = execution_id(client.store, exec_id)
    abort(client.store, whole, name)
    return {"wait": name, **started(client.store, whole)}


def _document(wait: OpenWait) -> dict[str, Any]:
    request = wait.request
    return {
        "exec_id": wait.exec_id,
        "flow": wait.flow,
        "name": request.name,
        "question": request.question,
        "schema": request.schema,
        "metadata": request.metadata,
        "evidence": shown(request),
        "asked_at": request.asked_at,
        "refused": wait.refused,
        "deadline": request.deadline,
    }
