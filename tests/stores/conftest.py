from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kitaru.stores import Store, open_store

from .servers.proxy import Proxy, proxied
from .servers.real import Server, serving

BUCKETS = ["moto", "seaweedfs", "azurite", "fake-gcs"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """Return the server of a kind, which starts for its first test."""
    running: dict[str, Server] = {}
    with ExitStack() as stack:

        def started(kind: str) -> Server:
            if kind not in running:
                scratch = tmp_path_factory.mktemp(kind)
                running[kind] = stack.enter_context(serving(kind, scratch))
            return running[kind]

        yield started


@pytest.fixture
def behind(
    server: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Proxy]]:
    """Return a proxy in front of the server of a kind, and set the environment to use it."""
    pytest.importorskip("obstore")
    with ExitStack() as stack:

        def proxy(kind: str) -> Proxy:
            made = stack.enter_context(proxied(server(kind)))
            for name, value in made.environment.items():
                monkeypatch.setenv(name, value)
            return made

        yield proxy


@pytest.fixture(params=["sqlite", "memory", *BUCKETS])
def url(request: pytest.FixtureRequest, on_disk: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:{on_disk}/store.db"
    if request.param == "memory":
        return f"memory:t{secrets.token_hex(4)}"
    proxy: Proxy = request.getfixturevalue("behind")(request.param)
    return f"{proxy.url}/{secrets.token_hex(4)}/prefix"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = open_store(url)
    yield store
    store.close()
