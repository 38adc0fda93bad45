"""`/api/v1/tokens`: create, list and revoke tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from kitaru.ops.access import ADMIN
from kitaru.ops.tokens import create_token, list_tokens, revoke_token
from kitaru.server import models
from kitaru.server.access import needs
from kitaru.server.context import Client, problems

router = APIRouter(prefix="/api/v1/tokens", tags=["tokens"])


@router.get("", response_model=models.Tokens, responses=problems())
@needs(ADMIN, of_all=True)
def list_all_tokens(
    client: Client,
    sessions: Annotated[bool, Query(description="Also the sessions of people.")] = False,
) -> dict[str, Any]:
    """List the tokens, the oldest first. No token is shown."""
    return {"items": [one.to_dict() for one in list_tokens(client.store, sessions=sessions)]}


@router.post("", response_model=models.CreatedToken, status_code=201, responses=problems(413, 415))
@needs(ADMIN, of_all=True)
def make_token(client: Client, body: models.TokenCreation) -> dict[str, Any]:
    """Create a token. Only this response contains it."""
    expires = None if body.expires_seconds is None else timedelta(seconds=body.expires_seconds)
    made = create_token(client.store, body.name, body.role, flows=body.flows, expires=expires)
    return {"secret": made.secret, "token": made.token.to_dict()}


@router.delete("/{id}", response_model=models.Token, responses=problems(404))
@needs(ADMIN, of_all=True)
def end_token(
    client: Client, id: Annotated[str, Path(description="Id, prefix or name of a token.")]
) -> dict[str, Any]:
    """Revoke a token, and the sessions that began with it."""
    return revoke_token(client.store, id).to_dict()
