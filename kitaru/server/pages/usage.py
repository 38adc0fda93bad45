"""Usage: what model calls cost, by day, model and flow."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from kitaru.ops.access import VIEWER
from kitaru.ops.model_usage import Usage
from kitaru.server.access import needs
from kitaru.server.context import Client
from kitaru.server.pages.render import page

router = APIRouter(include_in_schema=False)

_PERIODS = (1, 7, 14, 30, 90)


@router.get("/usage")
@needs(VIEWER)
def show_usage(
    request: Request, client: Client, days: Annotated[int, Query(ge=1, le=365)] = 14,
    flow: Annotated[str, Query()] = "",
) -> Response:  # fmt: skip
    """Show what model calls cost in the last days."""
    # The period begins with a whole day, so that its first bar is not a part of one.
    today = datetime.now(UTC)
    start = datetime(today.year, today.month, today.day, tzinfo=UTC) - timedelta(days=days - 1)
    period = today - start
    by_day, total = client.model_usage(period, flow=flow or None, by="day")
    by_model, _ = client.model_usage(period, flow=flow or None, by="model")
    by_flow, _ = client.model_usage(period, flow=flow or None, by="flow")
    return page(
        request, "usage.html",
        days=days, flow=flow, periods=_PERIODS, total=total, by_model=by_model, by_flow=by_flow,
        bars=_bars(start.date(), days, by_day),
    )  # fmt: skip


def _bars(start: date, days: int, found: list[Usage]) -> list[tuple[str, Usage, float]]:
    """Return each day with its usage, and its cost in percent of the most expensive day."""
    known = {one.name: one for one in found}
    names = [(start + timedelta(days=number)).isoformat() for number in range(days)]
    most = max((one.cost for one in found), default=0.0)
    each = [(name, known.get(name, Usage(name))) for name in names]
    return [(name, one, 100 * one.cost / most if most else 0.0) for name, one in each]
