"""The source of an execution beside its timeline.

A deployed execution runs a bundle. A local one has recorded its flow's file, and each other content
that a later process ran; see `kitaru.runtime.journal.sources`. The rows of a replay that were
reused come from the source of the execution that it replays.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from pathlib import PurePosixPath

from kitaru_targets import bundle

from kitaru.errors import KitaruError, StateError
from kitaru.runtime.journal import sources
from kitaru.runtime.journal.journal import Journal
from kitaru.server.pages.timeline import Row
from kitaru.wire import keys
from kitaru.wire.records import ErrorInfo
from kitaru.wire.structs import Struct
from kitaru.wire.times import digits

_AROUND = 14
_MOST_LINES = 2_000
_READ = 32
_MOST_REPLAYS = 20
# Kitaru's own packages, which are in every bundle.
_OWN = ("kitaru", "kitaru_compiler", "kitaru_targets", "kitaru_templates", bundle.BUILD)
_FRAME = re.compile(r'^ *File "([^"\n]+)", line (\d+)', re.MULTILINE)

_lock = threading.Lock()
_read: OrderedDict[tuple[str, str], dict[str, str]] = OrderedDict()


class Line(Struct):
    """A line of the source.

    `row` is the key of the row of the timeline that it called. `is_current` marks the line that
    called the selected row, `is_raising` the one at which that row failed.
    """

    number: int
    text: str
    row: str = ""
    is_current: bool = False
    is_raising: bool = False


class Source(Struct):
    """A part of a file around the current line, and the number of all its lines."""

    file: str
    lines: list[Line]
    count: int

    @property
    def is_complete(self) -> bool:
        """Whether it contains all lines."""
        return len(self.lines) == self.count


def source(
    journal: Journal, rows: list[Row], current: str, error: ErrorInfo | None, failed_at: str, *,
    whole: bool,
) -> Source | None:  # fmt: skip
    """Return the source around the call site of a row; None if the store does not contain it.

    Args:
        current: the key of the row whose line is marked.
        error: how that row failed, or the flow itself.
        failed_at: when the flow itself failed; empty if a row did.
        whole: whether all lines are returned.
    """
    calls = [row for row in rows if row.site]
    # A row without a site, such as a question of an earlier release: the call before it is near.
    shown = next((row for row in calls if row.key == current), calls[-1] if calls else None)
    digests = _Digests(journal)
    if shown is None or failed_at:
        file, line = _own_file(journal), 0
        digest = digests.at(failed_at or journal.execution.started_at)
    else:
        file, line = _site(shown.site)
        digest = digests.at(shown.began_at)
    text = _file_in(journal, digest, file)
    if text is None:
        return None
    current_line = line if shown is not None and shown.key == current else 0
    raising = _raising_line(error, file)
    by_line: dict[int, str] = {}
    for row in calls:
        other, number = _site(row.site)
        if other == file and digests.at(row.began_at) == digest:
            by_line.setdefault(number, row.key)
    lines = text.splitlines()[:_MOST_LINES]
    near = (raising or line or 1) - 1
    first = 0 if whole else max(0, near - _AROUND)
    last = len(lines) if whole else near + 1 + _AROUND
    found = [
        Line(number, text, by_line.get(number, ""), number == current_line, number == raising)
        for number, text in enumerate(lines[first:last], first + 1)
    ]
    return Source(file, found, len(lines))


class _Digests:
    """The digests of the sources that an execution ran, by time."""

    def __init__(self, journal: Journal, replays: int = 0) -> None:
        self._execution = journal.execution
        self._store = journal.store
        self._replays = replays
        self._began = digits(journal.execution.started_at)
        self._notes = (
            sources.source_notes(journal.store, journal.exec_id)
            if journal.execution.mode == "local"
            else []
        )
        self._source: _Digests | None = None

    def at(self, moment: str) -> str:
        """Return the digest of the bundle or the file that ran at a moment, empty if unknown."""
        when = digits(moment) if moment else self._began
        if when < self._began and self._execution.replay is not None:
            return self._of_replayed(moment)
        if self._execution.mode != "local":
            return self._execution.bundle_digest or self._execution.source
        known = [digest for since, digest in self._notes if since <= when]
        return known[-1] if known else self._execution.source

    def _of_replayed(self, moment: str) -> str:
        """Return that of the execution that this one replays, empty for a very long chain."""
        assert self._execution.replay is not None
        if self._source is None and self._replays < _MOST_REPLAYS:
            try:
                replayed = Journal.open(self._store, self._execution.replay.source)
            except KitaruError:
                return ""
            self._source = _Digests(replayed, self._replays + 1)
        return "" if self._source is None else self._source.at(moment)


def _site(site: str) -> tuple[str, int]:
    file, _, line = site.rpartition(":")
    return file, int(line) if line.isdecimal() else 0


def _own_file(journal: Journal) -> str:
    return PurePosixPath(journal.execution.file).name


def _raising_line(error: ErrorInfo | None, file: str) -> int:
    """Return the innermost line of a file in the traceback of an error, 0 without one."""
    frames = _FRAME.findall(error.traceback) if error is not None else []
    lines = [int(line) for name, line in frames if PurePosixPath(name).name == file]
    return lines[-1] if lines else 0


def _file_in(journal: Journal, digest: str, name: str) -> str | None:
    """Return the file of that name, which a call site gives without folders; None if unknown."""
    files = _files(journal, digest) if digest else {}
    own = journal.execution.module.replace(".", "/")
    found = [path for path in files if PurePosixPath(path).name == name]
    preferred = [path for path in found if path in (f"{own}.py", f"{own}/__init__.py")]
    # Which of several files of the same name a line is in is unknown.
    return files[(preferred or found)[0]] if preferred or len(found) == 1 else None


def _files(journal: Journal, digest: str) -> dict[str, str]:
    """Return the project's Python files by their paths: of a bundle, or the one recorded file."""
    # Two files may have the same content and different names.
    key = (digest, _own_file(journal))
    with _lock:
        if key in _read:
            _read.move_to_end(key)
            return _read[key]
    # An execution that may be read may run this bundle.
    data = journal.store.get(keys.bundle(digest))
    if data is None:
        text = sources.read_source(journal.store, digest)
        if text is None:
            return {}
        found = {_own_file(journal): text}
    else:
        try:
            found = {
                name: content.decode("utf-8", "replace")
                for name, content in bundle.contents(data).items()
                if name.endswith(".py") and name.partition("/")[0] not in _OWN
            }
        except StateError:
            return {}
    with _lock:
        _read[key] = found
        while len(_read) > _READ:
            _read.popitem(last=False)
    return found
