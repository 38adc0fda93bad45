"""`/api/v1/many`: cancel, retry or replay all executions that a filter selects."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from kitaru.ops.access import OPERATOR
from kitaru.ops.many import Verb, confirmed
from kitaru.ops.where import parse_where
from kitaru.runtime.executions.replay import Changes
from kitaru.server import models
from kitaru.server.access import needs
from kitaru.server.context import Client, problems
from kitaru.wire.structs import fields_of

router = APIRouter(prefix="/api/v1/many", tags=["executions"])

_PROBLEMS = problems(409, 413, 415)


@router.post("/cancel", response_model=models.Confirmed, responses=_PROBLEMS)
@needs(OPERATOR)
def cancel_executions(client: Client, body: models.Many) -> dict[str, Any]:
    """Cancel all executions that a filter selects and that have not ended.

    Without `confirm`, nothing is done, and the selected executions are returned. The request with
    `confirm` of that preview carries it out, and fails if other executions are selected by then.
    """
    return _confirmed(client, "cancel", body)


@router.post("/retry", response_model=models.Confirmed, responses=_PROBLEMS)
@needs(OPERATOR)
def retry_executions(client: Client, body: models.Many) -> dict[str, Any]:
    """Retry all failed executions of deployed flows that a filter selects.

    `confirm` is that of a preview; see `cancel_executions`.
    """
    return _confirmed(client, "retry", body)


@router.post("/replay", response_model=models.Confirmed, responses=_PROBLEMS)
@needs(OPERATOR)
def replay_executions(client: Client, body: models.ManyReplays) -> dict[str, Any]:
    """Replay all executions of deployed flows that a filter selects, with the same changes.

    Running executions and replays are not selected. `confirm` is that of a preview; see
    `cancel_executions`.
    """
    return _confirmed(client, "replay", body, changes_of(body.changes))


def changes_of(body: models.ReplayChanges) -> Changes:
    """Return the changes of a replay that a request asks for."""
    return Changes(
        body.start, body.at_failure, body.results, body.inputs, body.models, body.reuse_unchanged
    )


def _confirmed(
    client: Client, verb: Verb, body: models.Many, changes: Changes | None = None
) -> dict[str, Any]:
    found = confirmed(
        client.store,
        verb,
        parse_where(body.where),
        body.confirm,
        changes=changes,
        limit=body.limit,
        within=body.within,
    )
    done = [fields_of(one) for one in found.done]
    return {**fields_of(found), "count": len(found.items), "done": done}
