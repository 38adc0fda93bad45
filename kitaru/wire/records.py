"""The records of a store. `kitaru.wire.envelope` writes and reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from kitaru.wire.structs import Struct, field, replace

Status = Literal["running", "waiting", "sleeping", "failed", "completed", "cancelled"]
Mode = Literal["local", "dry-run", "deployed"]
InvocationKind = Literal[
    "checkpoint", "llm", "log", "memory", "wait", "inbox", "tool", "agent", "now", "child"
]
OnCancel = Literal["cancel", "abandon"]


class StoredValue(Struct):
    """A value: inline as the codec's JSON document `data`, or in the blob with digest `blob`.

    `digest` is the digest of the canonical document, which refers to its parts by their digests.
    `outside` is the size of those parts in bytes, `size` the total size. `type` is for display.
    Blob and parts are stored below the keys of the execution `home`; if it is empty, of the
    execution that this record belongs to.
    """

    data: Any = None
    blob: str | None = None
    size: int = 0
    digest: str = ""
    type: str = ""
    encoding: str = "value/1"
    home: str = ""
    outside: int = 0


class ErrorInfo(Struct):
    """A failure for display. `traceback` contains only the user's frames."""

    type: str
    message: str
    traceback: str = ""
    help: str = ""
    invocation: str = ""


class Replay(Struct):
    """The replay of the execution `source`, starting at the invocation `start`.

    If `start` is empty, everything runs again; with `unchanged`, only the calls whose code or
    arguments changed. `results` are the invocations with injected results,
    `inputs` the names of changed inputs, `models` the new model of each changed alias.
    """

    source: str
    start: str = ""
    results: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    models: dict[str, str] = field(default_factory=dict)
    unchanged: bool = False


class ExecutionRecord(Struct):
    """The facts about an execution, written once. Digests may be empty.

    Attributes:
        target: where the execution runs; empty on this machine.
        run: the id of its run on the target; empty on this machine.
        replay: the execution that it replays. Large values that it reuses stay stored there.
        cache: whether results of other executions may be reused. A resume uses the same value.
        retries: default number of retries of this run; None if the flow or the settings decide.
        changes: the declared changes (`kitaru.renamed` and others) of its code at the start.
        code: fingerprint of the code; empty if it has none.
        parent: `<execution>/<invocation>` of the call that started it as a child, else empty.
        tags: what it was tagged with when it was started here. `kitaru.tag` adds to them.
        limits: the limits of `@flow` for its inputs; see `kitaru.wire.flow_limits`. Empty without.
        source: digest of the flow's file, if it runs on this machine; see
            `kitaru.runtime.journal.sources`. Empty if the file is not recorded.
    """

    exec_id: str
    flow: str
    module: str
    file: str
    mode: Mode
    inputs: StoredValue
    inputs_digest: str
    started_at: str
    target: str = ""
    run: str = ""
    plan_digest: str = ""
    bundle_digest: str = ""
    replay: Replay | None = None
    kitaru_version: str = ""
    cache: bool = True
    retries: int | None = None
    changes: tuple[str, ...] = ()
    code: str = ""
    parent: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    source: str = ""


class StateRecord(Struct):
    """One status change of an execution. The highest number is current until there is an end.

    `error` is why the execution failed; of a running one, why its process stopped, such as a
    missing package. The execution can then be resumed.
    """

    number: int
    status: Status
    at: str
    error: ErrorInfo | None = None


class Summary(Struct):
    """What a list shows of an execution, as of its state with the same number.

    It is written with that state. A list reads it instead of the execution. All of it follows from
    other records, so a missing summary is computed from them.

    Attributes:
        version: the version of the flow, such as `v3`, empty if it is not deployed.
        tag: the tag that the execution was invoked by.
        title: the note `title` of the flow, else its first input that is a short string.
        excerpt: the beginning of the inputs, such as `topic=tea, n=3`.
        up: what the execution waits for, failed with or returned: the kind (`wait`, `timer`,
            `error`, `result` or empty), the id of its invocation, and a text. The text of a timer
            is the moment at which it expires.
        source: the execution that it replays.
        parent: the execution that started it as a child.
        error_digest: a digest that failures of the same kind share, whatever numbers they contain.
        tokens: model tokens of calls that the execution made itself, failed attempts included.
        cost: their known price in US dollars.
        unpriced: number of these calls without a known price.
        seconds: duration of its invocations, without reused results.
        reused_tokens, reused_cost: those of results from the cache or from the replayed execution.
        tags: its tags by name.
    """

    number: int
    status: Status
    at: str
    flow: str
    mode: Mode
    started_at: str
    target: str = ""
    version: str = ""
    tag: str = ""
    source: str = ""
    parent: str = ""
    title: str = ""
    excerpt: str = ""
    up: tuple[str, str, str] = ("", "", "")
    error_digest: str = ""
    tokens: int = 0
    cost: float | None = None
    unpriced: int = 0
    seconds: float = 0.0
    reused_tokens: int = 0
    reused_cost: float | None = None
    tags: dict[str, str] = field(default_factory=dict)


