"""The interface between the engine and the process that runs a flow's body."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Literal, NoReturn, Protocol

from kitaru.runtime.engine.parked_threads import parked

Stop = Literal["cancelled", "superseded", "failed", "retry"]


class Host(Protocol):
    """What the engine asks of the process it runs in."""

    retries_here: bool
    """Whether failed attempts are retried in this process, or by the orchestrator."""

    def pause(self, seconds: float) -> None:
        """Return after so many seconds, or sooner where this run of the body ends."""

    def suspend(self, wait: str) -> None:
        """Give the compute away until `wait` may have been answered; need not return."""

    def stop(self, why: Stop, error: BaseException | None) -> None:
        """Stop this run of the body. May not return."""


def park() -> NoReturn:
    """Never return: the thread ends with its process."""
    while True:
        # Not even without memory: what is raised here would unwind the flow.
        with suppress(Exception), parked():
            while True:
                time.sleep(3600)
