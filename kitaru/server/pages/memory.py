"""Memory: scopes, keys, and the versions of a key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from kitaru.errors import NotFound, UsageError
from kitaru.ops.access import VIEWER
from kitaru.server.access import needs
from kitaru.server.context import Client
from kitaru.server.pages.executions import marked
from kitaru.server.pages.render import page

router = APIRouter(include_in_schema=False)

_VERSIONS = 50
_KEYS = 500


@router.get("/memory")
@needs(VIEWER)
def list_scopes(request: Request, client: Client) -> Response:
    """List the memories."""
    return page(request, "memory.html", scopes=client.memory.scopes())


@router.get("/memory/{scope}")
@needs(VIEWER)
def list_keys(
    request: Request, client: Client, scope: str, prefix: Annotated[str, Query()] = ""
) -> Response:
    """List the keys of a memory."""
    found = client.memory.list(prefix, scope=scope)
    return page(
        request, "memory-keys.html",
        scope=scope, prefix=prefix, found=found[:_KEYS], count=len(found),
    )  # fmt: skip


@router.get("/memory/{scope}/{key:path}")
@needs(VIEWER)
def show_key(
    request: Request, client: Client, scope: str, key: str,
    version: Annotated[int, Query(ge=0)] = 0, at: Annotated[str, Query()] = "",
) -> Response:  # fmt: skip
    """Show a value, the versions of its key, and what a version changed."""
    history = list(client.memory.history(key, limit=_VERSIONS, scope=scope))
    if not history:
        raise NotFound(f"The memory {scope} has no key {key}.")
    moment = _moment(at)
    shown = client.memory.show(key, version=version or None, at=moment, scope=scope)
    before = None
    if shown is not None and shown["version"] > 1:
        before = client.memory.show(key, version=shown["version"] - 1, scope=scope)
    sides = None
    if shown is not None and before is not None and before["value"] != shown["value"]:
        sides = marked(before["value"], shown["value"])
    return page(
        request, "memory-key.html",
        scope=scope, key=key, history=list(reversed(history)), shown=shown, before=before,
        sides=sides, at_moment=at, version=version,
    )  # fmt: skip


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f'"{text}" is not a moment.', help="such as 2026-11-24T09:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
