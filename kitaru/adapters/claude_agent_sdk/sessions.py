"""Transcripts of the Claude Agent SDK in a store of Kitaru.

Each batch of entries is an object with the next number of its transcript. An entry with a known
`uuid` is not written again, so a batch may be sent more than once.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from claude_agent_sdk import (
    SessionKey,
    SessionListSubkeysKey,
    SessionStoreEntry,
    SessionStoreListEntry,
)

from kitaru.errors import RecordCorrupt, RecordTooNew
from kitaru.stores import resolve_store
from kitaru.stores.base import Store, existing
from kitaru.wire import keys, redaction

_HOME = keys.adapter("claude-agent-sdk")
_FORMAT = 1


class KitaruSessionStore:
    """Keeps sessions in a store of Kitaru, for `ClaudeAgentOptions(session_store=…)`.

    `resume`, `fork_session` and the SDK's functions for stores read from it, also when the local
    files of a session are gone. Values of `kitaru.secret` are masked.

    Args:
        store: an open store or its URL. Default: the configured store.

    Raises:
        EnvironmentFailure: the store cannot be used.

    Example:
        options = ClaudeAgentOptions(session_store=KitaruSessionStore("sqlite:chats.db"))
    """

    def __init__(self, store: str | Store | None = None) -> None:
        self._store = resolve_store(store)

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Add entries to a transcript, each `uuid` once."""
        await asyncio.to_thread(self._append, key, entries)

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """Return a transcript, or None if it does not exist."""
        _, batches = await asyncio.to_thread(self._read, _transcript(key))
        return [entry for batch in batches for entry in batch["entries"]] if batches else None

    async def list_sessions(self, project_key: str) -> list[SessionStoreListEntry]:
        """Return the sessions of a project with the times of their last changes."""
        return await asyncio.to_thread(self._sessions, project_key)

    async def list_subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        """Return the transcripts of a session's subagents."""
        return await asyncio.to_thread(self._subkeys, key)

    async def delete(self, key: SessionKey) -> None:
        """Delete a session with its subagents, or the transcript of one subagent."""
        home = _transcript(key) if key.get("subpath") else _session(key)
        await asyncio.to_thread(self._delete, home)

    def _append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        home = _transcript(key)
        while True:
            number, batches = self._read(home)
            known = {entry.get("uuid") for batch in batches for entry in batch["entries"]} - {None}
            new = []
            for entry in entries:
                if (uuid := entry.get("uuid")) not in known or uuid is None:
                    new.append(entry)
                    known.add(uuid)
            if not new:
                return
            record = {
                "format": _FORMAT,
                "session": key["session_id"],
                "subpath": key.get("subpath") or "",
                "written": int(time.time() * 1000),
                "entries": new,
            }
            body = redaction.redacted(json.dumps(record))
            # Another process may have taken the number.
            if self._store.create(f"{home}{number:08d}", body.encode()):
                return

    def _read(self, home: str) -> tuple[int, list[dict[str, Any]]]:
        """Return the next number of a transcript, and its batches."""
        found = self._store.list(home)
        number = int(found[-1].rpartition("/")[2]) + 1 if found else 0
        return number, [_record(key, body) for key, body in existing(self._store, found)]

    def _sessions(self, project: str) -> list[SessionStoreListEntry]:
        home = f"{_HOME}session/{keys.part(project)}/"
        last = {
            key.rpartition("/")[0]: key
            for key in self._store.list(home)
            if key.removeprefix(home).split("/")[1] == _MAIN
        }
        return [
            {"session_id": record["session"], "mtime": record["written"]}
            for record in self._records(last.values())
        ]

    def _subkeys(self, key: SessionListSubkeysKey) -> list[str]:
        home = f"{_session(key)}{_SUBAGENT}/"
        first = {one.rpartition("/")[0]: one for one in reversed(self._store.list(home))}
        return sorted(record["subpath"] for record in self._records(first.values()))

    def _records(self, found: Any) -> list[dict[str, Any]]:
        return [_record(key, body) for key, body in existing(self._store, found)]

    def _delete(self, home: str) -> None:
        if found := self._store.list(home):
            self._store.delete(*found)


class Attempts:
    """The sessions that the attempts at a step of an execution have used, oldest first.

    A new process cannot know how far the last one came. It looks for the newest of these sessions
    that has a transcript, and continues there.
    """

    def __init__(self, store: Store, exec_id: str, step: str) -> None:
        self._store = store
        self._home = f"{_HOME}attempt/{keys.part(exec_id)}/{keys.part(step)}/"

    def read(self) -> list[str]:
        """Return the sessions."""
        found = existing(self._store, self._store.list(self._home))
        return [body.decode() for _, body in found]

    def begin(self, number: int, session: str) -> None:
        """Name the session of a new attempt before it starts."""
        while not self._store.create(f"{self._home}{number:08d}", session.encode()):
            number += 1


_MAIN, _SUBAGENT = "main", "subagent"


def _session(key: Any) -> str:
    return f"{_HOME}session/{keys.part(key['project_key'])}/{keys.part(key['session_id'])}/"


def _transcript(key: SessionKey) -> str:
    subpath = key.get("subpath")
    return f"{_session(key)}{f'{_SUBAGENT}/{keys.part(subpath)}' if subpath else _MAIN}/"


def _record(key: str, body: bytes) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(body)
        number = record["format"]
    except (ValueError, TypeError, KeyError):
        raise RecordCorrupt(f"{key} is damaged: it is not a batch of a Claude session.") from None
    if number != _FORMAT:
        raise RecordTooNew(f"{key} has format {number!r}; this release reads {_FORMAT}.")
    return record
