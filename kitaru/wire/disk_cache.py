"""A folder of results that can be recomputed, by key: safe to delete, damage and share.

Each entry is one file. Its first line is a digest of the key and the contents. A damaged entry, or
an entry under another key's name, therefore counts as missing. A write creates a temporary file and
renames it, so that a reader finds a complete entry or none. Any user who can write to the folder
can change what readers get. Share it only with users whose code you would run.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

MAX_BYTES = 200 * 1024 * 1024
# A larger entry is not cached.
_MAX_ENTRY = MAX_BYTES // 4
_EXTENSION = ".entry"


class DiskCache:
    """Entries below `folder`; `evict` reduces them to `most` bytes.

    No method raises OSError: a cache that cannot be accessed behaves like an empty one.

        cache = DiskCache(Path("~/.cache/kitaru/builds").expanduser())
        cache.put("0" * 64, b"contents")
        cache.get("0" * 64)                     # b"contents"
    """

    def __init__(self, folder: Path, most: int = MAX_BYTES) -> None:
        self._folder = folder
        self._most = most

    def get(self, key: str) -> bytes | None:
        """Return the contents stored under a key, None for a missing or damaged entry."""
        path = self._path(key)
        try:
            with path.open("rb") as stream:
                digest, contents = stream.readline(100), stream.read(_MAX_ENTRY + 1)
        except OSError:
            return None
        if digest != _digest(key, contents):
            return None
        with suppress(OSError):
            os.utime(path)
        return contents

    def put(self, key: str, contents: bytes) -> None:
        """Store contents under a key."""
        if len(contents) > min(_MAX_ENTRY, self._most):
            return
        # Imports many modules, which a process that finds its entry does not need.
        import tempfile

        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(dir=self._folder)
            staged = Path(name)
            try:
                with os.fdopen(number, "wb") as stream:
                    stream.write(_digest(key, contents))
                    stream.write(contents)
                staged.replace(self._path(key))
            finally:
                staged.unlink(missing_ok=True)

    def evict(self) -> None:
        """Delete the least recently used entries beyond the limit."""
        with suppress(OSError):
            self._evict()

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{_EXTENSION}"

    def _evict(self) -> None:
        with os.scandir(self._folder) as found:
            entries = [entry for entry in found if entry.name.endswith(_EXTENSION)]
            seen = [(entry.path, entry.stat()) for entry in entries]
        total = sum(each.st_size for _, each in seen)
        for path, each in sorted(seen, key=lambda pair: pair[1].st_mtime_ns):
            if total <= self._most:
                return
            Path(path).unlink(missing_ok=True)
            total -= each.st_size


def _digest(key: str, contents: bytes) -> bytes:
    found = sha256(key.encode())
    found.update(contents)
    return found.hexdigest().encode() + b"\n"
