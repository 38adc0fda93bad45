"""Copy the records that a replay reuses: all of them, or none.

Reused records are copies of the source's records. Large values are not copied but referenced. The
record of the execution itself is written last: until then the replay does not exist for readers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from math import inf
from typing import Any

from kitaru.errors import FlowError, NotFound, UsageError
from kitaru.runtime import codec
from kitaru.runtime.executions.invocation_ref import Known, failure, known, select
from kitaru.runtime.journal import blobs
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.memory.memories import inherit
from kitaru.runtime.schema.types import check_answer, from_json
from kitaru.runtime.steps.frames import counters_in
from kitaru.version import VERSION
from kitaru.wire import keys
from kitaru.wire.ids import Counters, new_execution_id
from kitaru.wire.records import (
    InvocationRecord,
    Record,
    Replay,
    StoredValue,
    with_values,
)
from kitaru.wire.structs import Struct, field, replace
from kitaru.wire.times import now

_REPLACEABLE = ("checkpoint", "llm", "wait", "tool", "agent")


class Changes(Struct):
    """The differences between a replay and its source.

    `start` is the id or name of the invocation to run again from, empty for the first one.
    `at_failure` starts at the failed invocation, or else at the first unrecorded one. `results` are
    injected values by invocation, `inputs` JSON by name, `models` the models by alias.
    `reuse_unchanged` reuses every result whose code and arguments are unchanged.
    """

    start: str = ""
    at_failure: bool = False
    results: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    reuse_unchanged: bool = False


def adopt(
    source: Journal, changes: Changes, inputs: Any = None, *, is_local: bool = False, file: str = ""
) -> Journal:
    """Create a replay of `source`: a new execution with the records before the replay's start.

    `inputs` is the document of the flow's inputs, None to use the inputs of the source. `is_local`:
    the replay runs on this machine, even if the source ran elsewhere. `file` is the digest of the
    flow's file with which it runs.

    Raises:
        NotFound: an invocation in `changes` is not in the source, or the source is being removed.
        UsageError: a name is ambiguous, a result cannot be injected, or `reuse_unchanged` and a
            start are both set.
        StateError: `at_failure` is set, but the source is completed.
    """
    exec_id = new_execution_id()
    _refer(source, exec_id)
    calls = known(source)
    start, before = _start(source, calls, changes)
    injected = {select(source, calls, name).id: value for name, value in changes.results.items()}
    named = [one for one in calls if one.id in injected]
    stored = _inputs(source, exec_id, inputs)
    made = [_injected(source, exec_id, one, injected[one.id]) for one in named]
    taken = {one.id for one in calls if _precedes(one, before, injected)}
    inherit(source, exec_id, taken | injected.keys())
    # The records of a long execution are not in memory at once.
    records: Iterator[tuple[str, Record]] = chain(
        ((keys.invocation(exec_id, record.id), record) for record in made),
        _adopted(source, exec_id, taken),
    )
    if inputs is None and before:
        again = {*injected, *([start] if start else [])}
        records = chain(records, _route(source, exec_id, again))
    replayed = Replay(
        source=source.exec_id,
        start=start,
        results=tuple(one.id for one in named),
        inputs=tuple(changes.inputs),
        models=dict(changes.models),
        unchanged=changes.reuse_unchanged,
    )
    record = replace(
        source.execution,
        exec_id=exec_id,
        inputs=stored,
        inputs_digest=stored.digest,
        started_at=now(),
        kitaru_version=VERSION,
        replay=replayed,
        # The calls that the replay is meant to run must run.
        cache=False,
    )
    if is_local:
        record = replace(record, mode="local", target="", run="", source=file)
    return Journal.adopting(source.store, record, records)


def _refer(source: Journal, exec_id: str) -> None:
    """Record that `exec_id` refers to `source`, which prevents the removal of `source`."""
    key = keys.replay(source.exec_id, exec_id)
    blobs.create_or_read(source.store, key, now().encode("ascii"))
    if source.store.get(keys.garbage(source.exec_id)) is not None:
        raise NotFound(
            f"The execution {source.exec_id} is being removed.",
            help="`kitaru store gc` was told that it is old enough. Replay another one: "
            "kitaru executions list",
        )


def _start(source: Journal, calls: Sequence[Known], changes: Changes) -> tuple[str, float]:
    """Return the id to replay from, and the position before which all records are reused."""
    if changes.at_failure and changes.start:
        raise UsageError("A replay begins at the failure or from an invocation, not at both.")
    if changes.reuse_unchanged and (changes.at_failure or changes.start):
        raise UsageError(
            "A replay that reuses what is unchanged decides for each call: it has no start."
        )
    if changes.at_failure:
        failed = failure(source, calls)
        return (failed.id, failed.position) if failed else ("", inf)
    if not changes.start:
        return "", 0
    found = select(source, calls, changes.start)
    return found.id, found.position


def _precedes(one: Known, before: float, injected: Mapping[str, Any]) -> bool:
    return one.is_recorded and one.position < before and one.id not in injected


def _inputs(source: Journal, exec_id: str, document: Any) -> StoredValue:
    if document is None:
        return blobs.shared(source.execution.inputs, source.home)
    return blobs.store_value(source.store, keys.home(exec_id), document, "inputs")


def _adopted(source: Journal, exec_id: str, ids: Collection[str]) -> Iterator[tuple[str, Record]]:
    """Yield the records of `ids` as those of the replay refer to them, in any order."""
    for record in source.each_invocation() if ids else ():
        if record.id in ids:
            shared = with_values(record, lambda value: blobs.shared(value, source.home))
            adopted_from = f"{source.exec_id}/{record.id}"
            yield keys.invocation(exec_id, record.id), replace(shared, adopted_from=adopted_from)


def _injected(source: Journal, exec_id: str, one: Known, value: Any) -> InvocationRecord:
    if one.kind not in _REPLACEABLE:
        raise UsageError(f'"{one.id}" is a {one.kind}: its result cannot be injected.')
    if one.kind == "wait" and (asked := source.wait_request(one.id)):
        check_answer(value, asked.schema, one.id)
    if (record := source.invocation(one.id)) is not None:
        value = alike(value, source, record)
    home, at = keys.home(exec_id), now()
    return InvocationRecord(
        id=one.id,
        name=one.name,
        kind=one.kind,
        callee=one.callee,
        arguments_digest="",
        status="completed",
        value=blobs.keep(source.store, home, value, one.id),
        attempts=0,
        started_at=at,
        ended_at=at,
        given=True,
        position=one.position,
    )


def _route(source: Journal, exec_id: str, again: set[str]) -> Iterator[tuple[str, Record]]:
    """Yield the frames that were passed on before any invocation of `again` was called."""
    reached = set()
    for left in source.exits():
        if left.frame is None or left.next is None:
            continue
        counters = Counters.from_json(counters_in(source.fetch(left.frame)))
        if not any(counters.has(id) for id in again):
            frame = blobs.shared(left.frame, source.home)
            yield keys.exit(exec_id, left.block), replace(left, frame=frame)
            reached.add(left.block)
    pointers = source.frame_pointers()
    arrived = {block for block, pointer in pointers if pointer.source in reached}
    for block, pointer in pointers:
        if block in arrived or pointer.passed in arrived:
            yield keys.frame(exec_id, block), pointer


def alike(value: Any, journal: Journal, record: InvocationRecord) -> Any:
    """Convert JSON to the recorded type of `record`; return other values unchanged.

    Raises:
        AnswerInvalid: the JSON does not fit that type.
        UsageError: the recorded type has no JSON form, or its class is not available here.
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
            f'The result of "{record.id}" cannot be injected here: {error.message}',
            help="Run this in the project, where the classes of the flow can be imported.",
        ) from error
