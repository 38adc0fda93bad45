"""`/api/v1/events`: send events, receive those of signed sources, and list what was received."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response

from kitaru.ops.access import OPERATOR, VIEWER
from kitaru.ops.events import send_event
from kitaru.ops.sources import SignatureRefused, receive
from kitaru.server import models
from kitaru.server.access import needs
from kitaru.server.context import Client, Dispatching, problems
from kitaru.server.problems import JSON, problem
from kitaru.wire.actors import acting_as

router = APIRouter(prefix="/api/v1/events", tags=["events"])


async def _body(request: Request) -> bytes:
    return await request.body()


@router.post("", response_model=models.EventInfo, status_code=201, responses=problems(413, 415))
@needs(OPERATOR)
def send(client: Client, body: models.NewEvent, dispatcher: Dispatching = None) -> dict[str, Any]:
    """Send an event. It is stored when the response comes.

    An event with a name and an id that were sent before is the first one, which is returned.
    """
    return _send(client, body.name, body.id, body.data, dispatcher)


@router.post(
    "/{source}",
    response_model=models.EventInfo,
    status_code=201,
    responses={200: {"description": "The answer to Slack's challenge."}, **problems(404, 413, 415)},
)
@needs(None)
def receive_event(
    request: Request,
    client: Client,
    source: Annotated[str, Path(description="Name of a source of the settings.")],
    body: Annotated[bytes, Depends(_body)],
    dispatcher: Dispatching = None,
) -> Response:
    """Receive an event that a source such as GitHub, Stripe or Slack has signed.

    It needs no token. A request without a valid signature, or that is too old, is refused.
    """
    try:
        found = receive(source, request.headers, body)
    except SignatureRefused as refused:
        return problem(
            403, "SignatureRefused", str(refused),
            help="Check the secret of the source, and the clocks of both sides.",
        )  # fmt: skip
    if found.answer is not None:
        return JSON(found.answer)
    with acting_as(f"source {source}"):
        return JSON(_send(client, found.name, found.id, found.data, dispatcher), 201)


def _send(
    client: Client, name: str, id: str | None, data: Any, dispatcher: Dispatching
) -> dict[str, Any]:
    delivers = dispatcher is None
    sent = send_event(client.store, name, data, id=id, delivers=delivers)
    if dispatcher is not None:
        dispatcher.wake()
    return sent.to_dict()


@router.get("", response_model=models.EventList, responses=problems())
@needs(VIEWER)
def list_events(
    client: Client,
    name: Annotated[str | None, Query(description="Only events of this name.")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000, description="Maximum number of items.")] = 50,
) -> dict[str, Any]:
    """List the newest events, newest first."""
    return {"items": [one.to_dict() for one in client.events.list(name, limit=limit)]}


@router.get("/triggers", response_model=models.EventTriggers, responses=problems())
@needs(VIEWER)
def list_triggers(
    client: Client,
    flow: Annotated[str | None, Query(description="Only of this flow.")] = None,
) -> dict[str, Any]:
    """List what events do to the deployed flows."""
    return {"items": [one.to_dict() for one in client.events.triggers(flow)]}


@router.get("/{name}/{id:path}", response_model=models.EventInfo, responses=problems(404))
@needs(VIEWER)
def get_event(
    client: Client,
    name: Annotated[str, Path(description="Name of the event.", examples=["invoice.created"])],
    id: Annotated[str, Path(description="Id of the event.")],
) -> dict[str, Any]:
    """Return an event, with the executions that it started or cancelled."""
    return client.events.get(name, id).to_dict()
