"""The run of an agent that the current task belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from importlib.metadata import version

from kitaru import harness

VERSION = f"openai-agents {version('openai-agents')}"


class Run:
    """One run of an agent in a flow: its scope, and the keys that its calls have taken."""

    def __init__(self, name: str) -> None:
        self.scope = harness.scope(name)
        self._taken: dict[str, int] = {}

    def key(self, *parts: str | None) -> str:
        """Return a key that no earlier call of the run has.

        Some models give calls of different turns the same id. A later call appends its number.
        """
        key = "-".join(part for part in parts if part)
        self._taken[key] = number = self._taken.get(key, 0) + 1
        return key if number == 1 else f"{key}-{number}"


current_run: ContextVar[Run | None] = ContextVar("kitaru_openai_agents_run", default=None)
"""The run whose code the task executes. Tasks and threads of the run inherit it."""


def recording_run() -> Run | None:
    """Return the run whose next call is a step; None outside of flows, and inside steps."""
    return None if harness.current_execution() is None else current_run.get()
