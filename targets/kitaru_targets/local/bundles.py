"""Unpacked bundles: folders of the user's cache, called by their digests, that processes run from.

    ~/.cache/kitaru/bundles/
        .lock              held while folders are made or removed
        3f9a…/             the files of a bundle
        3f9a….lock         held by every process that runs from it; its time is the last use
        .3f9a….k2j1/       a folder on its way in or out

A folder is complete or absent: it is written under a temporary name and renamed, and removed in the
same way. Leftovers of a killed process have a temporary name. The next process that creates a
folder deletes them.

A process that runs from a folder has a shared lock on it for its whole life. The starter opens the
file and the process inherits it, so the system releases the lock however the process ends. When a
folder is created and all folders take too much space, the least recently used ones are removed, but
never one that is locked. On a file system without locks nothing is removed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

from kitaru.errors import EnvironmentFailure
from kitaru.stores import Store
from kitaru.wire import disk, keys
from kitaru.wire.canonical import sha256
from kitaru_targets.bundle import contents, unpack

# The bundles of about a hundred versions; a process runs from each for minutes.
MOST_BYTES = 512 * 1024 * 1024
_LOCK = ".lock"


class Unpacked:
    """The folder of a bundle, kept while this object or a process with its `files` exists.

    Example:
        with bundles.unpacked(store, digest) as held:
            subprocess.Popen(command, pass_fds=held.files)
    """

    def __init__(self, folder: Path, lock: IO[bytes] | None) -> None:
        self.folder = folder
        self._lock = lock

    @property
    def files(self) -> tuple[int, ...]:
        """The files that a process running from the folder must inherit."""
        return () if self._lock is None else (self._lock.fileno(),)

    def __enter__(self) -> Unpacked:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._lock is not None:
            self._lock.close()


def unpacked(store: Store, digest: str) -> Unpacked:
    """Return the folder with a bundle's files, created if it is missing or incomplete.

    Raises:
        EnvironmentFailure: the store does not have the bundle.
        StateError: the bundle is damaged, or must not be unpacked.
    """
    data = store.get(keys.bundle(digest))
    if data is None or sha256(data) != digest:
        raise EnvironmentFailure(
            f"The bundle {digest[:19]}… in {store.url} is "
            f"{'missing' if data is None else 'not what was deployed'}.",
            help="Deploy the flow again: kitaru deploy PATH:FLOW",
        )
    folder = _cache() / digest.removeprefix("sha256:")[:32]
    files = contents(data)
    with ExitStack() as undo:
        held = undo.enter_context(Unpacked(folder, _used(folder)))
        if not _is_whole(folder, files):
            with _alone(folder.parent) as is_alone:
                # Another process may have created it meanwhile.
                if not _is_whole(folder, files):
                    _replace(folder, files)
                if is_alone:
                    _prune(folder)
        undo.pop_all()
    return held


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or disk.home() / ".cache"
    folder = Path(base) / "kitaru" / "bundles"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise EnvironmentFailure(
            f"Cannot make {folder}: {error.strerror or error}",
            help="Set XDG_CACHE_HOME to a folder that you may write to.",
        ) from error
    return folder


def _used(folder: Path) -> IO[bytes] | None:
    """Return the lock of a folder, shared, with its time set to now; None without locks."""
    while (lock := _locked(_lock_of(folder), fcntl.LOCK_SH)) is not None:
        # A process that removed the folder in between has removed this file as well.
        if _is_current(lock, _lock_of(folder)):
            os.utime(lock.fileno())
            return lock
        lock.close()
    return None


@contextmanager
def _alone(cache: Path) -> Iterator[bool]:
    """Lock the cache while the block runs; yield False if there are no locks."""
    lock = _locked(cache / _LOCK, fcntl.LOCK_EX)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.close()


def _locked(path: Path, kind: int) -> IO[bytes] | None:
    """Return an open and locked file, None if another process has locked it or locks fail."""
    file = path.open("ab")
    try:
        fcntl.flock(file, kind)
    except OSError:
        file.close()
        return None
    return file


def _is_current(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _is_whole(folder: Path, files: Mapping[str, bytes]) -> bool:
    try:
        return all((folder / name).read_bytes() == data for name, data in files.items())
    except OSError:
        return False


def _replace(folder: Path, files: Mapping[str, bytes]) -> None:
    staged = _beside(folder)
    try:
        unpack(files, staged)
        _remove(folder)
        try:
            staged.rename(folder)
        except OSError:
            # Without locks, another process may have created it first.
            if not _is_whole(folder, files):
                raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _remove(folder: Path) -> None:
    if folder.exists():
        old = _beside(folder)
        folder.rename(old / "old")
        shutil.rmtree(old, ignore_errors=True)


def _beside(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))


def _prune(newest: Path) -> None:
    """Remove leftovers of killed processes and surplus folders, except `newest`.

    The caller has the lock of the cache, so no other process creates or removes a folder.
    """
    folders = []
    for path in newest.parent.iterdir():
        if path.name.startswith(".") and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.is_dir():
            folders.append(path)
        elif path.suffix == _LOCK and not path.with_suffix("").exists():
            _remove_unused(path.with_suffix(""))
    sizes = {folder: _size(folder) for folder in folders}
    room = MOST_BYTES - sum(sizes.values())
    for folder in sorted(folders, key=_last_use):
        if room >= 0:
            return
        if folder != newest and _remove_unused(folder):
            room += sizes[folder]


def _remove_unused(folder: Path) -> bool:
    """Remove a folder and its lock; return False if a process runs from it."""
    lock = _locked(_lock_of(folder), fcntl.LOCK_EX | fcntl.LOCK_NB)
    if lock is None:
        return False
    with lock:
        _remove(folder)
        _lock_of(folder).unlink(missing_ok=True)
    return True


def _last_use(folder: Path) -> float:
    lock = _lock_of(folder)
    return (lock if lock.exists() else folder).stat().st_mtime


def _size(folder: Path) -> int:
    found = 0
    for path in folder.rglob("*"):
        try:
            found += path.lstat().st_size if path.is_file() else 0
        except FileNotFoundError:
            # A process that runs from the folder replaces its compiled files.
            continue
    return found