class EndRecord(Struct):
    """The end of an execution: completed with a result, or cancelled.

    `unasked` are the ids of records that earlier runs wrote and the last run did not use. `by` is
    who cancelled it, empty if the flow ended.
    """

    status: Literal["completed", "cancelled"]
    result: StoredValue | None
    at: str
    unasked: tuple[str, ...] = ()
    by: str = ""


class InvocationRecord(Struct):
    """The outcome of an invocation: its value, a failure that the flow caught, or a cancellation.

    Attributes:
        callee: dotted name of the function.
        failure: the exception, encoded by the codec.
        cached_from: `<execution>/<invocation>` of a cached result, else empty.
        adopted_from: in a replay, `<execution>/<invocation>` of a reused result, else empty.
        given: whether the result was injected into a replay, for any arguments.
        site: call site, such as `flow.py:12`.
        position: ascends in program order of the calls.
        uses: digests of the arguments, for `kitaru.runtime.journal.lineage`.
        calls: the model calls inside.
        artifacts: `{name, type, value}`. A value directly in one of their dicts may be a
            `StoredValue`.
        cache_key: where other executions find the result; empty if it is not cached.
        ordinal: the call's place in the order of the flow's body; 0 if that order is not exact.
        arguments: small arguments by name, as JSON without secrets.
        sequence: for a call awaited in an async flow, its place among the completions that the body
            has seen; else 0, and the field is not stored.
    """

    id: str
    name: str
    kind: InvocationKind
    callee: str
    arguments_digest: str
    status: Literal["completed", "failed", "cancelled"]
    value: StoredValue | None = None
    failure: dict[str, Any] | None = None
    error: ErrorInfo | None = None
    attempts: int = 1
    started_at: str = ""
    ended_at: str = ""
    fingerprint: str = ""
    cached_from: str = ""
    adopted_from: str = ""
    given: bool = False
    uses: tuple[str, ...] = ()
    artifacts: tuple[dict[str, Any], ...] = ()
    calls: tuple[dict[str, Any], ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    site: str = ""
    position: int = 0
    cache_key: str = ""
    ordinal: int = 0
    arguments: dict[str, Any] = field(default_factory=dict)
    sequence: int = 0


class AttemptRecord(Struct):
    """A failed attempt of the invocation `id`, recorded for inspection.

    It has no influence on the execution, with one exception: if a node of a fan-out made the call,
    the gathering step in the same `run` of the pipeline reads the failure from this record. `kind`,
    `callee`, `position` and `site` are those of the invocation, which may have no record yet.
    `final` means that a retry would not help.
    """

    id: str
    number: int
    error: ErrorInfo | None = None
    failure: dict[str, Any] | None = None
    started_at: str = ""
    ended_at: str = ""
    calls: tuple[dict[str, Any], ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    kind: InvocationKind = "checkpoint"
    callee: str = ""
    position: int = 0
    run: str = ""
    final: bool = False
    site: str = ""


class WaitRequest(Struct):
    """A question that suspends the execution; `schema` is the JSON schema of a valid answer.

    `position`, `ordinal` and `site` are those of the invocation. The flow's code may have changed
    before the resume and ask a different question. The request with the highest `revision` counts.
    `evidence` are `{name, invocation, value}`, see `kitaru.runtime.journal.evidence`.

    A wait with a `deadline`, an absolute time, expires. Its answer is then `default`, which has one
    item, or an error if `default` is empty. `escalate` are `{at, to}`: whom to notify when. The
    kind `timer` is a sleep: only its deadline answers it. The deadline of the first request counts.
    The kind `child` waits for the execution `child`, whose end answers it. The kind `event` waits
    for the first event that fits `event`: `{name, match, where, since, from}`. `from` is the first
    entry of the log of events that counts, as the first request says.
    """

    name: str
    question: str
    schema: Any
    metadata: dict[str, Any] = field(default_factory=dict)
    asked_at: str = ""
    position: int = 0
    ordinal: int = 0
    revision: int = 0
    evidence: tuple[dict[str, Any], ...] = ()
    kind: Literal["question", "timer", "child", "event"] = "question"
    deadline: str = ""
    default: tuple[Any, ...] = ()
    escalate: tuple[dict[str, str], ...] = ()
    child: str = ""
    event: dict[str, Any] = field(default_factory=dict)
    site: str = ""


class WaitAnswer(Struct):
    """The answer to a wait, its abort or its expiry; the first that the flow accepts counts.

    `number` is its position among the answers to the wait. All earlier answers were rejected. `by`
    is who answered. `expired` has the value of the wait's default, None if it has none. The value
    of the kind `child` is how a child execution ended: `{execution, status, error, message}`. The
    value of the kind `event` is the data of the event, whose id is in `by`.
    """

    name: str
    kind: Literal["value", "abort", "expired", "child", "event"]
    value: Any = None
    answered_at: str = ""
    number: int = 1
    by: str = ""


class WaitRefusal(Struct):
    """Why the answer with that number does not fit the type of the flow; the wait stays open."""

    name: str
    number: int
    reason: str


class WaitEscalation(Struct):
    """The note that a wait was not answered by one of the moments of its `escalate`."""

    name: str
    number: int
    to: str
    at: str


class SignalRecord(Struct):
    """A message to an execution. Signals of an inbox are numbered from 1, without a gap.

    `value` is JSON. `by` is who sent it. `kitaru.inbox` records which calls read it.
    """

    inbox: str
    number: int
    value: Any
    sent_at: str
    by: str = ""


class ExitRecord(Struct):
    """How the process segment that started at `block` ended, and the frame that it passed on.

    `notes` list what could not cross a cut: variable, type, line.
    """

    block: str
    status: Literal["go", "waiting", "end"]
    next: str | None
    frame: StoredValue | None = None
    notes: tuple[dict[str, Any], ...] = ()


class FramePointer(Struct):
    """Location of a block's frame: the exit of block `source`, unless control `passed` by."""

    source: str = ""
    passed: str = ""


class CacheHint(Struct):
    """Where a result for a cache key was recorded or used, and its arguments and code."""

    exec_id: str
    invocation: str
    arguments_digest: str
    fingerprint: str


class MemoryVersion(Struct):
    """One version of a key of a memory. A version without a value marks the key as deleted.

    `operation` is the writer, `<execution>/<invocation>` or `outside/<token>`; each writer writes
    at most one version. `compacted` describes the sources of a compaction by a model.
    """

    key: str
    number: int
    operation: str
    at: str
    value: StoredValue | None = None
    compacted: dict[str, Any] = field(default_factory=dict)


class IntentRecord(Struct):
    """An invocation is about to write a version, above version `floor` of its key."""

    id: str
    floor: int


class DeploymentRecord(Struct):
    """One version of a deployed flow, which never changes: `files` are digests by name.

    `digest` is that of `lock.json`, which covers all files: two builds with the same digest are
    identical.
    """

    flow: str
    number: int
    target: str
    digest: str
    files: dict[str, str]
    at: str
    kitaru_version: str


class TagRecord(Struct):
    """A tag of a flow points at a version from its move `number` on; version 0 removes the tag.

    `by` is who moved it.
    """

    flow: str
    tag: str
    number: int
    version: int
    at: str
    by: str = ""


class LaunchRecord(Struct):
    """How an execution was started: from version `deployment` of its flow, or from a local build.

    `deployment` is 0 for a build, and `directory` is empty for a version. `inputs` are JSON values
    by name. `tag` is the tag that selected the version, empty if it was named. `schedule` is the
    schedule that started it, empty for other executions. `parent` is that of the execution, `tags`
    are its tags. The process that plays a dry run starts it; a dispatcher never does. `event` is
    the event that started it, as `NAME/ID`. `cancel_on` says which events cancel it; see
    `kitaru.wire.flow_events`. They count from the entry `from` of the log of events.
    """

    flow: str
    inputs: dict[str, Any]
    deployment: int = 0
    directory: str = ""
    tag: str = ""
    schedule: str = ""
    parent: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    is_dry_run: bool = False
    event: str = ""
    cancel_on: dict[str, Any] = field(default_factory=dict)


class ChildRecord(Struct):
    """An execution notes a child before it starts it, so that a cancellation finds the child.

    `invocation` is the call that starts the child, `on_cancel` what the end of a cancelled parent
    means for it.
    """

    exec_id: str
    flow: str
    invocation: str
    on_cancel: OnCancel
    at: str


class SubmissionRecord(Struct):
    """A run of a round: claimed (`run` is empty), started, or taken by its first step.

    `attempt` is the generation of the claim. `state` is the number of the execution's state when
    the run was claimed; 0 for a run of the first round, and for one that its step has taken. In
    records of Kitaru 0.1, `round` is the number of the state.
    """

    round: int
    attempt: int
    target: str
    at: str
    run: str = ""
    url: str = ""
    state: int = 0


class RoundClosed(Struct):
    """The end of a round: why its run does not continue the execution. The first one counts.

    Attributes:
        round: number of the round.
        status: `parked` at waits, `failed`, or `lost`: its run ended without a word.
        waits: names of the waits; an answer to any of them continues the execution.
        by: the run whose step closed it, or the process that found the run ended.
    """

    round: int
    status: Literal["parked", "failed", "lost"]
    at: str
    waits: tuple[str, ...] = ()
    by: str = ""


class ScheduleEntry(Struct):
    """One entry of a schedule's log: a change of its definition, a tick, or a start by a person.

    The newest entry contains the whole state. Entries are numbered without gaps, and the first
    writer of a number decides.

    Attributes:
        schedule: id of the schedule.
        number: number of the entry, from 1.
        at: when it was written.
        by: the person who changed or started it; empty for a tick.
        last: every instant up to this moment is decided.
        flow, version: the version to start, by tag or number; a tag is resolved at each tick.
        inputs: inputs of the executions, by name, as JSON.
        declared: whether `@flow` declares it. A deployment then changes it.
        decision: what a tick does: `start` an execution, `queue` or `skip` it, or `fail`.
        instant: the moment of the tick that was decided; empty for a change.
        deployment: number of the version that is started.
        exec_id: the execution that is started.
        cancels: the execution to cancel before.
        why: why nothing starts.
        skipped: number of older instants that this entry skips, at most 1,000 counted; they are
            from `skipped_from` to `skipped_to`.
        run: the newest execution that the schedule started.
        queue: instants that start when `run` has ended.
    """

    schedule: str
    number: int
    kind: Literal["change", "tick", "trigger"]
    at: str
    last: str
    status: Literal["active", "paused", "deleted"]
    flow: str
    version: str
    cron: str
    timezone: str
    inputs: dict[str, Any]
    overlap: Literal["skip", "queue", "cancel", "allow"]
    catchup: Literal["none", "last", "all"]
    by: str = ""
    declared: bool = False
    decision: Literal["", "start", "queue", "skip", "fail"] = ""
    instant: str = ""
    deployment: int = 0
    exec_id: str = ""
    cancels: str = ""
    why: str = ""
    skipped: int = 0
    skipped_from: str = ""
    skipped_to: str = ""
    run: str = ""
    queue: tuple[str, ...] = ()


class EventRecord(Struct):
    """An event, as it was sent. Its name and id identify it: sent again, it is the same event.

    `data` is JSON. `at` is when it was received. `by` is who sent it.
    """

    name: str
    id: str
    data: Any
    at: str
    by: str = ""


class EventEntry(Struct):
    """One entry of the log of events: events in the order that all readers see.

    The newest entry contains the whole state. Entries are numbered without gaps, and the first
    writer of a number decides.

    Attributes:
        number: number of the entry, from 1.
        at: when it was written.
        events: each `[digest, name]`; the events themselves are stored by digest.
        triggers: digest of the flows that these events start; empty without any. An entry
            without events changes them.
    """

    number: int
    at: str
    events: tuple[list[str], ...] = ()
    triggers: str = ""


class EventEffect(Struct):
    """What an event did to an execution, noted before it is done; the execution proves that it was.

    `kind` is `start` or `cancel`, or `refuse` if `exec_id` could not start, and `why`. `deployment`
    is the version that it started.
    """

    kind: Literal["start", "cancel", "refuse"]
    exec_id: str
    flow: str
    at: str
    deployment: int = 0
    why: str = ""


class LimitEntry(Struct):
    """One entry of the log of a flow's limits; see `kitaru.runtime.journal.places`.

    `holders` are the runs that have a place, by `<execution>.<round>`: the digests of their keys,
    when they got it, the number of their state then, and the process of one that runs in its
    caller. `rates` are the theoretical arrival times of the next start, in microseconds.
    """

    flow: str
    number: int
    at: str
    holders: dict[str, dict[str, Any]]
    rates: dict[str, int]


class AuditRecord(Struct):
    """Who did something outside of a flow. It is written before the action takes place.

    Attributes:
        action: such as `answer`, `cancel` or `tag`; see `kitaru.runtime.journal.audit`.
        subject: what it was done to, such as the name of a wait, or `stable v3`.
        flow, exec_id: the flow and the execution; empty without one.
    """

    at: str
    by: str
    action: str
    subject: str = ""
    flow: str = ""
    exec_id: str = ""


class AuditFailure(Struct):
    """The action of an entry of the audit log did not take place. `reason` is the error's class."""

    reason: str


class NoticeRecord(Struct):
    """A step of sending a notification of an event through a channel.

    Attributes:
        event: the last part of the key of its hint below `news/`.
        channel: the name of the channel in the settings of the process that sends.
        status: `trying` before it is sent; `failed` if that try failed; `delivered` or `given up`
            at the end.
        number: number of the try.
        reason: why it failed; empty otherwise.
        pause: seconds until the next try.
    """

    event: str
    channel: str
    status: Literal["trying", "failed", "delivered", "given up"]
    number: int
    at: str
    reason: str = ""
    pause: float = 0.0


class TokenRecord(Struct):
    """A token of the HTTP API, or a session of a person who logged in.

    The store contains no token, only its digest: who reads the store cannot use it.

    Attributes:
        id: the public part of the token.
        digest: SHA-256 of the token.
        name: what audit entries name.
        grants: `{"role", "flows"}` of each grant. Without flows, it applies to all.
        by: who created it.
        expires_at: from when on it is refused; empty for never.
        parent: of a session, the id of the token that it began with; empty for a login by OpenID
            Connect.
        seal: of a session that the token of the service's environment began: a digest that only
            the session and that token have in common.
    """

    id: str
    digest: str
    name: str
    grants: tuple[dict[str, Any], ...]
    at: str
    by: str
    expires_at: str = ""
    is_session: bool = False
    parent: str = ""
    seal: str = ""


class TokenRevoked(Struct):
    """A token is refused from now on."""

    id: str
    at: str
    by: str


class CodeRecord(Struct):
    """A process ran an execution with different code than at its start, once for each code.

    `process` is `host:pid`, `kitaru_version` the version of its Kitaru.
    """

    fingerprint: str
    at: str
    process: str
    kitaru_version: str


class LogChunk(Struct):
    """Lines of output in the order of writing, each `[at, invocation, stream, text]`."""

    lines: tuple[list[str], ...]


class Beat(Struct):
    """A sign of life of a process that runs an execution; see `kitaru.runtime.telemetry.beats`.

    `under_way` are its running attempts, each `[began at, invocation, attempt, site]`. `progress`
    is the last progress of each invocation, `[at, invocation, done, total, note]`.
    """

    at: str
    under_way: tuple[list[str], ...] = ()
    progress: tuple[list[Any], ...] = ()


Record = (
    ExecutionRecord
    | StateRecord
    | EndRecord
    | InvocationRecord
    | AttemptRecord
    | WaitRequest
    | WaitAnswer
    | WaitRefusal
    | WaitEscalation
    | SignalRecord
    | ExitRecord
    | FramePointer
    | CacheHint
    | MemoryVersion
    | IntentRecord
    | LogChunk
    | DeploymentRecord
    | TagRecord
    | LaunchRecord
    | ChildRecord
    | SubmissionRecord
    | RoundClosed
    | ScheduleEntry
    | EventRecord
    | EventEntry
    | EventEffect
    | LimitEntry
    | CodeRecord
    | AuditRecord
    | AuditFailure
    | NoticeRecord
    | TokenRecord
    | TokenRevoked
    | Summary
    | Beat
)


def stored_values(record: InvocationRecord) -> list[StoredValue]:
    """Return all stored values in a record: its own, its artifacts', its model calls'."""
    inside = [value for item in (*record.artifacts, *record.calls) for value in item.values()]
    return [value for value in (record.value, *inside) if isinstance(value, StoredValue)]


def with_values(
    record: InvocationRecord, change: Callable[[StoredValue], StoredValue]
) -> InvocationRecord:
    """Return the record with each of its stored values replaced."""

    def changed(items: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        return tuple({k: one(v) for k, v in item.items()} for item in items)

    def one(value: Any) -> Any:
        return change(value) if isinstance(value, StoredValue) else value

    return replace(
        record,
        value=one(record.value),
        artifacts=changed(record.artifacts),
        calls=changed(record.calls),
    )
