"""The pages of the service, rendered on the server. They work without JavaScript.

Each module is a page or a part of pages. A page calls the same functions as the HTTP API.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from kitaru.ops.access import VIEWER
from kitaru.server.access import needs
from kitaru.server.accounts import Accounts
from kitaru.server.guard import LINK, is_page
from kitaru.server.pages import (
    audit,
    execution,
    executions,
    flows,
    inbox,
    link,
    many,
    memory,
    replay,
    usage,
)
from kitaru.server.pages.posted import Fields
from kitaru.server.pages.render import go, page, static
from kitaru.server.problems import ProblemJSON

if TYPE_CHECKING:
    from kitaru.server.oidc import OpenIDConnect


def add_pages(app: FastAPI, accounts: Accounts | None, oidc: OpenIDConnect | None) -> None:
    """Add the pages to the application; `accounts` are those of the service, if it has them."""
    app.state.has_login = accounts is not None
    for module in (inbox, link, executions, execution, many, replay, flows, memory, usage, audit):
        app.include_router(module.router)
    app.add_api_route("/", _home, include_in_schema=False)
    app.add_api_route("/static/{given}/{name}", _static, include_in_schema=False)
    if accounts is not None:
        _add_login(app, accounts, "" if oidc is None else oidc.title)
        if oidc is not None:
            _add_provider(app, accounts, oidc)


def problem_for_people(
    make: Callable[[Request, Any], ProblemJSON],
) -> Callable[[Request, Any], Response]:
    """Return a handler of errors that shows a problem as a page, if a browser wants a page."""

    def handle(request: Request, error: Any) -> Response:
        problem = make(request, error)
        if request.url.path.startswith(LINK):
            return link.problem(request, problem.status_code)
        wants_page = "text/html" in request.headers.get("accept", "")
        if not (wants_page and is_page(request.url.path)):
            return problem
        found = json.loads(bytes(problem.body))
        shown = {name: found[name] for name in ("title", "detail", "help", "code")}
        return page(request, "error.html", problem.status_code, **shown)

    return handle


@needs(VIEWER)
def _home() -> Response:
    return go("/inbox")


@needs(None)
def _static(given: str, name: str) -> Response:
    return static(name, given)


def _add_login(app: FastAPI, accounts: Accounts, provider: str) -> None:
    @app.get("/login", include_in_schema=False)
    @needs(None)
    def show_login(request: Request, to: Annotated[str, Query()] = "/") -> Response:
        return page(request, "login.html", to=_own(to), wrong=False, provider=provider)

    @app.post("/login", include_in_schema=False)
    @needs(None)
    def log_in(request: Request, posted: Fields) -> Response:
        to = _own(posted.get("to", ["/"])[0])
        session = accounts.log_in(posted.get("token", [""])[0])
        if session is None:
            return page(request, "login.html", 401, to=to, wrong=True, provider=provider)
        response = go(to)
        response.headers["set-cookie"] = session
        return response

    @app.post("/logout", include_in_schema=False)
    @needs(VIEWER)
    def log_out(request: Request) -> Response:
        response = go("/login")
        response.headers["set-cookie"] = accounts.log_out(request.headers.get("cookie", ""))
        return response


def _add_provider(app: FastAPI, accounts: Accounts, oidc: OpenIDConnect) -> None:
    @app.get("/login/provider", include_in_schema=False)
    @needs(None)
    async def begin_login(request: Request, to: Annotated[str, Query()] = "/") -> Response:
        return await oidc.begin(request, _own(to))

    @app.get("/login/callback", include_in_schema=False)
    @needs(None)
    async def finish_login(request: Request) -> Response:
        person = await oidc.finish(request)
        session = await run_in_threadpool(accounts.begin, person.name, person.grants)
        response = go(_own(person.to))
        response.headers.append("set-cookie", session)
        response.headers.append("set-cookie", oidc.forget())
        return response


def _own(path: str) -> str:
    """Return a path of this service, `/` for the address of another one."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own else "/"
