"""Values as people read them: a text, Markdown, a table, an image, or JSON as a tree."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from kitaru.runtime import codec
from kitaru.runtime.executions.value_files import image_type, root_of
from kitaru.runtime.journal.journal import Journal
from kitaru.server.previews import MOST_BYTES, preview
from kitaru.wire.records import StoredValue
from kitaru.wire.structs import Struct

_ROWS = 50
_COLUMNS = 20
_FRAMES = ("pandas.DataFrame", "polars.DataFrame")
_PLAIN = (str, int, float, bool, type(None))


class Table(Struct):
    """The first rows and columns of a table, and how many there are of each."""

    heads: list[str]
    rows: list[list[Any]]
    height: int
    width: int

    @property
    def is_complete(self) -> bool:
        """Whether it contains all rows and columns."""
        return self.height <= len(self.rows) and self.width <= len(self.heads)


class Shown(Struct):
    """A value, or a part of it.

    Attributes:
        name: that of the artifact, by which it is downloaded; empty without one.
        image: whether it is an image, which is read by its name.
        table: its first rows, if it is a table.
    """

    value: Any
    is_complete: bool
    size: int
    name: str = ""
    image: bool = False
    table: Table | None = None


def shown(journal: Journal, stored: StoredValue, name: str = "") -> Shown:
    """Return a recorded value for a page."""
    value, is_complete = preview(journal, stored)
    if stored.size > MOST_BYTES:
        return Shown(value, is_complete, stored.size, name)
    document = journal.fetch(stored)
    if name and image_type(document):
        return Shown(None, True, stored.size, name, image=True)
    table = _frame(document) or table_of(value)
    complete = is_complete and (table is None or table.is_complete)
    return Shown(value, complete, stored.size, name, table=table)


def table_of(value: Any) -> Table | None:
    """Return a list of objects with equal fields as a table; None for another value.

    Example:
        table_of([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}])
    """
    if not isinstance(value, list) or len(value) < 2 or not isinstance(value[0], Mapping):
        return None
    heads = list(value[0])
    if not heads or any(not _is_row(one, heads) for one in value):
        return None
    some = heads[:_COLUMNS]
    rows = [[one[head] for head in some] for one in value[:_ROWS]]
    return Table(some, rows, len(value), len(heads))


def _is_row(one: Any, heads: list[str]) -> bool:
    fits = isinstance(one, Mapping) and list(one) == heads
    return fits and all(isinstance(cell, _PLAIN) for cell in one.values())


def _frame(document: Any) -> Table | None:
    """Return a recorded data frame as a table, if its library is installed here."""
    tag, _ = root_of(document)
    if tag not in _FRAMES or find_spec(tag.partition(".")[0]) is None:
        return None
    frame = codec.decode(document)
    height, width = frame.shape
    heads = [str(one) for one in list(frame.columns)[:_COLUMNS]]
    part = frame.head(_ROWS)
    rows = part.rows() if tag.startswith("polars") else part.itertuples(index=False, name=None)
    cells = [[_cell(cell) for cell in list(row)[:_COLUMNS]] for row in rows]
    return Table(heads, cells, height, width)


def _cell(value: Any) -> Any:
    return value if isinstance(value, _PLAIN) else str(value)
