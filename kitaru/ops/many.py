"""Cancel, retry or replay the executions that a filter selects, one after the other.

The command may be interrupted and repeated: what is done is no longer selected.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from kitaru.errors import EnvironmentFailure, KitaruError, StateError, UsageError
from kitaru.ops.cancel import cancel
from kitaru.ops.replay import replay
from kitaru.ops.resume import check_elsewhere
from kitaru.ops.retry import retry
from kitaru.ops.show import show
from kitaru.runtime.executions.listing import Listed, Page, page_of
from kitaru.runtime.executions.replay import Changes
from kitaru.runtime.executions.where import Where
from kitaru.wire.structs import Struct, field, replace

if TYPE_CHECKING:
    from kitaru.ops.resume import Resumed
    from kitaru.stores.base import Store

Verb = Literal["cancel", "retry", "replay"]


class Done(Struct):
    """What was done with one execution: its status now, or why nothing was done.

    `replay` is the execution that replays it, if there is one.
    """

    exec_id: str
    flow: str
    status: str
    error: str = ""
    replay: str = ""


class Confirmed(Struct):
    """The executions that a filter selects, and what was done with each after a confirmation.

    Attributes:
        items: the selected executions, newest first.
        confirm: names exactly these executions, such as `3-5f1c0a9b7d2e`: 3 of them.
        has_more: whether there may be further executions that the filter selects.
        done: empty for a preview.
    """

    items: list[Listed]
    confirm: str
    has_more: bool
    done: list[Done] = field(default_factory=list)


def select(
    store: Store, verb: Verb, where: Where, *, limit: int = 100, within: int = 10_000
) -> Page:
    """Return the newest executions that a filter selects and that can be changed so.

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
    elif verb == "replay":
        where = replace(where, is_source=True)
    else:
        where = replace(where, is_open=True)
    return page_of(store, where, limit=limit, within=within, counts=False)


def confirmed(
    store: Store,
    verb: Verb,
    where: Where,
    confirm: str,
    *,
    changes: Changes | None = None,
    limit: int = 100,
    within: int = 10_000,
) -> Confirmed:
    """Preview what a filter selects, or carry it out after a confirmation of the preview.

    For a service, whose process never runs the code of a flow: executions that are not of a
    deployed flow are refused, and nothing is waited for.

    Args:
        confirm: empty for a preview, else that of the preview.
        changes: of replays.

    Raises:
        StateError: the filter now selects other executions than those that were confirmed.
        UsageError: as for `select`.
        EnvironmentFailure: the store or a service cannot be used. Some may be done.

    Example:
        preview = confirmed(store, "cancel", where, "")
        confirmed(store, "cancel", where, preview.confirm).done
    """
    page = select(store, verb, where, limit=limit, within=within)
    ids = [one.exec_id for one in page.items]
    digest = hashlib.sha256("\n".join([verb, *ids]).encode("ascii")).hexdigest()
    found = Confirmed(page.items, f"{len(ids)}-{digest[:12]}", page.next is not None)
    if not confirm:
        return found
    if confirm != found.confirm:
        raise StateError(
            f"The filter now selects {len(ids)} executions, and not those of the confirmation "
            f"{confirm!a}.",
            help="Preview it again, without a confirmation.",
        )
    done = carry_out(store, verb, ids, changes=changes, is_service=True)
    return replace(found, done=[*done])


def carry_out(
    store: Store,
    verb: Verb,
    exec_ids: Iterable[str],
    begun: Callable[[str], None] = lambda exec_id: None,
    *,
    changes: Changes | None = None,
    is_service: bool = False,
) -> Iterator[Done]:
    """Cancel, retry or replay executions, and yield what was done with each.

    An execution that refuses is reported, and the others follow. A retry or replay of a local
    execution runs here until it ends or waits.

    Args:
        begun: called with the id of each execution before it.
        changes: of replays.
        is_service: refuse what would run here, and wait for nothing.

    Raises:
        EnvironmentFailure: the store or a service cannot be used. What was yielded is done.
    """
    for exec_id in exec_ids:
        begun(exec_id)
        error = replayed = ""
        try:
            if is_service and verb != "cancel":
                check_elsewhere(store, exec_id, verb)
            if verb == "cancel":
                cancel(store, exec_id)
            else:
                again = _again(store, verb, exec_id, changes)
                replayed = again.handle.exec_id if verb == "replay" else ""
                if again.submission is None and not is_service:
                    again.handle.settle()
        except EnvironmentFailure:
            raise
        except KitaruError as refused:
            error = refused.message
        view = show(store, exec_id)
        yield Done(exec_id, view.flow, str(view.status), error, replayed)


def _again(store: Store, verb: Verb, exec_id: str, changes: Changes | None) -> Resumed:
    if verb == "retry":
        return retry(store, exec_id)
    return replay(store, exec_id, Changes() if changes is None else changes)


_EXAMPLES = {
    "cancel": "kitaru executions cancel --where flow=review --where older_than=2d",
    "retry": "kitaru executions retry --where flow=review --where newer_than=2d",
    "replay": "kitaru executions replay --where flow=review --set model.fast=openai/gpt-4o",
}
