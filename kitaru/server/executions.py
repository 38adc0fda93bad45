"""`/api/v1/executions`: list, read, cancel, resume, retry and replay executions."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from kitaru.ops.access import OPERATOR, VIEWER
from kitaru.ops.cancel import cancel
from kitaru.ops.replay import replay
from kitaru.ops.resume import check_elsewhere, resume
from kitaru.ops.retry import retry
from kitaru.runtime.executions.artifacts import each_artifact, find_artifact
from kitaru.runtime.executions.downloads import LIFETIME, MAX_LIFETIME, read_file, sign, signed_url
from kitaru.runtime.executions.invocation_ref import execution_id
from kitaru.runtime.journal.to_json import as_json
from kitaru.server import models
from kitaru.server.access import needs
from kitaru.server.context import (
    Client,
    Cursor,
    Exec,
    Limit,
    Skip,
    Within,
    page_of,
    problems,
    started,
)  # fmt: skip
from kitaru.server.feeds import MEDIA_TYPE, Feeds, Output, Progress
from kitaru.server.many import changes_of
from kitaru.server.previews import preview
from kitaru.server.problems import JSON
from kitaru.status import ExecutionStatus
from kitaru.wire.structs import fields_of

router = APIRouter(prefix="/api/v1/executions", tags=["executions"])

Invocation = Annotated[str | None, Query(description="Only this invocation.")]
Name = Annotated[
    str,
    Path(
        description="Name of a saved value, an invocation, or a text such as `draft/call-1/prompt`."
    ),
]
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events.", "content": {MEDIA_TYPE: {}}}
}


def _feeds(request: Request) -> Feeds:
    feeds: Feeds = request.app.state.feeds
    return feeds


Watched = Annotated[Feeds, Depends(_feeds)]


@router.get("", response_model=models.ExecutionPage, responses=problems(404))
@needs(VIEWER)
def list_executions(
    client: Client,
    flow: Annotated[str | None, Query(description="Only executions of this flow.")] = None,
    status: Annotated[ExecutionStatus | None, Query(description="Only with this status.")] = None,
    since: Annotated[
        datetime | None, Query(description="Earliest start, such as 2026-11-24T09:00:00Z.")
    ] = None,
    until: Annotated[datetime | None, Query(description="Latest start.")] = None,
    tag: Annotated[
        str | None, Query(description="Only executions that were invoked by this tag.")
    ] = None,
    text: Annotated[
        str,
        Query(description="Part of the title, the first inputs, the question, error or result."),
    ] = "",
    parent: Annotated[str | None, Query(description="Only children of this execution.")] = None,
    where: Annotated[
        list[str],
        Query(
            description="More conditions: `older_than=2h`, `newer_than=7d`, `input.NAME=VALUE`, "
            "`tag.NAME=VALUE`, `target=NAME`, `version=v3`. All must hold.",
            max_length=50,
        ),
    ] = [],  # noqa: B006
    limit: Limit = 20,
    cursor: Cursor = "",
    within: Within = 10_000,
) -> dict[str, Any]:
    """List executions, newest first."""
    page = client.executions.page(
        flow=flow,
        status=None if status is None else str(status),
        limit=limit,
        within=within,
        after=cursor,
        since=since,
        until=until,
        tag=tag,
        text=text,
        parent=parent,
        counts=False,
        where=where,
    )
    return {"items": page.items, "next_cursor": page.next, "looked_at": page.looked_at}


@router.get("/{exec_id}", response_model=models.Execution, responses=problems(404))
@needs(VIEWER)
def get_execution(
    client: Client,
    exec_id: Exec,
    limit: Limit = 100,
    after: Annotated[str, Query(description="Only invocations after this one.")] = "",
) -> dict[str, Any]:
    """Return an execution with a page of its invocations, in program order."""
    return client.executions.get(exec_id).to_dict(limit=limit, after=after)


@router.get("/{exec_id}/calls", response_model=models.Calls, responses=problems(404))
@needs(VIEWER)
def list_calls(
    client: Client, exec_id: Exec, invocation: Invocation = None, limit: Limit = 100, skip: Skip = 0
) -> dict[str, Any]:
    """List the model calls of an execution."""
    found = client.executions.calls(exec_id, invocation, limit=limit + 1, skip=skip)
    return page_of(found, limit, skip)


@router.get("/{exec_id}/logs", response_model=models.Log, responses=problems(404))
@needs(VIEWER)
def read_log(
    client: Client, exec_id: Exec, invocation: Invocation = None, limit: Limit = 100, skip: Skip = 0
) -> dict[str, Any]:
    """Return the recorded output of an execution in order of time."""
    lines = client.executions.logs(exec_id, invocation)
    return page_of([fields_of(line) for line in islice(lines, skip, skip + limit + 1)], limit, skip)


@router.get(
    "/{exec_id}/logs/follow", response_class=StreamingResponse, responses=problems(404) | STREAM
)
@needs(VIEWER)
def follow_log(client: Client, exec_id: Exec, feeds: Watched) -> StreamingResponse:
    """Stream the output of an execution until it has ended.

    Events: `lines`, a list of lines whose id is that of their chunk, and `end`. Lines of the stream
    `model` are pieces of what a model answers. After a
    reconnection all chunks are sent again.
    """
    whole = client.executions.get(exec_id).exec_id
    return StreamingResponse(feeds.read(Output, whole), media_type=MEDIA_TYPE)


@router.get("/{exec_id}/events", response_class=StreamingResponse, responses=problems(404) | STREAM)
@needs(VIEWER)
def follow_execution(client: Client, exec_id: Exec, feeds: Watched) -> StreamingResponse:
    """Stream the changes of an execution until it has ended.

    Events: `execution` (status, open waits, progress, number of `chunks` of the log), `invocation`
    (one that is recorded), `reset` (read the execution again), and `end`.
    """
    whole = client.executions.get(exec_id).exec_id
    return StreamingResponse(feeds.read(Progress, whole), media_type=MEDIA_TYPE)


@router.get("/{exec_id}/artifacts", response_model=models.ArtifactPage, responses=problems(404))
@needs(VIEWER)
def list_artifacts(
    client: Client, exec_id: Exec, limit: Limit = 100, skip: Skip = 0
) -> dict[str, Any]:
    """List the stored values of an execution in program order."""
    found = each_artifact(client.executions.get(exec_id).journal)
    return page_of([fields_of(one) for one in islice(found, skip, skip + limit + 1)], limit, skip)


@router.get(
    "/{exec_id}/artifacts/{name:path}", response_model=models.Artifact, responses=problems(404, 409)
)
@needs(VIEWER)
def get_artifact(client: Client, exec_id: Exec, name: Name) -> dict[str, Any]:
    """Return a stored value as JSON, or a preview of a large one."""
    journal = client.executions.get(exec_id).journal
    found = find_artifact(journal, name)
    value, is_complete = preview(journal, found)
    return {
        "name": name,
        "type": found.type,
        "size": found.size,
        "digest": found.digest,
        "value": value,
        "is_complete": is_complete,
    }


@router.get(
    "/{exec_id}/downloads/{name:path}",
    response_class=JSON,
    responses=problems(404, 409)
    | {200: {"description": "The value as JSON.", "content": {"application/octet-stream": {}}}},
)
@needs(VIEWER)
def download_artifact(client: Client, exec_id: Exec, name: Name) -> JSON:
    """Return a whole stored value as a file with JSON."""
    journal = client.executions.get(exec_id).journal
    value = as_json(journal.fetch(find_artifact(journal, name)))
    headers = {
        "content-disposition": 'attachment; filename="value.json"',
        "content-security-policy": "sandbox; default-src 'none'",
    }
    return JSON(value, headers=headers, media_type="application/octet-stream")


@router.get(
    "/{exec_id}/files/{name:path}",
    response_class=Response,
    responses=problems(404, 409)
    | {
        200: {"description": "The file.", "content": {"application/octet-stream": {}}},
        307: {"description": "The file is at a signed URL of the bucket."},
    },
)
@needs(VIEWER)
def get_file(request: Request, client: Client, exec_id: Exec, name: Name) -> Response:
    """Return a value as a file: bytes and images as they are, a string as text, others as JSON.

    Where the store can sign URLs, the response is a redirection to the bucket, which is valid for
    five minutes. `kitaru serve --no-signed-urls` always returns the file itself.
    """
    whole = execution_id(client.store, exec_id)
    found = read_file(client.store, whole, name)
    signed = None
    if request.app.state.signs_urls:
        signed = sign(client.store, whole, found, LIFETIME)
    if signed is not None:
        return RedirectResponse(signed.url, 307)
    headers = {
        "content-disposition": f'attachment; filename="{found.name}"',
        "content-security-policy": "sandbox; default-src 'none'",
    }
    return Response(found.data, headers=headers, media_type="application/octet-stream")


@router.get(
    "/{exec_id}/signed-urls/{name:path}",
    response_model=models.SignedURL,
    responses=problems(404, 409),
)
@needs(VIEWER)
def get_signed_url(
    client: Client,
    exec_id: Exec,
    name: Name,
    seconds: Annotated[
        int, Query(ge=1, le=MAX_LIFETIME.seconds, description="Time until it expires.")
    ] = LIFETIME.seconds,
) -> JSONResponse:
    """Return a URL of the bucket from which anybody can read a value as a file until it expires.

    Stores without a bucket cannot sign: 409.
    """
    whole = execution_id(client.store, exec_id)
    signed = signed_url(client.store, whole, name, timedelta(seconds=seconds))
    # The URL is a permission, which other responses hide.
    return JSONResponse(fields_of(signed))


@router.get("/{exec_id}/lineage", response_model=models.Lineage, responses=problems(404))
@needs(VIEWER)
def get_lineage(client: Client, exec_id: Exec, invocation: Invocation = None) -> dict[str, Any]:
    """Return, by invocation, the earlier invocations whose results it used."""
    return {"parents": client.executions.lineage(exec_id, invocation)}


@router.get("/{exec_id}/diff/{other}", response_model=models.Comparison, responses=problems(404))
@needs(VIEWER)
def diff_executions(
    client: Client,
    exec_id: Exec,
    other: Annotated[str, Path(description="The execution to compare with.", examples=["latest"])],
    limit: Limit = 100,
    skip: Skip = 0,
) -> dict[str, Any]:
    """Return the differences of the execution `other` from this one."""
    return client.executions.diff(exec_id, other, limit=limit, skip=skip).to_dict()


@router.post(
    "/{exec_id}/inboxes/{inbox}/signals",
    response_model=models.Signal,
    responses=problems(404, 409, 413, 415),
)
@needs(OPERATOR)
def send_signal(
    client: Client,
    exec_id: Exec,
    inbox: Annotated[str, Path(description="Name of the inbox, as in `kitaru.inbox`.")],
    body: models.SentSignal,
) -> dict[str, Any]:
    """Send a signal to an execution, which reads it with `kitaru.inbox`. It is stored and numbered.

    A repeated request sends another signal.
    """
    return fields_of(client.executions.signal(exec_id, inbox, body.value))


@router.post("/{exec_id}/cancel", response_model=models.Started, responses=problems(404, 409, 415))
@needs(OPERATOR)
def cancel_execution(client: Client, exec_id: Exec) -> dict[str, Any]:
    """Cancel an execution. It stops at its next durable call, wherever it runs."""
    whole = execution_id(client.store, exec_id)
    cancel(client.store, whole)
    return started(client.store, whole)


@router.post("/{exec_id}/resume", response_model=models.Started, responses=problems(404, 409, 415))
@needs(OPERATOR)
def resume_execution(
    client: Client,
    exec_id: Exec,
    again: Annotated[
        bool, Query(description="Start another run even if one was started for this wait.")
    ] = False,
) -> dict[str, Any]:
    """Resume a deployed execution whose run has ended, on its target."""
    whole = execution_id(client.store, exec_id)
    check_elsewhere(client.store, whole, "resume")
    return started(client.store, whole, resume(client.store, whole, again=again).submission)


@router.post("/{exec_id}/retry", response_model=models.Started, responses=problems(404, 409, 415))
@needs(OPERATOR)
def retry_execution(client: Client, exec_id: Exec) -> dict[str, Any]:
    """Retry a failed execution of a deployed flow. Recorded checkpoints do not run again."""
    whole = execution_id(client.store, exec_id)
    check_elsewhere(client.store, whole, "retry")
    return started(client.store, whole, retry(client.store, whole).submission)


@router.post(
    "/{exec_id}/replay", response_model=models.Started, responses=problems(404, 409, 413, 415)
)
@needs(OPERATOR)
def replay_execution(client: Client, exec_id: Exec, body: models.ReplayChanges) -> dict[str, Any]:
    """Start a new execution that reuses the records before `start`, on the target of the source."""
    whole = execution_id(client.store, exec_id)
    check_elsewhere(client.store, whole, "replay")
    done = replay(client.store, whole, changes_of(body))
    return started(client.store, done.handle.exec_id, done.submission)
