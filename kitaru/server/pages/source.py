"""The source of a deployed execution beside its timeline, from the bundle that it runs."""

from __future__ import annotations

import threading
from collections import OrderedDict

from kitaru_targets import bundle

from kitaru.errors import StateError
from kitaru.runtime.journal.journal import Journal
from kitaru.server.pages.timeline import Row
from kitaru.wire import keys
from kitaru.wire.structs import Struct

_AROUND = 14
_MOST_LINES = 2_000
_BUNDLES = 8
# Kitaru's own packages, which are in every bundle.
_OWN = ("kitaru", "kitaru_compiler", "kitaru_targets", "kitaru_templates", bundle.BUILD)

_lock = threading.Lock()
_read: OrderedDict[str, dict[str, str]] = OrderedDict()


class Line(Struct):
    """A line of the source; `row` is the key of the row of the timeline that it called."""

    number: int
    text: str
    row: str = ""
    is_current: bool = False


class Source(Struct):
    """A part of a file around the current line, and the number of all its lines."""

    file: str
    lines: list[Line]
    count: int

    @property
    def is_complete(self) -> bool:
        """Whether it contains all lines."""
        return len(self.lines) == self.count


def source(journal: Journal, rows: list[Row], current: str, *, whole: bool) -> Source | None:
    """Return the source around the call site of a row; None if the store does not contain it.

    Args:
        current: the key of the row whose line is marked.
        whole: whether all lines are returned.
    """
    sites = {row.key: _site(row.site) for row in rows if row.site}
    # A question that waits has no site: the call before it is near.
    near = list(sites.values())[-1:] or [("", 0)]
    file, line = sites.get(current) or near[0]
    current_line = line if current in sites else 0
    text = _files(journal).get(file)
    if text is None:
        return None
    by_line: dict[int, str] = {}
    for key, (other, number) in sites.items():
        if other == file:
            by_line.setdefault(number, key)
    lines = text.splitlines()[:_MOST_LINES]
    first = 0 if whole else max(0, line - 1 - _AROUND)
    last = len(lines) if whole else line + _AROUND
    return Source(
        file,
        [
            Line(number, content, by_line.get(number, ""), number == current_line)
            for number, content in enumerate(lines[first:last], first + 1)
        ],
        len(lines),
    )


def _site(site: str) -> tuple[str, int]:
    file, _, line = site.rpartition(":")
    return file, int(line) if line.isdecimal() else 0


def _files(journal: Journal) -> dict[str, str]:
    """Return the project's Python files of an execution's bundle, by their paths."""
    digest = journal.execution.bundle_digest
    if not digest:
        return {}
    with _lock:
        if digest in _read:
            _read.move_to_end(digest)
            return _read[digest]
    # An execution that may be read may run this bundle.
    data = journal.store.get(keys.bundle(digest))
    if data is None:
        return {}
    try:
        found = {
            name: content.decode("utf-8", "replace")
            for name, content in bundle.contents(data).items()
            if name.endswith(".py") and name.partition("/")[0] not in _OWN
        }
    except StateError:
        return {}
    with _lock:
        _read[digest] = found
        while len(_read) > _BUNDLES:
            _read.popitem(last=False)
    return found
