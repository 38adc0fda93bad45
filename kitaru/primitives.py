"""The primitives of flows and checkpoints: waits, notes, artifacts, secrets, idempotency keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from kitaru.config import setting
from kitaru.errors import AnswerInvalid, NotFound, UsageError
from kitaru.runtime import codec, secrets
from kitaru.runtime.engine.calls import Spec
from kitaru.runtime.engine.execution import anywhere, in_body, in_checkpoint
from kitaru.runtime.engine.primitives import DurableCall, Primitive, blocking
from kitaru.runtime.engine.retries import ONCE
from kitaru.runtime.engine.timers import deadline_of, escalations_of, moment_since
from kitaru.runtime.engine.waits import check_json, not_json
from kitaru.runtime.executions.artifacts import find_artifact
from kitaru.runtime.journal.evidence import encoded
from kitaru.runtime.journal.inboxes import InboxReader, Reading, call_name
from kitaru.runtime.journal.journal import TAG, Journal
from kitaru.runtime.schema.types import askable_schema, from_json
from kitaru.runtime.telemetry.beats import Progress
from kitaru.wire import canonical, expressions, ids, times
from kitaru.wire.events import check_match, check_sent_name
from kitaru.wire.names import check_name
from kitaru.wire.records import WaitRequest
from kitaru.wire.redaction import redacted
from kitaru.wire.tags import check_tags

if TYPE_CHECKING:
    from datetime import timedelta

_NOTE = 200
_EVENT = 64 * 1024

__all__ = [
    "emit",
    "idempotency_key",
    "inbox",
    "load",
    "log",
    "now",
    "progress",
    "save",
    "secret",
    "sleep",
    "tag",
    "wait",
    "wait_event",
]


def wait(
    *,
    name: str | None = None,
    question: str | None = None,
    schema: Any = None,
    timeout: float | timedelta | None = None,
    metadata: dict[str, Any] | None = None,
    evidence: Mapping[str, Any] | None = None,
    deadline: float | timedelta | datetime | None = None,
    default: Any = ...,
    escalate: Sequence[tuple[float | timedelta | datetime, str]] | None = None,
) -> Any:
    """Suspend the execution until somebody answers, and return the answer. Only in a flow's body.

    Args:
        name: name of the wait, used to answer it. Default: `wait`, numbered when it is repeated.
        question: text to show to people.
        schema: type of the answer: bool (default, also for None), int, float, str, list, dict, a
            pydantic model or a dataclass, or a JSON Schema (draft 2020-12) as a dict.
        timeout: how long the process polls for the answer before it ends and releases its compute,
            in seconds or as a timedelta. Default: 0. It is not a `deadline`: the status stays
            `waiting`, and a later answer resumes the execution.
        metadata: JSON to show with the question.
        evidence: values to show with the question, by title. A result or artifact of the execution
            is referred to, and any other value is stored with the question.
        deadline: when the wait expires: seconds or a timedelta from the first call, or a datetime
            with a time zone. Default: never. Either an answer or the expiry is recorded, never
            both, and a later answer is refused.
        default: the answer if the wait expires, as JSON that fits `schema`. Without it, the wait
            raises `WaitExpiredError`.
        escalate: pairs of a time, as for `deadline`, and whom to notify then, as a text for people.
            A dispatcher records each with the wait if it has no answer by that time.

    Raises:
        ContextError: the call is outside a flow's body.
        WaitExpiredError: the wait expired, and has no default.
        UsageError: JSON cannot express the type, or the JSON Schema cannot be checked; or `timeout`
            or `deadline` is not a time, `default` is not an answer or has no deadline, an item of
            `escalate` is not valid, or a title of `evidence` is not a string of 1 to 100
            characters.
        ValueNotEncodable: a value of `evidence` cannot be recorded.
        EnvironmentFailure: the schema needs pydantic or jsonschema-rs, which is not installed.

    Example:
        approved = kitaru.wait(name="approve_draft", question="Approve draft?", schema=bool)
        kitaru.wait(name="send", question="Send it?", evidence={"Draft": draft, "Terms": terms})
        approved = kitaru.wait(name="ok", deadline=timedelta(days=2), default=False)
    """
    execution = in_body("kitaru.wait")
    request, seconds, read = asked(
        name, question, schema, timeout, metadata, evidence, deadline, default, escalate
    )
    return read(execution.wait(request, seconds, read))


def sleep(
    duration: float | timedelta | None = None,
    *,
    until: datetime | None = None,
    name: str | None = None,
) -> None:
    """Continue the flow after a time. Only in a flow's body.

    The moment at which it ends is recorded at the first call, so a process that is killed does not
    sleep again from the start. A long sleep of a deployed flow releases the compute: its process
    ends, and a dispatcher starts the next one (see the setting `sleep_in_process`). A process of
    `flow.run` waits. If it ends meanwhile, `kitaru executions resume` or a dispatcher continues the
    execution.

    Args:
        duration: seconds, or a timedelta. 0 is allowed.
        until: a datetime with a time zone, instead of a duration. One that has passed is allowed.
        name: name of the sleep in listings. Default: `sleep`, numbered when it is repeated.

    Raises:
        ContextError: the call is outside a flow's body.
        UsageError: not exactly one of `duration` and `until` is passed, or it is not a valid time.

    Example:
        kitaru.sleep(timedelta(days=2))
        kitaru.sleep(until=datetime(2027, 1, 1, 9, tzinfo=ZoneInfo("Europe/Berlin")))
    """
    execution = in_body("kitaru.sleep")
    execution.wait(timer("kitaru.sleep", duration, until, name), 0.0, slept)


def wait_event(
    event: str,
    *,
    match: Mapping[str, Any] | None = None,
    where: str | None = None,
    name: str | None = None,
    since: datetime | timedelta | None = None,
    deadline: float | timedelta | datetime | None = None,
    default: Any = ...,
) -> Any:
    """Suspend the execution until an event comes, and return its data. Only in a flow's body.

    The first event counts that fits and that was received after this call. The execution releases
    its compute. A dispatcher continues it, as after a `wait`.

    Args:
        event: name of the event, as for `kitaru events send NAME --data JSON`.
        match: values that the event's data must have, by path, such as `{"order.id": order_id}`.
            They are found by key, also if many executions wait.
        where: a condition in the Common Expression Language on `data`, `id`, `name` and `at`, such
            as `"data.amount > 100"`. A field that is missing makes it false. It needs the extra
            `events`, also where the dispatcher runs.
        name: name of the wait in listings. Default: `event`, numbered when it is repeated.
        since: events also count that were received since this time: a datetime with a time zone,
            or a timedelta back from the first call.
        deadline: when the wait expires: seconds or a timedelta from the first call, or a datetime
            with a time zone. Default: never.
        default: the data if the wait expires, as JSON. Without it, `WaitExpiredError` is raised.

    Raises:
        ContextError: the call is outside a flow's body.
        WaitExpiredError: the wait expired, and has no default.
        UsageError: an argument is not valid.

    Example:
        paid = kitaru.wait_event("invoice.paid", match={"invoice": invoice.id}, deadline=86_400)
    """
    execution = in_body("kitaru.wait_event")
    request = event_request(
        "kitaru.wait_event", event, match, where, name, since, deadline, default
    )
    return execution.wait(request, 0.0, as_sent)


def event_request(
    what: str,
    event: str,
    match: Mapping[str, Any] | None,
    where: str | None,
    name: str | None,
    since: Any,
    deadline: Any,
    default: Any,
) -> WaitRequest:
    """Return the request of a wait for an event."""
    if where is not None and expressions.is_installed():
        expressions.check_expression(where)
    elif where is not None and not isinstance(where, str):
        raise UsageError(f"{what}: where={where!r} is not a string.")
    wait = check_name("wait", name or "event")
    asked = {
        "name": check_sent_name(event),
        "match": check_match(f"{what}: match", match or {}),
        "where": where or "",
        "since": "" if since is None else moment_since(f"{what}: since", since),
    }
    return WaitRequest(
        wait,
        "",
        {},
        kind="event",
        event=asked,
        deadline="" if deadline is None else deadline_of(f"{what}: deadline", deadline),
        default=() if default is ... else (_default(default, deadline, wait, as_sent),),
    )


def as_sent(value: Any) -> Any:
    """Return the data of an event, which may be any JSON."""
    return value


def timer(what: str, duration: Any, until: Any, name: str | None) -> WaitRequest:
    """Return the request of a sleep."""
    if (duration is None) == (until is None):
        raise UsageError(
            f"{what} needs either a duration or until=.",
            help="Pass one: kitaru.sleep(3600), or kitaru.sleep(until=moment).",
        )
    if until is not None and not isinstance(until, datetime):
        raise UsageError(
            f"{what}: until={until!r} is not a datetime.",
            help="Use a datetime with a time zone, or pass seconds as the duration.",
        )
    if isinstance(duration, datetime):
        raise UsageError(
            f"{what}: {duration!r} is not a duration.", help="Pass it as until=, or pass seconds."
        )
    is_moment = until is not None
    deadline = deadline_of(
        f"{what}: {'until' if is_moment else 'duration'}", until if is_moment else duration
    )
    name = check_name("wait", name or "sleep")
    return WaitRequest(name, "", {"type": "null"}, kind="timer", deadline=deadline)


def slept(value: Any) -> Any:
    """Return the answer of a sleep, which is None."""
    return value


def now() -> datetime:
    """Return the time in UTC, as recorded at the first call. Only in a flow's body.

    A replay returns the recorded time, so the flow may depend on it. The call does not block, so
    async flows use it as well. In a checkpoint, use `datetime.now(UTC)`.

    Raises:
        ContextError: the call is outside a flow's body.

    Example:
        if kitaru.now() - invoice.sent > timedelta(days=14):
            remind(invoice)
    """
    execution = in_body("kitaru.now")
    spec = Spec("now", times.now, "kitaru.now", kind="now", policy=ONCE, compared=False)
    return datetime.fromisoformat(execution.invoke(spec, (), {}, None))


def asked(
    name: str | None,
    question: str | None,
    schema: Any,
    timeout: float | timedelta | None,
    metadata: dict[str, Any] | None,
    evidence: Mapping[str, Any] | None,
    deadline: Any = None,
    default: Any = ...,
    escalate: Any = None,
) -> tuple[WaitRequest, float, Callable[[Any], Any]]:
    """Return the request of a wait, its polling time, and what turns JSON into the answer."""
    schema = bool if schema is None else schema
    name = check_name("wait", name or "wait")
    read = partial(from_json, schema=schema, what=name)
    request = WaitRequest(
        name=name,
        question=redacted(question or ""),
        schema=askable_schema(schema, f'the wait "{name}"'),
        metadata=_json(metadata or {}, "metadata"),
        evidence=encoded(evidence),
        deadline="" if deadline is None else deadline_of("kitaru.wait: deadline", deadline),
        default=() if default is ... else (_default(default, deadline, name, read),),
        escalate=escalations_of(escalate),
    )
    return request, _seconds(timeout), read


def _default(default: Any, deadline: Any, name: str, read: Callable[[Any], Any]) -> Any:
    """Return the answer of a wait that expires, checked like that of a person."""
    if deadline is None:
        raise UsageError(
            f'The wait "{name}" has a default, and no deadline.',
            help="Pass deadline= as well: without it, the wait never expires.",
        )
    try:
        check_json(default, name)
        read(default)
    except AnswerInvalid as error:
        raise UsageError(
            f"kitaru.wait: default={default!r} is not a valid answer. {error.message}",
            help="Use the JSON form of an answer, such as a dict for a model.",
        ) from None
    return default


def inbox(name: str) -> list[Any]:
    """Return what was sent to the execution since the last read of this inbox. Only in a body.

    The list is empty if nothing was sent. What is returned is recorded, so that a resumed execution
    sees the same. A signal is returned once. At most 1,000 signals are returned at once; the next
    call returns the next ones. A replay begins with an empty inbox.

    Args:
        name: name of the inbox, as for `kitaru executions signal EXEC NAME --value JSON`.

    Raises:
        ContextError: the call is outside a flow's body.
        UsageError: the name is not valid.

    Example:
        for note in kitaru.inbox("steer"):
            messages.append({"role": "user", "content": note})
    """
    return blocking(reading(name))


def reading(name: str) -> Primitive[list[Any]]:
    """Read an inbox with a durable call."""
    execution = in_body("kitaru.inbox")
    called = call_name(check_name("inbox", name))
    reader = execution.inboxes.setdefault(name, InboxReader(execution.journal, name))
    turn = Reading()

    def read(**_: Any) -> dict[str, Any]:
        numbers, values = reader.take(turn, execution.counters.ids_of(called))
        return {"execution": execution.journal.exec_id, "numbers": numbers, "values": values}

    spec = Spec(called, read, "kitaru.inbox", kind="inbox", policy=ONCE)
    found = None
    try:
        found = yield DurableCall(execution, spec, {"inbox": name})
    finally:
        # The task that reads may be cancelled.
        reader.settle(turn, found)
    values: list[Any] = found["values"]
    return values


def log(**metadata: Any) -> None:
    """Record notes with the running checkpoint or, in a flow's body, with the execution.

    Notes are merged by key. The last value of a key counts.

    Raises:
        ContextError: the call is outside a flow.

    Example:
        kitaru.log(rows=1200, source="crm")
    """
    scope = anywhere("kitaru.log")
    noted = {key: codec.encode(value, where=key) for key, value in metadata.items()}
    if scope.running is not None:
        scope.running.metadata.update(noted)
        return
    # A note may contain the time. No result depends on it, so a replay may log another value.
    spec = Spec("log", _note, "kitaru.log", kind="log", policy=ONCE, compared=False)
    scope.execution.invoke(spec, (), noted, None)


def tag(**tags: str | float) -> None:
    """Tag the execution, so that people find it. Only in a flow's body. The last value counts.

    `kitaru executions list --where tag.customer=acme`, pages and HTTP find it at once, while it
    runs.

    Args:
        tags: names with strings of at most 200 characters, numbers or bools.

    Raises:
        ContextError: the call is outside a flow's body.
        UsageError: a name or a value is not valid.

    Example:
        kitaru.tag(customer=order.customer, priority=1)
    """
    execution = in_body("kitaru.tag")
    found = check_tags(tags)
    is_new = False

    def note(**tags: str) -> None:
        nonlocal is_new
        is_new = True
        encoded = {name: codec.encode(text, where=name) for name, text in tags.items()}
        in_checkpoint("kitaru.tag")[1].metadata.update(encoded)

    spec = Spec("tag", note, TAG, kind="log", policy=ONCE, compared=False)
    execution.invoke(spec, (), found, None)
    if is_new:
        with execution.recording():
            execution.journal.show_tags()


def progress(done: float, total: float | None = None, note: str = "") -> None:
    """Report how far the running checkpoint or, in a flow's body, the execution is.

    It is shown to people who watch, within about a second, and is not recorded. Only the last call
    of a second is written, so that it may be called in a loop.

    Args:
        done: how much is done.
        total: how much there is. Default: unknown.
        note: a short text; at most 200 characters are shown.

    Raises:
        ContextError: the call is outside a flow.
        UsageError: `done` or `total` is not a number.

    Example:
        for number, page in enumerate(pages):
            kitaru.progress(number, len(pages), page.title)
    """
    scope = anywhere("kitaru.progress")
    for name, number in (("done", done), ("total", total if total is not None else 0)):
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not math.isfinite(number):
            raise UsageError(
                f"kitaru.progress: {name}={number!r} is not a finite number.",
                help="For example kitaru.progress(3, 10)",
            )
    id = scope.running.invocation if scope.running else ""
    reported = Progress(id, done, total, str(note)[:_NOTE], times.now())
    scope.execution.beats.report(reported)
    if setting("logs").value:
        shown = {"done": done, "total": total, "note": reported.note}
        scope.execution.log.progress(id, shown)


def emit(event: Any) -> None:
    """Show an event to the people and programs that watch the execution. It is not recorded.

    `kitaru executions logs --follow`, pages and HTTP show it within about a second. Code of a
    flow's body that runs again after a resume emits again. A checkpoint that is recorded does not.

    Args:
        event: JSON of at most 64 KiB.

    Raises:
        ContextError: the call is outside a flow.
        UsageError: the event is not JSON, or too long.

    Example:
        kitaru.emit({"type": "tool", "name": "search", "query": query})
    """
    scope = anywhere("kitaru.emit")
    reason = not_json(event, "event")
    if not reason and len(canonical.dumps(event)) > _EVENT:
        reason = f"it has more than {_EVENT:,} bytes"
    if reason:
        raise UsageError(
            f"The event cannot be shown: {reason}.",
            help="Use texts, finite numbers, true, false, null, lists and objects of those.",
        )
    if setting("logs").value:
        scope.execution.log.event(scope.running.invocation if scope.running else "", event)


def save(name: str, value: Any, type: str = "", tags: Sequence[str] | None = None) -> None:
    """Save a value as an artifact of the running checkpoint.

    Args:
        name: name of the artifact, for `kitaru.load`.
        value: any value that can be recorded.
        type: type of the artifact, for people. Default: the name of its class.
        tags: labels for people, stored with the artifact.

    Raises:
        ContextError: the call is outside a checkpoint.
        ValueNotEncodable: the value cannot be recorded.
    """
    execution, running = in_checkpoint("kitaru.save")
    check_name("artifact", name)
    if any(kept["name"] == name for kept in running.artifacts):
        raise UsageError(
            f'The checkpoint {running.invocation} has already saved the artifact "{name}".',
            help="Artifacts cannot be overwritten. Use another name.",
        )
    stored = execution.journal.store_value(value, name, type=type)
    kept: dict[str, Any] = {"name": name, "type": stored.type, "value": stored}
    if tags:
        kept["tags"] = [redacted(str(tag)) for tag in tags]
    running.artifacts.append(kept)


def load(exec_id: str, name: str) -> Any:
    """Return an artifact of an execution. Only in a checkpoint.

    `name` is the name of the artifact, or the id of an invocation to load its result.

    Raises:
        ContextError: the call is outside a checkpoint.
        NotFound: there is no such execution or artifact.
        StateError: several invocations saved an artifact of that name.
        PickleRefused: the value contains a pickle, and the checkpoint does not set `pickle=True`.
    """
    execution, running = in_checkpoint("kitaru.load")
    journal = Journal.open(execution.journal.store, exec_id)
    document = journal.fetch(find_artifact(journal, name))
    where = f'"{name}" of execution {exec_id}'
    return codec.decode(document, unpickle=running.pickle, where=where)


def idempotency_key() -> str:
    """Return a key that is the same in every attempt of the running checkpoint, and unique to it.

    Pass it to an external service whose effect must happen only once, such as a payment.

    Raises:
        ContextError: the call is outside a checkpoint.
    """
    execution, running = in_checkpoint("kitaru.idempotency_key")
    return ids.idempotency_key(execution.journal.exec_id, running.invocation)


def secret(name: str) -> str:
    """Return the value of a secret. From then on, Kitaru masks the value in all of its output.

    The value comes from the environment variable of that name, then from the reference in
    `[tool.kitaru.secrets]`, then from `kitaru secrets set NAME` of this user. A result, a frame or
    a memory that contains the value is rejected, so that the store never contains a secret.

    Raises:
        NotFound: there is no such secret here.
        EnvironmentFailure: the secret manager does not answer, or denies access.
        UsageError: the name or its reference is not valid.

    Example:
        client = Client(api_key=kitaru.secret("SERVICE_API_KEY"))
    """
    value = secrets.find(name)
    if value is None:
        raise NotFound(
            f"There is no secret {name} here: no variable {name} in the environment, no reference "
            "in [tool.kitaru.secrets], no secret stored for this user.",
            help=f"kitaru secrets set {name}    # reads the value from stdin",
        )
    return value


def _seconds(timeout: Any) -> float:
    """Return the polling time in seconds. A timedelta is recognised without importing datetime."""
    if timeout is None:
        return 0.0
    seconds = timeout.total_seconds() if hasattr(timeout, "total_seconds") else timeout
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if number and 0 <= seconds < math.inf:
        return float(seconds)
    raise UsageError(
        f"kitaru.wait: timeout={timeout!r} is not a valid time.",
        help="Use seconds, 0 or more, or a timedelta. Omit it to release the compute at once.",
    )


def _note(**metadata: Any) -> None:
    _, running = in_checkpoint("kitaru.log")
    running.metadata.update(metadata)


def _json(value: dict[str, Any], where: str) -> dict[str, Any]:
    # Rejects secrets, and makes a copy that later changes do not affect.
    plain: dict[str, Any] = codec.decode(codec.encode(value, where=where))
    reason = not_json(plain, where) if isinstance(plain, dict) else f"{where} is no dict"
    if reason:
        raise UsageError(
            f"{where} must be plain JSON: {reason}.", help="Use texts, numbers, lists, dicts."
        )
    return plain
