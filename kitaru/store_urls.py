"""Parse the URLs of stores."""

from __future__ import annotations

from pathlib import Path

DEFAULT_URL = "sqlite:.kitaru/kitaru.db"
"""The store of a project that configures none."""


def sqlite_path(place: str) -> Path:
    """Return the file that `sqlite:PLACE` means: in a directory it is `kitaru.db`."""
    path = Path(place).expanduser()
    inside = place.endswith("/") or path.is_dir()
    return path / "kitaru.db" if inside else path
