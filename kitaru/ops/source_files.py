"""Edit source files: preserve their encoding, and write them completely or not at all."""

from __future__ import annotations

import difflib
import io
import os
import tempfile
import tokenize
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from kitaru.errors import EnvironmentFailure, StateError

# About a second.
_MOST_PAIRS = 10_000_000


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A Python file as read: its bytes, and its text with `\\n` at the end of each line."""

    path: Path
    data: bytes
    text: str
    encoding: str

    def changed_to(self, text: str) -> bytes:
        """Return the bytes of a changed text, preserving encoding, byte order mark and line ends.

        An existing line keeps its own line end. A new line gets the most frequent line end.
        """
        decoded = self.data.decode(self.encoding)
        before = io.StringIO(decoded, newline="").readlines()
        plain = io.StringIO(self.text).readlines()
        after = io.StringIO(text).readlines()
        ends = Counter(_end(line) for line in before if _end(line))
        usual = ends.most_common(1)[0][0] if ends else "\n"
        if len(ends) < 2:
            return text.replace("\n", usual).encode(self.encoding)
        result: list[str] = []
        # The time is quadratic in the number of equal lines. Beyond the limit, frequent lines only
        # extend the matches of others, so some of them may get the most frequent line end.
        pairs = sum(count * count for count in Counter(plain).values())
        matcher = difflib.SequenceMatcher(None, plain, after, autojunk=pairs > _MOST_PAIRS)
        for tag, start, end, new_start, new_end in matcher.get_opcodes():
            if tag == "equal":
                result += before[start:end]
            else:
                result += [line.replace("\n", usual) for line in after[new_start:new_end]]
        return "".join(result).encode(self.encoding)

    def write(self, text: str) -> None:
        """Atomically replace the file with a changed text, and keep its permissions.

        Raises:
            StateError: the file has changed since it was read.
            EnvironmentFailure: the file cannot be written.
        """
        path = self.path.resolve()
        data = self.changed_to(text)
        try:
            if not os.access(path, os.W_OK):
                raise PermissionError(13, "Permission denied", str(path))
            mode = path.stat().st_mode & 0o7777
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fchmod(stream.fileno(), mode)
                    os.fsync(stream.fileno())
                self.check_unchanged()
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise EnvironmentFailure(f"Cannot write {self.path}: {error.strerror}") from error

    def check_unchanged(self) -> None:
        """Raise StateError if the file has changed since it was read."""
        if self.path.read_bytes() != self.data:
            raise StateError(
                f"The file {self.path} was changed meanwhile; it was left as it is.",
                help="Run the command again.",
            )

    def diff(self, text: str) -> str:
        """Return the difference to a changed text in the format of `diff -u`."""
        name = os.path.relpath(self.path)
        # `splitlines` would also split a text at U+2028 and others, which end no line of Python.
        before, after = io.StringIO(self.text).readlines(), io.StringIO(text).readlines()
        lines = difflib.unified_diff(before, after, name, name)
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
            for line in lines
        )


def read_source(path: Path) -> SourceFile:
    """Read a Python file.

    Raises:
        EnvironmentFailure: the file cannot be read, or its encoding is unknown.
    """
    try:
        data = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = io.StringIO(data.decode(encoding), newline=None).read()
    except OSError as error:
        raise EnvironmentFailure(f"Cannot read {path}: {error.strerror}") from error
    except (SyntaxError, UnicodeError, LookupError) as error:
        raise EnvironmentFailure(f"Cannot decode {path}: {error}") from error
    return SourceFile(path, data, text, encoding)


def _end(line: str) -> str:
    return line[len(line.rstrip("\r\n")) :]
