"""Decides which command a message tells people to run next."""

from __future__ import annotations

import json
import os
import shlex
from typing import TYPE_CHECKING, Any

from kitaru.runtime.recording.shown import as_json
from kitaru.stores import DEFAULT_URL, Store, sqlite_path

if TYPE_CHECKING:
    from kitaru.runtime.recording.journal import Journal


def command(store: Store, *words: str) -> str:
    """Return a command to paste; it names the store unless it finds the same one without.

    Example:
        >>> command(MemoryStore("memory:doc"), "executions", "get", "e1")
        'kitaru executions get e1 --store memory:doc'
    """
    default = os.environ.get("KITARU_STORE") or DEFAULT_URL
    tail = [] if _place(store.url) == _place(default) else ["--store", store.url]
    return shlex.join(["kitaru", *words, *tail])


def retry_help(journal: Journal) -> str:
    """Return how to run a failed execution again."""
    return f"Fix the cause, then: {_execution(journal, 'retry')}"


def resume_help(journal: Journal) -> str:
    """Return how to go on with an execution whose process is gone."""
    return f"To go on: {_execution(journal, 'resume')}"


def input_help(journal: Journal, wait: str) -> str:
    """Return how to answer a wait."""
    return _execution(journal, "input", "--wait", wait, "--value", "VALUE")


def get_help(journal: Journal) -> str:
    """Return how to look at an execution."""
    return f"See: {_execution(journal, 'get')}"


def next_help(journal: Journal, status: str) -> str:
    """Return what can be done with an execution that has not failed."""
    if status == "waiting":
        waits = [request.name for request in journal.pending_waits()] or ["NAME"]
        return f"Answer it: {input_help(journal, waits[0])}"
    if status == "running":
        return f"If its process is gone: {_execution(journal, 'resume')}"
    if status == "cancelled":
        return new_help(journal)
    return f"Start a new execution instead. {get_help(journal)}"


def new_help(journal: Journal) -> str:
    """Return how to go on from what a cancelled execution recorded."""
    return f"Go on with a new one: {_execution(journal, 'replay', '--at', 'failure')}"


def replay_help(journal: Journal, start: str) -> str:
    """Return how to make a replay again that takes over only what precedes `start`."""
    replay = journal.execution.replay
    assert replay is not None, "only a replay takes anything over"
    changed = [f"model.{alias}={model}" for alias, model in replay.models.items()]
    changed += [_given(journal, id) for id in replay.results]
    inputs = as_json(journal.fetch(journal.execution.inputs)) if replay.inputs else {}
    words = [word for text in changed for word in ("--set", text)]
    words += [w for name in replay.inputs for w in ("--input", f"{name}={_text(inputs[name])}")]
    return command(journal.store, "executions", "replay", replay.source, "--from", start, *words)


def _given(journal: Journal, id: str) -> str:
    record = journal.invocation(id)
    assert record is not None and record.value is not None, "what was given is recorded"
    return f"{record.kind}.{id}={_text(as_json(journal.fetch(record.value)))}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _execution(journal: Journal, verb: str, *more: str) -> str:
    return command(journal.store, "executions", verb, journal.exec_id, *more)


def _place(url: str) -> str:
    place = url.removeprefix("sqlite:")
    return url if place == url else str(sqlite_path(place).resolve())
