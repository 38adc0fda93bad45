"""`/api/v1/memory`: the values that flows remember."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from kitaru.errors import NotFound
from kitaru.ops.access import OPERATOR, VIEWER
from kitaru.server import models
from kitaru.server.access import needs
from kitaru.server.context import Client, problems
from kitaru.wire.structs import fields_of

router = APIRouter(prefix="/api/v1/memory", tags=["memory"])

Scope = Annotated[
    str,
    Path(
        description="`namespace:NAME`, `flow:NAME` or `execution:ID`.", examples=["namespace:sales"]
    ),
]
Key = Annotated[str, Path(description="Key of a value. It may contain `/`.")]
Expect = Annotated[
    int | None, Query(ge=0, description="The version that must be the newest; 0 for no value.")
]


@router.get("", response_model=models.Scopes, responses=problems())
@needs(VIEWER)
def list_scopes(client: Client) -> dict[str, Any]:
    """List the memories of namespaces and flows."""
    return {"items": client.memory.scopes()}


@router.get("/{scope}/keys", response_model=models.MemoryKeys, responses=problems(404))
@needs(VIEWER)
def list_keys(
    client: Client,
    scope: Scope,
    prefix: Annotated[str, Query(description="Only keys that start with this text.")] = "",
) -> dict[str, Any]:
    """List the keys of a memory that have a value."""
    return {"items": client.memory.list(prefix, scope=scope)}


@router.get(
    "/{scope}/history/{key:path}", response_model=models.MemoryHistory, responses=problems(404)
)
@needs(VIEWER)
def get_history(
    client: Client,
    scope: Scope,
    key: Key,
    limit: Annotated[int, Query(ge=1, le=500, description="Only the newest versions.")] = 100,
) -> dict[str, Any]:
    """List the versions of a key, oldest first."""
    return {
        "items": [fields_of(one) for one in client.memory.history(key, limit=limit, scope=scope)]
    }


@router.get("/{scope}/keys/{key:path}", response_model=models.MemoryValue, responses=problems(404))
@needs(VIEWER)
def get_value(
    client: Client,
    scope: Scope,
    key: Key,
    version: Annotated[int | None, Query(ge=1, description="The value of this version.")] = None,
    at: Annotated[
        datetime | None,
        Query(description="The value at this moment, such as 2026-11-24T09:00:00Z."),
    ] = None,
) -> dict[str, Any]:
    """Return the newest value of a key, that of a version, or that of a moment."""
    found = client.memory.show(key, version=version, at=at, scope=scope)
    if found is None:
        raise NotFound(
            f"The memory {key} has no such value in {scope}.",
            help="kitaru memory list --scope SCOPE",
        )
    return found


@router.put(
    "/{scope}/keys/{key:path}",
    response_model=models.Written,
    responses=problems(404, 409, 413, 415),
)
@needs(OPERATOR)
def set_value(client: Client, scope: Scope, key: Key, body: models.MemoryWrite) -> dict[str, Any]:
    """Write JSON as the next version of a key."""
    return {
        "key": key,
        "version": client.memory.set(key, body.value, expect=body.expect, scope=scope),
    }


@router.delete(
    "/{scope}/keys/{key:path}", response_model=models.Written, responses=problems(404, 409)
)
@needs(OPERATOR)
def delete_value(client: Client, scope: Scope, key: Key, expect: Expect = None) -> dict[str, Any]:
    """Delete the value of a key. Earlier versions stay."""
    was_there = client.memory.delete(key, expect=expect, scope=scope)
    newest = client.memory.history(key, limit=1, scope=scope) if was_there else []
    return {"key": key, "version": newest[-1].version if newest else None}
