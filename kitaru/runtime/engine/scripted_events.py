"""Events that a test or a dry run states: they reach only the execution that it runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kitaru.errors import UsageError
from kitaru.runtime.engine.waits import not_json
from kitaru.runtime.journal.events import fits
from kitaru.runtime.journal.journal import Journal
from kitaru.wire.events import check_sent_name
from kitaru.wire.records import EventRecord, WaitAnswer
from kitaru.wire.times import now


class ScriptedEvents:
    """Events in the order in which they come, each with its name and data."""

    def __init__(self, events: Iterable[tuple[str, Any]] = ()) -> None:
        self._left: list[tuple[str, Any]] = []
        for name, data in events:
            self.add(name, data)

    def add(self, name: str, data: Any) -> None:
        """Add an event after the others.

        Raises:
            UsageError: the name is not valid, or the data is not JSON.
        """
        check_sent_name(name)
        if reason := not_json(data, "data"):
            raise UsageError(f"The event {name} cannot be sent: {reason}.")
        self._left.append((name, data))

    def deliver(self, journal: Journal) -> bool:
        """Answer the waits that the next event fits; return whether there are any.

        Events that no pending wait asks for are left for later waits.
        """
        pending = journal.pending_events()
        for index, (name, data) in enumerate(self._left):
            event = EventRecord(name, f"scripted {name}", data, now())
            fitting = [one for one in pending if fits(one, event)]
            for one in fitting:
                by = f"event {event.id}"
                journal.answer(WaitAnswer(one.name, "event", data, now(), by=by))
            if fitting:
                del self._left[index]
                return True
        return False
