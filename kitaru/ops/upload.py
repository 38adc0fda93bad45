"""Store the bundle of a build for its steps to fetch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kitaru.stores.base import Store


def upload(store: Store, directory: Path) -> str:
    """Store the bundle of the build in `directory`; return the digest of the bundle.

    Raises:
        StateError: the directory contains no build.
        EnvironmentFailure: a file differs from the compiled build, or the store cannot be written.

    Example:
        upload(store, Path("build/review/vertex"))
    """
    from kitaru_targets import build
    from kitaru_targets.upload import upload as put

    written = build.read(directory)
    put(written, store)
    return written.bundle_digest
