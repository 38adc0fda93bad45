"""Decides which stored values an execution has, and which one a name means."""

from __future__ import annotations

from kitaru.errors import NotFound, StateError
from kitaru.runtime.recording import commands
from kitaru.runtime.recording.journal import Journal
from kitaru.wire.records import StoredValue
from kitaru.wire.structs import Struct


def find_artifact(journal: Journal, name: str) -> StoredValue:
    """Return what was saved as `name`, else the result of the invocation `name`.

    Raises:
        NotFound: neither is there.
        StateError: several invocations saved that name.
    """
    invocations = journal.invocations()
    saved = [
        (invocation.id, kept["value"])
        for invocation in invocations
        for kept in invocation.artifacts
        if kept["name"] == name
    ]
    if len(saved) > 1:
        raise StateError(
            f'Several invocations of {journal.exec_id} saved an artifact "{name}": '
            f"{', '.join(id for id, _ in saved)}.",
            help="Save them under different names, or load an invocation's result by its id.",
        )
    results = [(i.id, i.value) for i in invocations if i.id == name and i.value is not None]
    for _, value in saved or results:
        return value
    raise NotFound(
        f'The execution {journal.exec_id} has no artifact "{name}".',
        help="Those it has: "
        + commands.command(journal.store, "artifacts", "list", journal.exec_id),
    )


class Artifact(Struct):
    """A stored value of an execution: saved under `name`, or the result of the invocation `name`.

    `type` and `size` (bytes of JSON) describe the value, `digest` is its content's.
    """

    name: str
    invocation: str
    type: str
    size: int
    digest: str
    saved: bool


def artifacts_of(journal: Journal) -> list[Artifact]:
    """Return every artifact of an execution in program order: results, and what was saved."""
    found = []
    for invocation in journal.invocations():
        kept = [(one["name"], one["type"], one["value"], True) for one in invocation.artifacts]
        if invocation.value is not None:
            kept.append((invocation.id, invocation.value.type, invocation.value, False))
        found += [
            Artifact(name, invocation.id, type, value.size, value.digest, saved)
            for name, type, value, saved in kept
        ]
    return found
