"""Decides where a model may be asked: never where a machine keeps its secrets."""

from __future__ import annotations

import ipaddress
import os
import socket
from urllib.parse import SplitResult, urlsplit

from kitaru.errors import UsageError

# What clouds tell their machines, credentials included, beside the whole link-local range.
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    )
)
# IPv6 networks whose addresses are IPv4 ones in their last 32 bits: translated, compatible.
_AROUND_IPV4 = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::/96")))
_SUFFIXES = ("_API_BASE", "_BASE_URL")


def check_endpoint(url: str, origin: str) -> None:
    """Refuse an address that no model answers at; `origin` says who named it.

    Raises:
        UsageError: it is not http or https, or it leads to a machine's metadata service.
    """
    parts = _parts(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{origin}: {url!r} is no http or https address.")
    for address in _addresses(parts.hostname):
        if address.is_link_local or address in _METADATA:
            raise UsageError(
                f"{origin}: {parts.hostname} is a metadata address, {address}: it gives out the "
                "credentials of this machine.",
                help="Name the address of the model's server.",
            )


def check_environment(provider: str) -> None:
    """Refuse an address that the environment gives for a provider; see `check_endpoint`."""
    for suffix in _SUFFIXES:
        name = f"{provider.upper().replace('-', '_')}{suffix}"
        if url := os.environ.get(name):
            check_endpoint(url, name)


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return what a host is reached at, however it is written: `0xa9fea9fe` is an address too."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        # Nobody is there: whoever asks the model says so.
        return []
    addresses = [ipaddress.ip_address(str(text).partition("%")[0]) for text in sorted(found)]
    return [_inner(address) for address in addresses]


def _parts(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _inner(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address that an IPv6 one leads to, else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if any(address in network for network in _AROUND_IPV4):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour or address
