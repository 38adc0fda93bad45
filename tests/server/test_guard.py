"""What the service refuses before it reads the store: hosts, tokens, sizes, slow clients."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from kitaru.errors import UsageError
from kitaru.server import serving as serving_module
from kitaru.server.guard import Limits
from kitaru.server.serving import Service, listen
from kitaru.stores.base import Store
from tests.waiting import wait_until

from .conftest import API, Running, begin, good, problem, serving

EXECUTIONS = f"{API}/executions"
ANSWER = f"{API}/executions/waits-1/waits/ok/answer"


def test_a_name_that_resolves_to_loopback_is_refused(service: Running) -> None:
    for host in (
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "",
        "[",
        "@",
    ):
        response = service.http.get(EXECUTIONS, headers={"host": host})
        assert response.status_code in (400, 421), (host, response.text)
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8088", "[::1]:8088"):
        good(service.http.get(EXECUTIONS, headers={"host": host}))


def test_a_service_answers_to_the_names_that_it_is_told(store: Store) -> None:
    with serving(store, allow_hosts=("kitaru.Example.com",)) as service:
        good(service.http.get(EXECUTIONS, headers={"host": "kitaru.example.com"}))
        refused = service.http.get(EXECUTIONS, headers={"host": "other.example.com"})
        problem(refused, 421, "HostRefused")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://localhost:1"},
        {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "http://["},
    ],
)  # fmt: skip
def test_pages_of_other_origins_are_refused(service: Running, headers: dict[str, str]) -> None:
    begin(service.store, "review", "waits-1", "cats")
    answer = service.http.post(ANSWER, json={"value": True}, headers=headers)
    problem(answer, 403, "OriginRefused")
    problem(service.http.get(EXECUTIONS, headers=headers), 403, "OriginRefused")
    good(service.http.post(ANSWER, json={"value": True}, headers={"origin": service.url}))


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_a_form_cannot_send_an_answer(service: Running, kind: str) -> None:
    begin(service.store, "review", "waits-1", "cats")
    sent = service.http.post(ANSWER, content=b'{"value": true}', headers={"content-type": kind})
    problem(sent, 415, "ContentTypeRefused")


def test_a_token_is_required_if_one_is_set(store: Store) -> None:
    with serving(store, token="s3cret") as service:
        good(service.http.get(EXECUTIONS))
        for sent in ("", "Bearer", "Bearer wrong", "Basic s3cret", "s3cret", "Bearer s3cret x"):
            response = service.http.get(EXECUTIONS, headers={"authorization": sent})
            problem(response, 401, "TokenRequired")
            assert response.headers["www-authenticate"].startswith("Bearer")
        for path in ("/metrics", "/openapi.json"):
            problem(service.http.get(path, headers={"authorization": ""}), 401, "TokenRequired")
        # Probes have no token.
        for path in ("/healthz", "/readyz"):
            good(service.http.get(path, headers={"authorization": "", "host": "10.0.0.7:8088"}))


def test_other_machines_need_a_token_and_a_name() -> None:
    with pytest.raises(UsageError, match="has no accounts"):
        Service(host="0.0.0.0").check()
    with pytest.raises(UsageError, match="has no name"):
        Service(host="0.0.0.0", token="s").check()
    Service(host="0.0.0.0", token="s", allow_hosts=("kitaru.example.com",)).check()
    Service(host="::1").check()


def test_bodies_are_limited(store: Store) -> None:
    begin(store, "review", "waits-1", "cats")
    with serving(store, limits=Limits(body_bytes=1000)) as service:
        large = service.http.post(ANSWER, json={"value": "x" * 1000})
        problem(large, 413, "RequestTooLarge")
        parts = (b"x" * 100 for _ in range(20))
        headers = {"content-type": "application/json"}
        problem(service.http.post(ANSWER, content=parts, headers=headers), 413, "RequestTooLarge")
        good(service.http.post(ANSWER, json={"value": True}))


def test_a_body_that_does_not_arrive_is_given_up(store: Store) -> None:
    with serving(store, limits=Limits(body_seconds=0.2)) as service:
        sent = _raw(
            service,
            f"POST {ANSWER} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            "content-length: 100\r\n\r\n{",
        )
        assert sent.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("begun", ["", "GET /healthz HTTP/1.1\r\nhost: local"])
def test_a_connection_without_a_request_is_closed(
    store: Store, monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    monkeypatch.setattr(serving_module, "HEADER_SECONDS", 0.2)
    with serving(store) as service:
        assert _raw(service, begun) == b""


def test_headers_that_are_too_long_are_refused(service: Running) -> None:
    sent = f"GET {EXECUTIONS} HTTP/1.1\r\nhost: localhost\r\nx: {'y' * 100_000}"
    assert _raw(service, sent).startswith(b"HTTP/1.1 400")


def test_responses_are_private_and_have_a_request_id(service: Running) -> None:
    response = service.http.get(EXECUTIONS, headers={"x-request-id": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "server" not in response.headers
    forged = service.http.get(EXECUTIONS, headers={"x-request-id": "a b\x7f"})
    assert forged.headers["x-request-id"] != "a b\x7f"


def test_a_bug_is_a_problem_without_details(
    service: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a detail of the code")

    monkeypatch.setattr("kitaru.client.Executions.page", fail)
    found = problem(service.http.get(EXECUTIONS), 500, "Internal")
    assert "a detail" not in json.dumps(found)
    # The log is written after the response.
    wait_until(lambda: "a detail of the code" in caplog.text)


def _raw(service: Running, text: str) -> bytes:
    """Send bytes, and return what comes back until the service closes the connection."""
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(text.encode())
        received = b""
        while data := connection.recv(65536):
            received += data
        return received


def test_small_responses_are_not_delayed() -> None:
    service = Service(port=0)
    with listen(service) as listening:
        connecting = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
        with connecting, accepted:
            # asyncio sets TCP_NODELAY on the sockets of this protocol.
            assert accepted.proto == socket.IPPROTO_TCP
