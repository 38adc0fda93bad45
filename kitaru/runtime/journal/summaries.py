"""Summaries of executions: one small record per state, so that a list reads one object per row.

A summary is written together with the state that it describes. It decides nothing: all of it
follows from other records, so a summary that is missing, because an earlier release wrote the state
or a process was killed, is computed again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kitaru.errors import KitaruError
from kitaru.runtime.journal import blobs, launches
from kitaru.runtime.journal.effort import Spent
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.to_json import as_json
from kitaru.wire import keys, redaction
from kitaru.wire.records import (
    ErrorInfo,
    ExecutionRecord,
    StateRecord,
    StoredValue,
    Summary,
    WaitRequest,
)

if TYPE_CHECKING:
    from kitaru.stores.base import Store

_TITLE = 80
_TEXT = 300
_EXCERPT = 300
_VALUE = 80
# A larger document is not read for the sake of a list.
_MOST_BYTES = 1024 * 1024
_VARYING = re.compile(r"0x[0-9a-fA-F]+|[0-9]+")


def summarise(
    store: Store,
    execution: ExecutionRecord,
    state: StateRecord,
    *,
    title: str = "",
    tags: Mapping[str, str] | None = None,
    up: tuple[str, str, str] = ("", "", ""),
    spent: Spent | Summary | None = None,
) -> Summary:
    """Return the summary of an execution in a state.

    Args:
        title: the note `title` of the flow.
        tags: the tags that the flow gave it.
        up: what the execution waits for or returned; a failure is described by the state.
        spent: the effort until now, or an earlier summary that contains it.
    """
    launch = launches.recall(store, execution.exec_id) if execution.mode == "deployed" else None
    inputs = inputs_of(store, execution)
    if state.error is not None:
        up = (
            "error",
            state.error.invocation,
            _short(f"{_name(state.error)}: {state.error.message}"),
        )
    return Summary(
        number=state.number,
        status=state.status,
        at=state.at,
        flow=execution.flow,
        mode=execution.mode,
        started_at=execution.started_at,
        target=execution.target,
        version=f"v{launch.deployment}" if launch and launch.deployment else "",
        tag=launch.tag if launch else "",
        source=execution.replay.source if execution.replay else "",
        parent=execution.parent.partition("/")[0],
        title=short(title, _TITLE) or _title(inputs),
        excerpt=_excerpt(inputs),
        tags={**(launch.tags if launch else {}), **execution.tags, **(tags or {})},
        up=up,
        error_digest=_error_digest(state.error) if state.error is not None else "",
        **_effort(spent),
    )


def read(record_store: RecordStore, exec_id: str, number: int) -> Summary | None:
    """Return the summary that was written with the state of that number, None if it is missing."""
    return record_store.read(Summary, keys.summary(exec_id, number))


def wait_shown(request: WaitRequest) -> tuple[str, str, str]:
    """Return what an execution that waits for an answer or a time is up to."""
    if request.kind == "timer":
        return ("timer", request.name, request.deadline)
    if request.event:
        return ("wait", request.name, _short(f"event {request.event['name']}"))
    return ("wait", request.name, _short(request.question))


def result_shown(store: Store, exec_id: str, result: StoredValue | None) -> tuple[str, str, str]:
    """Return what a completed execution is up to: the first words of its result."""
    if result is None:
        return ("", "", "")
    value = _document(store, exec_id, result)
    text = value if isinstance(value, str) else _json(value)
    return ("result", "", _short(text) if value is not None else "")


def short(text: str, length: int) -> str:
    """Return the beginning of a text in one line, with secrets hidden before it is cut."""
    line = " ".join(redaction.redacted(text).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def _short(text: str) -> str:
    return short(text, _TEXT)


def inputs_of(store: Store, execution: ExecutionRecord) -> Mapping[str, Any]:
    """Return the inputs of an execution as JSON; empty if they are large or cannot be read."""
    found = _document(store, execution.exec_id, execution.inputs)
    return found if isinstance(found, dict) else {}


def _document(store: Store, exec_id: str, value: StoredValue) -> Any:
    """Return a stored value as JSON; None if it is large or cannot be read."""
    if value.size > _MOST_BYTES:
        return None
    try:
        return as_json(blobs.load_value(store, keys.home(exec_id), value))
    except KitaruError:
        return None


def _title(inputs: Mapping[str, Any]) -> str:
    texts = (value for value in inputs.values() if isinstance(value, str))
    return next((short(text, _TITLE) for text in texts if 0 < len(text) <= _TITLE), "")


def _excerpt(inputs: Mapping[str, Any]) -> str:
    parts = []
    for name, value in inputs.items():
        text = value if isinstance(value, str) else _json(value)
        parts.append(f"{name}={short(text, _VALUE)}")
        if sum(map(len, parts)) > _EXCERPT:
            break
    return short(", ".join(parts), _EXCERPT)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _name(error: ErrorInfo) -> str:
    return error.type.rpartition(".")[2]


def _error_digest(error: ErrorInfo) -> str:
    where = re.sub(r"_[0-9]+$", "", error.invocation)
    text = "\n".join([error.type, where, _VARYING.sub("#", error.message)])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _effort(spent: Spent | Summary | None) -> dict[str, Any]:
    if isinstance(spent, Summary):
        names = ("tokens", "cost", "unpriced", "seconds", "reused_tokens", "reused_cost")
        return {name: getattr(spent, name) for name in names}
    if spent is None:
        return {}
    own = spent.own
    return {
        "tokens": own.tokens,
        "cost": own.cost,
        "unpriced": spent.unpriced,
        "seconds": own.seconds,
        "reused_tokens": spent.reused.tokens,
        "reused_cost": spent.reused.cost,
    }
