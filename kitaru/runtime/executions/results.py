"""Check a result that a person injects against the recorded type."""

from __future__ import annotations

from typing import Any

from kitaru.errors import FlowError, UsageError
from kitaru.runtime import codec
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.schema.types import from_json
from kitaru.wire.records import InvocationRecord


def alike(value: Any, journal: Journal, record: InvocationRecord) -> Any:
    """Return JSON as an instance of the type that `record` holds; other values as they are.

    Raises:
        AnswerInvalid: the JSON does not fit that type.
        UsageError: no JSON says what the record holds, or its class is not to be found here.
    """
    if record.value is None or not codec.is_json(codec.encode(value, where=record.id)):
        return value
    document = journal.fetch(record.value)
    if codec.is_json(document):
        return value
    like = _decoded(document, record)
    holds_objects = isinstance(like, list | dict) or (
        isinstance(like, tuple | set | frozenset) and not codec.is_json(codec.encode(list(like)))
    )
    if holds_objects:
        raise UsageError(
            f'JSON cannot say what "{record.id}" returned: a {type(like).__name__} that holds '
            "objects.",
            help="Give a Python value: KitaruClient().executions.replay(…, results={…})",
        )
    return from_json(value, type(like), record.id)


def _decoded(document: Any, record: InvocationRecord) -> Any:
    try:
        return codec.decode(document)
    except FlowError as error:
        raise UsageError(
            f'The result of "{record.id}" cannot be given here: {error.message}',
            help="Run this in the project, where the classes of the flow can be imported.",
        ) from error
