"""The pages of the service, rendered on the server. They work without JavaScript.

Each module is a page or a part of pages. A page calls the same functions as the HTTP API.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response

from kitaru.server.guard import is_page
from kitaru.server.pages import execution, executions, flows, inbox, memory, replay, usage
from kitaru.server.pages.posted import Fields
from kitaru.server.pages.render import go, page, static
from kitaru.server.problems import ProblemJSON
from kitaru.server.sessions import Sessions


def add_pages(app: FastAPI, sessions: Sessions | None) -> None:
    """Add the pages to the application; `sessions` are those of its token, if it has one."""
    app.state.has_login = sessions is not None
    for module in (inbox, executions, execution, replay, flows, memory, usage):
        app.include_router(module.router)
    app.add_api_route("/", _home, include_in_schema=False)
    app.add_api_route("/static/{given}/{name}", _static, include_in_schema=False)
    if sessions is not None:
        _add_login(app, sessions)


def problem_for_people(
    make: Callable[[Request, Any], ProblemJSON],
) -> Callable[[Request, Any], Response]:
    """Return a handler of errors that shows a problem as a page, if a browser wants a page."""

    def handle(request: Request, error: Any) -> Response:
        problem = make(request, error)
        wants_page = "text/html" in request.headers.get("accept", "")
        if not (wants_page and is_page(request.url.path)):
            return problem
        found = json.loads(bytes(problem.body))
        shown = {name: found[name] for name in ("title", "detail", "help", "code")}
        return page(request, "error.html", problem.status_code, **shown)

    return handle


def _home() -> Response:
    return go("/inbox")


def _static(given: str, name: str) -> Response:
    return static(name, given)


def _add_login(app: FastAPI, sessions: Sessions) -> None:
    @app.get("/login", include_in_schema=False)
    def show_login(request: Request, to: Annotated[str, Query()] = "/") -> Response:
        return page(request, "login.html", to=_own(to), wrong=False)

    @app.post("/login", include_in_schema=False)
    def log_in(request: Request, posted: Fields) -> Response:
        to = _own(posted.get("to", ["/"])[0])
        if not sessions.is_token(posted.get("token", [""])[0]):
            return page(request, "login.html", 401, to=to, wrong=True)
        response = go(to)
        response.headers["set-cookie"] = sessions.issue()
        return response

    @app.post("/logout", include_in_schema=False)
    def log_out() -> Response:
        response = go("/login")
        response.headers["set-cookie"] = sessions.end()
        return response


def _own(path: str) -> str:
    """Return a path of this service, `/` for the address of another one."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own else "/"
