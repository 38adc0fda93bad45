"""A real service on a free port of loopback, and executions for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kitaru.runtime.engine import local_run
from kitaru.stores import open_store
from kitaru.stores.base import Store
from tests.waiting import wait_until

from . import flows, page_flows

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")

API = "/api/v1"


@dataclass(frozen=True)
class Running:
    """A service that runs in a thread of this process."""

    url: str
    store: Store
    http: Any

    def get(self, path: str, **params: Any) -> Any:
        """Return the document of a path below `/api/v1`; fail if it is an error."""
        return good(self.http.get(API + path, params=params))

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        """Return the response to a POST below `/api/v1`."""
        return self.http.post(API + path, json=body, **options)


@contextmanager
def serving(store: Store, **options: Any) -> Iterator[Running]:
    """Serve a store in a thread. `options` are those of `Service`, and `limits`."""
    from kitaru.server.serving import Service, listen, make_server

    limits = options.pop("limits", None)
    service = Service(**{"port": 0, "grace": 5, **options})
    urls: list[str] = []
    server = make_server(store, service, urls.append, limits)
    with listen(service) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_until(lambda: urls or not thread.is_alive())
            headers = {"authorization": f"Bearer {service.token}"} if service.token else {}
            with httpx.Client(base_url=urls[0], headers=headers, timeout=60) as client:
                yield Running(urls[0], store, client)
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


def good(response: Any) -> Any:
    """Return the document of a response that is not an error."""
    assert response.status_code < 400, response.text
    return response.json()


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """Return the problem of a response, after a check of its status, type and code."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert (found["status"], found["code"]) == (status, code), found
    assert found["type"] == f"urn:kitaru:error:{code}"
    return found


def begin(store: Store, name: str, exec_id: str, *args: Any, module: Any = flows) -> str:
    """Run a flow of `flows` until it ends or waits, as if in another process."""
    handle = getattr(module, name).options(store=store, exec_id=exec_id).run(*args)
    handle.settle(60)
    if handle._run is not None:
        handle._run.is_delivered = True
    local_run._running.clear()
    return exec_id


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:{tmp_path / 'kitaru.db'}")


@pytest.fixture
def service(store: Store) -> Iterator[Running]:
    with serving(store) as running:
        yield running


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a store with an execution that waits, one that failed, and one that is replayed."""
    folder = tmp_path_factory.mktemp("pages")
    store = open_store(f"sqlite:{folder / 'kitaru.db'}")
    for name, exec_id, topic in (
        ("review", "waits", page_flows.HOSTILE),
        ("review", "other", "kayaks"),
        ("ask", "asks", "owls"),
        ("failing", "fails", page_flows.HOSTILE),
    ):
        begin(store, name, exec_id, topic, module=page_flows)
    begin(store, "gallery", "pictures", module=page_flows)
    return store


@pytest.fixture(scope="module")
def shown(filled: Store) -> Iterator[Running]:
    with serving(filled) as running:
        yield running
