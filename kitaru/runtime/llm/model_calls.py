"""Model calls. In a flow's body a call is durable; in a checkpoint it is part of the checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from kitaru import config
from kitaru.errors import ModelAnswerInvalid, ModelRequestError, UsageError
from kitaru.runtime import codec
from kitaru.runtime.engine.attempts import Running
from kitaru.runtime.engine.calls import Spec
from kitaru.runtime.engine.execution import Execution, Scope, anywhere, current
from kitaru.runtime.engine.primitives import DurableCall, Primitive
from kitaru.runtime.engine.retries import ONCE
from kitaru.runtime.journal.effort import tokens_of
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.llm import budgets, rate_limits
from kitaru.runtime.llm.models import ModelRequest, Resolved, resolve
from kitaru.runtime.telemetry import log_redaction, spans
from kitaru.settings import CAPTURES
from kitaru.wire.names import check_name
from kitaru.wire.structs import Struct, replace
from kitaru.wire.times import later, now, seconds_since

if TYPE_CHECKING:
    from kitaru.runtime.engine.attempts import Running
    from kitaru.runtime.llm.exchange import Answer, Stream

Capture = Literal["full", "metadata", "off"]
# Only the facts that decide whether a cached result is still valid.
_NAMES = ("asked", "model", "resolved")
_STORED = ("prompt", "response")
_TEXTS = (*_STORED, "system", "tools", "schema", "tool_calls")
_REPAIRS = 1


class OpenCall(Struct):
    """A model call in progress: the facts known so far, and its start time by `perf_counter`."""

    facts: dict[str, Any]
    began: float


class ModelCall(Struct):
    """A request, and what to do with its answer.

    `read` turns an answer into a value. It raises ModelAnswerInvalid for an invalid answer, and
    the call is then repeated once. `stream` receives the text piece by piece; True streams it
    only to the people who watch. `capture` sets which facts are recorded.
    """

    request: ModelRequest
    read: Callable[[Answer], Any]
    stream: Stream | bool | None = None
    capture: str | None = None


def call_llm(name: str | None, call: ModelCall) -> Primitive[Any]:
    """Make a model call: durable in a flow's body, a child call in a checkpoint.

    Raises:
        ContextError: outside a flow.
        ModelAnswerInvalid: both answers are invalid.
        ModelRequestError: the provider refused the request or gave no answer.
    """
    scope = anywhere("kitaru.llm")

    def answered(**_: Any) -> Any:
        return answer(call)

    if scope.running is not None:
        return answered()
    spec = Spec(
        check_name("model call", name or "llm"), answered, "kitaru.llm", kind="llm", policy=ONCE
    )
    return (yield DurableCall(scope.execution, spec, call.request.identity()))


def answer(call: ModelCall) -> Any:
    """Call the model, and repeat the call if the answer is invalid. Return the result of `read`."""
    request = call.request
    for repairs in range(_REPAIRS + 1):
        found, _ = ask(request, call.stream, call.capture)
        try:
            return call.read(found)
        except ModelAnswerInvalid as error:
            if repairs == _REPAIRS:
                raise
            request = _repaired(call.request, found, error)
    raise AssertionError("the last answer is returned or refused")


def ask(
    request: ModelRequest, stream: Stream | bool | None = None, capture: str | None = None
) -> tuple[Answer, dict[str, Any]]:
    """Call the model once and return all known facts. In an attempt, record them with it.

    A replay may use a different model from the configured one.
    """
    scope = current()
    replay = scope.execution.journal.execution.replay if scope else None
    resolved = resolve(request.model, replay.models if replay else {})
    running = scope.running if scope else None
    if scope is not None:
        budgets.check(scope.execution)
    _load(resolved, running)
    with rate_limits.admitted(
        resolved, request, scope.execution.journal.store if scope else None
    ) as settle:
        found, facts = _recorded(request, resolved, stream, capture)
        settle(tokens_of(facts))
    return found, facts


def _recorded(
    request: ModelRequest,
    resolved: Resolved,
    stream: Stream | bool | None,
    capture: str | None,
) -> tuple[Answer, dict[str, Any]]:
    """Call the model once; in an attempt, record all known facts with it."""
    scope = current()
    running = scope.running if scope else None
    shown = {"temperature": request.temperature, "max_tokens": request.max_tokens}
    call = OpenCall(_known(request, resolved), time.perf_counter())

    def record(facts: dict[str, Any]) -> None:
        if scope is not None:
            budgets.add(scope.execution, facts)
        if scope is not None and running is not None:
            keep(scope.execution.journal, running, facts, capture)

    def record_unanswered() -> None:
        """Record that the attempt ended before the answer. The cost is unknown."""
        record(_ended(call, tries=1) | {"finish": "given up"})

    under_way = {} if running is None else running.open_calls
    under_way[id(call)] = record_unanswered
    try:
        with spans.model_call(resolved.model, shown) as told:
            with _streamed(scope, stream, capture) as pieces:
                found, facts = _asked(request, call, resolved, pieces)
            told.update(facts)
    except ModelRequestError as error:
        record(_unanswered(call, error))
        raise
    finally:
        del under_way[id(call)]
    record(facts)
    return found, facts


@contextmanager
def _streamed(
    scope: Scope | None, stream: Stream | bool | None, capture: str | None
) -> Iterator[Stream | None]:
    """Yield what receives the pieces of an answer: the people who watch, and the user's function.

    Texts that `capture` does not record are not shown either.
    """
    own = stream if callable(stream) else None
    running = scope.running if scope is not None and stream else None
    if scope is None or running is None:
        yield own
        return
    is_shown = policy_of(running, capture) == "full" and config.setting("logs").value
    text = scope.execution.log.text(running.invocation) if is_shown else None

    def passed(piece: str) -> None:
        if text is not None:
            text.add(piece)
        if own is not None:
            own(piece)

    try:
        yield passed
    finally:
        if text is not None:
            text.close()


def policy_of(running: Running, capture: str | None) -> Any:
    """Return what is recorded of a model call. `capture` is the policy of the call itself."""
    return config.setting("capture", argument=capture, decorator=running.capture).value


def _load(resolved: Resolved, running: Running | None) -> None:
    """Import the library for the model before any timer of the call starts."""
    started = time.perf_counter()
    # Most flows start without calling a model.
    from kitaru.runtime.llm import providers

    providers.load(resolved)
    if running is not None:
        running.loading_seconds += time.perf_counter() - started


def _asked(
    request: ModelRequest, call: OpenCall, resolved: Resolved, stream: Stream | None
) -> tuple[Answer, dict[str, Any]]:
    from kitaru.runtime.llm import providers

    found = providers.ask(request, resolved, stream)
    facts = _ended(call, found.tries) | {
        "response": found.text,
        "tokens": {"prompt": found.prompt_tokens, "completion": found.completion_tokens},
        "cost": found.cost,
        "finish": found.finish,
    }
    return found, facts | ({"tool_calls": found.tool_calls} if found.tool_calls else {})


def _known(request: ModelRequest, resolved: Resolved) -> dict[str, Any]:
    """Return the facts of a call that are known before its answer."""
    facts: dict[str, Any] = {
        "started_at": now(),
        "asked": request.model,
        "model": resolved.name,
        "resolved": resolved.model,
        "prompt": request.prompt,
        "response": "",
        "system": request.system,
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "tokens": {"prompt": 0, "completion": 0},
        "cost": None,
    }
    optional = {"tools": request.tools, "schema": request.schema}
    return facts | {name: value for name, value in optional.items() if value}


def _ended(call: OpenCall, tries: int) -> dict[str, Any]:
    return {**call.facts, "latency_s": _since(call.began), "tries": tries}


def _unanswered(call: OpenCall, error: ModelRequestError) -> dict[str, Any]:
    """Return the facts of a failed call. A refusal costs nothing; a lost answer may have a cost."""
    cost = None if error.status is None else 0.0
    return _ended(call, error.tries) | {"cost": cost, "finish": "error", "status": error.status}


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 6)


def _repaired(request: ModelRequest, found: Answer, error: ModelAnswerInvalid) -> ModelRequest:
    """Return a request that shows the model its answer and the error in it."""
    said = found.text or "\n".join(call["arguments"] for call in found.tool_calls)
    asked = replace(request, system=None).messages()
    again = [
        {"role": "assistant", "content": said},
        {
            "role": "user",
            "content": f"{error.message}\nAnswer again, with what was asked for alone.",
        },
    ]
    return replace(request, prompt=[*asked, *again])


def check_capture(where: str, given: Any) -> Capture | None:
    """Return the policy of a decorator or a call. Raise UsageError if it does not exist."""
    if given not in (None, *CAPTURES):
        known = ", ".join(CAPTURES)
        raise UsageError(f"{where}: capture={given!r} is not one of {known}.")
    return given  # type: ignore[no-any-return]


def keep(journal: Journal, running: Running, facts: dict[str, Any], capture: str | None) -> None:
    """Record the facts of a model call that the capture policy allows.

    `full` records all facts with secrets redacted; prompt and response become stored values.
    `metadata` records the numbers and the settings, `off` only the model. `capture` is the policy
    of the call itself.
    """
    policy = policy_of(running, capture)
    if policy == "off":
        kept = {name: facts[name] for name in _NAMES}
    elif policy == "metadata":
        kept = {name: fact for name, fact in facts.items() if name not in _TEXTS}
    else:
        shown = {name: log_redaction.hidden(facts[name]) for name in _TEXTS if facts.get(name)}
        kept = {**facts, **shown, **{name: _stored(journal, shown.get(name)) for name in _STORED}}
    running.calls.append(kept)


def note_call(
    execution: Execution,
    running: Running,
    *,
    model: str,
    provider: str,
    tokens: tuple[int, int],
    cost: float | None,
    seconds: float | None,
    finish: str,
    texts: dict[str, Any],
    other: dict[str, Any],
) -> None:
    """Record a request that a harness has made in this attempt, as far as capture allows.

    `tokens` are those of prompt and response, `texts` the prompt, the response and the tool calls,
    `other` more facts.
    """
    if seconds is None:
        seconds = max(0.0, seconds_since(running.started_at))
    facts: dict[str, Any] = {
        **other,
        "started_at": later(now(), -seconds),
        "asked": model,
        "model": model,
        "resolved": f"{provider}/{model}" if provider and "/" not in model else model,
        "prompt": "",
        "response": "",
        "tokens": {"prompt": tokens[0], "completion": tokens[1]},
        "cost": cost,
        "latency_s": round(seconds, 6),
        "tries": 1,
        "finish": finish,
        **texts,
    }
    spans.model_called(facts["resolved"], facts)
    budgets.add(execution, facts)
    keep(execution.journal, running, facts, None)


def _stored(journal: Journal, shown: Any) -> Any:
    return journal.store_document(
        codec.encode(shown or ""), "str" if isinstance(shown, str) else "messages"
    )
