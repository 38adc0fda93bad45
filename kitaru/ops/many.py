"""Cancel or retry the executions that a filter selects, one after the other.

The command may be interrupted and repeated: what is done is no longer selected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from kitaru.errors import EnvironmentFailure, KitaruError, UsageError
from kitaru.ops.cancel import cancel
from kitaru.ops.retry import retry
from kitaru.ops.show import show
from kitaru.runtime.executions.listing import Page, page_of
from kitaru.runtime.executions.where import Where
from kitaru.wire.structs import Struct, replace

if TYPE_CHECKING:
    from kitaru.stores.base import Store

Verb = Literal["cancel", "retry"]


class Done(Struct):
    """What was done with one execution: its status now, or why nothing was done."""

    exec_id: str
    flow: str
    status: str
    error: str = ""


def select(
    store: Store, verb: Verb, where: Where, *, limit: int = 100, within: int = 10_000
) -> Page:
    """Return the newest executions that a filter selects and that can be cancelled or retried.

    Args:
        limit: maximum number of executions.
        within: search the newest N executions.

    Raises:
        UsageError: the filter selects a status that does not allow the operation, or nothing is
            selected by it, which would be every execution.
        EnvironmentFailure: the store cannot be read.

    Example:
        select(store, "cancel", parse_where(["flow=review", "older_than=2d"])).items
    """
    if where == Where():
        raise UsageError(f"A filter must say which executions to {verb}.", help=_EXAMPLES[verb])
    if verb == "retry":
        if where.status not in (None, "failed"):
            raise UsageError(
                f"An execution that is {where.status} cannot be retried.", help=_EXAMPLES[verb]
            )
        where = replace(where, status="failed")
    else:
        where = replace(where, is_open=True)
    return page_of(store, where, limit=limit, within=within, counts=False)


def carry_out(
    store: Store,
    verb: Verb,
    exec_ids: Iterable[str],
    begun: Callable[[str], None] = lambda exec_id: None,
) -> Iterator[Done]:
    """Cancel or retry executions, and yield what was done with each.

    An execution that refuses is reported, and the others follow. A retry of a local execution runs
    here until it ends or waits.

    Args:
        begun: called with the id of each execution before it.

    Raises:
        EnvironmentFailure: the store or a service cannot be used. What was yielded is done.
    """
    for exec_id in exec_ids:
        begun(exec_id)
        error = ""
        try:
            if verb == "cancel":
                cancel(store, exec_id)
            elif (done := retry(store, exec_id)).submission is None:
                done.handle.settle()
        except EnvironmentFailure:
            raise
        except KitaruError as refused:
            error = refused.message
        view = show(store, exec_id)
        yield Done(exec_id, view.flow, str(view.status), error)


_EXAMPLES = {
    "cancel": "kitaru executions cancel --where flow=review --where older_than=2d",
    "retry": "kitaru executions retry --where flow=review --where newer_than=2d",
}
