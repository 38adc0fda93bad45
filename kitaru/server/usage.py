"""`/api/v1/usage`: what model calls used and cost."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query

from kitaru.ops.access import VIEWER
from kitaru.ops.model_usage import By
from kitaru.server import models
from kitaru.server.access import needs
from kitaru.server.context import Client, problems
from kitaru.wire.structs import fields_of

router = APIRouter(prefix="/api/v1/usage", tags=["usage"])


@router.get("", response_model=models.UsageReport, responses=problems())
@needs(VIEWER)
def get_usage(
    client: Client,
    days: Annotated[
        float, Query(gt=0, le=3650, description="Length of the period before now, in days.")
    ] = 7,
    by: Annotated[By, Query(description="How calls are grouped. Days are UTC.")] = "model",
    flow: Annotated[str | None, Query(description="Only executions of this flow.")] = None,
) -> dict[str, Any]:
    """Return tokens, latency and cost of model calls. Reused results do not count."""
    groups, total = client.model_usage(timedelta(days=days), flow=flow, by=by)
    return {"items": [fields_of(one) for one in groups], "total": fields_of(total)}
