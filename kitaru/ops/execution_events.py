"""Events of executions: one has failed, or asks a question.

    hint news/<execution>/<what>    before the record of what happened
    event/id/<digest>               `kitaru.execution.failed` or `kitaru.execution.waiting`

A dispatcher sends the event of a hint if a deployed flow declares what it starts: `on=`,
`on_failure=` or `on_waiting=` of `@flow`. The id of the event is that of the hint, so each hint is
one event, however many dispatchers send it. A dispatcher that notifies people deletes a hint only
after its event was sent.

An execution that such an event started has no events itself, and neither have its children: a flow
that fails because another one failed would start it again, for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kitaru.errors import NotFound
from kitaru.ops.events import store_event
from kitaru.ops.triggers import is_about_executions, triggers_of
from kitaru.runtime.journal import launches, rounds
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.subscriptions import newest_entry
from kitaru.wire import keys
from kitaru.wire.events import FAILED, WAITING
from kitaru.wire.flow_events import HANDLERS
from kitaru.wire.limits import MAX_EVENT_ID_CHARACTERS
from kitaru.wire.records import EventEntry, EventRecord, ExecutionRecord, StateRecord
from kitaru.wire.redaction import redacted
from kitaru.wire.times import now

if TYPE_CHECKING:
    from kitaru.stores.base import Store

_MOST_CHARACTERS = 8_000
_NAMES = {"f": FAILED, "l": FAILED, "w": WAITING}


@dataclass
class ExecutionEvents:
    """Sends the events of executions that deployed flows want."""

    store: Store
    _records: RecordStore = field(init=False)
    _head: EventEntry | None = None
    _wanted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # Hints of which nothing more is to be sent.
    _done: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._records = RecordStore(self.store)

    def look(self) -> int:
        """Send the events of all hints; return the number of hints whose event was sent.

        Raises EnvironmentFailure if the store fails.
        """
        self.refresh()
        if not self._wanted:
            return 0
        listed = self.store.list(keys.NEWS)
        self._done.intersection_update(listed)
        return sum(self.send(hint) for hint in listed if hint not in self._done)

    def refresh(self) -> None:
        """Read which flows want events of executions."""
        number = 0 if self._head is None else self._head.number
        if self.store.get(keys.event_entry(number + 1)) is None:
            return
        head = newest_entry(self._records, number + 1)
        found = triggers_of(self._records, head)
        wanted = {flow: one for flow, one in found.items() if is_about_executions(one)}
        if wanted != self._wanted:
            self._done.clear()
        self._head, self._wanted = head, wanted

    def send(self, hint: str) -> bool:
        """Send the event of a hint; return whether there is one now.

        Raises EnvironmentFailure if the store fails.
        """
        exec_id, what, kind, subject = keys.news_parts(hint)
        name = _NAMES.get(kind)
        written = self.store.get(hint) if name is not None and self._wanted else None
        if name is None or written is None:
            self._done.add(hint)
            return False
        data = self._data(exec_id, kind, subject)
        if data is None:
            # Its writer is about to write the record, or was killed before.
            return False
        self._done.add(hint)
        if not self._is_wanted(name, data["flow"], written.decode("ascii")):
            return False
        if self._is_of_event(exec_id):
            return False
        id = f"{exec_id}/{what}"
        if len(id) > MAX_EVENT_ID_CHARACTERS:
            id = f"{exec_id}/{hashlib.sha256(what.encode()).hexdigest()[:32]}"
        made = EventRecord(name, id, data, now(), f"execution {exec_id}")
        store_event(self._records, made)
        return True

    def _is_wanted(self, name: str, flow: str, at: str) -> bool:
        option = next(one for one, event in HANDLERS.items() if event == name)
        return any(
            at >= one["since"] and (name in one["on"] or (of == flow and one.get(option)))
            for of, one in self._wanted.items()
        )

    def _is_of_event(self, exec_id: str) -> bool:
        """Return whether an event of an execution started this one, or one above it."""
        while exec_id:
            launch = launches.recall(self.store, exec_id)
            if launch is not None and launch.event.startswith((f"{FAILED}/", f"{WAITING}/")):
                return True
            held = self._records.read(ExecutionRecord, keys.execution(exec_id))
            parent = (launch.parent if launch else "") or (held.parent if held else "")
            exec_id = parent.partition("/")[0]
        return False

    def _data(self, exec_id: str, kind: str, subject: str) -> dict[str, Any] | None:
        """Return the data of an event; None if what the hint announces is not recorded."""
        if kind == "l":
            return self._lost(exec_id)
        try:
            journal = Journal.open(self.store, exec_id)
        except NotFound:
            return None
        about = {"exec_id": exec_id, "flow": journal.execution.flow}
        if kind == "f":
            state = self._records.read(StateRecord, keys.state(exec_id, int(subject)))
            if state is None or state.status != "failed":
                return None
            error = state.error
            return {
                **about,
                "error": {
                    "type": error.type if error else "",
                    "message": _short(error.message if error else ""),
                    "invocation": error.invocation if error else "",
                },
            }
        wait = subject.rpartition("-")[0]
        request = journal.wait_request(wait)
        if request is None:
            return None
        question = _short(request.question)
        return {**about, "wait": wait, "question": question, "deadline": request.deadline}

    def _lost(self, exec_id: str) -> dict[str, Any] | None:
        launch = launches.recall(self.store, exec_id)
        held = self._records.read(ExecutionRecord, keys.execution(exec_id))
        flow = held.flow if held else launch.flow if launch else ""
        if not flow:
            return None
        why = f"Its run ended without a word {rounds.MOST_LOST + 1} times in a row."
        return {
            "exec_id": exec_id,
            "flow": flow,
            "error": {"type": "", "message": why, "invocation": ""},
        }


def _short(text: str) -> str:
    return redacted(text)[:_MOST_CHARACTERS]
