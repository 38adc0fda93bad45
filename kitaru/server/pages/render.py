"""Render pages: templates, style sheet, scripts, and the headers of each page.

A page contains no script and no style of its own, and its policy forbids both, so a text of a model
that were inserted as HTML by mistake could do nothing.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from kitaru.server.access import principal
from kitaru.server.pages import markdown, texts
from kitaru.version import VERSION

_HERE = Path(__file__).parent
_STATIC = {
    "kitaru.css": "text/css; charset=utf-8",
    "kitaru.js": "text/javascript; charset=utf-8",
    "icons.svg": "image/svg+xml",
    "icon.svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types kitaru"
)
_YEAR = "public, max-age=31536000, immutable"


def page(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a page made of a template and its data."""
    at = {"path": request.url.path, "store": request.app.state.client.store.url}
    caller = principal()
    shared = {
        "at": at,
        "caller": caller,
        "may": caller.may,
        "has_login": request.app.state.has_login,
        "now": datetime.now(UTC),
    }
    with texts.hiding_secrets():
        text = environment().get_template(template).render(**shared, **context)
    # Without a referrer, browsers would send forms without their origin.
    headers = {"content-security-policy": _POLICY, "referrer-policy": "same-origin"}
    return HTMLResponse(text, status, headers=headers)


def go(path: str) -> RedirectResponse:
    """Return a redirection after a POST, so that a reload of the page sends nothing again."""
    return RedirectResponse(path, 303)


def static(name: str, given: str) -> Response:
    """Return a static file; `given` is the digest in its path. Browsers keep it for a year."""
    if name not in _STATIC or given != digest():
        return Response("There is no such file.", 404, media_type="text/plain")
    headers = {"cache-control": _YEAR}
    return Response((_HERE / "static" / name).read_bytes(), 200, headers, _STATIC[name])


@cache
def digest() -> str:
    """Return the digest of all static files, which is a part of their paths."""
    found = hashlib.sha256()
    for name in sorted(_STATIC):
        found.update((_HERE / "static" / name).read_bytes())
    return found.hexdigest()[:16]


@cache
def environment() -> Environment:
    """Return the environment of all templates."""
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=texts.finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = (
        *("foreign", "visible", "middle", "excerpt", "took", "until", "age", "clock", "money"),
        "size",
    )
    environment.filters.update({name: getattr(texts, name) for name in names})
    environment.filters.update(has_marks=markdown.has_marks, markdown=markdown.markdown)
    environment.globals.update(version=VERSION, digest=digest())
    return environment
