"""The status of an execution: a string with properties."""

from __future__ import annotations

from enum import StrEnum


class ExecutionStatus(StrEnum):
    """One of `queued`, `starting`, `running`, `interrupted`, `waiting`, `sleeping`, `answered`,
    `resuming`, `failed`, `completed` and `cancelled`.

    `queued` is an execution that was invoked and that no dispatcher has started yet, or that waits
    until the limits of its flow leave a place; `starting` one whose run was requested and whose
    first step has not begun. `interrupted` is an execution whose process or run is certainly gone;
    `sleeping` one that waits only for a time; `answered`
    one whose wait has an answer and which nothing continues yet; `resuming` one whose next run was
    requested and has not begun.
    `KitaruClient.executions` and the command line report these. A handle reports the first two and
    `interrupted` as `running`, the others as `waiting`.

    A member is equal to its string and is written as it.

    Example:
        handle.status == "completed" or handle.status is ExecutionStatus.COMPLETED
    """

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    WAITING = "waiting"
    SLEEPING = "sleeping"
    ANSWERED = "answered"
    RESUMING = "resuming"
    FAILED = "failed"
    COMPLETED = "completed"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        """Whether no process works on the execution any more: it completed, failed or stopped."""
        return self in (self.FAILED, self.COMPLETED, self.CANCELLED)

    @property
    def is_successful(self) -> bool:
        """Whether the execution is completed."""
        return self is self.COMPLETED
