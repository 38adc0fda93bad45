"""`/api/v1/events`: send events, and list what was received."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from kitaru.ops.access import OPERATOR, VIEWER
from kitaru.ops.events import send_event
from kitaru.server import models
from kitaru.server.access import needs
from kitaru.server.context import Client, Dispatching, problems

router = APIRouter(prefix="/api/v1/events", tags=["events"])


@router.post("", response_model=models.EventInfo, status_code=201, responses=problems(413, 415))
@needs(OPERATOR)
def send(client: Client, body: models.NewEvent, dispatcher: Dispatching = None) -> dict[str, Any]:
    """Send an event. It is stored when the response comes.

    An event with a name and an id that were sent before is the first one, which is returned.
    """
    delivers = dispatcher is None
    sent = send_event(client.store, body.name, body.data, id=body.id, delivers=delivers)
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
