"""What every request passes first: Host, Origin, token, size and time limits, log and metrics.

A page of another site that a user opens in a browser can send requests to a service on loopback.
The check of the Host header stops such a page if its own name resolves to loopback (DNS rebinding),
and the check of the Origin header stops the others. Forms of the pages need an Origin header, which
every browser sends with them.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kitaru.errors import KitaruError
from kitaru.ops.access import Principal
from kitaru.server.access import called_by, principal
from kitaru.server.accounts import Accounts
from kitaru.server.metrics import Metrics
from kitaru.server.problems import ProblemJSON, of_error, problem
from kitaru.server.records import log
from kitaru.wire.actors import acting_as

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# Probes send the address of the container as Host, and no token. The answers contain no data.
OPEN = frozenset({"/healthz", "/readyz"})
# What is needed to log in.
_LOGIN = "/login"
_STATIC = "/static/"
# Each path contains its own permission.
LINK = "/answer/"
# Requests to a source have a signature instead of a token.
_SOURCE = re.compile(r"/api/v1/events/[^/]+")
_API = ("/api/", "/mcp", "/openapi.json", "/metrics")
_FORM = "application/x-www-form-urlencoded"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# Who has not logged in yet.
_NOBODY = Principal("nobody", ())
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a request.

    Attributes:
        body_bytes: maximum size of a body.
        body_seconds: maximum time until the body has arrived.
    """

    body_bytes: int = 4 * 1024 * 1024
    body_seconds: float = 30.0


