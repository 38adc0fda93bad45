"""A snapshot of an execution: its status, its waits and its invocations."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kitaru.compat.explaining import Explaining
from kitaru.handle import result_of
from kitaru.runtime.executions.artifacts import result_as_json
from kitaru.runtime.executions.model_calls import calls_of, each_call, shown
from kitaru.runtime.executions.overview import Overview, overview
from kitaru.runtime.journal import children, evidence, launches
from kitaru.runtime.journal.inboxes import Signal, signals
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.to_json import as_json
from kitaru.runtime.telemetry import beats
from kitaru.runtime.telemetry.beats import Progress, Signs
from kitaru.status import ExecutionStatus
from kitaru.wire.structs import fields_of
from kitaru.wire.times import seconds_since

if TYPE_CHECKING:
    from kitaru.compat.client import CheckpointCall, StoredArtifact
    from kitaru.runtime.journal.effort import Effort
    from kitaru.wire.records import (
        AttemptRecord,
        ChildRecord,
        ErrorInfo,
        InvocationRecord,
        Replay,
        SubmissionRecord,
        WaitAnswer,
        WaitRequest,
    )

_OF_CHILDREN = ("exec_id", "flow", "invocation", "on_cancel")
# The last ones are in the JSON of an execution.
_SIGNALS = 100


@dataclass(frozen=True)
class ExecutionView(Explaining):
    """A snapshot of an execution.

    Attributes:
        waits: the pending waits for an answer.
        timers: the sleeps that have not ended; each ends at its `deadline`.
        waits_for: the pending waits for children.
        events: the pending waits for events.
        error: the reason of a failure.
        deployment: the version of its flow, such as `v3`; empty if it was not deployed.
        status: the status in the journal, with three exceptions. `interrupted`: it is running, but
            its process is certainly gone, which only the machine that ran it can know. `answered`:
            its wait is answered, and it has not continued. `submitted`: a run was started to
            continue it.
        submission: the latest run that was started since the last status, if any.
        state_at: the time of the last status.
    """

    exec_id: str
    flow: str
    status: ExecutionStatus
    waits: tuple[WaitRequest, ...]
    error: ErrorInfo | None
    started_at: str
    state_at: str
    deployment: str
    journal: Journal = field(repr=False, compare=False)
    submission: SubmissionRecord | None = None
    timers: tuple[WaitRequest, ...] = ()
    waits_for: tuple[WaitRequest, ...] = ()
    events: tuple[WaitRequest, ...] = ()

    @property
    def last_sign(self) -> str:
        """The time of its last record: a status, an invocation, a failed attempt or a beat."""
        return max(self.signs.last, self.overview(limit=0).last_sign)

    @cached_property
    def signs(self) -> Signs:
        """What it does now, and since when it has been silent; of a running execution.

        Example:
            [one.id for one in client.executions.get(exec_id).signs.under_way]
        """
        if self.status not in ("running", "interrupted"):
            return Signs(self.state_at, "", ())
        return beats.read(self.journal.store, self.exec_id, self.state_at)

    @property
    def tags(self) -> dict[str, str]:
        """Its tags by name, of its start and of `kitaru.tag`."""
        return dict(self.journal.summary().tags)

    @cached_property
    def progress(self) -> tuple[Progress, ...]:
        """What `kitaru.progress` reported last, by invocation; that of the body has an empty id.

        Empty if the execution is completed or cancelled.

        Example:
            [(one.done, one.total) for one in client.executions.get(exec_id).progress]
        """
        if self.status in ("completed", "cancelled"):
            return ()
        if self.status in ("running", "interrupted"):
            return self.signs.progress
        return beats.last_progress(self.journal.store, self.exec_id)

    @property
    def inputs(self) -> Any:
        """The flow's inputs by name, as JSON; values that JSON lacks are shown as it can."""
        return as_json(self.journal.fetch(self.journal.execution.inputs))

    @property
    def result(self) -> Any:
        """The flow's result, decoded; `None` unless the execution is completed."""
        return result_of(self.journal)

    @property
    def flow_name(self) -> str:
        """The name of the flow: `flow`."""
        return self.flow

    @property
    def flow_id(self) -> str:
        """The name of the flow, which has no other id."""
        return self.flow

    @property
    def pending_wait(self) -> WaitRequest | None:
        """The first wait without an answer; None if no wait is pending."""
        return self.waits[0] if self.waits else None

    @property
    def checkpoints(self) -> list[CheckpointCall]:
        """The invocations with their artifacts, in program order."""
        from kitaru.compat.client import checkpoint_calls

        return checkpoint_calls(self.journal)

    @property
    def artifacts(self) -> list[StoredArtifact]:
        """The results and saved values, in program order."""
        from kitaru.compat.client import stored_artifacts

        return stored_artifacts(self.journal)

    @property
    def failure(self) -> ErrorInfo | None:
        """Another name of `error`."""
        return self.error

    def list_checkpoints(self) -> list[CheckpointCall]:
        """Return `checkpoints`."""
        return self.checkpoints

    def list_artifacts(self) -> list[StoredArtifact]:
        """Return `artifacts`."""
        return self.artifacts

    @property
    def replay(self) -> Replay | None:
        """Which execution this one replays, and how; `None` when it is no replay."""
        return self.journal.execution.replay

    @property
    def parent(self) -> str:
        """The execution that started it as a child; empty without one."""
        return self.journal.execution.parent.partition("/")[0]

    @cached_property
    def started_by(self) -> str:
        """The event that started it, as `NAME/ID`; empty if no event did."""
        launch = launches.recall(self.journal.store, self.exec_id)
        return "" if launch is None else launch.event

    @property
    def children(self) -> list[ChildRecord]:
        """The child executions that it has started, in order, with the call that started each.

        Example:
            [client.executions.get(one.exec_id).status for one in parent.children]
        """
        return children.notes(self.journal.store, self.exec_id)

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
        return self.overview(limit=0).effort

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The model calls in it, as JSON: prompt, response, tokens, latency, model and cost.

        Those of recorded results in program order, then those of failed attempts. Less is there
        where `capture` says so.

        Example:
            [call["cost"] for call in client.executions.get(exec_id).calls]
        """
        return [shown(self.journal, call) for call in each_call(self.journal)]

    @property
    def notes(self) -> dict[str, Any]:
        """What `kitaru.log` said in the flow's body, as JSON; of one key what was said last."""
        return self.overview(limit=0).notes

    @property
    def answers(self) -> list[WaitAnswer]:
        """The answers of its waits, in order of time, with who gave each (`by`).

        An answer that the flow rejected is left out.
        """
        found = [answer for answer, refused in self.journal.each_answer() if not refused]
        return sorted(found, key=lambda one: one.answered_at)

    @property
    def cancelled_by(self) -> str:
        """Who cancelled it; empty unless it was cancelled from outside."""
        end = self.journal.end()
        return "" if end is None else end.by

    @property
    def unasked(self) -> tuple[str, ...]:
        """The invocations that earlier runs recorded, and the last one, with other code, did not
        ask for; known when the execution is completed."""
        end = self.journal.end()
        return () if end is None else end.unasked

    @property
    def codes(self) -> list[dict[str, str]]:
        """The versions of the flow's code that ran it, as JSON, the one that it started with first.

        Each is `{"fingerprint", "at", "process"}`. A later one says which process was the first
        that ran it. Empty where the code is in no file, and for compiled flows, whose steps run
        one version.
        """
        record = self.journal.execution
        if not record.code:
            return []
        first = {"fingerprint": record.code, "at": record.started_at, "process": ""}
        later = [
            {"fingerprint": one.fingerprint, "at": one.at, "process": one.process}
            for one in self.journal.codes()
        ]
        return [first, *later]

    @property
    def signals(self) -> list[Signal]:
        """What was sent to it, in order of time, with the call of `kitaru.inbox` that read each.

        Example:
            [one.value for one in client.executions.get(exec_id).signals if not one.read_by]
        """
        return signals(self.journal)

    def waits_as_json(self) -> list[dict[str, Any]]:
        """Return the questions that are not answered, as JSON."""
        return [_wait(request, self.journal) for request in self.waits]

    def evidence(self, wait: str) -> dict[str, Any]:
        """Return the evidence of a wait as JSON, by title.

        Example:
            client.executions.get(exec_id).evidence("approve")["Draft"]
        """
        request = self.journal.wait_request(wait)
        found = () if request is None else evidence.values(self.journal, request)
        return {title: as_json(self.journal.fetch(value)) for title, value in found}

    def answers_as_json(self) -> list[dict[str, Any]]:
        """Return all answers in order of time, as JSON; `refused` is why the flow rejected one."""
        found = sorted(self.journal.each_answer(), key=lambda one: one[0].answered_at)
        return [{**fields_of(answer), "refused": refused} for answer, refused in found]

    def silent_since(self, last_record: str) -> str:
        """Return the last sign if it is old; a recent record is a sign as well."""
        last = max(self.signs.last, last_record)
        is_silent = self.signs.silent_since and seconds_since(last) > beats.SILENT_SECONDS
        return last if is_silent else ""

    def overview(self, *, limit: int | None = None, after: str = "", tail: int = 0) -> Overview:
        """Return counts of the invocations, and a page of them; see `to_dict`.

        Few invocations are in memory at once, however many there are.

        Args:
            limit: how many of them, and of the failed attempts; default all.
            after: the id of the invocation that the page before ended with.
            tail: how many of the last ones to return as well.

        Raises:
            NotFound: there is no invocation `after`.

        Example:
            client.executions.get(exec_id).overview(limit=10, tail=10).counts
        """
        return overview(self.journal, limit=limit, after=after, tail=tail)

    def to_dict(self, *, limit: int | None = None, after: str = "") -> dict[str, Any]:
        """Return the JSON that commands print for an execution.

        Args:
            limit: how many invocations, failed attempts and model calls at most; default all.
            after: the id of the invocation that the page before ended with.

        Raises:
            NotFound: there is no invocation `after`.

        Example:
            page = client.executions.get(exec_id).to_dict(limit=100)
            page["counts"], page["next"]
        """
        return self.as_json(self.overview(limit=limit, after=after))

    def as_json(self, seen: Overview) -> dict[str, Any]:
        """Return the JSON of an execution whose invocations were read already."""
        calls = calls_of(seen.page, seen.attempts)
        return {
            "exec_id": self.exec_id,
            "flow": self.flow,
            "deployment": self.deployment,
            "status": str(self.status),
            "submission": _submission(self.submission),
            "started_at": self.started_at,
            "last_sign": max(self.signs.last, seen.last_sign),
            "silent_since": self.silent_since(seen.last_sign),
            "under_way": [asdict(one) for one in self.signs.under_way],
            "progress": [fields_of(one) for one in self.progress],
            "tags": self.tags,
            "inputs": self.inputs,
            "result": result_as_json(self.journal),
            "waits": self.waits_as_json(),
            "timers": [{"name": one.name, "until": one.deadline} for one in self.timers],
            "waits_for": [request.child for request in self.waits_for],
            "events": [
                {
                    "wait": one.name,
                    "event": one.event["name"],
                    "match": one.event["match"],
                    "where": one.event["where"],
                    "deadline": one.deadline,
                }
                for one in self.events
            ],
            "started_by": self.started_by,
            "cancelled_by": self.cancelled_by,
            "parent": self.parent,
            "children": [
                {
                    name: getattr(one, name)
                    for name in ("exec_id", "flow", "invocation", "on_cancel")
                }
                for one in self.children
            ],
            "answers": self.answers_as_json(),
            "signals": [fields_of(one) for one in self.signals[-_SIGNALS:]],
            "error": _error(self.error),
            "notes": seen.notes,
            "invocations": [invocation_as_json(record) for record in seen.page],
            "total": seen.total,
            "next": seen.next,
            "counts": [asdict(count) for count in seen.counts],
            "attempts": [_attempt(attempt) for attempt in seen.attempts],
            "attempts_total": seen.attempts_total,
            "calls": [shown(self.journal, call) for call in calls],
            "effort": asdict(seen.effort),
            "own": asdict(seen.own),
            "failed_attempts": asdict(seen.failed_attempts),
            "unpriced": seen.unpriced,
            "unasked": list(self.unasked),
            "codes": self.codes,
            "replay": None if self.replay is None else asdict(self.replay),
        }


def _submission(record: SubmissionRecord | None) -> dict[str, str] | None:
    if record is None:
        return None
    return {"target": record.target, "run": record.run, "url": record.url, "at": record.at}


def _wait(request: WaitRequest, journal: Journal) -> dict[str, Any]:
    return {
        "name": request.name,
        "question": request.question,
        "schema": request.schema,
        "metadata": request.metadata,
        "evidence": evidence.shown(request),
        "asked_at": request.asked_at,
        "position": request.position,
        "refused": journal.refused(request.name),
        "deadline": request.deadline,
        "escalations": [{"to": one.to, "at": one.at} for one in journal.escalations(request)],
    }


def invocation_as_json(record: InvocationRecord) -> dict[str, Any]:
    """Return an invocation as JSON, without its value."""
    return {
        "id": record.id,
        "name": record.name,
        "kind": record.kind,
        "callee": record.callee,
        "position": record.position,
        "status": record.status,
        "error": _error(record.error),
        "attempts": record.attempts,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "cached_from": record.cached_from,
        "adopted_from": record.adopted_from,
        "given": record.given,
        "uses": list(record.uses),
        "calls": len(record.calls),
        "site": record.site,
        "notes": _notes(record),
    }


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
