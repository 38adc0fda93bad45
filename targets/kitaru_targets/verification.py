"""Decides whether a build directory is still what was compiled, file by file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kitaru.errors import StateError
from kitaru.runtime.executions.deployments import LOCK
from kitaru.wire.canonical import sha256

from .build import LOCK_SCHEMA
from .bundle import BUILD

# What lies in the directory and in the bundle has to be the same: steps run the bundle's.
_TWICE = ("plan.json", "steps.py")


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found: the build's files, the digest of all, what is wrong and what is doubtful."""

    files: tuple[str, ...]
    digest: str
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def verify(directory: Path) -> Verification:
    """Compare a build with the digests in its `lock.json`; raise StateError where there is none.

    The lock is not signed: who can change it can change everything. Keep the digest, or deploy the
    build, to know it again.
    """
    data, lock = _lock(directory)
    problems = (
        *_changed(directory, lock["files"]),
        *_bundle(directory),
        *_strange(directory, lock),
    )
    warnings = tuple(image_warnings(str(lock.get("image") or "")))
    return Verification(tuple(sorted(lock["files"])), sha256(data), problems, warnings)


def image_warnings(image: str) -> Iterator[str]:
    """Yield why an image is not certain to be the same tomorrow."""
    if image and "@sha256:" not in image:
        yield f"the image {image} is named by a tag, which can move: name its digest, …@sha256:…"


def _lock(directory: Path) -> tuple[bytes, dict[str, Any]]:
    try:
        data = (directory / LOCK).read_bytes()
        lock = json.loads(data)
        if lock["schema"] == LOCK_SCHEMA and isinstance(lock["files"], dict):
            return data, lock
        reason = "its lock.json is another Kitaru's"
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error)
    raise StateError(
        f"{directory} holds no build: {reason}", help="kitaru compile FLOW --target T -o DIR"
    )


def _changed(directory: Path, files: dict[str, str]) -> Iterator[str]:
    for name, digest in sorted(files.items()):
        path = directory / name
        if path.is_symlink() or not path.is_file():
            yield f"{name} is missing"
        elif sha256(path.read_bytes()) != digest:
            yield f"{name} changed"


def _bundle(directory: Path) -> Iterator[str]:
    try:
        with zipfile.ZipFile(io.BytesIO((directory / "bundle.zip").read_bytes())) as archive:
            for name in _TWICE:
                if archive.read(f"{BUILD}/{name}") != (directory / name).read_bytes():
                    yield f"{name} is not the one in bundle.zip"
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        yield f"bundle.zip cannot be read ({error})"


def _strange(directory: Path, lock: dict[str, Any]) -> Iterator[str]:
    known = {*lock["files"], LOCK}
    for path in sorted(directory.iterdir()):
        if path.name not in known:
            yield f"{path.name} is not of this build"
