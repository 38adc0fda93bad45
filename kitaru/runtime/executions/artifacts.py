"""List the stored values of an execution, and find one by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kitaru import hints
from kitaru.errors import NotFound, StateError
from kitaru.runtime.executions.model_calls import STORED, each_call
from kitaru.runtime.journal import evidence
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.to_json import as_json
from kitaru.wire.records import StoredValue
from kitaru.wire.structs import Struct


def result_as_json(journal: Journal) -> Any:
    """Return a completed execution's result as JSON; `None` for any other execution."""
    end = journal.end()
    return None if end is None or end.result is None else as_json(journal.fetch(end.result))


def find_artifact(journal: Journal, name: str) -> StoredValue:
    """Return the artifact saved as `name`, else the result of the invocation `name`.

    Texts of model calls have names such as `draft/call-1/prompt`, and the evidence of a wait has
    names such as `approve/evidence/1`.

    Raises:
        NotFound: there is neither an artifact nor an invocation with this name.
        StateError: several invocations saved an artifact with this name.
    """
    if (shown := _evidence(journal, name)) is not None:
        return shown
    having = [
        fields["id"]
        for fields in journal.glances()
        if fields["id"] == name or any(kept["name"] == name for kept in fields["artifacts"])
    ]
    invocations = journal.outcomes(having)
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
    # Only texts of model calls have a slash in their names.
    calls = _texts(journal) if "/" in name else ()
    texts = [(own, value) for own, _, _, value in calls if own == name]
    for _, value in saved or results or texts:
        return value
    raise NotFound(
        f'The execution {journal.exec_id} has no artifact "{name}".',
        help="Those it has: " + hints.command(journal.store, "artifacts", "list", journal.exec_id),
    )


def _evidence(journal: Journal, name: str) -> StoredValue | None:
    wait, is_evidence, number = name.partition("/evidence/")
    request = journal.wait_request(wait) if is_evidence and number.isdecimal() else None
    if request is None:
        return None
    found = [value for _, value in evidence.values(journal, request)]
    return found[int(number) - 1] if 0 < int(number) <= len(found) else None


class Artifact(Struct):
    """A stored value of an execution.

    `name` is the name under which it was saved, the invocation whose result it is, or that of a
    prompt or response of a model call, such as `draft/call-1/prompt`. `type` and `size` (bytes of
    JSON) describe the value. `digest` is the digest of its content.
    """

    name: str
    invocation: str
    type: str
    size: int
    digest: str
    saved: bool


def each_artifact(journal: Journal) -> Iterator[Artifact]:
    """Yield every artifact of an execution in program order: results and saved values."""
    for invocation in journal.in_order():
        kept = [(one["name"], one["type"], one["value"], True) for one in invocation.artifacts]
        if invocation.value is not None:
            kept.append((invocation.id, invocation.value.type, invocation.value, False))
        for name, type, value, saved in kept:
            yield Artifact(name, invocation.id, type, value.size, value.digest, saved)
    for name, id, type, value in _texts(journal):
        yield Artifact(name, id, type, value.size, value.digest, False)


def _texts(journal: Journal) -> Iterator[tuple[str, str, str, StoredValue]]:
    """Yield name, invocation, type and value of each recorded text of model calls."""
    for call in each_call(journal):
        for type in STORED:
            value = call.facts.get(type)
            if isinstance(value, StoredValue):
                yield f"{call.name}/{type}", call.invocation, type, value
