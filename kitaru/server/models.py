"""The documents of the HTTP API. Its OpenAPI document is generated from these classes.

Moments are UTC texts such as `2026-11-22T03:08:00.123456Z`. Values of a flow are any JSON.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kitaru.status import ExecutionStatus


class Document(BaseModel):
    """A document that the service returns."""


class Body(BaseModel):
    """A document that a client sends. Unknown fields are errors, so that no typo is ignored."""

    model_config = ConfigDict(extra="forbid")


class InvalidPart(Document):
    """A part of a request that is not valid, with its place."""

    at: str
    message: str


class Problem(Document):
    """An error (RFC 9457). `code` is a class of `kitaru.errors`, or a code of the service."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    help: str = Field(description="What to do next, often with a command to paste.")
    errors: list[InvalidPart] = []
    version: int | None = Field(
        None, description="The newest version of a memory that another writer changed."
    )


class Health(Document):
    """Whether the service runs, or can answer requests."""

    status: Literal["ok"]


class Up(Document):
    """What an execution waits for, failed with or returned."""

    kind: str = Field(description="`running`, `wait`, `timer`, `error`, `result` or empty.")
    id: str = Field(description="The wait, or the running or failed invocation.")
    text: str


class ListedExecution(Document):
    """An execution in a list. Tokens, cost and seconds are those until its last status."""

    exec_id: str
    flow: str
    status: ExecutionStatus
    started_at: str
    state_at: str = Field(description="Time of the last status.")
    ended_at: str = Field(description="Time of the end or failure, else empty.")
    silent_since: str = Field(
        description="The last sign of a running execution if it is over two minutes old."
    )
    mode: str
    target: str
    version: str = Field(description="The deployed version, such as `v3`.")
    tag: str = Field(description="The tag that it was invoked by.")
    source: str = Field(description="The execution that it replays.")
    parent: str = Field(description="The execution that started it as a child.")
    title: str
    excerpt: str = Field(description="The beginning of its inputs.")
    up: Up
    error_digest: str = Field(description="Equal for failures that differ only in numbers.")
    tokens: int = Field(description="Tokens of its own model calls, failed attempts included.")
    cost: float | None
    unpriced: int = Field(description="Number of its own model calls without a known price.")
    seconds: float
    reused_tokens: int
    reused_cost: float | None
    tags: dict[str, str] = Field(description="Tags of its start and of `kitaru.tag`.")


class ExecutionPage(Document):
    """A page of executions, newest first."""

    items: list[ListedExecution]
    next_cursor: str | None = Field(
        description="The `cursor` of the next page. A page with fewer items than requested may "
        "have one: then only the newest executions were checked."
    )
    looked_at: int = Field(description="Number of executions that were checked for this page.")


class Evidence(Document):
    """A value to show with a question. Read it as the artifact `artifact`."""

    name: str
    invocation: str = Field(description="The invocation that made it, empty for another value.")
    type: str
    size: int
    digest: str
    artifact: str


class Wait(Document):
    """A question without an answer. `schema` is the JSON schema of a valid answer."""

    exec_id: str
    flow: str
    name: str
    question: str
    schema_: Any = Field(alias="schema")
    metadata: dict[str, Any]
    evidence: list[Evidence]
    asked_at: str
    refused: str = Field(description="Why the flow rejected the last answer.")
    deadline: str = Field(description="When the wait expires, empty if it never does.")


class WaitPage(Document):
    """A page of open waits, the oldest first."""

    items: list[Wait]
    next_cursor: str | None
    looked_at: int = Field(description="Number of waits that were checked for this page.")


class GivenAnswer(Document):
    """An answer that was given. `by` is who gave it, empty if that is not recorded."""

    name: str
    kind: str
    value: Any
    answered_at: str
    number: int
    by: str


class GivenAnswers(Document):
    """The answers of an execution's waits, in order of time."""

    items: list[GivenAnswer]


