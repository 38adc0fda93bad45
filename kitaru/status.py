"""The status of an execution: a string with properties."""

from __future__ import annotations

from enum import StrEnum


class ExecutionStatus(StrEnum):
    """One of `running`, `interrupted`, `waiting`, `answered`, `submitted`, `failed`, `completed`
    and `cancelled`.

    `interrupted` is an execution whose process is certainly gone; `answered` one whose wait has an
    answer and which has not continued; `submitted` one that was handed to its target, where it has
    not started. `KitaruClient.executions.get` tells these three; a handle reports the first as
    `running`, the others as `waiting`.

    A member is equal to its string and is written as it.

    Example:
        handle.status == "completed" or handle.status is ExecutionStatus.COMPLETED
    """

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    WAITING = "waiting"
    ANSWERED = "answered"
    SUBMITTED = "submitted"
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
