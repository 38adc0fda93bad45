"""Decides which command a message tells people to run next."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from kitaru.runtime.recording.journal import Journal
from kitaru.stores import DEFAULT_URL


def retry_help(journal: Journal) -> str:
    """Return how to run a failed execution again."""
    return f"Fix the cause, then: kitaru executions retry {journal.exec_id}{_store(journal)}"


def resume_help(journal: Journal) -> str:
    """Return how to go on with an execution whose process is gone."""
    return f"To go on: kitaru executions resume {journal.exec_id}{_store(journal)}"


def input_help(journal: Journal, wait: str) -> str:
    """Return how to answer a wait."""
    return f"kitaru executions input {journal.exec_id} --wait {wait} --value …{_store(journal)}"


def get_help(journal: Journal) -> str:
    """Return how to look at an execution."""
    return f"See: kitaru executions get {journal.exec_id}{_store(journal)}"


def next_help(journal: Journal, status: str) -> str:
    """Return what can be done with an execution that has not failed."""
    if status == "waiting":
        waits = [request.name for request in journal.pending_waits()] or ["NAME"]
        return f"Answer it: {input_help(journal, waits[0])}"
    if status == "running":
        return resume_help(journal)
    return f"Start a new execution instead. {get_help(journal)}"


def _store(journal: Journal) -> str:
    """The store is named unless the command finds the same one without."""
    url = journal.store.url
    default = os.environ.get("KITARU_STORE") or DEFAULT_URL
    return "" if _place(url) == _place(default) else f" --store {shlex.quote(url)}"


def _place(url: str) -> str:
    if not url.startswith("sqlite:"):
        return url
    path = Path(url.removeprefix("sqlite:"))
    inside = url.endswith("/") or path.is_dir()
    return str((path / "kitaru.db" if inside else path).resolve())
