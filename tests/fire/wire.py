"""Inject faults between a process and the server of its bucket, request by request."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from kitaru.stores import Store, object_store, open_store
from tests.stores.servers.proxy import Proxy, proxied
from tests.stores.servers.real import Server

from .faults import FaultyStore, Way, killed

_READS = ("get", "list")
_ALL = ("create", *_READS)
# For each fault of the proxy, the operations whose request it can affect.
WIRE_FAULTS: Mapping[str, tuple[str, ...]] = {
    "429": _ALL,
    "500": _ALL,
    "503": _ALL,
    "reset": _ALL,
    "stall": _ALL,
    "after-429": ("create",),
    "after-500": ("create",),
    "after-503": ("create",),
    "after-reset": ("create",),
    "after-stall": ("create",),
    "409": ("create",),
    "after-409": ("create",),
    "after-short": ("get",),
    "403": _ALL,
    "400": _ALL,
    "down": _ALL,
    "crash before": _ALL,
    "crash after": ("create",),
}
STALL_TIMEOUT = timedelta(seconds=5)
# Faults that the store survives. Other faults end the process, and another process resumes.
WIRE_PASSING = frozenset(WIRE_FAULTS) - {"403", "400", "down", "crash before", "crash after"}


@dataclass
class Wired(FaultyStore):
    """One process's access to a bucket: counts its requests, and fails at `faults`."""

    proxy: Proxy = field(kw_only=True)
    passing: frozenset[str] = WIRE_PASSING

    def __post_init__(self) -> None:
        # A process has separate connections. Requests are counted after they are open.
        self.inner = open_store(self.inner.url)
        super().__post_init__()
        self._down = False
        self.proxy.fault = self._on_request

    def buried(self) -> None:
        self.inner.close()
        self.proxy.fault = lambda method, key: ""

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        return list[bool](self._do("create", lambda: self.inner.create_all(objects)))

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        return list[bytes | None](self._do("get", lambda: self.inner.get_all(keys)))

    def _do(self, operation: str, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        finally:
            if self.dead:
                self.die()
                raise killed()

    def _on_request(self, method: str, key: str) -> str:
        operation = {"PUT": "create", "GET": "get" if key else "list"}.get(method, "")
        with self._lock:
            self.done.append(operation)
            fault = self.faults.get(len(self.done), "")
            if self.dead or self._down:
                return "503"
            if operation not in WIRE_FAULTS.get(fault, ()):
                return ""
            self.met.append(fault)
            self._down = fault == "down"
        if fault.startswith("crash"):
            self.dead = True
            return "after-reset" if fault.endswith("after") else "reset"
        return "503" if self._down else fault


@contextmanager
def bucket(server: Server) -> Iterator[tuple[Callable[[str], Store], Way]]:
    """Yield a function that opens a prefix of the bucket, and the faulty access of processes.

    Checks of the bucket use a separate connection without faults.
    """
    with (
        untouched(server) as (url, environment),
        proxied(server) as faulty,
        patch.object(object_store, "_PAUSE_SECONDS", 0),
    ):

        def look(prefix: str) -> Store:
            with patch.dict(os.environ, environment):
                return open_store(f"{url}/{prefix}")

        def way(store: Store, faults: Mapping[int, str] | None = None) -> FaultyStore:
            # Only a response that never arrives needs a limit that a busy server might exceed.
            stalls = any("stall" in fault for fault in (faults or {}).values())
            limit = STALL_TIMEOUT if stalls else object_store._TIMEOUT
            hasty = patch.object(object_store, "_TIMEOUT", limit)
            with patch.dict(os.environ, faulty.environment), hasty:
                return Wired(store, faults or {}, proxy=faulty)

        yield look, way


@contextmanager
def untouched(server: Server) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the URL of the server's bucket, and the environment in which any process can use it."""
    if server.kind.understood:
        yield server.kind.url, server.environment
        return
    with proxied(server) as translating:
        yield translating.url, translating.environment
