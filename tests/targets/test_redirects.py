"""A redirect of a service leads nowhere: neither a token nor an answer reaches another server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("airflow_client")

from kitaru_targets.airflow.submit import Connection

from kitaru.errors import EnvironmentFailure


@contextmanager
def server(location: str = "") -> Iterator[tuple[str, list[str]]]:
    """Serve redirects to `location`, or a token where it is empty; yield URL and what was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = b'{"access_token": "t"}'
            self.send_response(307 if location else 200)
            if location:
                self.send_header("Location", f"{location}{self.path}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PATCH = do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{served.server_port}", asked
    finally:
        served.shutdown()
        served.server_close()
        thread.join()


def test_a_token_comes_from_the_server_that_was_named() -> None:
    with server() as (other, elsewhere), server(other) as (url, asked):
        with pytest.raises(EnvironmentFailure, match="307"):
            Connection({"url": url})
        assert (asked, elsewhere) == (["/auth/token"], [])
        Connection({"url": other})
        assert elsewhere == ["/auth/token"]


def test_a_request_stays_with_the_server_that_was_named() -> None:
    with server() as (other, elsewhere), server(other) as (url, asked):
        connection = Connection({"url": url, "token": "secret"})
        with pytest.raises(EnvironmentFailure, match="307"):
            connection.call("DAGApi", "get_dag", "flow")
        assert asked and elsewhere == []


def test_a_file_is_no_server() -> None:
    with pytest.raises(EnvironmentFailure, match="http"):
        Connection({"url": "file:///etc"})
