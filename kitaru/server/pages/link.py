"""The page of a signed link: one question, for a person without an account.

It shows and does nothing else: no other page, no value of another wait, and no answer that somebody
else gave.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from kitaru.errors import AnswerInvalid, InputError, NotFound, StateError, WaitConflict
from kitaru.ops.answer import answer
from kitaru.ops.answer_links import AnswerLink, link_key, linked_question, read_token
from kitaru.server.access import needs
from kitaru.server.context import Client
from kitaru.server.pages.forms import ABSENT, Form
from kitaru.server.pages.inbox import digest_of, dispatcher_of, evidence_of
from kitaru.server.pages.posted import Fields
from kitaru.server.pages.render import go, page
from kitaru.wire.actors import acting_as
from kitaru.wire.records import WaitRequest

router = APIRouter(include_in_schema=False)


@router.get("/answer/{token}")
@needs(None)
def show_linked(request: Request, client: Client, token: str) -> Response:
    """Show the question of a link with its form."""
    try:
        link = _link(token)
        _, asked = linked_question(client.store, link)
    except StateError as error:
        return _over(request, error)
    return _question(request, client, link, asked, Form(asked.schema))


@router.post("/answer/{token}")
@needs(None)
def answer_linked(request: Request, client: Client, token: str, posted: Fields) -> Response:
    """Answer the question of a link."""
    try:
        link = _link(token)
        _, asked = linked_question(client.store, link)
    except StateError as error:
        return _over(request, error)
    if posted.get("asked") != [digest_of(asked)]:
        note = "The question has changed. Read it again, and answer it then."
        return _question(request, client, link, asked, Form(asked.schema), 409, note)
    form = Form(asked.schema, posted)
    if form.is_changed:
        return _question(request, client, link, asked, form)
    if form.value is ABSENT:
        return _question(request, client, link, asked, form, 422)
    dispatcher = dispatcher_of(request, client.executions.get(link.exec_id))
    try:
        with acting_as(link.actor):
            answer(
                client.store, link.exec_id, form.value, link.wait, submits=dispatcher is None,
                runs_here=False, number=link.number,
            )  # fmt: skip
    except (AnswerInvalid, InputError) as error:
        form.refuse(error.message)
        return _question(request, client, link, asked, form, 422)
    except WaitConflict:
        # Its message contains the answer that somebody else gave.
        return _over(request, StateError("Somebody else has answered this question."))
    if dispatcher is not None:
        dispatcher.wake()
    return go(f"{request.url.path}/done")


@router.get("/answer/{token}/done")
@needs(None)
def show_answered(request: Request, token: str) -> Response:
    """Show that an answer was recorded."""
    try:
        _link(token)
    except StateError as error:
        return _over(request, error)
    return page(
        request, "link.html", title="Your answer is recorded.", text="Thank you.", form=None
    )


def _link(token: str) -> AnswerLink:
    key = link_key()
    if key is None:
        raise NotFound("This service has no links.", help="Log in to answer a question.")
    return read_token(key, token)


def _question(
    request: Request, client: Client, link: AnswerLink, asked: WaitRequest, form: Form,
    status: int = 200, note: str = "",
) -> Response:  # fmt: skip
    execution = client.executions.get(link.exec_id)
    return page(
        request, "link.html", status,
        title=asked.question or asked.name,
        text=note,
        form=form,
        flow=execution.flow,
        wait=asked,
        refused=execution.journal.refused(asked.name),
        evidence=evidence_of(execution, asked),
        asked=digest_of(asked),
        expires=link.expires,
    )  # fmt: skip


def _over(request: Request, error: StateError) -> Response:
    status = 404 if isinstance(error, NotFound) else 410
    return page(request, "link.html", status, title=error.message, text=error.help, form=None)


def problem(request: Request, status: int) -> Response:
    """Return the page of an error, without what only people with an account may know."""
    title = "This link is not valid." if status == 404 else "Your answer is not recorded."
    return page(request, "link.html", status, title=title, text="Try again later.", form=None)