class WaitList(Document):
    """The open waits of one execution."""

    items: list[Wait]


class Escalation(Document):
    """A note that a wait had no answer when somebody else had to be notified."""

    to: str
    at: str


class ExecutionWait(Document):
    """A question in the document of its execution."""

    name: str
    question: str
    schema_: Any = Field(alias="schema")
    metadata: dict[str, Any]
    evidence: list[Evidence]
    asked_at: str
    position: int
    refused: str
    deadline: str = Field(description="When the wait expires, empty if it never does.")
    escalations: list[Escalation]


class AwaitedEvent(Document):
    """A wait for an event. The first event counts that has these values and meets the condition."""

    wait: str = Field(description="Name of the wait.")
    event: str = Field(description="Name of the event.")
    match: dict[str, Any] = Field(description="Values of the event's data, by path.")
    where: str = Field(description="A condition on the event, else empty.")
    deadline: str = Field(description="When the wait expires; empty for never.")


class Timer(Document):
    """A sleep that has not ended."""

    name: str
    until: str


class ExecutionAnswer(GivenAnswer):
    """An answer in the document of its execution. `refused` is why the flow rejected it."""

    refused: str


class Signal(Document):
    """A message to an execution. Signals of an inbox are numbered from 1, without a gap."""

    inbox: str
    number: int
    value: Any
    sent_at: str
    by: str


class ReadSignal(Signal):
    """A signal in the document of its execution. `read_by` is the call that returned it."""

    read_by: str


class UnderWay(Document):
    """An attempt that was under way when its process was last seen."""

    id: str
    attempt: int
    site: str = Field(description="The call site, such as `flow.py:12`.")
    began_at: str
    seen_at: str


class Progress(Document):
    """What an invocation reported last. That of the flow's body has an empty id."""

    id: str
    done: float
    total: float | None
    note: str
    at: str


class ErrorDocument(Document):
    """The failure of an execution."""

    type: str
    message: str
    traceback: str
    help: str
    invocation: str


class Submission(Document):
    """A run that was started on a target to continue an execution."""

    target: str
    run: str
    url: str
    at: str


class Invocation(Document):
    """The outcome of one invocation."""

    id: str
    name: str
    kind: str
    callee: str
    position: int = Field(description="Ascends in program order of the calls.")
    status: str
    error: ErrorDocument | None
    attempts: int
    started_at: str
    ended_at: str
    cached_from: str
    adopted_from: str
    given: bool = Field(description="Whether the result was injected into a replay.")
    uses: list[str] = Field(description="Digests of the arguments.")
    calls: int = Field(description="Number of its model calls.")
    site: str
    notes: dict[str, Any]


class Count(Document):
    """Counts of the invocations with one name."""

    name: str
    kind: str
    count: int
    failed: int
    reused: int
    seconds: float


class Attempt(Document):
    """A failed attempt of an invocation."""

    invocation: str
    number: int
    type: str
    message: str
    started_at: str
    ended_at: str


class Effort(Document):
    """Model tokens, their known price in US dollars, and seconds."""

    tokens: int
    cost: float | None
    seconds: float


class Code(Document):
    """A version of the flow's code that ran the execution."""

    fingerprint: str
    at: str
    process: str


class Replay(Document):
    """The replay of the execution `source`, starting at the invocation `start`."""

    source: str
    start: str
    results: list[str]
    inputs: list[str]
    models: dict[str, str]
    unchanged: bool


class Child(Document):
    """A child execution, and the invocation that started it."""

    exec_id: str
    flow: str
    invocation: str
    on_cancel: Literal["cancel", "abandon"]


