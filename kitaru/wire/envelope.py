"""The file format of a record, and the checks when a record is read.

A record consists of one line of canonical JSON (kind, schema, key, writer, body) and one line with
its SHA-256. A truncated, corrupt or misplaced record is detected before any field of it is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from kitaru.errors import RecordCorrupt, RecordTooNew, ValueNotEncodable
from kitaru.version import VERSION
from kitaru.wire import canonical, redaction
from kitaru.wire.limits import MAX_RECORD_BYTES
from kitaru.wire.records import (
    AttemptRecord,
    AuditFailure,
    AuditRecord,
    Beat,
    CacheHint,
    ChildRecord,
    CodeRecord,
    DeploymentRecord,
    EndRecord,
    ErrorInfo,
    EventEffect,
    EventEntry,
    EventRecord,
    ExecutionRecord,
    ExitRecord,
    FramePointer,
    IntentRecord,
    InvocationRecord,
    LaunchRecord,
    LimitEntry,
    LogChunk,
    MemoryVersion,
    NoticeRecord,
    Record,
    Replay,
    RoundClosed,
    ScheduleEntry,
    SignalRecord,
    StateRecord,
    StoredValue,
    SubmissionRecord,
    Summary,
    TagRecord,
    TokenRecord,
    TokenRevoked,
    WaitAnswer,
    WaitEscalation,
    WaitRefusal,
    WaitRequest,
)
from kitaru.wire.schema_order import in_order, with_order
from kitaru.wire.structs import defaults_of, fields_of

# Increased with every release that adds a field or a kind. A reader of the earlier schema then
# rejects such a record as too new, instead of reporting damage.
RECORD_SCHEMA = 2

_KINDS: dict[str, type[Record]] = {
    "execution": ExecutionRecord,
    "state": StateRecord,
    "end": EndRecord,
    "invocation": InvocationRecord,
    "attempt": AttemptRecord,
    "wait-request": WaitRequest,
    "wait-answer": WaitAnswer,
    "wait-refusal": WaitRefusal,
    "wait-escalation": WaitEscalation,
    "signal": SignalRecord,
    "exit": ExitRecord,
    "frame": FramePointer,
    "cache": CacheHint,
    "memory": MemoryVersion,
    "intent": IntentRecord,
    "deployment": DeploymentRecord,
    "tag": TagRecord,
    "launch": LaunchRecord,
    "child": ChildRecord,
    "submission": SubmissionRecord,
    "round-closed": RoundClosed,
    "schedule": ScheduleEntry,
    "event": EventRecord,
    "event-entry": EventEntry,
    "event-effect": EventEffect,
    "limit": LimitEntry,
    "code": CodeRecord,
    "log": LogChunk,
    "summary": Summary,
    "beat": Beat,
    "audit": AuditRecord,
    "audit-failure": AuditFailure,
    "notice": NoticeRecord,
    "token": TokenRecord,
    "token-revoked": TokenRevoked,
}
# Structs inside records.
_PARTS = (StoredValue, ErrorInfo, Replay)
_KIND_OF = {cls: kind for kind, cls in _KINDS.items()}
# Fields that are stored only with a value. Records without them keep their bytes.
_OPTIONAL: dict[type[Record], dict[str, Any]] = {
    # Only calls awaited in async flows have a sequence.
    InvocationRecord: {"sequence": 0},
    WaitAnswer: {"by": ""},
    TagRecord: {"by": ""},
    EndRecord: {"by": ""},
    ExecutionRecord: {"parent": "", "tags": {}, "limits": {}, "source": ""},
    AttemptRecord: {"site": ""},
    LaunchRecord: {
        "tag": "",
        "schedule": "",
        "parent": "",
        "tags": {},
        "event": "",
        "cancel_on": {},
    },
    EventEntry: {"triggers": ""},
    Summary: {"parent": "", "tags": {}},
    WaitRequest: {
        "evidence": (),
        "kind": "question",
        "deadline": "",
        "default": (),
        "escalate": (),
        "child": "",
        "event": {},
        "site": "",
    },
    SubmissionRecord: {"state": 0},
    Beat: {"progress": ()},
}
_NONE: dict[str, Any] = {}
_FIELD_SETS = {cls: frozenset(cls.__match_args__) for cls in _KIND_OF}


def _nested(value: Any) -> dict[str, Any]:
    if type(value) is StoredValue:
        return {"$stored": fields_of(value)}
    if type(value) in _PARTS:
        return fields_of(value)
    raise TypeError(f"a record cannot hold a {type(value).__qualname__}")


_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False, default=_nested
).encode


# Fields for display are recorded with secrets hidden.
_TOLD = frozenset({"state", "attempt", "log", "summary", "beat"})


def _without_secrets(key: str, kind: str, body: dict[str, Any]) -> dict[str, Any]:
    if kind in _TOLD:
        body = redaction.redacted_json(body)
    if name := redaction.find_secret_in_document([key, body]):
        raise ValueNotEncodable(
            f"The value of the secret {name} would be recorded in {redaction.redacted(key)}.",
            help=f'Record the name, and call kitaru.secret("{name}") where the value is used. A '
            "secret may not be in an id, a key of a memory, a question, or the schema or metadata "
            "of a wait either.",
        )
    return body


def encode(key: str, writer: str, record: Record) -> bytes:
    """Return the bytes of `record` for its `key`, with the token of the writer.

    Raises:
        ValueNotEncodable: the record is too long, or contains a value that JSON cannot represent.
    """
    kind = _KIND_OF[type(record)]
    body = fields_of(record)
    for name, default in _OPTIONAL.get(type(record), _NONE).items():
        if body[name] == default:
            del body[name]
    if type(record) is WaitRequest:
        body["schema"] = with_order(record.schema)
    if redaction.has_values():
        body = _without_secrets(key, kind, body)
    envelope = {
        "body": body,
        "key": key,
        "kind": kind,
        "schema": RECORD_SCHEMA,
        "writer": writer,
    }
    try:
        line = _encode(envelope).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueNotEncodable(f"The record {key} cannot be written: {error}.") from error
    if len(line) > MAX_RECORD_BYTES:
        raise ValueNotEncodable(
            f"The record {key} has {len(line):,} bytes; at most {MAX_RECORD_BYTES:,} are allowed.",
            help="Log less in this checkpoint, or save large things with kitaru.save(name, value).",
        )
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode("ascii") + b"\n"


def decode(key: str, data: bytes) -> Record:
    """Return the record that was written to `key`, after all checks.

    Raises:
        RecordCorrupt: `data` differs from what was written.
        RecordTooNew: the record was written by a newer Kitaru.
    """
    envelope = _envelope(key, data)
    try:
        cls, body = _KINDS[envelope["kind"]], envelope["body"]
        if envelope["schema"] < RECORD_SCHEMA:
            body = _completed(cls, body)
        return _revive(cls, body)
    except (KeyError, TypeError, AttributeError) as error:
        raise _corrupt(key, f"its fields are not those of a record ({error})") from error


def glance(key: str, data: bytes) -> dict[str, Any]:
    """Return the fields of a record as JSON after the checksum test; for reading many records.

    It takes a quarter of the time of `decode`. Use `decode` for any record that decides something.

    Raises:
        RecordCorrupt: `data` is not what was written to `key`.
        RecordTooNew: the record was written by a newer Kitaru.
    """
    envelope = _sound(key, data)
    try:
        cls, body = _KINDS[envelope["kind"]], envelope["body"]
        return _completed(cls, body) if envelope["schema"] < RECORD_SCHEMA else body
    except (KeyError, TypeError, AttributeError) as error:
        raise _corrupt(key, f"its fields are not those of a record ({error})") from error


def is_marked(key: str, data: bytes, mark: bytes) -> bool:
    """Return whether a record contains these bytes, after the checksum test, without parsing it.

    Raises:
        RecordCorrupt: the checksum does not match.
    """
    _check_sum(key, data)
    return mark in data


def reread(data: bytes) -> Record:
    """Return the record in bytes that `encode` has just returned, as later readers see it."""
    envelope = json.loads(data[:-66])
    return _revive(_KINDS[envelope["kind"]], envelope["body"])


def _envelope(key: str, data: bytes) -> dict[str, Any]:
    envelope = _sound(key, data)
    if not _is_canonical(envelope, data[:-66]):
        raise _corrupt(key, "it is not canonical JSON")
    return envelope


def _sound(key: str, data: bytes) -> dict[str, Any]:
    line = _check_sum(key, data)
    try:
        envelope = json.loads(line)
        schema = envelope["schema"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _corrupt(key, "it is not a record") from error
    if type(schema) is int and schema > RECORD_SCHEMA:
        raise RecordTooNew(
            f"{key} was written by a newer release of Kitaru: its schema is {schema}, and this "
            f"release ({VERSION}) reads up to {RECORD_SCHEMA}. The record is not damaged.",
            help="Upgrade Kitaru here to at least the release that wrote it. An older release "
            "neither reads nor resumes what a newer one wrote.",
        )
    if type(schema) is not int or schema < 1 or envelope.get("kind") not in _KINDS:
        raise _corrupt(key, "its kind or schema is unknown")
    if envelope.get("key") != key:
        raise _corrupt(key, f"it was written as {envelope.get('key')!a}")
    return envelope  # type: ignore[no-any-return]


def _check_sum(key: str, data: bytes) -> bytes:
    line = data[:-66]
    if data[-66:] != b"\n" + hashlib.sha256(line).hexdigest().encode("ascii") + b"\n":
        raise _corrupt(key, "its checksum does not match")
    return line


def _is_canonical(envelope: Any, line: bytes) -> bool:
    # The only cheap check for duplicate keys and NaN, which json.loads accepts.
    try:
        return canonical.dumps(envelope) == line
    except (ValueError, RecursionError):
        return False


def _corrupt(key: str, why: str) -> RecordCorrupt:
    return RecordCorrupt(
        f"The stored object {key} is damaged: {why}.",
        help="Kitaru never overwrites a record. Look at the object and at what else writes to this "
        "store, restore it from a backup, or start a new execution with `kitaru run`.",
    )


def _completed(cls: type[Record], body: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an earlier schema's record, with defaults for missing fields."""
    missing = {name: make() for name, make in defaults_of(cls).items() if name not in body}
    return {**missing, **body}


