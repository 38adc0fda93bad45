"""The audit log: who answered, cancelled, invoked, deployed, moved a tag or made a token."""

from __future__ import annotations

from typing import Annotated, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from kitaru.ops.access import ADMIN
from kitaru.runtime.journal.audit import Action
from kitaru.server.access import needs
from kitaru.server.context import Client
from kitaru.server.pages.render import page

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Query()]
_LISTED = 100


@router.get("/audit")
@needs(ADMIN, of_all=True)
def show_audit(
    request: Request, client: Client, by: Text = "", action: Text = "", flow: Text = "",
    exec_id: Text = "", cursor: Text = "",
) -> Response:  # fmt: skip
    """Show the audit log."""
    asked = {"by": by, "action": action, "flow": flow, "exec_id": exec_id}
    found = client.audit(
        by=by or None, action=action or None, flow=flow or None, exec_id=exec_id or None,
        limit=_LISTED, after=cursor,
    )  # fmt: skip

    def link(**changes: str) -> str:
        """Return the address of this list with other filters, from its start."""
        query = urlencode({name: value for name, value in {**asked, **changes}.items() if value})
        return f"/audit?{query}" if query else "/audit"

    return page(
        request, "audit.html",
        found=found, entries=found.items, asked=asked, link=link, cursor=cursor,
        actions=get_args(Action),
    )  # fmt: skip