class Execution(Document):
    """An execution, with a page of its invocations."""

    exec_id: str
    flow: str
    deployment: str
    status: ExecutionStatus
    submission: Submission | None
    started_at: str
    last_sign: str
    silent_since: str = Field(
        description="The last sign of a running execution if it is over two minutes old."
    )
    under_way: list[UnderWay]
    progress: list[Progress]
    tags: dict[str, str]
    inputs: Any
    result: Any
    waits: list[ExecutionWait]
    timers: list[Timer]
    waits_for: list[str] = Field(description="The children whose end it waits for.")
    events: list[AwaitedEvent] = Field(description="The events that it waits for.")
    started_by: str = Field(description="The event that started it, as `NAME/ID`, else empty.")
    cancelled_by: str = Field(description="Who cancelled it, or `event NAME/ID`, else empty.")
    parent: str = Field(description="The execution that started it as a child, else empty.")
    children: list[Child] = Field(description="The child executions that it has started.")
    answers: list[ExecutionAnswer]
    signals: list[ReadSignal] = Field(description="The last 100 signals that were sent to it.")
    error: ErrorDocument | None
    notes: dict[str, Any]
    invocations: list[Invocation]
    total: int
    next: str | None = Field(description="The `after` of the next page of invocations.")
    counts: list[Count]
    attempts: list[Attempt]
    attempts_total: int
    calls: list[dict[str, Any]]
    effort: Effort = Field(description="Of all invocations and failed attempts.")
    own: Effort = Field(description="Without results from the cache or a replayed execution.")
    failed_attempts: Effort = Field(description="The part of `own` that failed attempts took.")
    unpriced: int = Field(description="Number of model calls in `own` without a known price.")
    unasked: list[str]
    codes: list[Code]
    replay: Replay | None


class Started(Document):
    """An execution after a request that started or continued it.

    `submission` is the run that this request started or found. `next` is a command that continues
    the execution if nothing does so by itself.
    """

    exec_id: str
    flow: str
    status: ExecutionStatus
    submission: Submission | None
    next: str


class Answer(Body):
    """The answer to a wait."""

    value: Any = Field(description="JSON that matches the wait's `schema`.")


class SentSignal(Body):
    """A signal to send."""

    value: Any = Field(description="Any JSON.")


class Answered(Started):
    """An execution after an answer to its wait."""

    wait: str


class Page(Document):
    """A page of a list. `next_skip` is the `skip` of the next page."""

    next_skip: int | None


class Calls(Page):
    """Model calls: prompt, response, tokens, latency, model and cost, as far as recorded."""

    items: list[dict[str, Any]]


class LogLine(Document):
    """A line of output. `invocation` is empty for the flow's body.

    `stream` is `stdout` or `stderr`, `event` or `progress` with JSON as the text, or, only while
    people watch, `model` with a piece of what a model answers.
    """

    at: str
    invocation: str
    stream: str
    text: str


class Log(Page):
    """Lines of output in order of time."""

    items: list[LogLine]


class ArtifactInfo(Document):
    """A stored value. `size` is in bytes of JSON."""

    name: str
    invocation: str
    type: str
    size: int
    digest: str
    saved: bool


class ArtifactPage(Page):
    """Stored values in program order."""

    items: list[ArtifactInfo]


class Artifact(Document):
    """A stored value, or a preview of a large one. `is_complete` tells which."""

    name: str
    type: str
    size: int
    digest: str
    value: Any
    is_complete: bool


class SignedURL(Document):
    """A URL of the bucket from which anybody can read a value until it expires.

    `name` is that of the file, `size` its bytes.
    """

    url: str
    expires_at: str
    name: str
    size: int


class Lineage(Document):
    """The earlier invocations whose results each invocation used."""

    parents: dict[str, list[str]]


class Side(Document):
    """One of two compared executions."""

    exec_id: str
    flow: str
    status: str
    inputs: Any
    result: Any
    total: Effort
    own: Effort


class ComparisonRow(Document):
    """One invocation in both executions."""

    id: str
    change: str
    inputs: bool
    result: bool
    a: dict[str, Any] | None
    b: dict[str, Any] | None
    differences: list[Any]


