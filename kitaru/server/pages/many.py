"""Cancel, retry or replay the executions that a person selected in the list.

The first request shows which they are, and changes nothing. The second one names exactly those.
"""

from __future__ import annotations

from typing import NamedTuple, get_args

from fastapi import APIRouter, Request
from fastapi.responses import Response

from kitaru.errors import EnvironmentFailure, KitaruError, UsageError
from kitaru.ops.access import OPERATOR
from kitaru.ops.many import Done, Verb, carry_out
from kitaru.ops.resume import check_elsewhere
from kitaru.server.access import needs
from kitaru.server.context import Client
from kitaru.server.pages.execution import title_of
from kitaru.server.pages.posted import Fields
from kitaru.server.pages.render import page

router = APIRouter(include_in_schema=False)

_MOST = 200


class _Selected(NamedTuple):
    """A selected execution, and why it cannot be changed so; empty if it can."""

    exec_id: str
    title: str
    flow: str
    status: str
    refusal: str


@router.post("/many")
@needs(OPERATOR)
def change_many(request: Request, client: Client, posted: Fields) -> Response:
    """Show what was selected, or change it once that is confirmed."""
    verb = _verb(posted.get("act", [""])[0])
    exec_ids = [*dict.fromkeys(posted.get("exec_id", []))]
    if not exec_ids:
        raise UsageError("No execution is selected.", help="Go back, and select some in the list.")
    if len(exec_ids) > _MOST:
        raise UsageError(f"At most {_MOST} executions can be selected here.")
    selected = [_selected(client, verb, one) for one in exec_ids]
    done: list[Done] = []
    stopped = ""
    if posted.get("confirm"):
        chosen = [one.exec_id for one in selected if not one.refusal]
        try:
            for one in carry_out(client.store, verb, chosen, is_service=True):
                done.append(one)
        except EnvironmentFailure as error:
            stopped = error.message
    return page(
        request, "many.html", verb=verb, selected=selected, done={one.exec_id: one for one in done},
        stopped=stopped, is_done=bool(posted.get("confirm")),
        count=sum(not one.refusal for one in selected),
    )  # fmt: skip


def _verb(act: str) -> Verb:
    for verb in get_args(Verb):
        if verb == act:
            return verb  # type: ignore[no-any-return]
    raise UsageError(f"{act!a} is not something to do with executions.")


def _selected(client: Client, verb: Verb, exec_id: str) -> _Selected:
    try:
        view = client.executions.get(exec_id)
        status = str(view.status)
        found = _Selected(view.exec_id, title_of(view), view.flow, status, "")
    except EnvironmentFailure:
        raise
    except KitaruError as error:
        return _Selected(exec_id, exec_id, "", "", error.message)
    if verb == "cancel" and view.status.is_finished:
        return found._replace(refusal="It has ended.")
    if verb == "retry" and status != "failed":
        return found._replace(refusal="It has not failed.")
    try:
        if verb != "cancel":
            check_elsewhere(client.store, view.exec_id, verb)
    except KitaruError as error:
        return found._replace(refusal=error.message)
    return found
