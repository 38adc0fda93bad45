"""Run the service with uvicorn until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kitaru.errors import EnvironmentFailure, UsageError
from kitaru.ops.dispatch import Dispatcher, Moved
from kitaru.ops.notifications import Sent
from kitaru.ops.tokens import list_tokens
from kitaru.runtime.engine.signals import Terminated
from kitaru.server import records
from kitaru.server.app import make_app
from kitaru.server.guard import LOOPBACK, Limits
from kitaru.stores.base import Store

if TYPE_CHECKING:
    from kitaru.server.oidc import OpenIDConnect

# Seconds until the header of the first request of a connection has arrived.
HEADER_SECONDS = 15.0
_KEEP_ALIVE_SECONDS = 30
_BACKLOG = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where and how the service listens.

    Attributes:
        host: address to listen on.
        port: port; 0 for any free one.
        allow_hosts: names of the service in the Host header, besides those of loopback.
        token: a token of the role admin, besides those of the store.
        accounts: whether each request needs a token or a session. They do if `token` or `oidc` is
            set.
        oidc: settings of the provider with which people log in; see `[tool.kitaru.oidc]`.
        oidc_roles: the role of each of its groups.
        grace: seconds that requests get to end when the service stops.
        dispatch: whether answered and invoked executions continue by themselves.
        processes: maximum number of executions of the target `local` at a time.
        signed_urls: whether files of values are read from the bucket, by signed URLs.
    """

    host: str = "127.0.0.1"
    port: int = 8088
    allow_hosts: tuple[str, ...] = ()
    token: str | None = None
    accounts: bool = False
    oidc: Mapping[str, str] = field(default_factory=dict)
    oidc_roles: Mapping[str, str] = field(default_factory=dict)
    grace: int = 30
    dispatch: bool = True
    processes: int = 2
    signed_urls: bool = True

    @property
    def has_accounts(self) -> bool:
        """Whether each request needs a token or a session."""
        return self.accounts or self.token is not None or bool(self.oidc)

    def check(self) -> None:
        """Raise UsageError if other machines could reach the service without an account."""
        if self.host in LOOPBACK:
            return
        if not self.has_accounts:
            raise UsageError(
                f"The address {self.host} can be reached from other machines, and the service has "
                "no accounts.",
                help="Create a token, and require it: kitaru tokens create me --role admin\n"
                f"kitaru serve --host {self.host} --accounts --allow-host NAME\n"
                "Or listen on this machine only: kitaru serve --host 127.0.0.1",
            )
        if not self.allow_hosts:
            raise UsageError(
                f"The service on {self.host} has no name that clients use.",
                help=f"Name it: kitaru serve --host {self.host} --allow-host kitaru.example.com",
            )

    def check_tokens(self, store: Store) -> None:
        """Raise UsageError if the service needs tokens, and the store has none."""
        if not self.has_accounts or self.token is not None or self.oidc:
            return
        if not any(one.state == "valid" for one in list_tokens(store)):
            raise UsageError(
                f"The store {store.url} has no valid token, so nobody could use the service.",
                help="Create one: kitaru tokens create me --role admin",
            )


