"""Find the earlier results that each invocation of an execution used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru.errors import NotFound
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.lineage import parents_by_content, trace
from kitaru.wire.names import some, suggestion

if TYPE_CHECKING:
    from kitaru.stores.base import Store


def lineage(
    store: Store, exec_id: str, invocation: str | None = None
) -> dict[str, tuple[str, ...]]:
    """Return, by invocation, the invocations whose results it used, whole or inside an argument.

    Values are matched by content: an argument equal to a result, or else to a part of one, counts
    as that result.

    Args:
        invocation: return only the sources of its result, and the results made from it.

    Raises:
        NotFound: the execution or the invocation does not exist.

    Example:
        lineage(store, exec_id)["draft"]     # ("research",)
    """
    made = parents_by_content(map(trace, Journal.open(store, exec_id).glances()))
    if invocation is None:
        return made
    if invocation not in made:
        raise NotFound(
            f'The execution {exec_id} has no invocation "{invocation}".',
            help=suggestion(invocation, made, f"It has: {some(list(made)) or 'none'}"),
        )
    return related(made, invocation)


def related(made: dict[str, tuple[str, ...]], invocation: str) -> dict[str, tuple[str, ...]]:
    """Return an invocation, its sources and the invocations that used its result."""
    above, pending = {invocation}, [invocation]
    while pending:
        new = [giver for giver in made[pending.pop()] if giver not in above]
        above.update(new)
        pending += new
    below = {invocation}
    # Each invocation comes after those whose results it used.
    for one, givers in made.items():
        if not below.isdisjoint(givers):
            below.add(one)
    return {one: givers for one, givers in made.items() if one in above or one in below}
