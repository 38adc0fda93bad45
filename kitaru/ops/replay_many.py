"""Replay the newest executions of a flow or a status, and compare each with its source."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kitaru.errors import EnvironmentFailure, KitaruError, StateError
from kitaru.ops.dry_run import begin_replay, play
from kitaru.ops.replay import replay
from kitaru.ops.submit import runs_here
from kitaru.runtime.executions.comparison import Comparison, compare
from kitaru.runtime.executions.listing import Page, page_of
from kitaru.runtime.executions.where import Where
from kitaru.runtime.journal.journal import Journal
from kitaru.wire.structs import replace

if TYPE_CHECKING:
    from kitaru.runtime.executions.replay import Changes
    from kitaru.stores.base import Store

# The newest executions that are searched.
_WITHIN = 10_000


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result for one of several executions: its comparison, or why it has no replay."""

    source: str
    comparison: Comparison | None = None
    error: str = ""

    @property
    def is_same(self) -> bool:
        """Whether both ended with the same status and result, regardless of the path."""
        if self.comparison is None:
            return False
        a, b = self.comparison.a, self.comparison.b
        return (a.status, a.result) == (b.status, b.result)

    @property
    def is_failed(self) -> bool:
        """Whether the replay failed or could not be made."""
        return self.comparison is None or self.comparison.b.status == "failed"

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON."""
        if self.comparison is None:
            return {"source": self.source, "replay": None, "same": False, "error": self.error}
        sides = {"a": asdict(self.comparison.a), "b": asdict(self.comparison.b)}
        replay = self.comparison.b.exec_id
        return {"source": self.source, "replay": replay, "same": self.is_same, **sides}


def select(store: Store, where: Where, limit: int = 20, after: str = "") -> Page:
    """Return the newest executions that a filter selects, without running ones and replays.

    Args:
        limit: maximum number of executions.
        after: only executions older than this one.
    """
    selected = replace(where, is_source=True)
    return page_of(store, selected, limit=limit, within=_WITHIN, after=after, counts=False)


def replay_each(
    store: Store,
    changes: Callable[[Journal], Changes],
    exec_ids: Iterable[str],
    begun: Callable[[str], None] | None = None,
) -> list[Replayed]:
    """Replay executions one by one, each until it ends or waits, and compare them.

    Args:
        changes: returns the changes for the replay of an execution.
        begun: called with the id of each execution before its replay.

    Raises:
        EnvironmentFailure: the store cannot be used; all other errors are part of the result.
    """
    found = []
    for exec_id in exec_ids:
        if begun is not None:
            begun(exec_id)
        found.append(_replayed(store, Journal.open(store, exec_id), changes))
    return found


def _replayed(store: Store, source: Journal, changes: Callable[[Journal], Changes]) -> Replayed:
    try:
        if source.execution.mode == "deployed" and not runs_here(source):
            raise StateError("It does not run here but on its target.")
        exec_id = _run(store, source, changes(source))
    except EnvironmentFailure:
        raise
    except KitaruError as error:
        return Replayed(source.exec_id, error=error.message)
    return Replayed(source.exec_id, compare(source, Journal.open(store, exec_id)))


def _run(store: Store, source: Journal, changes: Changes) -> str:
    """Replay an execution until the replay ends or waits; return the id of the replay."""
    if runs_here(source):
        handle = replay(store, source.exec_id, changes).handle
        handle.settle()
        return handle.exec_id
    exec_id = begin_replay(store, source.exec_id, changes)
    play(store, exec_id)
    return exec_id
