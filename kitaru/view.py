"""Decides what an execution is seen to be at one moment: its status, its waits, what ran in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from kitaru.handle import result_of
from kitaru.runtime.recording.journal import Journal
from kitaru.runtime.recording.shown import as_json, result_as_json

if TYPE_CHECKING:
    from kitaru.runtime.executions.comparison import Effort
    from kitaru.wire.records import (
        AttemptRecord,
        ErrorInfo,
        InvocationRecord,
        Replay,
        Status,
        WaitRequest,
    )


@dataclass(frozen=True)
class ExecutionView:
    """What an execution is at one moment.

    `waits` are the questions that nobody answered yet, `error` is why it failed. `deployment` is
    the version of its flow that it runs, such as `v3`, empty where it was not deployed.
    """

    exec_id: str
    flow: str
    status: Status
    waits: tuple[WaitRequest, ...]
    error: ErrorInfo | None
    started_at: str
    deployment: str
    journal: Journal = field(repr=False, compare=False)

    @property
    def inputs(self) -> Any:
        """The flow's inputs by name, as JSON; values that JSON lacks are shown as it can."""
        return as_json(self.journal.fetch(self.journal.execution.inputs))

    @property
    def result(self) -> Any:
        """The flow's result, decoded; `None` unless the execution is completed."""
        return result_of(self.journal)

    @property
    def replay(self) -> Replay | None:
        """Which execution this one replays, and how; `None` when it is no replay."""
        return self.journal.execution.replay

    @property
    def invocations(self) -> list[InvocationRecord]:
        """The records of its invocations, in program order of the calls.

        Raises NotFound when the execution was removed meanwhile.
        """
        found = self.journal.invocations()
        Journal.open(self.journal.store, self.exec_id)
        return found

    @property
    def attempts(self) -> list[AttemptRecord]:
        """The attempts that failed, in order of their start, whatever became of the invocation."""
        return sorted(self.journal.attempts(), key=lambda attempt: attempt.started_at)

    @property
    def effort(self) -> Effort:
        """The model tokens, their price and the seconds that everything in it took."""
        from kitaru.runtime.executions.comparison import effort_of

        return effort_of(self.invocations, self.attempts)

    @property
    def notes(self) -> dict[str, Any]:
        """What `kitaru.log` said in the flow's body, as JSON; of one key what was said last."""
        return _merged(self.invocations)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON that commands print for an execution."""
        waits = [_wait(request, self.journal.refused(request.name)) for request in self.waits]
        invocations = self.invocations
        return {
            "exec_id": self.exec_id,
            "flow": self.flow,
            "deployment": self.deployment,
            "status": self.status,
            "started_at": self.started_at,
            "inputs": self.inputs,
            "result": result_as_json(self.journal),
            "waits": waits,
            "error": _error(self.error),
            "notes": _merged(invocations),
            "invocations": [_invocation(record) for record in invocations],
            "attempts": [_attempt(attempt) for attempt in self.attempts],
            "effort": asdict(self.effort),
            "replay": None if self.replay is None else asdict(self.replay),
        }


def _wait(request: WaitRequest, refused: str) -> dict[str, Any]:
    return {
        "name": request.name,
        "question": request.question,
        "schema": request.schema,
        "metadata": request.metadata,
        "refused": refused,
    }


def _invocation(record: InvocationRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "kind": record.kind,
        "status": record.status,
        "attempts": record.attempts,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "cached_from": record.cached_from,
        "adopted_from": record.adopted_from,
        "site": record.site,
        "notes": _notes(record),
    }


def _merged(records: list[InvocationRecord]) -> dict[str, Any]:
    said = [_notes(record) for record in records if record.kind == "log"]
    return {key: value for notes in said for key, value in notes.items()}


def _notes(record: InvocationRecord) -> dict[str, Any]:
    return {key: as_json(value) for key, value in record.metadata.items()}


def _attempt(attempt: AttemptRecord) -> dict[str, Any]:
    error = attempt.error
    return {
        "invocation": attempt.id,
        "number": attempt.number,
        "type": error.type if error else "",
        "message": error.message if error else "",
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
    }


def _error(error: ErrorInfo | None) -> dict[str, Any] | None:
    if error is None:
        return None
    return {
        "type": error.type,
        "message": error.message,
        "traceback": error.traceback,
        "help": error.help,
        "invocation": error.invocation,
    }