class Comparison(Document):
    """The differences of execution `b` from `a`. `next` is the `skip` of the next page."""

    a: Side
    b: Side
    rows: list[ComparisonRow]
    same: bool
    differences: list[Any]
    counts: dict[str, int]
    next: int | None


class ReplayChanges(Body):
    """The differences between a replay and its source."""

    start: str = Field("", description="Id or name of the first invocation to run again.")
    at_failure: bool = Field(False, description="Run again from the invocation that failed.")
    results: dict[str, Any] = Field({}, description="Results to inject, by invocation.")
    inputs: dict[str, Any] = Field({}, description="Inputs to change, by name.")
    models: dict[str, str] = Field({}, description="Models to use, by alias.")
    reuse_unchanged: bool = Field(
        False, description="Reuse each result whose code and arguments are unchanged."
    )


class Many(Body):
    """A filter of executions to cancel or retry, and the confirmation of its preview."""

    where: list[str] = Field(
        min_length=1,
        max_length=50,
        description="Conditions such as `flow=review` or `older_than=2d`, which must all hold.",
    )
    limit: int = Field(100, ge=1, le=500, description="Maximum number of executions.")
    within: int = Field(10_000, ge=1, le=10**6, description="Search the newest N executions.")
    confirm: str = Field("", description="`confirm` of the preview. Empty for a preview.")


class ManyReplays(Many):
    """A filter of executions to replay, all with the same changes."""

    changes: ReplayChanges = Field(default_factory=lambda: ReplayChanges.model_validate({}))


class Done(Document):
    """What was done with one execution: its status now, or why nothing was done.

    `replay` is the execution that replays it, if there is one.
    """

    exec_id: str
    flow: str
    status: ExecutionStatus
    error: str
    replay: str


class Confirmed(Document):
    """The executions that a filter selects, and what was done with each after a confirmation.

    `confirm` names exactly these executions and begins with their number. `done` is empty for a
    preview. `has_more`: the filter may select further executions.
    """

    items: list[ListedExecution]
    count: int
    confirm: str
    has_more: bool
    done: list[Done]


class Version(Document):
    """One version of a deployed flow, with the tags that point to it."""

    flow: str
    version: str
    target: str
    digest: str
    deployed_at: str
    kitaru: str
    tags: list[str]


class FlowInfo(Document):
    """A deployed flow: its newest version, and the version of each tag."""

    flow: str
    newest: str
    tags: dict[str, str]


class Flows(Document):
    """The deployed flows, sorted by name."""

    items: list[FlowInfo]


class Versions(Document):
    """The versions of a flow, newest first."""

    items: list[Version]


class TagMove(Body):
    """Where to move a tag."""

    version: str = Field(description="Version such as `v3`.", examples=["v1"])


class Grant(Document):
    """A role on some flows."""

    role: str
    flows: list[str] = Field(description="Names or patterns of flows; empty for all flows.")


class Token(Document):
    """A token of the service, without its secret."""

    id: str
    prefix: str = Field(description="How the token begins.")
    name: str
    grants: list[Grant]
    created_at: str
    created_by: str
    expires_at: str = Field(description="From when on it is refused; empty for never.")
    revoked_at: str
    revoked_by: str
    is_session: bool = Field(description="Whether it is the session of a person who logged in.")
    state: Literal["valid", "expired", "revoked"]


class Tokens(Document):
    """Tokens, the oldest first."""

    items: list[Token]


class TokenCreation(Body):
    """The token to create."""

    name: str = Field(description="What answers and audit entries name.", examples=["ci"])
    role: str = Field(
        description="`viewer`, `approver`, `operator` or `admin`.", examples=["viewer"]
    )
    flows: list[str] = Field([], description="Names or patterns of flows. Default: all flows.")
    expires_seconds: float | None = Field(
        None, gt=0, le=10**10, description="How long it is valid. Default: until it is revoked."
    )


