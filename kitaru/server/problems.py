"""Errors of the service as `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from kitaru.errors import (
    AnswerInvalid,
    EnvironmentFailure,
    FlowError,
    InputError,
    KitaruError,
    MemoryConflict,
    NotFound,
    PickleRefused,
    RecordCorrupt,
    RecordTooNew,
    RoleDenied,
    StateError,
    StoreUnavailable,
    UsageError,
)
from kitaru.wire.redaction import redacted_json

MEDIA_TYPE = "application/problem+json"
_MOST_ERRORS = 20

# The first class that fits decides.
_STATUS: tuple[tuple[type[KitaruError], int], ...] = (
    (NotFound, 404),
    (StateError, 409),
    (AnswerInvalid, 422),
    (InputError, 422),
    (PickleRefused, 422),
    (UsageError, 400),
    (FlowError, 422),
    (StoreUnavailable, 503),
    (RoleDenied, 403),
    (RecordCorrupt, 500),
    (RecordTooNew, 500),
    (EnvironmentFailure, 502),
)
_TITLES = {
    400: "The request is not valid",
    401: "A token is required",
    403: "The request is refused",
    404: "There is no such resource",
    405: "The method is not allowed",
    408: "The request took too long",
    409: "The state does not allow the operation",
    411: "The length of the request is missing",
    413: "The request is too large",
    415: "The content type is not supported",
    421: "The host is not served here",
    422: "The content of the request is not valid",
    500: "The service failed",
    502: "A service that is needed failed",
    503: "The store cannot be used now",
}


class JSON(JSONResponse):
    """A JSON response in which secrets are hidden, as in the output of commands."""

    def render(self, content: Any) -> bytes:
        # ASCII, because a recorded text may contain half of a surrogate pair.
        return json.dumps(redacted_json(content), separators=(",", ":")).encode("ascii")


class ProblemJSON(JSON):
    """A response with a problem."""

    media_type = MEDIA_TYPE


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    help: str = "",
    errors: list[dict[str, str]] | None = None,
    version: int | None = None,
    headers: dict[str, str] | None = None,
) -> ProblemJSON:
    """Return a problem.

    Args:
        code: the name of an error class of `kitaru.errors`, or a code of the service.
        detail: what is wrong.
        help: what to do next, often with a command to paste.
        errors: `{"at", "message"}` for each invalid part of a request.
        version: the newest version of a memory that another writer changed.
    """
    document: dict[str, Any] = {
        "type": f"urn:kitaru:error:{code}",
        "title": _TITLES.get(status, "The request failed"),
        "status": status,
        "detail": detail,
        "code": code,
        "help": help,
    }
    if errors:
        document["errors"] = errors
    if version is not None:
        document["version"] = version
    return ProblemJSON(document, status, headers)


def status_of(error: KitaruError) -> int:
    """Return the HTTP status of an error."""
    return next((status for cls, status in _STATUS if isinstance(error, cls)), 500)


def of_kitaru(_: Request, error: Exception) -> ProblemJSON:
    """Return the problem of an error of Kitaru, for FastAPI."""
    assert isinstance(error, KitaruError)
    return of_error(error)


def of_error(error: KitaruError) -> ProblemJSON:
    """Return the problem of an error of Kitaru."""
    status = status_of(error)
    headers = {"retry-after": "5"} if status == 503 else None
    version = error.version if isinstance(error, MemoryConflict) else None
    return problem(
        status, type(error).__name__, error.message, help=error.help, headers=headers,
        version=version,
    )  # fmt: skip


def of_validation(_: Request, error: Exception) -> ProblemJSON:
    """Return the problem of a request that does not match the OpenAPI document."""
    assert isinstance(error, RequestValidationError)
    found = [
        {"at": ".".join(map(str, one["loc"])), "message": str(one["msg"])}
        for one in error.errors()[:_MOST_ERRORS]
    ]
    detail = "; ".join(f"{one['at']}: {one['message']}" for one in found)
    return problem(
        422, "RequestInvalid", f"The request is not valid: {detail}.",
        help="The OpenAPI document describes each request: /openapi.json", errors=found,
    )  # fmt: skip


def of_http(_: Request, error: Exception) -> ProblemJSON:
    """Return the problem of a path or a method that does not exist."""
    assert isinstance(error, HTTPException)
    code, detail = {
        404: ("NotFound", "There is no such path."),
        405: ("MethodNotAllowed", "The path does not accept this method."),
    }.get(error.status_code, ("RequestInvalid", str(error.detail)))
    return problem(
        error.status_code, code, detail,
        help="The OpenAPI document lists the paths: /openapi.json",
        headers=dict(error.headers or {}),
    )  # fmt: skip


def of_bug(_: Request, __: Exception) -> ProblemJSON:
    """Return the problem of a bug. The log contains the traceback."""
    return problem(
        500, "Internal", "This is a bug in Kitaru. The log of the service contains the traceback.",
        help="Please report it, with the request id of this response.",
    )  # fmt: skip