def _stored(data: dict[str, Any]) -> StoredValue:
    return StoredValue(**data["$stored"])


def _replay(data: dict[str, Any]) -> Replay:
    return Replay(**{**data, "results": tuple(data["results"]), "inputs": tuple(data["inputs"])})


def _stored_in(items: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    return tuple({name: _unwrap(value) for name, value in item.items()} for item in items)


def _unwrap(value: Any) -> Any:
    is_stored = type(value) is dict and len(value) == 1 and "$stored" in value
    return _stored(value) if is_stored else value


_REVIVE: dict[str, Callable[[Any], Any]] = {
    "inputs": _stored,
    "value": _stored,
    "result": _stored,
    "frame": _stored,
    "error": lambda data: ErrorInfo(**data),
    "replay": _replay,
    "uses": tuple,
    "artifacts": _stored_in,
    "calls": _stored_in,
    "evidence": _stored_in,
    "schema": in_order,
    "notes": tuple,
    "changes": tuple,
    "unasked": tuple,
    "up": tuple,
    "under_way": tuple,
    "progress": tuple,
    "waits": tuple,
    "default": tuple,
    "escalate": tuple,
    "grants": tuple,
}
_REVIVERS = {
    cls: tuple((name, _REVIVE[name]) for name in cls.__match_args__ if name in _REVIVE)
    for cls in _KIND_OF
    # Their values are JSON itself, not stored values.
    if cls not in (WaitAnswer, SignalRecord, LaunchRecord, ScheduleEntry)
} | {ScheduleEntry: (("queue", tuple),)}


def _revive(cls: type[Record], body: dict[str, Any]) -> Record:
    for name, default in _OPTIONAL.get(cls, _NONE).items():
        body.setdefault(name, default)
    if body.keys() != _FIELD_SETS[cls]:
        raise KeyError("missing or unknown field")
    for name, revive in _REVIVERS.get(cls, ()):
        if body[name] is not None:
            body[name] = revive(body[name])
    return cls(**body)
