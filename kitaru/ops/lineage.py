"""Return which earlier results each invocation of an execution used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru.errors import NotFound
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.lineage import parents_by_content, trace
from kitaru.wire.names import suggestion

if TYPE_CHECKING:
    from kitaru.stores.base import Store


def lineage(
    store: Store, exec_id: str, invocation: str | None = None
) -> dict[str, tuple[str, ...]]:
    """Return, by invocation, those whose results it used, whole or inside an argument.

    By content: an argument that equals a result, or else a part of one, counts as that result.

    Args:
        invocation: only what its result was made from, and what was made from it.

    Raises:
        NotFound: there is no such execution or invocation.

    Example:
        lineage(store, exec_id)["draft"]     # ("research",)
    """
    made = parents_by_content(map(trace, Journal.open(store, exec_id).glances()))
    if invocation is None:
        return made
    if invocation not in made:
        raise NotFound(
            f'The execution {exec_id} has no invocation "{invocation}".',
            help=suggestion(invocation, made, f"It has: {', '.join(made) or 'none'}"),
        )
    return related(made, invocation)


def related(made: dict[str, tuple[str, ...]], invocation: str) -> dict[str, tuple[str, ...]]:
    """Return of `made` what an invocation was made from and what was made from it, and itself."""
    # Only where it is used: networkx takes longer to import than a listing.
    import networkx as nx

    network = nx.DiGraph((giver, one) for one, givers in made.items() for giver in givers)
    network.add_node(invocation)
    kept = nx.ancestors(network, invocation) | nx.descendants(network, invocation) | {invocation}
    return {one: givers for one, givers in made.items() if one in kept}
