"""Places of durable calls: what the ids of a task or a thread start with.

The ids of a flow's body are numbered in program order. Tasks of an event loop run in no fixed
order, so each task numbers its own calls, under a path that depends only on the code:

    async def worker(n):             ids
        await draft(n)               worker.draft, worker_2.draft
    await gather(worker(1), worker(2))

The body itself has the empty path. `tasks` assigns places to tasks; the copied context of a task
passes its place to threads that the task starts.

A scope of a harness (`kitaru.harness`) is a place as well. The tasks that a harness creates inside
it are details of the harness, so they have the place of the scope and no path of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from kitaru.runtime.engine.calls import Spec
from kitaru.wire.structs import Struct


class Place(Struct):
    """Where a call is made. `prefix` is empty, or ends with a dot.

    `reserved` is an id that was taken when the thread of this place was requested, for the
    checkpoint that it calls first.

    `is_shared`: tasks and threads that are created here have this place too; the place is a scope.
    `site` is the line of the flow that opened the scope. `provider` returns a place below it for
    each call, or None.
    """

    prefix: str = ""
    reserved: str = ""
    is_shared: bool = False
    site: str = ""
    provider: Callable[[], tuple[str, object] | None] | None = None


BODY = Place()


class Numbering(Protocol):
    """What assigns ids in the body of a flow: the execution."""

    def reserve(self, spec: Spec, prefix: str) -> str:
        """Take the id of a call that another thread is about to make."""

    def take_part(self, prefix: str, name: str) -> str:
        """Return the next part `name` of the path of a task below `prefix`."""


# The numbering of the code that runs; None outside flows and inside checkpoints.
numbering: ContextVar[Numbering | None] = ContextVar("kitaru_numbering", default=None)

inherited: ContextVar[Place] = ContextVar("kitaru_place", default=BODY)


def running_loop() -> Any:
    """Return the event loop that runs on this thread, or None. Does not import asyncio."""
    events: Any = sys.modules.get("asyncio.events")
    return None if events is None else events._get_running_loop()


def current_task() -> Any:
    """Return the task of the caller, None outside tasks."""
    loop = running_loop()
    return None if loop is None else sys.modules["asyncio"].current_task(loop)


def has_continued(owner: Any, task: Any) -> bool:
    """Return whether the body has passed an outcome that `owner` received, now that `task` calls.

    A task has seen its own outcomes. The others have seen an outcome of `owner` only after it has
    ended and somebody has retrieved its result.
    """
    if owner is None or owner is task:
        return True
    if not owner.done():
        return False
    return bool(owner.cancelled() or not getattr(owner, "_log_traceback", False))
