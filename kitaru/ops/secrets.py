"""Find the locations of secrets. Their values are never read."""

from __future__ import annotations

import os
from collections.abc import Iterator

from kitaru import config
from kitaru.errors import NotFound
from kitaru.runtime import secrets as keeper
from kitaru.wire.names import suggestion


def places() -> dict[str, str]:
    """Return the location of each stored or referenced secret, sorted by name."""
    return dict(sorted(_places()))


def place_of(name: str) -> str:
    """Return the location of a secret.

    Raises:
        NotFound: the secret does not exist here.
    """
    known = places()
    found = known.get(name) or ("the environment" if os.environ.get(name) else "")
    if not found:
        help = suggestion(name, known, f"kitaru secrets set {name}")
        raise NotFound(f"There is no secret {name} here.", help=help)
    return found


def _places() -> Iterator[tuple[str, str]]:
    references = config.secrets()
    for name in {*references, *keeper.kept()}:
        if os.environ.get(name):
            yield name, "the environment"
        elif name in references:
            yield name, keeper.check_reference(name, references[name])
        else:
            yield name, "kept for this user"
