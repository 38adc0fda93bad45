"""Store the bundle of a build, from where its steps fetch it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kitaru.stores.base import Store


def upload(store: Store, directory: Path) -> str:
    """Put the bundle of the build in `directory` into a store; return the digest of the bundle.

    Raises:
        StateError: there is no build in the directory.
        EnvironmentFailure: a file is not what was compiled, or the store cannot be written.

    Example:
        upload(store, Path("build/review/vertex"))
    """
    from kitaru_targets import build
    from kitaru_targets.upload import upload as put

    written = build.read(directory)
    put(written, store)
    return written.bundle_digest
