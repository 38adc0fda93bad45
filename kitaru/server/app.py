"""The ASGI application of the service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from kitaru.client import KitaruClient
from kitaru.errors import KitaruError, StoreUnavailable
from kitaru.ops.access import VIEWER
from kitaru.ops.dispatch import Dispatcher
from kitaru.ops.sources import sources
from kitaru.server import (
    audit,
    events,
    executions,
    flows,
    many,
    memory,
    metrics,
    notifications,
    pages,
    problems,
    schedules,
    tokens,
    usage,
    waits,
)
from kitaru.server.access import authorize, check_declared, needs
from kitaru.server.accounts import Accounts
from kitaru.server.feeds import Feeds
from kitaru.server.guard import LOOPBACK, Guard, Limits, allowed_hosts
from kitaru.server.models import Health, Problem
from kitaru.stores.base import Store
from kitaru.version import VERSION
from kitaru.wire import keys

if TYPE_CHECKING:
    from kitaru.server.oidc import OpenIDConnect

_DESCRIPTION = """Executions, waits, flows, schedules, events and memory of one Kitaru store.

Errors are `application/problem+json`. `code` is a class of `kitaru.errors` or a code of the
service, and `help` contains what to do next."""


def make_app(
    store: Store,
    *,
    host: str = "127.0.0.1",
    allow_hosts: Iterable[str] = (),
    token: str | None = None,
    has_accounts: bool | None = None,
    oidc: OpenIDConnect | None = None,
    limits: Limits | None = None,
    dispatcher: Dispatcher | None = None,
    signs_urls: bool = True,
    is_stopping: Callable[[], bool] = lambda: False,
) -> ASGIApp:
    """Return the application of a store.

    Args:
        host: the address it listens on. On loopback it answers to the names of loopback.
        allow_hosts: further names that clients use, as in the Host header.
        token: a token of the role admin, besides those of the store.
        has_accounts: whether each request needs a token or a session. Default: if `token` is set.
        oidc: the provider with which people log in.
        limits: limits of requests.
        dispatcher: the dispatcher of this process, which continues what requests record.
        signs_urls: whether files of values are read from the bucket, by signed URLs.
        is_stopping: whether the process is about to end: it is not ready, and streams end.
    """
    # A wrong setting is an error now, not when the first event comes.
    sources()
    app = FastAPI(
        title="Kitaru",
        version=VERSION,
        description=_DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        default_response_class=problems.JSON,
        separate_input_output_schemas=False,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        lifespan=_lifespan,
        dependencies=[Depends(authorize)],
    )
    app.state.client = KitaruClient(store)
    app.state.dispatcher = dispatcher
    app.state.signs_urls = signs_urls
    _add_mcp(app)
    measured = metrics.Metrics()
    app.state.feeds = Feeds(store, measured, is_stopping)
    is_secure = host not in LOOPBACK
    accounts = None
    if token is not None or has_accounts:
        accounts = Accounts(store, token, is_secure=is_secure)
    app.add_exception_handler(KitaruError, pages.problem_for_people(problems.of_kitaru))
    app.add_exception_handler(
        RequestValidationError, pages.problem_for_people(problems.of_validation)
    )
    app.add_exception_handler(HTTPException, pages.problem_for_people(problems.of_http))
    app.add_exception_handler(Exception, pages.problem_for_people(problems.of_bug))
    _add_status(app, store, measured, is_stopping)
    for module in (
        executions,
        many,
        waits,
        flows,
        schedules,
        events,
        memory,
        usage,
        tokens,
        notifications,
        audit,
    ):
        app.include_router(module.router)
    pages.add_pages(app, accounts, oidc)
    _describe_problems(app.openapi())
    check_declared(app.routes)
    return Guard(
        app,
        hosts=allowed_hosts(host, allow_hosts),
        accounts=accounts,
        metrics=measured,
        limits=limits or Limits(),
    )


def _add_mcp(app: FastAPI) -> None:
    """Offer the tools for agents at `/mcp`, if the extra `mcp` is installed."""
    app.state.mcp = None
    if find_spec("mcp") is None:
        return
    from kitaru.server.mcp import make_mcp, routes

    app.state.mcp = make_mcp(app.state.client)
    app.router.routes.extend(routes(app.state.mcp))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        if app.state.mcp is not None:
            await stack.enter_async_context(app.state.mcp.session_manager.run())
        yield


def _describe_problems(openapi: dict[str, Any]) -> None:
    """Write the media type of problems into the OpenAPI document, which FastAPI keeps."""
    problem = "#/components/schemas/Problem"
    for path in openapi["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                content = response.get("content", {})
                if content.get("application/json", {}).get("schema", {}).get("$ref") == problem:
                    content[problems.MEDIA_TYPE] = content.pop("application/json")


def _add_status(
    app: FastAPI, store: Store, measured: metrics.Metrics, is_stopping: Callable[[], bool]
) -> None:
    @app.get("/openapi.json", include_in_schema=False)
    @needs(VIEWER)
    def read_openapi() -> Response:
        """Return the OpenAPI document."""
        return JSONResponse(app.openapi())

    @app.get("/healthz", response_model=Health, tags=["service"])
    @needs(None)
    def healthz() -> dict[str, Any]:
        """Return whether the process runs."""
        return {"status": "ok"}

    @app.get(
        "/readyz",
        response_model=Health,
        tags=["service"],
        responses={503: {"model": Problem, "description": "The store cannot be read."}},
    )
    @needs(None)
    def readyz() -> dict[str, Any]:
        """Return whether the service can answer requests: it reads the store."""
        if is_stopping():
            raise StoreUnavailable("The service is about to stop.")
        store.list(keys.INDEX, limit=1)
        return {"status": "ok"}

    @app.get("/metrics", tags=["service"], response_class=Response)
    @needs(VIEWER, of_all=True)
    def read_metrics() -> Response:
        """Return the metrics of the service in the text format of Prometheus."""
        return Response(measured.text(), media_type=metrics.CONTENT_TYPE)
