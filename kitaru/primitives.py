"""Decides what flows have beside calls: answers, notes, artifacts, secrets, a stable key."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from kitaru.errors import NotFound, UsageError
from kitaru.runtime import codec, secrets
from kitaru.runtime.executions.artifacts import find_artifact
from kitaru.runtime.recording.journal import Journal
from kitaru.runtime.running import context
from kitaru.runtime.running.calls import Spec
from kitaru.runtime.running.retries import ONCE
from kitaru.runtime.running.schema import from_json, to_json_schema
from kitaru.wire import ids
from kitaru.wire.names import check_name
from kitaru.wire.records import WaitRequest
from kitaru.wire.secrecy import redacted

__all__ = ["idempotency_key", "load", "log", "save", "secret", "wait"]


def wait(
    *,
    name: str | None = None,
    question: str | None = None,
    schema: Any = bool,
    timeout: float = 0,
    metadata: dict[str, Any] | None = None,
) -> Any:
    """Ask somebody, and suspend until there is an answer; in a flow's body.

    Args:
        name: what the answer is addressed to; default `wait`, numbered when it is used again.
        question: what people are shown.
        schema: the answer's type: bool (default), int, float, str, list, dict, a pydantic model or
            a dataclass, or a JSON schema as a dict.
        timeout: seconds to look for the answer before giving the compute away; never a deadline.
        metadata: JSON shown beside the question.

    Raises:
        ContextError: used outside a flow's body.
        UsageError: the schema is no type that JSON can express.

    Example:
        approved = kitaru.wait(name="approve_draft", question="Approve draft?", schema=bool)
    """
    execution = context.in_body("kitaru.wait")
    request = WaitRequest(
        name=check_name("wait", name or "wait"),
        question=redacted(question or ""),
        schema=to_json_schema(schema),
        metadata=_json(metadata or {}, "metadata"),
    )
    read = partial(from_json, schema=schema, what=request.name)
    return read(execution.wait(request, timeout, read))


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


def save(name: str, value: Any, type: str = "") -> None:
    """Keep a value as an artifact of the checkpoint that runs.

    Args:
        name: how `kitaru.load` finds it.
        value: anything that can be recorded.
        type: what it is, for people; default the name of its class.

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
    stored = execution.journal.keep(value, name, type=type)
    running.artifacts.append({"name": name, "type": stored.type, "value": stored})


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
    return codec.decode(journal.fetch(find_artifact(journal, name)), unpickle=running.pickle)


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
        EnvironmentFailure: whoever keeps it does not answer, or refuses.
        UsageError: the name or its reference is none.

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


def _note(**metadata: Any) -> None:
    _, running = context.in_checkpoint("kitaru.log")
    running.metadata.update(metadata)


def _json(value: dict[str, Any], where: str) -> dict[str, Any]:
    encoded = codec.encode(value, where=where)
    if not isinstance(encoded, dict) or "$kitaru" in encoded:
        raise UsageError(f"{where} must be plain JSON.", help="Use texts, numbers, lists, dicts.")
    return encoded


def _references() -> Mapping[str, str]:
    # Reads files, which a flow without secrets need not wait for.
    from kitaru import config

    return config.secrets()


secrets.use_configuration(_references)