class _Impatient(H11Protocol):
    """HTTP/1.1 that closes a connection whose first request does not arrive in time."""

    _first: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._first = self.loop.call_later(HEADER_SECONDS, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not None:
            self._forget()

    def _forget(self) -> None:
        if self._first is not None:
            self._first.cancel()
            self._first = None

    def _close_if_idle(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """uvicorn's server, which reports when it listens. SIGTERM and Ctrl-C stop it."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            self._on_ready(_url(sockets[0]))


def serve(store: Store, service: Service, on_ready: Callable[[str], None]) -> None:
    """Serve a store until SIGTERM or Ctrl-C. Requests that have begun end first.

    Args:
        on_ready: called with the URL when the service listens.

    Raises:
        UsageError: other machines could reach it without a token.
        EnvironmentFailure: the address cannot be used.
    """
    logging.config.dictConfig(records.configuration())
    dispatcher = None
    if service.dispatch:
        dispatcher = Dispatcher(
            store, processes=service.processes, report=_log_moved, notified=_log_sent
        )
    server = make_server(store, service, on_ready, dispatcher=dispatcher)
    with listen(service) as listening, _dispatching(dispatcher):
        try:
            server.run(sockets=[listening])
        except (KeyboardInterrupt, Terminated):
            # uvicorn sends the signal again when everything has ended.
            if not server.should_exit:
                raise
    records.log(logging.INFO, "stopped")


@contextmanager
def serving_beside(store: Store, service: Service) -> Iterator[str]:
    """Serve a store on a thread of this process while the block runs; yield the URL.

    The service ends with the process, however that ends. It dispatches nothing.

    Raises:
        UsageError, EnvironmentFailure: as for `serve`.

    Example:
        >>> with serving_beside(store, Service(port=0)) as url:
        ...     url
        'http://127.0.0.1:43511'
    """
    ready: SimpleQueue[str] = SimpleQueue()
    server = make_server(store, service, ready.put)

    def run() -> None:
        try:
            server.run(sockets=[listening])
        finally:
            ready.put("")

    with listen(service) as listening:
        # The process may end without waiting for it: everything is in the store.
        thread = threading.Thread(target=run, name="kitaru-service", daemon=True)
        thread.start()
        url = ready.get()
        if not url:
            raise EnvironmentFailure("The service on this machine ended as it started.")
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def _dispatching(dispatcher: Dispatcher | None) -> Iterator[None]:
    """Run a dispatcher on a thread while the block runs."""
    if dispatcher is None:
        yield
        return
    thread = threading.Thread(target=_dispatch, args=(dispatcher,), name="kitaru-dispatcher")
    thread.start()
    try:
        yield
    finally:
        dispatcher.stop()
        thread.join()


def _dispatch(dispatcher: Dispatcher) -> None:
    """Dispatch until the service stops; a store that cannot be reached is tried again."""
    while not dispatcher.is_stopped:
        try:
            dispatcher.run()
        except Exception as error:
            records.log(logging.ERROR, "dispatcher failed", error)
            dispatcher.pause()


def _log_moved(moved: Moved) -> None:
    if moved.error is not None:
        text = moved.error.message
        records.log(logging.WARNING, "not continued", exec_id=moved.exec_id, reason=text)
    else:
        records.log(logging.INFO, "continued", exec_id=moved.exec_id)


def _log_sent(sent: Sent) -> None:
    level = logging.INFO if sent.status == "delivered" else logging.WARNING
    records.log(
        level, f"notification {sent.status}", exec_id=sent.exec_id, event=sent.event,
        channel=sent.channel, reason=sent.error,
    )  # fmt: skip


def make_server(
    store: Store,
    service: Service,
    on_ready: Callable[[str], None],
    limits: Limits | None = None,
    dispatcher: Dispatcher | None = None,
) -> uvicorn.Server:
    """Return a server that has not started; see `serve`. `should_exit` stops it.

    `dispatcher` runs in this process, and is woken by what requests record.
    """
    service.check()
    app = make_app(
        store,
        host=service.host,
        allow_hosts=service.allow_hosts,
        token=service.token,
        has_accounts=service.has_accounts,
        oidc=_provider(service),
        limits=limits,
        dispatcher=dispatcher,
        signs_urls=service.signed_urls,
        is_stopping=lambda: server.should_exit,
    )
    config = uvicorn.Config(
        app,
        http=_Impatient,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=service.grace,
    )
    server = _Server(config, on_ready)
    return server


def _provider(service: Service) -> OpenIDConnect | None:
    if not service.oidc:
        return None
    try:
        from kitaru.server.oidc import OpenIDConnect
    except ModuleNotFoundError as error:
        raise UsageError(
            f"OpenID Connect needs the package {error.name}.",
            help="Install Kitaru with the extra oidc.",
        ) from error
    return OpenIDConnect(service.oidc, service.oidc_roles, is_secure=service.host not in LOOPBACK)


def listen(service: Service) -> socket.socket:
    """Return a socket that listens; raise EnvironmentFailure if the address cannot be used."""
    try:
        found = socket.getaddrinfo(
            service.host, service.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )
        family, kind, protocol, _, address = found[0]
        # With its protocol: asyncio switches Nagle's algorithm off only where it is named, and each
        # response would take 40 ms longer.
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
        except BaseException:
            listening.close()
            raise
        return listening
    except OSError as error:
        raise EnvironmentFailure(
            f"The service cannot listen on {service.host} port {service.port}: {error}.",
            help="Choose another port: kitaru serve --port 8089",
        ) from error


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
