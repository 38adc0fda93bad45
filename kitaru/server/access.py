"""The role that each path and tool needs, and the store that its caller may see.

`needs` declares the role of a function, and `authorize` checks it before the function runs. A path
without a declaration is a bug, which `check_declared` reports when the service starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from fastapi import Request
from starlette.routing import BaseRoute, Route

from kitaru.client import KitaruClient
from kitaru.errors import RoleDenied
from kitaru.ops.access import ADMIN, Grant, Principal
from kitaru.server.limited import LimitedStore
from kitaru.stores.base import Store

F = TypeVar("F", bound=Callable[..., Any])

_NEED = "kitaru_need"


class Need(NamedTuple):
    """What a caller needs: a role; None for a path that is open to everybody.

    `of_all`: the path is about the whole store, so the role must apply to all flows.
    """

    role: str | None
    of_all: bool = False


_everybody = Principal("http", (Grant(ADMIN),))
_calling: ContextVar[Principal] = ContextVar("kitaru_principal", default=_everybody)


def needs(role: str | None, *, of_all: bool = False) -> Callable[[F], F]:
    """Declare the role that a path or a tool needs; see `Need`.

    Example:
        @router.get("/executions")
        @needs(VIEWER)
        def list_executions(client: Client) -> dict[str, Any]: ...
    """

    def declare(function: F) -> F:
        setattr(function, _NEED, Need(role, of_all))
        return function

    return declare


def need_of(function: Callable[..., Any]) -> Need | None:
    """Return what was declared for a function, None without a declaration."""
    found: Need | None = getattr(function, _NEED, None)
    return found


def each_route(routes: Iterable[BaseRoute]) -> Iterator[Route]:
    """Yield all paths of an application, also those of included routers.

    Raises RuntimeError for a route of another kind, whose role could not be checked.
    """
    for route in routes:
        router = getattr(route, "original_router", None)
        if router is not None:
            yield from each_route(router.routes)
        elif isinstance(route, Route):
            yield route
        else:
            raise RuntimeError(f"The role of a route {type(route).__name__} cannot be checked.")


def check_declared(routes: Iterable[BaseRoute]) -> None:
    """Raise RuntimeError if a path declares no role."""
    without = [route.path for route in each_route(routes) if need_of(route.endpoint) is None]
    if without:
        raise RuntimeError(f"Declare the role with @needs: {', '.join(without)}.")


def principal() -> Principal:
    """Return who calls. A service without accounts, and `kitaru mcp`, allow everything."""
    return _calling.get()


@contextmanager
def called_by(caller: Principal) -> Iterator[None]:
    """Run the block for a caller."""
    token = _calling.set(caller)
    try:
        yield
    finally:
        _calling.reset(token)


def client_for(whole: KitaruClient, need: Need) -> KitaruClient:
    """Return a client of what the caller may use with a role; raise RoleDenied without the role."""
    if need.role is None:
        return whole
    caller = principal()
    flows = caller.flows(need.role)
    if flows is None:
        return whole
    if not flows or need.of_all:
        scope = " on all flows" if flows else ""
        raise RoleDenied(
            f"{caller.name} does not have the role {need.role}{scope}.",
            help=f"Ask an admin: kitaru tokens create NAME --role {need.role}",
        )
    store: Store = LimitedStore(whole.store, flows)
    return KitaruClient(store)


async def authorize(request: Request) -> KitaruClient:
    """Return the client of a request, after the check of its role."""
    need = need_of(request.scope["endpoint"])
    if need is None:
        raise RuntimeError(f"No role is declared for {request.url.path}.")
    return client_for(request.app.state.client, need)
