"""Record submitted calls for later nodes, and divide long lists of calls among nodes."""

from __future__ import annotations

from typing import Any

from kitaru.errors import EnvironmentFailure
from kitaru.runtime.engine.calls import Call, spec_at
from kitaru.runtime.engine.execution import Execution
from kitaru.runtime.engine.futures import Future, Submission
from kitaru.runtime.journal.journal import Journal
from kitaru.wire.records import StoredValue
from kitaru.wire.structs import fields_of

# The item of a node without work, for targets whose lists must not be empty.
NOTHING = "-"
# The smallest limit of any target for the length of an argument.
_LONGEST = 256


def write(promised: Submission, journal: Journal) -> dict[str, Any]:
    """Return the promise as JSON. Large arguments are stored first."""
    assert promised.arguments is not None, "only calls whose arguments are recorded are promised"
    call = promised.call
    module, qualname = call.spec.place()
    # Only the calls of async flows have the field, so the frames of other flows do not change.
    lazy = {"lazy": True} if promised.is_lazy else {}
    return {
        "id": call.id,
        "module": module,
        "qualname": qualname,
        "arguments": fields_of(journal.store_document(promised.arguments(), "arguments")),
        "digest": call.digest,
        "opaque": list(call.opaque),
        "size": call.size,
        "site": call.site,
        "position": call.position,
        "ordinal": call.ordinal,
        **lazy,
    }


def read(document: dict[str, Any], execution: Execution) -> Submission:
    """Read a promise that another process wrote; its future is pending.

    Raises:
        EnvironmentFailure: this bundle does not contain the checkpoint.
    """
    spec = spec_at(document["module"], document["qualname"])
    if spec is None:
        raise EnvironmentFailure(
            f"There is no checkpoint {document['qualname']} in {document['module']}, which the "
            f"flow submitted as {document['id']}.",
            help="Run the execution with the bundle that it started with.",
        )
    call = Call(
        spec,
        document["id"],
        (),
        {},
        document["digest"],
        tuple(document["opaque"]),
        document["size"],
        document["site"],
        document["position"],
        # Releases up to 0.1 did not count calls.
        document.get("ordinal", 0),
    )
    stored = StoredValue(**document["arguments"])
    future: Future[Any] = Future(
        execution.submitted, call.id, pickle=spec.pickle, is_async=spec.coroutine is not None
    )
    return Submission(
        call,
        future,
        lambda: execution.journal.fetch(stored),
        unpickle=execution.pickles,
        is_lazy=document.get("lazy", False),
    )


def items(promised: list[dict[str, Any]], journal: Journal, most: int) -> list[str]:
    """Return one string for each of at most `most` nodes: the promises that the node runs.

    A promise that already has a record needs no node. The string is a position in the list of all
    promises, such as `4`, or several positions, such as `4,7-9`.
    """
    kept = journal.recorded()
    left = [n for n, one in enumerate(promised) if one["id"] not in kept]
    each = -(-len(left) // most)
    groups = [left[start : start + each] for start in range(0, len(left), each or 1)]
    return [_written(group) for group in groups]


def chosen(promised: list[dict[str, Any]], item: str) -> list[dict[str, Any]]:
    """Return the promises that an item names; raise ValueError or IndexError if it names none."""
    found = []
    for part in item.split(","):
        first, _, last = part.partition("-")
        positions = range(int(first), int(last or first) + 1)
        if not positions:
            raise ValueError(part)
        found += [promised[n] for n in positions]
    return found


def _written(group: list[int]) -> str:
    """Format positions in ascending order, without those that exceed the length of an argument.

    The gathering step runs the calls that no node ran.
    """
    runs: list[list[int]] = []
    for position in group:
        if runs and runs[-1][-1] == position - 1:
            runs[-1].append(position)
        else:
            runs.append([position])
    text = ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return text if len(text) <= _LONGEST else text[:_LONGEST].rpartition(",")[0]
