"""`/api/v1/notifications`: what people are notified of, and through which channels."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from kitaru.ops.access import ADMIN, VIEWER
from kitaru.server import models
from kitaru.server.access import needs
from kitaru.server.context import Client, problems
from kitaru.wire.structs import fields_of

router = APIRouter(prefix="/api/v1/notifications", tags=["notifications"])


@router.get("", response_model=models.NotificationList, responses=problems(404))
@needs(VIEWER)
def list_notifications(
    client: Client,
    exec_id: Annotated[
        str | None,
        Query(description="An execution, whose notifications are also listed at their end."),
    ] = None,
) -> dict[str, Any]:
    """List the notifications that are pending."""
    return {"items": [fields_of(one) for one in client.notifications.list(exec_id)]}


@router.get("/channels", response_model=models.ChannelList, responses=problems())
@needs(ADMIN, of_all=True)
def list_channels(client: Client) -> dict[str, Any]:
    """List the channels in the settings of the service, without secrets."""
    return {"items": [fields_of(one) for one in client.notifications.channels()]}


@router.post("/channels/{name}/test", response_model=models.SentNotice, responses=problems(404))
@needs(ADMIN, of_all=True)
def test_channel(
    client: Client, name: Annotated[str, Path(description="Name of a channel.")]
) -> dict[str, Any]:
    """Send a test message through a channel now, once."""
    return fields_of(client.notifications.test(name))