class CreatedToken(Document):
    """A new token. No later response contains `secret`."""

    secret: str = Field(description="The whole token.")
    token: Token


class AuditEntry(Document):
    """Who did something."""

    at: str
    by: str
    action: str
    subject: str = Field(description="A wait, a version, a tag, an invocation or a token.")
    flow: str
    exec_id: str
    error: str = Field(description="Why it changed nothing, as a class of `kitaru.errors`.")


class AuditPage(Document):
    """A page of the audit log, newest first."""

    items: list[AuditEntry]
    next_cursor: str | None
    looked_at: int = Field(description="Number of entries that were read for this page.")


class Invoke(Body):
    """Which version to start, with which inputs."""

    inputs: dict[str, Any] = Field({}, description="The flow's inputs by name.")
    tag: str | None = Field(None, description="Start the version of this tag.")
    version: str | None = Field(None, description="Start this version, such as `v3`.")
    tags: dict[str, str] = Field({}, description="Tags of the execution by name.")


class NewEvent(Body):
    """An event to send."""

    name: str = Field(description="Name of the event.", examples=["invoice.created"])
    data: Any = Field(None, description="JSON of at most 256 KiB.", examples=[{"amount": 120}])
    id: str | None = Field(
        None, description="Id of the event: sent again, it is the same event. Default: a new one."
    )


class EventEffect(Document):
    """What an event did to an execution."""

    kind: Literal["start", "cancel", "refuse"]
    exec_id: str
    flow: str
    at: str
    deployment: int = Field(description="The version that it started; 0 if it started none.")
    why: str = Field(description="Why the execution could not start.")


class CancelPattern(Document):
    """Events that cancel the executions of a flow."""

    name: str
    match: dict[str, str] = Field(description="Paths in the data, each with that of an input.")
    where: str = Field(description="A condition on event and inputs, else empty.")


class EventInfo(Document):
    """An event, as it was sent first."""

    name: str
    id: str
    data: Any
    at: str = Field(description="When it was received.")
    by: str = Field(description="Who sent it.")
    number: int = Field(
        description="The entry of the log that contains it; 0 before a dispatcher put it there."
    )
    effects: list[EventEffect] = Field(
        description="Executions that it started or cancelled; empty in lists."
    )


class EventTrigger(Document):
    """What events do to the version of a flow with the tag `default`."""

    flow: str
    version: str
    on: list[str] = Field(description="Names of the events that start it.")
    where: str = Field(description="A condition on these events, else empty.")
    cancel_on: list[CancelPattern]
    on_failure: str = Field(description="The flow that a failed execution starts, else empty.")
    on_waiting: str = Field(description="The flow that a question starts, else empty.")


class EventTriggers(Document):
    """What events do to flows, by flow."""

    items: list[EventTrigger]


class EventList(Document):
    """The newest events of a store, newest first."""

    items: list[EventInfo]


class ScheduleRun(Document):
    """A tick of a schedule, or a start by a person, and what was decided."""

    instant: str
    kind: Literal["tick", "trigger"]
    decision: Literal["start", "queue", "skip", "fail"]
    exec_id: str = Field(description="The execution that it starts; empty for other decisions.")
    deployment: str
    why: str = Field(description="Why it starts nothing.")
    skipped: int = Field(description="Number of older ticks that were skipped, at most 1,000.")
    at: str
    by: str


class ScheduleInfo(Document):
    """A schedule, its next ticks in UTC, and its last runs."""

    id: str
    flow: str
    version: str = Field(description="A tag, which each tick resolves, or a version.")
    cron: str
    timezone: str
    inputs: dict[str, Any]
    overlap: Literal["skip", "queue", "cancel", "allow"]
    catchup: Literal["none", "last", "all"]
    status: Literal["active", "paused"]
    declared: bool = Field(description="Whether `@flow` declares it.")
    queued: list[str]
    next: list[str]
    runs: list[ScheduleRun]


