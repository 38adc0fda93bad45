"""ADK's sessions on a store of Kitaru.

    session/APP/USER/ID/VERSION         a session: its generation and first state, or its deletion
    event/APP/USER/ID/GENERATION/NUMBER an event; the newest sorts first
    state/APP/USER/VERSION              state of a user, or of the app where USER is empty

Objects never change. The state of a session is its first state with the changes of its events, so
that a process may die between any two objects. The events of a deleted session belong to another
generation than those of a new one with its id.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from secrets import token_hex
from typing import Any
from uuid import uuid4

from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event
from google.adk.sessions import BaseSessionService, Session, State
from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse
from pydantic_core import PydanticSerializationError, to_jsonable_python

from kitaru.errors import RecordCorrupt, RecordTooNew, ValueNotEncodable
from kitaru.stores import resolve_store
from kitaru.stores.base import Store, existing
from kitaru.wire import keys, redaction

_HOME = keys.adapter("google-adk")
_FORMAT = 1


class KitaruSessionService(BaseSessionService):
    """Keeps the sessions of ADK in a store of Kitaru: a file, or a bucket of several machines.

    State with the prefix `user:` belongs to a user, with `app:` to the app. State with `temp:` is
    not kept. An event that is appended again, with the same id, is kept once. Each session reads
    all of its events.

    Args:
        store: an open store or its URL. Default: the configured store.

    Raises:
        ValueNotEncodable: an event or state is not JSON, or contains a secret of `kitaru.secret`.
        EnvironmentFailure: the store cannot be used.

    Example:
        sessions = KitaruSessionService("sqlite:chats.db")
        runner = Runner(app=app, session_service=sessions)
    """

    def __init__(self, store: str | Store | None = None) -> None:
        super().__init__()
        self._store = resolve_store(store)

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Create a session and return it.

        Raises:
            AlreadyExistsError: the session exists.
        """
        id = (session_id or "").strip() or str(uuid4())
        return await asyncio.to_thread(self._create, app_name, user_id, id, state or {})

    async def get_session(
        self,
        *,
        app_name: str,
        user_id: str,
        session_id: str,
        config: GetSessionConfig | None = None,
    ) -> Session | None:
        """Return a session with its state and the events that `config` chooses; None if absent."""
        session = await asyncio.to_thread(self._get, app_name, user_id, session_id.strip())
        if session is not None and config is not None:
            session.events = _chosen(session.events, config)
        return session

    async def list_sessions(
        self, *, app_name: str, user_id: str | None = None
    ) -> ListSessionsResponse:
        """Return the sessions of a user or of all users without events, oldest change first."""
        found = await asyncio.to_thread(self._list, app_name, user_id)
        return ListSessionsResponse(sessions=found)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session and its events."""
        await asyncio.to_thread(self._delete, app_name, user_id, session_id.strip())

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return the state of a user, by names without `user:`."""
        return await asyncio.to_thread(self._shared, app_name, user_id)

    async def append_event(self, session: Session, event: Event) -> Event:
        """Append an event to a session, and change the state as it says.

        Raises:
            SessionNotFoundError: the session does not exist.
        """
        if event.partial or any(known.id == event.id for known in session.events):
            return event
        # ADK's own rules: temporary state reaches the object, not the store.
        await super().append_event(session, event)
        session.last_update_time = event.timestamp
        await asyncio.to_thread(self._append, session, event)
        return event

    # In threads, because the store blocks.

    def _create(self, app: str, user: str, id: str, state: dict[str, Any]) -> Session:
        while True:
            number, head = self._head(app, user, id)
            if _exists(head):
                raise AlreadyExistsError(f"Session with id {id} already exists.")
            parts = _by_owner(state)
            self._change(app, "", parts["app"])
            self._change(app, user, parts["user"])
            record = {
                "app": app,
                "user": user,
                "id": id,
                "generation": token_hex(8),
                "state": parts["session"],
                "created": time.time(),
            }
            body = _body(record, f"The state of the session {id!r}")
            if self._store.create(keys.numbered(_home("session", app, user, id), number), body):
                return self._session(record, [])

    def _get(self, app: str, user: str, id: str) -> Session | None:
        _, head = self._head(app, user, id)
        return self._session(head, self._events(head)) if _exists(head) else None

    def _list(self, app: str, user: str | None) -> list[Session]:
        home = _home("session", app, *([] if user is None else [user]))
        newest = {key.rpartition("/")[0]: key for key in reversed(self._store.list(home))}
        found = []
        for key, body in existing(self._store, newest.values()):
            if _exists(head := _record(key, body)):
                session = self._session(head, self._events(head))
                session.events = []
                found.append(session)
        return sorted(found, key=lambda one: (one.last_update_time, one.user_id, one.id))

    def _delete(self, app: str, user: str, id: str) -> None:
        number, head = self._head(app, user, id)
        if not _exists(head):
            return
        body = _body({"app": app, "user": user, "id": id}, "A session")
        if self._store.create(keys.numbered(_home("session", app, user, id), number), body):
            self._store.delete(*self._store.list(_events(head)))

    def _append(self, session: Session, event: Event) -> None:
        _, head = self._head(session.app_name, session.user_id, session.id)
        if not _exists(head):
            raise SessionNotFoundError(f"Session {session.id} not found.")
        record = {"event": event.model_dump(mode="json", by_alias=True, exclude_none=True)}
        body = _body(record, f"An event of the session {session.id!r}")
        parts = _by_owner(event.actions.state_delta)
        # First the state: an event that a crash prevents is appended again, with the same changes.
        self._change(session.app_name, "", parts["app"])
        self._change(session.app_name, session.user_id, parts["user"])
        home = _events(head)
        known = len(session.events) - 1
        while True:
            newest = self._store.list(home, limit=1)
            number = keys.version_number(newest[0]) + 1 if newest else 0
            # Another attempt at this call may have appended the event.
            unseen = self._store.list(home, limit=number - known) if number > known else []
            for key, stored in existing(self._store, unseen):
                if _record(key, stored)["event"]["id"] == event.id:
                    return
            if self._store.create(keys.numbered(home, number), body):
                return

    def _session(self, head: Mapping[str, Any], events: list[Event]) -> Session:
        state, changed = dict(head["state"]), head["created"]
        for event in events:
            state.update(_by_owner(event.actions.state_delta)["session"])
            changed = event.timestamp
        shared = {
            State.APP_PREFIX: self._shared(head["app"], ""),
            State.USER_PREFIX: self._shared(head["app"], head["user"]),
        }
        for prefix, values in shared.items():
            state.update({f"{prefix}{name}": value for name, value in values.items()})
        return Session(
            id=head["id"],
            app_name=head["app"],
            user_id=head["user"],
            state=state,
            events=events,
            last_update_time=changed,
        )

    def _events(self, head: Mapping[str, Any]) -> list[Event]:
        found = existing(self._store, reversed(self._store.list(_events(head))))
        # From text: in JSON, but not in Python, bytes are base64.
        return [
            Event.model_validate_json(json.dumps(_record(key, body)["event"]))
            for key, body in found
        ]

    def _shared(self, app: str, user: str) -> dict[str, Any]:
        _, record = self._newest(_state(app, user))
        state: dict[str, Any] = record.get("state", {})
        return state

    def _change(self, app: str, user: str, changes: Mapping[str, Any]) -> None:
        """Change the state of a user, or of the app if `user` is empty."""
        home = _state(app, user)
        while changes:
            number, record = self._newest(home)
            state = {**record.get("state", {}), **changes}
            what = f"The state of the user {user!r}" if user else f"The state of the app {app!r}"
            if self._store.create(keys.numbered(home, number), _body({"state": state}, what)):
                # The one before may be what a reader has listed.
                if number > 1:
                    self._store.delete(keys.numbered(home, number - 2))
                return

    def _head(self, app: str, user: str, id: str) -> tuple[int, dict[str, Any]]:
        return self._newest(_home("session", app, user, id))

    def _newest(self, home: str) -> tuple[int, dict[str, Any]]:
        """Return the number of the next version below `home`, and the record of the newest."""
        while found := self._store.list(home, limit=1):
            for key, body in existing(self._store, found):
                return keys.version_number(key) + 1, _record(key, body)
        return 0, {}


