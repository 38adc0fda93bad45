"""Find an execution, or an invocation in it, by the name that a user passes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from sys import intern

from kitaru import hints
from kitaru.errors import NotFound, StateError, UsageError
from kitaru.runtime.executions.listing import list_executions
from kitaru.runtime.journal.journal import Journal
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.ids import check_execution_id
from kitaru.wire.names import some, suggestion
from kitaru.wire.records import InvocationKind
from kitaru.wire.structs import Struct

LATEST = "latest"
SHORTEST_PREFIX = 4
_CANDIDATES = 10


def execution_id(store: Store, named: str) -> str:
    """Return the id of the execution that the user named.

    Args:
        named: an id, a prefix of at least 4 characters that only one id has, or `latest` for the
            execution that started last. An exact id takes precedence, so an id chosen by the user
            always works.

    Raises:
        NotFound: the store has no such execution.
        UsageError: `named` cannot be an id, or several ids start with it.

    Example:
        execution_id(store, "8dfe")     # '8dfe02ab-0kq7w1x3m'
    """
    if _exists(store, check_execution_id(named)):
        return named
    if named == LATEST:
        for newest in list_executions(store, limit=1):
            return str(newest["exec_id"])
        raise NotFound(f"There are no executions in {store.url}.", help="kitaru run FLOW")
    found = executions_with(store, named) if len(named) >= SHORTEST_PREFIX else []
    if len(found) == 1:
        return found[0]
    if found:
        shown = found[:_CANDIDATES] + (["…"] if len(found) > _CANDIDATES else [])
        raise UsageError(
            f"Several executions have an id that begins with {named}.", help="\n".join(shown)
        )
    # Users trust the message "there is no such execution". Damage must not cause it.
    store.inspect(keys.home(named))
    short = f" A prefix has at least {SHORTEST_PREFIX} characters." * (len(named) < SHORTEST_PREFIX)
    raise NotFound(
        f"There is no execution {named} in {store.url}.{short}",
        help=f"List the executions: {hints.command(store, 'executions', 'list')}",
    )


def executions_with(store: Store, prefix: str, limit: int = _CANDIDATES + 1) -> list[str]:
    """Return the ids that start with `prefix`, in order, at most `limit`.

    Costs one request per id, regardless of the number of records.
    """
    return list(islice(_ids_with(store, prefix), limit))


def _ids_with(store: Store, prefix: str) -> Iterator[str]:
    after = ""
    while page := store.list(keys.home(prefix)[:-1], after=after, limit=1):
        id = page[0].split("/")[1]
        # "0" sorts directly after "/", so the other keys of this execution are skipped.
        after = keys.home(id)[:-1] + "0"
        if _exists(store, id):
            yield id


def _exists(store: Store, exec_id: str) -> bool:
    places = keys.execution(exec_id), keys.launch(exec_id)
    return any(one is not None for one in store.get_all(places))


class Known(Struct):
    """One invocation of an execution, with the data of its journal.

    `is_recorded` is false while the invocation has no outcome: it failed or waits for an answer.
    """

    id: str
    name: str
    kind: InvocationKind
    callee: str
    position: int
    is_recorded: bool = False


def known(journal: Journal) -> list[Known]:
    """Return the invocations of an execution that have any record, in program order."""
    recorded = [
        Known(
            one["id"],
            intern(one["name"]),
            one["kind"],
            intern(one["callee"]),
            one["position"],
            True,
        )
        for one in journal.glances()
    ]
    ids = {one.id for one in recorded}
    failed = [Known(a.id, a.id, a.kind, a.callee, a.position) for a in journal.each_attempt()]
    # Not only pending waits: an aborted execution has answers without a record of the wait.
    asked = [
        Known(w.name, w.name, "wait", "kitaru.wait", w.position) for w in journal.wait_requests()
    ]
    others = {one.id: one for one in (*failed, *asked) if one.id not in ids}
    return sorted([*recorded, *others.values()], key=lambda one: one.position)


def select(journal: Journal, calls: Sequence[Known], selector: str) -> Known:
    """Return the invocation with the id `selector`, else the only invocation with that name.

    Raises:
        NotFound: there is no such invocation.
        UsageError: several invocations have that name.
    """
    found = [one for one in calls if one.id == selector]
    found = found or [one for one in calls if one.name == selector]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(
            f'Several invocations of {journal.exec_id} are called "{selector}".',
            help=f"Name one by its id: {_ids(found)}",
        )
    raise NotFound(
        f'The execution {journal.exec_id} has no invocation "{selector}".',
        help=suggestion(selector, _names(calls), f"It has: {_ids(calls) or 'none'}"),
    )


def failure(journal: Journal, calls: Sequence[Known]) -> Known | None:
    """Return the invocation in which an execution failed; None if it failed between invocations.

    Raises:
        StateError: the execution is completed.
    """
    state = journal.state()
    if state.status == "completed":
        raise StateError(
            f"The execution {journal.exec_id} did not fail, it is completed.",
            help=f"Name where to replay from: --from {_ids(calls) or 'ID'}\n"
            + hints.get_help(journal),
        )
    failed = state.error.invocation if state.status == "failed" and state.error else ""
    return next((one for one in calls if one.id == failed), None)


def _names(calls: Iterable[Known]) -> set[str]:
    return {name for one in calls for name in (one.id, one.name)}


def _ids(calls: Iterable[Known]) -> str:
    return some([one.id for one in calls])