class Notification(Document):
    """A notification of an execution."""

    exec_id: str
    event: str = Field(description="`waiting`, `escalated`, `failed` or `cost`.")
    subject: str = Field(description="The wait, or the amount in dollars; empty for a failure.")
    channel: str = Field(description="Empty if no dispatcher has tried yet.")
    status: str = Field(description="`pending`, `delivered` or `given up`.")
    tries: int
    at: str = Field(description="When it was last tried; empty if it was not tried.")
    error: str = Field(description="Why the last try failed; empty otherwise.")


class NotificationList(Document):
    """Notifications."""

    items: list[Notification]


class NotificationChannel(Document):
    """A channel in the settings of the service, without secrets."""

    name: str
    kind: str = Field(description="`webhook`, `slack`, `teams` or `email`.")
    place: str = Field(description="Where it sends to.")
    on: list[str] = Field(description="The events that it is notified of.")
    flows: list[str] = Field(description="Names or patterns of flows; empty for all.")
    answer_links: bool = Field(description="Whether it gets links that need no account.")


class ChannelList(Document):
    """The channels of the service."""

    items: list[NotificationChannel]


class SentNotice(Document):
    """The result of a test message."""

    exec_id: str
    event: str
    channel: str
    status: str = Field(description="`delivered` or `failed`.")
    error: str = Field(description="Why it was not accepted; empty otherwise.")


class ScheduleList(Document):
    """The schedules of a store."""

    items: list[ScheduleInfo]


class NewSchedule(Body):
    """A schedule to create."""

    name: str = Field(description="`FLOW`, `FLOW@TAG` or `FLOW@v3`.", examples=["review"])
    cron: str = Field(
        description="Minute, hour, day of month, month, day of week.", examples=["0 2 * * *"]
    )
    timezone: str = Field("UTC", description="IANA name of the time zone of `cron`.")
    inputs: dict[str, Any] = Field({}, description="The flow's inputs by name.")
    overlap: Literal["skip", "queue", "cancel", "allow"] = Field(
        "skip", description="What a tick does while the previous execution has not ended."
    )
    catchup: Literal["none", "last", "all"] = Field(
        "last", description="Which ticks start that no dispatcher decided in time."
    )
    id: str | None = Field(None, description="Id of the schedule. Default: the flow's name.")


class NextTicks(Document):
    """The next ticks of a schedule in UTC."""

    id: str
    next: list[str]


class Triggered(Document):
    """An execution that a dispatcher starts."""

    id: str
    exec_id: str


class Scope(Document):
    """A memory: its scope, the number of its keys, and its last change."""

    scope: str
    keys: int
    written_at: str


class Scopes(Document):
    """The memories of namespaces and flows, sorted."""

    items: list[Scope]


class MemoryKeys(Document):
    """The keys of a memory that have a value, sorted."""

    items: list[str]


class MemoryValue(Document):
    """A value of a key, and its version."""

    key: str
    version: int
    value: Any
    written_at: str


class MemoryVersion(Document):
    """One version of a key, without its value."""

    key: str
    version: int
    deleted: bool
    written_at: str
    operation: str
    type: str
    size: int
    compacted: dict[str, Any]


class MemoryHistory(Document):
    """The versions of a key, oldest first."""

    items: list[MemoryVersion]


class MemoryWrite(Body):
    """A value to write."""

    value: Any
    expect: int | None = Field(
        None, ge=0, description="The version that must be the newest; 0 if there is no value."
    )


class Written(Document):
    """A written or deleted key. `version` is None if there was nothing to delete."""

    key: str
    version: int | None


class Usage(Document):
    """The usage of one group of model calls. `unpriced` calls have no known price."""

    name: str
    calls: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    cost: float
    unpriced: int


class UsageReport(Document):
    """The usage of each group, the most expensive first, and the total."""

    items: list[Usage]
    total: Usage
