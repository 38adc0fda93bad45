"""Replace the directory of a build atomically."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from kitaru.errors import UsageError
from kitaru.wire.plan import LOCK


def replace(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write a build: stage the files next to the directory and rename it into place.

    Raises UsageError if the directory cannot be written or contains other files.
    """
    try:
        _check_replaceable(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        staged = directory.with_name(f".{directory.name}.{os.urandom(6).hex()}")
        try:
            staged.mkdir()
            for name, data in files.items():
                (staged / name).write_bytes(data)
            _swap(staged, directory)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        raise UsageError(
            f"Cannot write {directory}: {error.strerror or error}",
            help="choose another directory: kitaru compile … -o DIR",
        ) from error


def _check_replaceable(directory: Path) -> None:
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise UsageError(f"{directory} is not a directory.", help="remove it, or use -o DIR")
    if directory.is_dir() and any(directory.iterdir()) and not (directory / LOCK).is_file():
        raise UsageError(
            f"{directory} holds something that Kitaru did not write.",
            help="remove it, or use -o DIR",
        )


def _swap(staged: Path, directory: Path) -> None:
    old = staged.with_name(f"{staged.name}.old")
    if directory.exists():
        os.rename(directory, old)  # noqa: PTH104 - Path.rename would hide that this is one call
    try:
        os.rename(staged, directory)  # noqa: PTH104
    except OSError:
        if old.exists():
            os.rename(old, directory)  # noqa: PTH104
        raise
    shutil.rmtree(old, ignore_errors=True)
