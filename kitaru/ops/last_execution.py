"""Read what the last execution of a flow recorded at the lines of a file, for editors.

The store is the configured one. It is read, never created.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru import config, hints
from kitaru.errors import KitaruError
from kitaru.wire.printable import visible

if TYPE_CHECKING:
    from kitaru.runtime.journal.journal import Journal
    from kitaru.stores.base import Store
    from kitaru.view import ExecutionView
    from kitaru.wire.records import InvocationRecord

# An editor shows the beginning of an execution; the command shows all of it.
_MOST = 500
_PREVIEW = 200
_PREVIEW_BYTES = 64_000


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a flow's last execution recorded for the calls on a line.

    `functions` are their names without modules. `title` is short, `text` is Markdown and contains
    the `command` that shows more.
    """

    line: int
    functions: frozenset[str]
    title: str
    text: str
    command: str


def last_execution(file: Path, flow: str) -> list[Recorded]:
    """Return what the newest execution of a flow recorded, by line of a file.

    Without a store or an execution, or if the store cannot be read, the list is empty.

    Args:
        file: path of the source file, which the call sites of the records name.

    Example:
        for one in last_execution(Path("review.py"), "review_flow"):
            print(one.line, one.title)
    """
    try:
        store = _store(file)
        return [] if store is None else _recorded(store, file, flow)
    except (KitaruError, OSError):
        return []


def _store(file: Path) -> Store | None:
    from kitaru.store_urls import sqlite_path
    from kitaru.stores import open_store

    url = str(config.setting("store", start=file.parent).value)
    if url.startswith("sqlite:") and not sqlite_path(url.removeprefix("sqlite:")).exists():
        return None
    return open_store(url)


def _recorded(store: Store, file: Path, flow: str) -> list[Recorded]:
    from kitaru.ops.show import show
    from kitaru.runtime.executions.listing import list_executions

    found = list_executions(store, flow=flow, limit=1)
    if not found:
        return []
    view = show(store, found[0].exec_id)
    lines: dict[int, list[InvocationRecord]] = {}
    for record in view.overview(limit=_MOST).page:
        name, _, line = record.site.rpartition(":")
        if name and line.isdecimal() and file.as_posix().endswith(f"/{name}"):
            lines.setdefault(int(line), []).append(record)
    return [_at(view, line, records) for line, records in lines.items()]


def _at(view: ExecutionView, line: int, records: list[InvocationRecord]) -> Recorded:
    last = records[-1]
    command = hints.command(view.journal.store, "executions", "get", view.exec_id)
    title = _outcome(records)
    text = [
        f"**Last execution** `{view.exec_id}`, {view.status}, {view.started_at[:16]} UTC: {title}"
    ]
    if last.error is not None:
        text.append(f"{_code(last.error.type)}: {_code(last.error.message)}")
    elif last.value is not None:
        of = f" of `{last.id}`" if len(records) > 1 else ""
        text.append(f"Result{of}: {_preview(view.journal, last)}")
    functions = frozenset(record.callee.rpartition(".")[2] for record in records)
    text.append(_code(command, most=len(command)))
    return Recorded(line, functions, title, "\n\n".join(text), command)


def _outcome(records: list[InvocationRecord]) -> str:
    from kitaru.runtime.journal.effort import seconds

    took = sum(seconds(r.started_at, r.ended_at) for r in records if r.started_at and r.ended_at)
    failed = sum(record.status == "failed" for record in records)
    cancelled = sum(record.status == "cancelled" for record in records)
    attempts = sum(record.attempts for record in records)
    others = [(failed, "failed"), (cancelled, "cancelled")]
    told = [f"{n} {what}" if len(records) > 1 else what for n, what in others if n]
    parts = [
        f"{len(records)} calls" if len(records) > 1 else "",
        *(told or ["completed"]),
        f"{attempts} attempts" if attempts > len(records) else "",
        "from the cache" if all(record.cached_from for record in records) else f"{took:.2f} s",
    ]
    return ", ".join(filter(None, parts))


def _preview(journal: Journal, record: InvocationRecord) -> str:
    from kitaru.runtime.journal.to_json import as_json

    value = record.value
    assert value is not None
    if value.size > _PREVIEW_BYTES:
        return f"{_code(value.type)}, {value.size:,} bytes"
    return _code(json.dumps(as_json(journal.fetch(value)), ensure_ascii=False))


def _code(text: str, most: int = _PREVIEW) -> str:
    """Return a text as a code span of Markdown, shortened to `most` characters."""
    line = visible(" ".join(text.split()))
    cut = line if len(line) <= most else f"{line[:most]}…"
    # A code span ends at as many backticks as it starts with.
    longest = max(map(len, re.findall("`+", cut)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {cut} {fence}"


def still_at(recorded: Sequence[Recorded], text: str) -> bool:
    """Return whether all recorded calls are still on their lines in a text, by their names."""
    lines = text.split("\n")
    return all(
        one.line <= len(lines) and re.search(rf"\b{re.escape(name)}\b", lines[one.line - 1])
        for one in recorded
        for name in one.functions
    )
