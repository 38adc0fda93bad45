"""Attacks on the service that other files do not cover; docs/internals/attacks.md lists all."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kitaru.stores.base import Store

from .conftest import API, Running, begin, serving
from .test_access import PATHS
from .test_pages import HTML

PAGES = [path for path in PATHS if not path.startswith(("/api", "/mcp", "/metrics", "/openapi"))]
OUTSIDE = (
    "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "....//etc/passwd",
    "..%5c..%5cetc", "%252e%252e%252fetc%252fpasswd", "/etc/passwd", "x%00.html", "access/token",
    "..;/access/token",
)  # fmt: skip


def test_no_other_site_shows_the_service_in_a_frame(shown: Running) -> None:
    """Clickjacking."""
    for path in (*PAGES, f"{API}/executions", f"{API}/absent", "/absent"):
        response = shown.http.get(path.replace("{exec_id}", "waits"), headers=HTML)
        policy = response.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy or "sandbox" in policy, path


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_path_leaves_what_it_names(shown: Running, name: str) -> None:
    """Path traversal: into files of the service, and into other objects of the store."""
    from kitaru.server.pages.render import digest

    for prefix in (
        f"/static/{digest()}", "/static", "/executions", "/flows", "/memory/namespace:x",
        f"{API}/executions", f"{API}/executions/waits/artifacts",
        f"{API}/executions/waits/downloads", f"{API}/flows",
        f"{API}/memory/namespace:x/keys", f"{API}/executions/waits/diff",
    ):  # fmt: skip
        response = shown.http.get(f"{prefix}/{name}")
        assert response.status_code in (303, 400, 404, 405, 409, 421, 422), (prefix, response.text)
        assert "root:" not in response.text


@contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """A server that nobody should connect to: its address, and what connected."""
    found: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                found.append(b"connected")

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", found
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(60)


def test_no_request_makes_the_service_connect_elsewhere(store: Store, tmp_path: Path) -> None:
    """Server-side request forgery: every field with an address in it."""
    begin(store, "review", "waits-1", "tea")
    with serving(store) as service, listening() as (url, found):
        for path in (
            f"/executions/{url}", f"/flows/{url}", f"/memory/{url}/keys", "/usage?flow=" + url,
            "/executions?text=" + url, "/waits?cursor=" + url, "/executions?tag=" + url,
        ):  # fmt: skip
            service.http.get(API + path)
        for method, path, body in (
            ("POST", "/executions/waits-1/waits/ok/answer", {"value": url}),
            ("POST", "/executions/waits-1/replay", {"models": {"fast": url}, "start": url}),
            ("POST", "/flows/review/invoke", {"inputs": {"topic": url}, "version": url}),
            ("PUT", f"/flows/review/tags/{url}", {"version": url}),
            ("PUT", "/memory/namespace:x/keys/url", {"value": {"$ref": url, "href": url}}),
            ("POST", "/tokens", {"name": url, "role": url, "flows": [url]}),
        ):
            headers = {"x-forwarded-host": url, "forwarded": f"host={url}", "referer": url}
            service.http.request(method, API + path, json=body, headers=headers)
        assert service.get("/memory/namespace:x/keys/url")["value"]["href"] == url
    assert found == []


def test_a_refused_request_changes_nothing(store: Store) -> None:
    """A role that is too low, a token that is wrong, and another origin leave no record."""
    begin(store, "review", "waits-1", "tea")
    with serving(store, token="the right one") as service:
        before = store.list("")
        for headers in (
            {"authorization": "Bearer wrong"}, {"authorization": ""},
            {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"},
        ):  # fmt: skip
            for path in ("waits/ok/answer", "waits/ok/abort", "cancel", "retry"):
                done = service.post(f"/executions/waits-1/{path}", {"value": True}, headers=headers)
                assert done.status_code in (401, 403)
        assert store.list("") == before
