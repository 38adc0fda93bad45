"""List the model calls of an execution, with tokens, latency and cost."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from kitaru.errors import NotFound
from kitaru.runtime.executions.model_calls import calls_in, each_call, shown
from kitaru.runtime.journal.journal import Journal
from kitaru.wire.names import some, suggestion

if TYPE_CHECKING:
    from kitaru.stores.base import Store


def calls(
    store: Store,
    exec_id: str,
    invocation: str | None = None,
    *,
    limit: int | None = None,
    skip: int = 0,
) -> list[dict[str, Any]]:
    """Return the model calls of an execution as JSON; see `ExecutionView.calls`.

    Args:
        invocation: return only the calls of this invocation.
        limit: maximum number of calls; default all.
        skip: number of calls to skip first.

    Raises:
        NotFound: the execution does not exist, or the invocation made no model call.

    Example:
        [call["cost"] for call in calls(store, exec_id, "draft")]
    """
    journal = Journal.open(store, exec_id)
    made = each_call(journal) if invocation is None else calls_in(journal, invocation)
    stop = None if limit is None else skip + limit
    found = [shown(journal, call) for call in islice(made, skip, stop)]
    if invocation is not None and not found and not skip:
        asked = sorted({call.invocation for call in each_call(journal)})
        listed = f"Model calls were made in: {some(asked) or 'no invocation'}"
        raise NotFound(
            f'The execution {exec_id} has no model call in "{invocation}".',
            help=suggestion(invocation, asked, listed),
        )
    return found
