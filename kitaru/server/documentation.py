"""Search and read the documentation: Markdown that is installed with the package.

The index is SQLite's full-text search in memory. A section of a page is one row of it.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from functools import cache
from pathlib import Path

from kitaru.errors import NotFound
from kitaru.wire.names import suggestion
from kitaru.wire.structs import Struct

_PACKAGE = Path(__file__).resolve().parent
# In a wheel, and in the repository; see pyproject.toml.
_PLACES = (_PACKAGE / "docs", _PACKAGE.parents[1] / "docs")
_FILES = ("guarantees.md", "quickstart.md")
_FOLDERS = ("concepts", "how-to", "reference")
_COMMENT = re.compile(r"^<!--.*?-->\n?", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^(?:```|~~~)")
_HEADING = re.compile(r"#{1,3} +(.+)")
_WORD = re.compile(r"\w+")
_EXCERPT_WORDS = 40
_MOST_QUERY = 500


class Section(Struct):
    """A section of a page. `page` is its path, such as `how-to/replay`; `title` is the heading."""

    page: str
    title: str
    text: str


class Found(Struct):
    """A section that contains the words of a search, with an excerpt."""

    page: str
    title: str
    excerpt: str


@cache
def pages() -> dict[str, str]:
    """Return the text of each page by its path without `.md`, such as `how-to/replay`."""
    place = next((one for one in _PLACES if (one / "quickstart.md").is_file()), None)
    if place is None:
        return {}
    files = [place / name for name in _FILES]
    files += [file for name in _FOLDERS for file in (place / name).glob("*.md")]
    named = {file.relative_to(place).with_suffix("").as_posix(): file for file in sorted(files)}
    return {name: _COMMENT.sub("", file.read_text("utf-8")) for name, file in named.items()}


def title_of(text: str) -> str:
    """Return the title of a page."""
    return text.partition("\n")[0].lstrip("# ").strip()


def read(page: str) -> str:
    """Return the Markdown of a page; raise NotFound."""
    name = page.removesuffix(".md")
    if name not in pages():
        listed = f"Pages: {', '.join(pages())}" if pages() else "It is not installed here."
        raise NotFound(
            f"The documentation has no page {page!a}.", help=suggestion(name, pages(), listed)
        )
    return pages()[name]


def search(query: str, limit: int = 5) -> list[Found]:
    """Return the sections that contain words of a query, the best first.

    Example:
        search("retry a failed execution")[0].page
    """
    words = list(dict.fromkeys(_WORD.findall(query[:_MOST_QUERY])))
    words = [word for word in words if len(word) > 2] or words
    if not words:
        return []
    # Words in quotation marks cannot be operators.
    matching = " OR ".join(f'"{word}"' for word in words)
    index, lock = _index()
    with lock:
        rows = index.execute(
            "SELECT page, title, snippet(section, 2, '', '', '…', ?) FROM section "
            "WHERE section MATCH ? ORDER BY bm25(section, 2.0, 4.0, 1.0), rowid LIMIT ?",
            (_EXCERPT_WORDS, matching, limit),
        ).fetchall()
    return [Found(*row) for row in rows]


@cache
def _index() -> tuple[sqlite3.Connection, threading.Lock]:
    index = sqlite3.connect(":memory:", check_same_thread=False)
    index.execute("CREATE VIRTUAL TABLE section USING fts5(page, title, text, tokenize='porter')")
    rows = (
        (one.page, one.title, one.text)
        for page, text in pages().items()
        for one in sections(page, text)
    )
    index.executemany("INSERT INTO section VALUES (?, ?, ?)", rows)
    return index, threading.Lock()


def sections(page: str, text: str) -> list[Section]:
    """Return the sections of a page. A comment in a block of code is no heading."""
    found: list[tuple[str, list[str]]] = []
    is_code = False
    for line in text.splitlines():
        is_code ^= bool(_FENCE.match(line))
        heading = None if is_code else _HEADING.fullmatch(line)
        if heading is not None or not found:
            found.append((heading[1].strip() if heading else "", []))
        if heading is None:
            found[-1][1].append(line)
    title = title_of(text)
    return [
        Section(page, name if name == title else f"{title}: {name}", "\n".join(lines).strip())
        for name, lines in found
    ]
