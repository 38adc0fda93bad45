"""`/api/v1/audit`: who answered, cancelled, invoked, deployed, moved a tag or made a token."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from kitaru.ops.access import ADMIN
from kitaru.server import models
from kitaru.server.access import needs
from kitaru.server.context import Client, Cursor, Limit, Within, problems
from kitaru.wire.structs import fields_of

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])


@router.get("", response_model=models.AuditPage, responses=problems())
@needs(ADMIN, of_all=True)
def list_audit(
    client: Client,
    by: Annotated[str | None, Query(description="A part of the name.")] = None,
    action: Annotated[
        str | None, Query(description="Such as `answer`, `cancel`, `invoke` or `tag`.")
    ] = None,
    flow: Annotated[str | None, Query(description="Only entries of this flow.")] = None,
    exec_id: Annotated[str | None, Query(description="Only entries of this execution.")] = None,
    since: Annotated[datetime | None, Query(description="Earliest moment.")] = None,
    until: Annotated[datetime | None, Query(description="Latest moment.")] = None,
    limit: Limit = 100,
    cursor: Cursor = "",
    within: Within = 10_000,
) -> dict[str, Any]:
    """List the audit log, newest first."""
    page = client.audit(
        by=by, action=action, flow=flow, exec_id=exec_id, since=since, until=until, limit=limit,
        within=within, after=cursor,
    )  # fmt: skip
    items = [fields_of(one) for one in page.items]
    return {"items": items, "next_cursor": page.next, "looked_at": page.looked_at}
