"""Write `lock.json`, the digests of a build, and read a build's files.

A build may come from another machine or person. Its files are therefore read with limits, no file
outside of its directory is read, and an error about damage names the file.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kitaru.errors import StateError, UsageError
from kitaru.wire.canonical import sha256
from kitaru.wire.plan import LOCK
from kitaru.wire.structs import Struct

SCHEMA = 1
MAX_FILE_BYTES = 128 * 1024 * 1024
# In memory, JSON takes about twenty times its size.
MAX_JSON_BYTES = 16 * 1024 * 1024
_FILES = 100
_SHOWN = 8
_TYPES = {
    "schema": int, "kitaru": str, "flow": str, "target": str, "granularity": str,
    "delivery": str, "image": str, "store": str, "requirements": list, "files": dict,
}  # fmt: skip
_HELP = "Compile again: kitaru compile FLOW --target T -o DIR"


class Lock(Struct):
    """The options of a build's compilation, and the digest of each of its other files by name.

    `digest` is the digest of `lock.json` itself, and thus of the whole build.
    """

    digest: str
    kitaru: str
    flow: str
    target: str
    granularity: str
    delivery: str
    image: str
    base_image: str
    store: str
    files: Mapping[str, str]


def read(directory: Path) -> Lock:
    """Return the lock of the build in `directory`; raise StateError if it is missing."""
    if not (directory / LOCK).exists():
        raise _missing(directory)
    return parse(read_file(directory, LOCK), str(directory))


def parse(data: bytes, where: str) -> Lock:
    """Parse a `lock.json`; raise StateError, with the name `where`, if it is damaged.

    >>> parse(b"{}", "build")
    Traceback (most recent call last):
    kitaru.errors.StateError: build holds no build that can be used: lock.json has no schema.
    """
    try:
        return _checked(load(data), sha256(data))
    except ValueError as error:
        raise _unusable(where, f"{LOCK} {error}") from error


def load(data: bytes) -> Any:
    """Return the content of JSON of limited size; raise ValueError with the reason."""
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"has {len(data):,} bytes, more than {MAX_JSON_BYTES:,}")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not valid JSON ({error})") from error


def read_file(directory: Path, name: str) -> bytes:
    """Return a file of a build, read once.

    Raises StateError if it is missing, too large, or not a regular file of the directory itself.
    """
    try:
        # These flags do not wait for the writer of a pipe and do not follow links.
        number = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(number, "rb") as file:  # noqa: PTH123 - it is open already
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise _unusable(str(directory), f"{name} is not a plain file")
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _unusable(str(directory), f"{name} cannot be read ({reason})") from error
    if len(data) > MAX_FILE_BYTES:
        raise _unusable(str(directory), f"{name} has more than {MAX_FILE_BYTES:,} bytes")
    return data


def check_sizes(files: Mapping[str, bytes]) -> None:
    """Raise UsageError if a build could be written but not read again."""
    for name, data in files.items():
        most = MAX_JSON_BYTES if name in (LOCK, "plan.json") else MAX_FILE_BYTES
        if len(data) > most:
            raise UsageError(
                f"{name} of this build would have {len(data):,} bytes, more than {most:,}.",
                help="Split the flow, or leave files out with [tool.kitaru] exclude.",
            )


def _checked(content: Any, digest: str) -> Lock:
    if not isinstance(content, dict):
        raise ValueError("holds no object")
    for name, kind in _TYPES.items():
        if name not in content:
            raise ValueError(f"has no {name}")
        if not isinstance(content[name], kind):
            raise ValueError(f"has a {name} that is not of the type {kind.__name__}")
    if content["schema"] != SCHEMA:
        known = "newer" if content["schema"] > SCHEMA else "older"
        raise ValueError(f"has schema {content['schema']}, a {known} Kitaru's: this reads {SCHEMA}")
    files = content["files"]
    for name, value in files.items():
        if not _is_name(name) or not _is_digest(value):
            raise ValueError(f"lists the file {name!r}, which no build has, or no digest of it")
    if len(files) > _FILES or not {"plan.json", "steps.py", "bundle.zip"} <= files.keys():
        raise ValueError("does not list the files of a build")
    own = {name: content[name] for name in _TYPES if name not in ("schema", "requirements")}
    base_image = content.get("base_image", "")
    if not isinstance(base_image, str):
        raise ValueError("has a base_image that is not of the type str")
    return Lock(digest=digest, base_image=base_image, **own)


def _is_name(name: str) -> bool:
    return name.isprintable() and 0 < len(name) < 200 and name[0] != "." and "/" not in name


def _is_digest(value: Any) -> bool:
    if not isinstance(value, str) or len(value) != 71 or not value.startswith("sha256:"):
        return False
    return all(c in "0123456789abcdef" for c in value[7:])


def _missing(directory: Path) -> StateError:
    """Return the error for a folder without a build, which names the builds below it."""
    if not directory.is_dir():
        return StateError(f"{directory} is not a folder.", help=_HELP)
    # `compile` writes to a folder for the flow, and in it one for the target.
    found = sorted({*directory.glob(f"*/{LOCK}"), *directory.glob(f"*/*/{LOCK}")})
    if not found:
        return StateError(f"{directory} holds no build.", help=_HELP)
    shown = ", ".join(str(path.parent) for path in found[:_SHOWN])
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return StateError(f"{directory} is not a build.", help=f"Name one below it: {shown}{more}")


def _unusable(where: str, reason: str) -> StateError:
    return StateError(f"{where} holds no build that can be used: {reason}.", help=_HELP)
