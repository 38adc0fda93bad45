"""What the functions of all paths share: the client of the store, and types of parameters."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

from kitaru import hints
from kitaru.client import KitaruClient
from kitaru.ops.dispatch import Dispatcher
from kitaru.ops.show import show
from kitaru.ops.submit import Submission
from kitaru.server.access import authorize
from kitaru.server.models import Problem
from kitaru.stores.base import Store

MOST = 500


def _dispatcher(request: Request) -> Dispatcher | None:
    dispatcher: Dispatcher | None = request.app.state.dispatcher
    return dispatcher


Client = Annotated[KitaruClient, Depends(authorize)]
Dispatching = Annotated[Any, Depends(_dispatcher)]
Exec = Annotated[
    str,
    Path(
        description="Id of an execution, a unique prefix of at least 4 characters, or `latest`.",
        examples=["latest"],
    ),
]
Limit = Annotated[int, Query(ge=1, le=MOST, description="Maximum number of items.")]
Cursor = Annotated[str, Query(description="`next_cursor` of the previous page.")]
Skip = Annotated[int, Query(ge=0, le=10**9, description="Number of items to skip.")]
Within = Annotated[int, Query(ge=1, le=10**6, description="Search the newest N executions.")]

_PROBLEMS = {
    400: "The request is not valid.",
    401: "The token is missing or wrong.",
    403: "The role does not allow it, or the request comes from a page of another site.",
    404: "There is no such resource.",
    409: "The state does not allow the operation.",
    413: "The request is too large.",
    415: "The body is not JSON.",
    421: "The service does not answer to this host.",
    422: "The content of the request is not valid.",
    502: "A service that is needed failed.",
    503: "The store cannot be used now.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the errors of a path for the OpenAPI document: those named, and those of all paths."""
    return {
        status: {"description": _PROBLEMS[status], "model": Problem}
        for status in sorted({400, 401, 403, 421, 422, 502, 503, *statuses})
    }


def page_of(found: list[Any], limit: int, skip: int) -> dict[str, Any]:
    """Return the page of a list that was read with one item more than `limit`."""
    return {"items": found[:limit], "next_skip": skip + limit if len(found) > limit else None}


def started(
    store: Store, exec_id: str, submission: Submission | None = None, *, dispatches: bool = False
) -> dict[str, Any]:
    """Return the document `Started` of an execution, read anew.

    `dispatches`: the dispatcher of this process continues the execution.
    """
    view = show(store, exec_id)
    run = view.submission
    done: dict[str, str] | None = None
    if submission is not None:
        done = {
            "target": submission.target,
            "run": submission.run_id,
            "url": submission.url,
            "at": run.at if run is not None else "",
        }
    elif run is not None:
        done = {"target": run.target, "run": run.run, "url": run.url, "at": run.at}
    idle = not dispatches and view.status in ("answered", "interrupted")
    return {
        "exec_id": view.exec_id,
        "flow": view.flow,
        "status": str(view.status),
        "submission": done,
        "next": hints.resume_command(view.journal) if idle else "",
    }
