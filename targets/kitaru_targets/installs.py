"""Determine the distributions that a container installs, with hashes; write and read their lists.

A build has one or two lists, for pip and pip-audit:

    requirements.txt            with hashes: pip install --require-hashes -r requirements.txt
    requirements-unhashed.txt   what no list of the project has a hash of

The project's locked versions have priority. Distributions that Kitaru adds, such as the client of a
bucket, have the versions and hashes of `own_installs.json`, which `tests/targets/own_installs.py`
writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any

from kitaru_compiler.frontend.lock_files import Locked, normal

from kitaru.errors import StateError
from kitaru.wire.structs import Struct

HASHED = "requirements.txt"
UNHASHED = "requirements-unhashed.txt"
# In a bundle: the distributions for a step that reads its code from a bucket.
STORE = "requirements-store.txt"
_LINE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?)==(?P<version>[A-Za-z0-9.!+*_-]+)"
    r"( ; (?P<marker>[^#]*?))?(?P<hashes>(\s+--hash=sha256:[0-9a-f]{64})*)"
)


class Installs(Struct):
    """The distributions of a container: `store` for a bucket's client, `others` for the rest."""

    store: tuple[Locked, ...]
    others: tuple[Locked, ...]

    @property
    def all(self) -> tuple[Locked, ...]:
        """All distributions, sorted by name."""
        found = {*self.store, *self.others}
        return tuple(sorted(found, key=lambda one: (one.name, one.version)))

    @property
    def unhashed(self) -> tuple[Locked, ...]:
        """The distributions without a hash."""
        return tuple(one for one in self.all if not one.hashes)


def installs(pins: Iterable[str], locked: Sequence[Locked], client: str) -> Installs:
    """Return what containers install for `pins`, with the data of the project's lists.

    `client` is the pin of the bucket's client.

    Example:
        installs(["obstore==0.12.1"], (), "obstore==0.12.1").all[0].hashes
    """
    named = {_name(pin): pin for pin in pins}
    found = {(one.name, one.version): one for one in locked}
    fixed = {one.name for one in locked} | named.keys()
    # Distributions needed for more than the client of a bucket.
    wanted = fixed - {_name(client)}
    for name, pin in named.items():
        if any(known == name for known, _ in found):
            continue
        own = own_closure(pin)
        if not own:
            shown, _, version = pin.partition("==")
            found[name, version] = Locked(shown, version, "", ())
        for one in own:
            if one.name == name or one.name not in fixed:
                found[one.name, one.version] = one
        if pin != client:
            wanted |= {one.name for one in own}
    reaching = {_name(client), *(one.name for one in own_closure(client))}
    listed = [(name, one) for (name, _), one in sorted(found.items())]
    return Installs(
        tuple(one for name, one in listed if name in reaching),
        tuple(one for name, one in listed if name in wanted or name not in reaching),
    )


def text(found: Iterable[Locked]) -> str:
    """Return a list for pip, with each distribution and its hashes on separate lines."""
    return "".join(_line(one, " \\\n    ") + "\n" for one in found)


def files(found: Iterable[Locked]) -> dict[str, bytes]:
    """Return the lists by name; the second list exists only if it is not empty."""
    listed = tuple(found)
    lists = {
        HASHED: [one for one in listed if one.hashes],
        UNHASHED: [one for one in listed if not one.hashes],
    }
    return {name: text(some).encode() for name, some in lists.items() if some or name == HASHED}


def line(one: Locked) -> str:
    """Return a distribution as one line for pip."""
    return _line(one, " ")


def _line(one: Locked, between: str) -> str:
    marker = f" ; {one.marker}" if one.marker else ""
    return between.join(
        [f"{one.name}=={one.version}{marker}", *(f"--hash={digest}" for digest in one.hashes)]
    )


def parse(data: bytes, where: str) -> tuple[Locked, ...]:
    """Parse a list of a build; raise StateError, with the name `where`, if it is damaged.

    >>> parse(b"httpx==0.28.1\\n", "requirements.txt")
    (Locked(name='httpx', version='0.28.1', marker='', hashes=()),)
    """
    try:
        lines = data.decode().replace("\\\n", " ").splitlines()
        return tuple(_parsed(one) for one in lines if one.strip())
    except ValueError as error:
        raise StateError(
            f"{where} is not a list that Kitaru wrote: {error}.",
            help="Compile again: kitaru compile FLOW --target T -o DIR",
        ) from error


def _parsed(content: str) -> Locked:
    found = _LINE.fullmatch(content.strip())
    if found is None:
        raise ValueError(f"{content.strip()[:80]!r} is no pinned requirement")
    hashes = tuple(part.removeprefix("--hash=") for part in found["hashes"].split())
    return Locked(found["name"], found["version"], (found["marker"] or "").strip(), hashes)


def own_closure(pin: str) -> tuple[Locked, ...]:
    """Return the dependencies of a distribution that Kitaru adds; empty for all others."""
    table = _own()
    return tuple(
        Locked(name, version, marker, tuple(f"sha256:{digest}" for digest in hashes))
        for name in table["roots"].get(pin, ())
        for version, marker, hashes in table["distributions"][name]
    )


@cache
def _own() -> dict[str, Any]:
    path = resources.files("kitaru_targets") / "own_installs.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _name(pin: str) -> str:
    return normal(re.split(r"[\[=]", pin, maxsplit=1)[0])