def _home(*parts: str) -> str:
    return _HOME + "".join(f"{keys.part(part)}/" for part in parts)


def _state(app: str, user: str) -> str:
    return _home("state", app, user)


def _events(head: Mapping[str, Any]) -> str:
    return _home("event", head["app"], head["user"], head["id"], head["generation"])


def _exists(head: Mapping[str, Any]) -> bool:
    return "generation" in head


def _by_owner(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the state of the app, the user and the session, without that of one invocation."""
    found: dict[str, dict[str, Any]] = {"app": {}, "user": {}, "session": {}}
    for name, value in state.items():
        if name.startswith(State.APP_PREFIX):
            found["app"][name.removeprefix(State.APP_PREFIX)] = value
        elif name.startswith(State.USER_PREFIX):
            found["user"][name.removeprefix(State.USER_PREFIX)] = value
        elif not name.startswith(State.TEMP_PREFIX):
            found["session"][name] = value
    return found


def _chosen(events: list[Event], config: GetSessionConfig) -> list[Event]:
    if config.num_recent_events is not None:
        events = events[-config.num_recent_events :] if config.num_recent_events else []
    if config.after_timestamp is not None:
        events = [event for event in events if event.timestamp >= config.after_timestamp]
    return events


def _body(record: Mapping[str, Any], where: str) -> bytes:
    try:
        body = json.dumps(to_jsonable_python({"format": _FORMAT, **record}), allow_nan=False)
    except (PydanticSerializationError, ValueError) as error:
        raise ValueNotEncodable(f"{where} is not JSON: {error}.") from None
    if redaction.has_values() and (name := redaction.find_secret_in_document(record)):
        raise ValueNotEncodable(
            f"{where} contains the secret {name!r}, which must not be stored.",
            help="Keep secrets out of sessions: read them where they are used.",
        )
    return body.encode()


def _record(key: str, body: bytes) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(body)
        number = record["format"]
    except (ValueError, TypeError, KeyError):
        raise RecordCorrupt(f"{key} is damaged: it is not part of a session of ADK.") from None
    if number != _FORMAT:
        raise RecordTooNew(f"{key} has format {number!r}; this release reads {_FORMAT}.")
    return record
