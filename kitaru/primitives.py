"""The primitives of flows and checkpoints: waits, notes, artifacts, secrets, idempotency keys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from kitaru.errors import NotFound, UsageError
from kitaru.runtime import codec, secrets
from kitaru.runtime.engine import context
from kitaru.runtime.engine.calls import Spec
from kitaru.runtime.engine.retries import ONCE
from kitaru.runtime.engine.waits import not_json
from kitaru.runtime.executions.artifacts import find_artifact
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.schema.types import askable_schema, from_json
from kitaru.wire import ids
from kitaru.wire.names import check_name
from kitaru.wire.records import WaitRequest
from kitaru.wire.redaction import redacted

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ["idempotency_key", "load", "log", "save", "secret", "wait"]


def wait(
    *,
    name: str | None = None,
    question: str | None = None,
    schema: Any = None,
    timeout: float | timedelta | None = None,
    metadata: dict[str, Any] | None = None,
) -> Any:
    """Ask somebody, and suspend until there is an answer; in a flow's body.

    Args:
        name: what the answer is addressed to; default `wait`, numbered when it is used again.
        question: what people are shown.
        schema: the answer's type: bool (default, also for None), int, float, str, list, dict, a
            pydantic model or a dataclass, or a JSON schema (draft 2020-12) as a dict.
        timeout: how long the process looks for the answer before it ends and releases its compute,
            in seconds or as a timedelta; default 0. It is never a deadline: the execution waits on.
            The status is `waiting` all the time. An answer later than that resumes the execution.
        metadata: JSON shown beside the question.

    Raises:
        ContextError: used outside a flow's body.
        UsageError: the schema is not a type that JSON can express, or is a JSON schema that
            cannot be honoured; or `timeout` is not a time.
        EnvironmentFailure: the schema needs pydantic or jsonschema-rs, which is not installed.

    Example:
        approved = kitaru.wait(name="approve_draft", question="Approve draft?", schema=bool)
    """
    execution = context.in_body("kitaru.wait")
    schema = bool if schema is None else schema
    name = check_name("wait", name or "wait")
    request = WaitRequest(
        name=name,
        question=redacted(question or ""),
        schema=askable_schema(schema, f'the wait "{name}"'),
        metadata=_json(metadata or {}, "metadata"),
    )
    read = partial(from_json, schema=schema, what=request.name)
    return read(execution.wait(request, _seconds(timeout), read))


def log(**metadata: Any) -> None:
    """Keep notes with the checkpoint that runs, or in a flow's body with the execution.

    Values are merged by key, the last one counts.

    Raises:
        ContextError: used outside a flow.

    Example:
        kitaru.log(rows=1200, source="crm")
    """
    scope = context.anywhere("kitaru.log")
    noted = {key: codec.encode(value, where=key) for key, value in metadata.items()}
    if scope.running is not None:
        scope.running.metadata.update(noted)
        return
    # A note may hold the time; nothing depends on it, so a replay may ask for another one.
    spec = Spec("log", _note, "kitaru.log", kind="log", policy=ONCE, compared=False)
    scope.execution.invoke(spec, (), noted, None)


def save(name: str, value: Any, type: str = "", tags: Sequence[str] | None = None) -> None:
    """Keep a value as an artifact of the checkpoint that runs.

    Args:
        name: how `kitaru.load` finds it.
        value: anything that can be recorded.
        type: what it is, for people; default the name of its class.
        tags: labels, for people; stored with the artifact.

    Raises:
        ContextError: used outside a checkpoint.
        ValueNotEncodable: the value cannot be recorded.
    """
    execution, running = context.in_checkpoint("kitaru.save")
    check_name("artifact", name)
    if any(kept["name"] == name for kept in running.artifacts):
        raise UsageError(
            f'The checkpoint {running.invocation} saved the artifact "{name}" already.',
            help="Artifacts are never overwritten; use another name.",
        )
    stored = execution.journal.store_value(value, name, type=type)
    kept: dict[str, Any] = {"name": name, "type": stored.type, "value": stored}
    if tags:
        kept["tags"] = [redacted(str(tag)) for tag in tags]
    running.artifacts.append(kept)


def load(exec_id: str, name: str) -> Any:
    """Return an artifact of an execution, in a checkpoint.

    `name` is what it was saved as; or an invocation's id, for that invocation's result.

    Raises:
        ContextError: used outside a checkpoint.
        NotFound: there is no such execution or artifact.
        StateError: several invocations saved an artifact of that name.
        PickleRefused: it holds a pickle, and the checkpoint does not say `pickle=True`.
    """
    execution, running = context.in_checkpoint("kitaru.load")
    journal = Journal.open(execution.journal.store, exec_id)
    document = journal.fetch(find_artifact(journal, name))
    where = f'"{name}" of execution {exec_id}'
    return codec.decode(document, unpickle=running.pickle, where=where)


def idempotency_key() -> str:
    """Return a key that is the same in every attempt of the checkpoint that runs, and in no other.

    For effects outside that must happen once: hand it to the service that has them.

    Raises:
        ContextError: used outside a checkpoint.
    """
    execution, running = context.in_checkpoint("kitaru.idempotency_key")
    return ids.idempotency_key(execution.journal.exec_id, running.invocation)


def secret(name: str) -> str:
    """Return the value of a secret, which is masked from now on wherever Kitaru shows a text.

    An environment variable of that name comes first, then the reference in
    `[tool.kitaru.secrets]`, then what `kitaru secrets set NAME` keeps for this user. A result, a
    frame or a memory that holds the value is refused: it would lie in the store.

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
            "in [tool.kitaru.secrets], nothing kept for this user.",
            help=f"kitaru secrets set {name}    # reads the value from stdin",
        )
    return value


def _seconds(timeout: Any) -> float:
    """Return how long to poll; a timedelta is known by what it has, so that nothing is imported."""
    if timeout is None:
        return 0.0
    seconds = timeout.total_seconds() if hasattr(timeout, "total_seconds") else timeout
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if number and 0 <= seconds < math.inf:
        return float(seconds)
    raise UsageError(
        f"kitaru.wait: timeout={timeout!r} is not a time to look for the answer.",
        help="Use seconds, 0 or more, or a timedelta; leave it out to release the compute at once.",
    )


def _note(**metadata: Any) -> None:
    _, running = context.in_checkpoint("kitaru.log")
    running.metadata.update(metadata)


def _json(value: dict[str, Any], where: str) -> dict[str, Any]:
    # Refuses secrets, and makes a copy that does not change any more.
    plain: dict[str, Any] = codec.decode(codec.encode(value, where=where))
    reason = not_json(plain, where) if isinstance(plain, dict) else f"{where} is no dict"
    if reason:
        raise UsageError(
            f"{where} must be plain JSON: {reason}.", help="Use texts, numbers, lists, dicts."
        )
    return plain


def _references() -> Mapping[str, str]:
    # Reads files, which a flow without secrets need not wait for.
    from kitaru import config

    return config.secrets()


secrets.use_configuration(_references)
