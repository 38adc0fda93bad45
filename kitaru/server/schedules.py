"""`/api/v1/schedules`: start deployed flows at the instants of a cron expression."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from kitaru.ops.access import OPERATOR, VIEWER
from kitaru.server import models
from kitaru.server.access import needs
from kitaru.server.context import Client, Dispatching, problems

router = APIRouter(prefix="/api/v1/schedules", tags=["schedules"])

Id = Annotated[str, Path(description="Id of a schedule.", examples=["review"])]


@router.get("", response_model=models.ScheduleList, responses=problems())
@needs(VIEWER)
def list_schedules(
    client: Client,
    flow: Annotated[str | None, Query(description="Only schedules of this flow.")] = None,
) -> dict[str, Any]:
    """List the schedules, each with its next tick and its last run."""
    return {"items": [one.to_dict() for one in client.schedules.list(flow=flow)]}


@router.post(
    "",
    response_model=models.ScheduleInfo,
    status_code=201,
    responses=problems(404, 409, 413, 415),
)
@needs(OPERATOR)
def create_schedule(client: Client, body: models.NewSchedule) -> dict[str, Any]:
    """Create a schedule. It follows its tag: each tick starts the version that has it then."""
    made = client.schedules.create(
        body.name,
        body.cron,
        timezone=body.timezone,
        inputs=body.inputs,
        overlap=body.overlap,
        catchup=body.catchup,
        id=body.id,
    )
    return made.to_dict()


@router.get("/{id}", response_model=models.ScheduleInfo, responses=problems(404))
@needs(VIEWER)
def get_schedule(client: Client, id: Id) -> dict[str, Any]:
    """Return a schedule with its next ticks and its last runs."""
    return client.schedules.get(id).to_dict()


@router.delete("/{id}", status_code=204, responses=problems(404))
@needs(OPERATOR)
def delete_schedule(client: Client, id: Id) -> None:
    """Delete a schedule. Its executions remain."""
    client.schedules.delete(id)


@router.get("/{id}/next", response_model=models.NextTicks, responses=problems(404))
@needs(VIEWER)
def next_ticks(
    client: Client,
    id: Id,
    count: Annotated[int, Query(ge=1, le=1_000, description="Number of ticks.")] = 5,
) -> dict[str, Any]:
    """List the next ticks of a schedule, also of one that is paused."""
    return {"id": id, "next": client.schedules.next(id, count)}


@router.post("/{id}/pause", response_model=models.ScheduleInfo, responses=problems(404))
@needs(OPERATOR)
def pause_schedule(client: Client, id: Id) -> dict[str, Any]:
    """Pause a schedule. Its ticks until it is resumed start nothing."""
    return client.schedules.pause(id).to_dict()


@router.post("/{id}/resume", response_model=models.ScheduleInfo, responses=problems(404))
@needs(OPERATOR)
def resume_schedule(client: Client, id: Id) -> dict[str, Any]:
    """Resume a paused schedule from now on."""
    return client.schedules.resume(id).to_dict()


@router.post(
    "/{id}/trigger",
    response_model=models.Triggered,
    status_code=201,
    responses=problems(404),
)
@needs(OPERATOR)
def trigger_schedule(client: Client, id: Id, dispatcher: Dispatching = None) -> dict[str, Any]:
    """Start an execution of a schedule now, also of one that is paused."""
    exec_id = client.schedules.trigger(id)
    if dispatcher is not None:
        dispatcher.wake()
    return {"id": id, "exec_id": exec_id}
