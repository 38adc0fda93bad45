"""Record the file system reads of a compilation, and check whether they would return the same.

A build can be reused only if every file that the compiler read is the same, every path that it
missed is still missing, and every folder that it listed has the same entries. So the compiler and
the settings access the file system through this module alone:

    with recorded() as answers:
        compile_flow(Path("flow.py"))
    answers.still_hold()        # repeats each read and compares

Outside `recorded`, a read costs no more than the call that it wraps.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

Line = tuple[str, tuple[Any, ...], str]
"""A read, its arguments and the digest of the result, as JSON contains them."""


class Answers:
    """The file system reads inside a block, each with the digest of its result.

    `is_stable` is false if a repeated read had a different result: a file changed meanwhile.
    """

    def __init__(self, lines: list[Line] | None = None) -> None:
        self._digests = {(name, tuple(args)): digest for name, args, digest in lines or ()}
        self.is_stable = True

    def add(self, name: str, arguments: tuple[Any, ...], answer: Any) -> None:
        """Record the result of a read."""
        digest = _digest(answer)
        known = self._digests.setdefault((name, arguments), digest)
        self.is_stable = self.is_stable and known == digest

    def lines(self) -> list[Line]:
        """Return the reads for JSON; `Answers(lines)` restores them."""
        return [(name, arguments, digest) for (name, arguments), digest in self._digests.items()]

    def still_hold(self) -> bool:
        """Repeat every read; return whether all results are the same."""
        return all(
            name in _QUESTIONS and _digest(_answer(name, arguments)) == digest
            for (name, arguments), digest in self._digests.items()
        )


_recording: ContextVar[Answers | None] = ContextVar("recording", default=None)


@contextmanager
def recorded(earlier: Answers | None = None) -> Iterator[Answers]:
    """Record the reads of this thread inside the block, appended to those of `earlier`."""
    answers = earlier or Answers()
    token = _recording.set(answers)
    try:
        yield answers
    finally:
        _recording.reset(token)


def home() -> Path:
    """Return the user's home folder.

    A user without one has `/`, to which a container's engine sets HOME as well: clusters run
    containers as users that no image knows.
    """
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def is_file(path: Path) -> bool:
    """Return whether the path is a file; follow links."""
    return bool(_ask("kind", str(path)) == "file")


def is_dir(path: Path) -> bool:
    """Return whether the path is a folder; follow links."""
    return bool(_ask("kind", str(path)) == "folder")


def exists(path: Path) -> bool:
    """Return whether the path exists; follow links."""
    return bool(_ask("kind", str(path)))


def size(path: Path) -> int:
    """Return the size of a file in bytes; raise OSError for a missing file."""
    return int(_value(_ask("size", str(path))))


def read_bytes(path: Path, most: int = -1) -> bytes:
    """Return the contents of a file, at most the first `most` bytes; raise OSError."""
    found: bytes = _value(_ask("contents", str(path), most))
    return found


def read_text(path: Path, errors: str = "strict") -> str:
    """Return a UTF-8 text with `\\n` line breaks; raise OSError or UnicodeDecodeError."""
    return decoded(read_bytes(path), errors)


def decoded(data: bytes, errors: str = "strict") -> str:
    """Return what `read_text` returns for a file with these contents."""
    text = data.decode("utf-8", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def resolved(path: Path) -> Path:
    """Return the absolute path without links."""
    return Path(_ask("resolved", str(path)))


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield each folder with its subfolders and its other files, both sorted, as `os.walk` does.

    Links to folders are among the subfolders, but are not followed. The caller can remove entries
    from the list of subfolders to skip them.
    """
    pending = [folder]
    while pending:
        here = pending.pop()
        found: list[tuple[str, str]] = _ask("entries", str(here))
        folders = [name for name, kind in found if kind != "file"]
        links = {name for name, kind in found if kind == "link"}
        yield here, folders, [name for name, kind in found if kind == "file"]
        pending += [here / name for name in reversed(folders) if name not in links]


def glob(folder: Path, pattern: str) -> list[Path]:
    """Return the files below a folder that match a pattern, sorted; `[]` for a bad pattern."""
    return [folder / name for name in _ask("glob", str(folder), pattern)]


def _kind(path: str) -> str:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - asked thousands of times
    except (OSError, ValueError):
        return ""
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "other"


def _size(path: str) -> int:
    return Path(path).stat().st_size


def _contents(path: str, most: int) -> bytes:
    with Path(path).open("rb") as stream:
        return stream.read(most)


def _resolved(path: str) -> str:
    return str(Path(path).resolve())


def _entries(folder: str) -> list[tuple[str, str]]:
    try:
        with os.scandir(folder) as found:
            return sorted((entry.name, _entry_kind(entry)) for entry in found)
    except OSError:
        return []


def _entry_kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return "link" if entry.is_dir() else "file"
    except OSError:
        return "file"


def _glob(folder: str, pattern: str) -> list[str]:
    start = Path(folder)
    try:
        found = sorted(path for path in start.glob(pattern) if path.is_file())
    except (ValueError, NotImplementedError, OSError):
        return []
    return [str(path.relative_to(start)) for path in found]


_QUESTIONS: dict[str, Callable[..., Any]] = {
    "kind": _kind,
    "size": _size,
    "contents": _contents,
    "resolved": _resolved,
    "entries": _entries,
    "glob": _glob,
}


def _ask(name: str, *arguments: Any) -> Any:
    answers = _recording.get()
    if answers is None:
        return _QUESTIONS[name](*arguments)
    answer = _answer(name, arguments)
    # Only the type and the text of an error count, not the place where it was raised.
    answers.add(name, arguments, answer)
    return answer


def _answer(name: str, arguments: tuple[Any, ...]) -> Any:
    try:
        return _QUESTIONS[name](*arguments)
    except (OSError, ValueError) as error:
        return error


def _value(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


def _digest(answer: Any) -> str:
    # Imported only for a recording; steps make none.
    from hashlib import sha256

    if isinstance(answer, bytes):
        return sha256(answer).hexdigest()
    if isinstance(answer, OSError):
        return f"error {answer.errno}"
    return sha256(repr(answer).encode("utf-8", "surrogatepass")).hexdigest()
