"""Refuse connections to other machines during a test."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest


class NetworkRefused(RuntimeError):
    """A test tried to reach another machine. `flow_test.allow_network()` allows it."""


def refuse_network(patch: pytest.MonkeyPatch) -> None:
    """Make connections and look-ups of other machines errors, until `patch` is undone."""
    connect, connect_ex, look_up = (
        socket.socket.connect,
        socket.socket.connect_ex,
        socket.getaddrinfo,
    )

    def checked(self: socket.socket, address: Any, /) -> None:
        _check(self.family, address)
        connect(self, address)

    def checked_ex(self: socket.socket, address: Any, /) -> int:
        _check(self.family, address)
        return connect_ex(self, address)

    def looked_up(host: Any, *others: Any, **named: Any) -> Any:
        if not _is_here(host):
            raise _refused(host)
        return look_up(host, *others, **named)

    patch.setattr(socket.socket, "connect", checked)
    patch.setattr(socket.socket, "connect_ex", checked_ex)
    patch.setattr(socket, "getaddrinfo", looked_up)


def _check(family: int, address: Any) -> None:
    if family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
        raise _refused(address[0])


def _is_here(host: Any) -> bool:
    if host is None:
        return True
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name in ("", "localhost") or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _refused(host: Any) -> NetworkRefused:
    return NetworkRefused(
        f"A flow's test tried to reach {host!r}. Script the model, replace the client, or call "
        "flow_test.allow_network()."
    )
