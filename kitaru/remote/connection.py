"""A connection to a service: requests, and its errors as those of Kitaru."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from kitaru import errors
from kitaru.errors import (
    EnvironmentFailure,
    KitaruError,
    MemoryConflict,
    StoreDenied,
    StoreUnavailable,
    UsageError,
)

if TYPE_CHECKING:
    import httpx

_SECONDS = 60.0
_RETRIES = 2
_TOKEN_REFUSED = 401
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Connection:
    """Requests to the API of one service. Threads may share it."""

    def __init__(self, url: str, token: str | None) -> None:
        """Raise UsageError if the package `httpx` is missing, or `url` is not valid."""
        try:
            import httpx
        except ModuleNotFoundError as error:
            raise UsageError(
                f"The client of a service needs the package {error.name}.",
                help="Install Kitaru with the extra remote.",
            ) from error
        self.url = url.rstrip("/")
        parts = urlsplit(url)
        if token is not None and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise UsageError(
                f"The token would be sent to {parts.hostname} without encryption.",
                help="Use the https:// URL of the service.",
            )
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        try:
            # Redirects are not followed: the token would be sent elsewhere.
            self._http = httpx.Client(
                base_url=f"{self.url}/api/v1/",
                headers=headers,
                timeout=_SECONDS,
                transport=httpx.HTTPTransport(retries=_RETRIES),
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise UsageError(f"{url!a} is not the URL of a service: {error}.") from error

        # A client on a store has no `close` either.
        weakref.finalize(self, self._http.close)

    def get(self, *path: str, **params: Any) -> Any:
        """Return the document of a path. Parameters that are None or empty are left out."""
        return self.send("GET", *path, params=params)

    def send(
        self,
        method: str,
        *path: str,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a request and return the document of the response, None without one.

        Raises:
            StoreUnavailable: the service does not answer.
            KitaruError: the error that the service reports, of the same class.
        """
        import httpx

        given = {
            name: [_text(one) for one in value] if isinstance(value, list) else _text(value)
            for name, value in (params or {}).items()
            if value not in (None, "", [])
        }
        content = None if body is None else json.dumps(body).encode("ascii")
        sent = {"content-type": "application/json"} if body is not None else {}
        try:
            response = self._http.request(
                method,
                _joined(path),
                params=given,
                content=content,
                headers={**sent, **(headers or {})},
            )
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        self._check(response)
        return response.json() if response.content else None

    def events(self, *path: str) -> Iterator[tuple[str, str, Any]]:
        """Yield name, id and data of the events of a stream, until it ends."""
        import httpx

        try:
            with self._http.stream("GET", _joined(path)) as response:
                if response.is_error:
                    response.read()
                self._check(response)
                name = id = ""
                for line in response.iter_lines():
                    field, _, text = line.partition(": ")
                    if field == "event":
                        name = text
                    elif field == "id":
                        id = text
                    elif field == "data":
                        yield name, id, self._event(text)
                        name = id = ""
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _event(self, text: str) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            raise EnvironmentFailure(
                f"{self.url} sent an event that is not JSON, as no service of Kitaru does.",
                help="Check the URL: it is that of `kitaru serve`, without a path.",
            ) from None

    def _unreachable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(
            f"The service {self.url} does not answer: {error or type(error).__name__}.",
            help="Check its URL, and that it runs: kitaru serve",
        )

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        try:
            problem = response.json()
            code, detail, help = problem["code"], problem["detail"], problem["help"]
        except (ValueError, KeyError, TypeError):
            raise EnvironmentFailure(
                f"{self.url} answered with status {response.status_code}, and not as a service of "
                "Kitaru does.",
                help="Check the URL: it is that of `kitaru serve`, without a path.",
            ) from None
        raise _error(code, detail, help, problem, response.status_code)


def _error(
    code: str, detail: str, help: str, problem: Mapping[str, Any], status: int
) -> KitaruError:
    """Return the error that the service reports."""
    if status == _TOKEN_REFUSED:
        return StoreDenied(detail, help="Pass the token: KitaruClient(URL, token=TOKEN)")
    if code == "MemoryConflict":
        return MemoryConflict(detail, version=int(problem.get("version", 0)), help=help)
    found = getattr(errors, code, None)
    if isinstance(found, type) and issubclass(found, KitaruError):
        return found(detail, help=help)
    kind = UsageError if status < 500 else EnvironmentFailure
    return kind(detail, help=help)


def _joined(path: tuple[str, ...]) -> str:
    return "/".join(quote(part, safe="") for part in path)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