class Guard:
    """ASGI middleware around the whole service."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: frozenset[str],
        accounts: Accounts | None,
        metrics: Metrics,
        limits: Limits,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._accounts = accounts
        self._metrics = metrics
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else secrets.token_hex(8)
        exchange = _Exchange(send, request_id)
        began = time.monotonic()
        self._metrics.in_flight.inc()
        try:
            refused = self._refusal(scope, headers)
            caller = await self._caller(scope, headers) if refused is None else None
            if caller is None:
                refused = refused or self._without_token(scope, headers)
            else:
                exchange.caller = caller.name
                refused = self._wrong_body(scope, headers)
            if refused is not None or caller is None:
                assert refused is not None
                await refused(scope, receive, exchange.send)
            else:
                with called_by(caller), acting_as(caller.name):
                    await self._answer(scope, receive, exchange)
        except KitaruError as error:
            # The store cannot be read, so it is not known who sends the request.
            await of_error(error)(scope, receive, exchange.send)
        except Exception as error:
            # The app has sent a problem, unless a part of the response was sent before.
            log(logging.ERROR, "bug", error, request_id=request_id)
        finally:
            self._metrics.in_flight.dec()
            self._record(scope, exchange, time.monotonic() - began)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        if scope["path"] in OPEN:
            return None
        host = _host(headers.get("host", ""))
        if host not in self._hosts:
            return problem(
                421, "HostRefused", "The service does not answer to the host of this request.",
                help="Pass the name that clients use: kitaru serve --allow-host NAME",
            )  # fmt: skip
        origin = headers.get("origin")
        if origin is not None and _place(origin) != headers.get("host", "").lower():
            return problem(
                403, "OriginRefused", "The request comes from a page of another origin.",
                help="Send requests from programs, or from pages of the service itself.",
            )  # fmt: skip
        is_foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if is_foreign and not _follows_link(scope, headers):
            return problem(
                403, "OriginRefused", "The request comes from a page of another site.",
                help="Send requests from programs, or from pages of the service itself.",
            )  # fmt: skip
        return None

    async def _caller(self, scope: Scope, headers: Headers) -> Principal | None:
        """Return who sends a request, None if that must be known and is not."""
        path = scope["path"]
        if self._accounts is None or path in OPEN:
            return principal()
        if path == _LOGIN or path.startswith((_STATIC, LINK, f"{_LOGIN}/")):
            return _NOBODY
        if scope["method"] == "POST" and _SOURCE.fullmatch(path):
            return _NOBODY
        sent = headers.get("authorization", ""), headers.get("cookie", "")
        found = self._accounts.known(*sent)
        return found or await run_in_threadpool(self._accounts.find, *sent)

    def _without_token(self, scope: Scope, headers: Headers) -> Response:
        path = scope["path"]
        if scope["method"] in _SAFE and is_page(path) and "text/html" in headers.get("accept", ""):
            query = scope["query_string"].decode("latin-1")
            wanted = f"{path}?{query}" if query else path
            return RedirectResponse(f"{_LOGIN}?to={quote(wanted, safe='')}", 303)
        return problem(
            401, "TokenRequired", "The request has no token, or one that is not valid.",
            help="Send the header: Authorization: Bearer TOKEN",
            headers={"www-authenticate": 'Bearer realm="kitaru"'},
        )  # fmt: skip

    def _wrong_body(self, scope: Scope, headers: Headers) -> ProblemJSON | None:
        length = headers.get("content-length")
        has_body = "transfer-encoding" in headers or length not in (None, "0")
        if scope["method"] in _SAFE or not has_body:
            return None
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        # A form of a page, which the check of its Origin has accepted.
        is_form = kind == _FORM and is_page(scope["path"]) and "origin" in headers
        if kind != "application/json" and not is_form:
            # A form of another site can send any type of content except this one.
            return problem(
                415, "ContentTypeRefused", "The body of the request is not declared as JSON.",
                help="Send the header: Content-Type: application/json",
            )  # fmt: skip
        if length is not None and length.isdecimal() and int(length) > self._limits.body_bytes:
            return self._too_large()
        return None

    def _too_large(self) -> ProblemJSON:
        most = self._limits.body_bytes
        return problem(
            413, "RequestTooLarge", f"The body of the request has more than {most:,} bytes.",
            help="Store large values elsewhere, and send their address.",
        )  # fmt: skip

    async def _answer(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        try:
            body = await asyncio.wait_for(self._body(receive), self._limits.body_seconds)
        except TimeoutError:
            late = problem(
                408, "RequestTimeout", "The body of the request did not arrive in time.",
                headers={"connection": "close"},
            )  # fmt: skip
            await late(scope, receive, exchange.send)
            return
        if body is None:
            await self._too_large()(scope, receive, exchange.send)
            return

        given = False

        async def whole() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, whole, exchange.send)

    async def _body(self, receive: Receive) -> bytes | None:
        """Return the body of a request; None if it is too large."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b""
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._limits.body_bytes:
                return None
            if not message.get("more_body", False):
                return b"".join(parts)

    def _record(self, scope: Scope, exchange: _Exchange, seconds: float) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        timed = None if exchange.is_stream else seconds
        self._metrics.count(method, route, exchange.status, timed)
        if route in OPEN and exchange.status < 400:
            return
        path = LINK if scope["path"].startswith(LINK) else scope["path"]
        # Not the query: it may contain what a user typed. Not the headers: they contain the token.
        log(
            logging.INFO, "request", request_id=exchange.request_id, method=method,
            path=path, route=route, status=exchange.status, ms=round(seconds * 1000, 1),
            bytes=exchange.bytes, by=exchange.caller,
        )  # fmt: skip


class _Exchange:
    """The response of one request as it is sent."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        self.status = 0
        self.bytes = 0
        self.is_stream = False
        self.caller = ""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            self.is_stream = headers.get("content-type", "").startswith("text/event-stream")
            headers["x-request-id"] = self.request_id
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        elif message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
        await self._send(message)


def _route(scope: Scope) -> str:
    """Return the path of the OpenAPI document that a request matched."""
    return str(getattr(scope.get("route"), "path", "")) or "unknown"


def is_page(path: str) -> bool:
    """Return whether a path is one of the pages, not of the API."""
    return not path.startswith(_API)


def _follows_link(scope: Scope, headers: Headers) -> bool:
    """Return whether a person follows a link to a page, for example in a message."""
    is_navigation = headers.get("sec-fetch-mode") == "navigate"
    is_document = headers.get("sec-fetch-dest") == "document"
    return scope["method"] == "GET" and is_navigation and is_document and is_page(scope["path"])


def _host(header: str) -> str:
    """Return the name in a Host header, without the port; empty if it is not valid."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


def _place(origin: str) -> str:
    """Return host and port of an Origin header; empty for the opaque origin `null`."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def allowed_hosts(host: str, names: Iterable[str]) -> frozenset[str]:
    """Return the hosts that a service answers to: those named, and loopback if it listens there."""
    loopback = LOOPBACK if host in LOOPBACK else frozenset[str]()
    return frozenset(name.lower() for name in names) | loopback
