"""Allowed endpoints of models. Metadata services of cloud machines are rejected."""

from __future__ import annotations

import ipaddress
import os
import socket
from urllib.parse import SplitResult, urlsplit

from kitaru.errors import UsageError

# Metadata services of clouds outside the link-local range. They also return credentials.
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"),
    )
)
# IPv4 metadata services: a network may translate IPv6 addresses to IPv4 with its own prefix.
_WELL_KNOWN = frozenset(
    {address for address in _METADATA if address.version == 4}
    | set(map(ipaddress.ip_address, ("169.254.169.254", "169.254.170.2", "169.254.170.23")))
)
# IPv6 networks that contain an IPv4 address in their last 32 bits: translated, compatible.
_AROUND_IPV4 = tuple(
    map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96"))
)
# First half of an ISATAP interface identifier; the second half is an IPv4 address.
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
# Positions of the bytes of an IPv4 address by prefix length (RFC 6052).
_EMBEDDED = (
    (4, 5, 6, 7), (5, 6, 7, 9), (6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12), (12, 13, 14, 15),
)  # fmt: skip
_SUFFIXES = ("_API_BASE", "_BASE_URL")


def check_endpoint(url: str, origin: str) -> None:
    """Reject an address that cannot be a model endpoint; `origin` is the source of the address.

    Raises:
        UsageError: it is not http or https, or it leads to a machine's metadata service.
    """
    parts = _parts(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{origin}: {url!r} is no http or https address.")
    for address in _addresses(parts.hostname):
        if _is_metadata(address):
            raise UsageError(
                f"{origin}: {parts.hostname} is a metadata address, {address}: it gives out the "
                "credentials of this machine.",
                help="Name the address of the model's server.",
            )


def check_environment(provider: str) -> None:
    """Check the address that the environment sets for a provider; see `check_endpoint`."""
    for suffix in _SUFFIXES:
        name = f"{provider.upper().replace('-', '_')}{suffix}"
        if url := os.environ.get(name):
            check_endpoint(url, name)


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return the addresses of a host in any notation: `0xa9fea9fe` is an address too."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        # The host cannot be resolved. The model call reports that.
        return []
    return [ipaddress.ip_address(str(text).partition("%")[0]) for text in sorted(found)]


def _parts(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _is_metadata(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if address.is_link_local or address in _METADATA:
        return True
    if isinstance(address, ipaddress.IPv4Address):
        return False
    data = address.packed
    if any(ipaddress.IPv4Address(bytes(data[n] for n in at)) in _WELL_KNOWN for at in _EMBEDDED):
        return True
    return any(inner.is_link_local or inner in _METADATA for inner in _inner(address))


def _inner(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address embeds."""
    low = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _AROUND_IPV4):
        found.append(low)
    if int(address) >> 32 & 0xFFFF_FFFF in _ISATAP:
        found.append(low)
    return [inner for inner in found if inner is not None]
