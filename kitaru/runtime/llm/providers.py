"""Decides how a model is reached: through litellm, without its talk, again where that may help."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from kitaru.errors import EnvironmentFailure
from kitaru.runtime import secrets
from kitaru.runtime.llm import offline
from kitaru.runtime.llm.endpoints import check_endpoint, check_environment
from kitaru.runtime.llm.models import OFFLINE, ModelRequest, Resolved
from kitaru.runtime.running.retries import Policy, chance

Stream = Callable[[str], object]

_AGAIN = frozenset({408, 409, 425, 429})
# Whoever is told to come back later than this had better be told so himself.
_LONGEST_PAUSE = 60.0
_LISTENERS = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "service_callback",
    "_async_input_callback",
    "_async_success_callback",
    "_async_failure_callback",
)
_LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer and what it took: `cost` in US dollars, None when no price is known.

    `tool_calls` are `{"id", "name", "arguments"}`, the arguments as text. `tries` counts requests.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    tool_calls: tuple[dict[str, str], ...] = ()
    tries: int = 1
    finish: str = "stop"


@dataclass
class _Pieces:
    """Hands on the pieces of an answer as they come; `begun` says that there was one."""

    stream: Stream | None
    begun: bool = field(default=False, init=False)

    def take(self, text: str | None) -> None:
        if text and self.stream is not None:
            self.begun = True
            self.stream(text)


def ask(request: ModelRequest, resolved: Resolved, stream: Stream | None = None) -> Answer:
    """Make the call, again after a failure that the provider calls passing.

    `stream` is given the text piece by piece; from the first piece on nothing is tried again.

    Raises:
        EnvironmentFailure: litellm or a credential is missing.
        UsageError: the model's address is one that must not be asked.
        Exception: the provider's error, of litellm's type.
    """
    reach = _offline if resolved.model == OFFLINE else _through_litellm
    return reach(request, resolved, _Pieces(stream))


def _through_litellm(request: ModelRequest, resolved: Resolved, pieces: _Pieces) -> Answer:
    litellm = _litellm(resolved)
    _silence(litellm)
    policy = Policy(retries=request.retries, delay=1.0, backoff=2.0)
    options = _options(litellm, request, resolved)
    tries = 0
    while True:
        tries += 1
        try:
            return _once(litellm, request, resolved, options, pieces, tries)
        except Exception as error:
            _check_credentials(litellm, resolved, error)
            pause = max(policy.pause(tries, chance()), _retry_after(error))
            may_pass = _may_pass(error) and not pieces.begun
            if not may_pass or tries > request.retries or pause > _LONGEST_PAUSE:
                raise
        time.sleep(pause)


def _offline(request: ModelRequest, resolved: Resolved, pieces: _Pieces) -> Answer:
    asked = str(request.messages()[-1].get("content"))
    text = offline.offline_text(asked, resolved.name, request.schema)
    pieces.take(text)
    return Answer(text, len(asked.split()), len(text.split()), 0.0)


def _once(
    litellm: Any,
    request: ModelRequest,
    resolved: Resolved,
    options: dict[str, Any],
    pieces: _Pieces,
    tries: int,
) -> Answer:
    messages = request.messages()
    response = litellm.completion(
        model=resolved.model,
        messages=messages,
        timeout=request.timeout,
        # Counted here, so that the record can say how often.
        num_retries=0,
        max_retries=0,
        **options,
        **({} if pieces.stream is None else _STREAMED),
    )
    if pieces.stream is not None:
        response = _whole(litellm, response, messages, resolved, pieces)
    if not response.choices:
        raise _broken(litellm, resolved, "the answer holds nothing that the model chose to say")
    return _answer(litellm, response, tries)


_STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


def _whole(
    litellm: Any, stream: Any, messages: list[Any], resolved: Resolved, pieces: _Pieces
) -> Any:
    chunks = []
    for chunk in stream:
        chunks.append(chunk)
        if chunk.choices:
            pieces.take(chunk.choices[0].delta.content)
    if getattr(stream, "received_finish_reason", "") is None:
        # A connection that ends early looks like the end of the answer otherwise.
        raise _broken(litellm, resolved, "the connection ended in the middle of the answer")
    return litellm.stream_chunk_builder(chunks, messages=messages)


def _broken(litellm: Any, resolved: Resolved, message: str) -> Exception:
    """Return the provider's failure that an answer is which is none; another may be one."""
    provider = resolved.model.partition("/")[0]
    found: Exception = litellm.APIConnectionError(
        message, llm_provider=provider, model=resolved.model
    )
    return found


def _answer(litellm: Any, response: Any, tries: int) -> Answer:
    choice, usage = response.choices[0], response.usage
    calls = tuple(
        {"id": c.id or "", "name": c.function.name or "", "arguments": c.function.arguments or ""}
        for c in choice.message.tool_calls or ()
    )
    return Answer(
        text=choice.message.content or "",
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost=_cost(litellm, response),
        tool_calls=calls,
        tries=tries,
        finish=choice.finish_reason or "",
    )


def _options(litellm: Any, request: ModelRequest, resolved: Resolved) -> dict[str, Any]:
    options: dict[str, Any] = {
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "tools": request.tools,
        # Tools go to the model as they are; litellm would look for servers of its own that have
        # them, with a package that it does not bring.
        "_skip_mcp_handler": True if request.tools else None,
        "response_format": request.schema and _response_format(request.schema),
        "api_base": resolved.api_base or None,
    }
    check_environment(_provider(litellm, resolved.model))
    if resolved.api_base:
        check_endpoint(resolved.api_base, f"the model {resolved.name}")
    options["api_key"] = _key(litellm, resolved)
    return {name: value for name, value in options.items() if value is not None}


def _provider(litellm: Any, model: str) -> str:
    """Return whose model it is; litellm knows that of `gpt-4o`, too."""
    try:
        return str(litellm.get_llm_provider(model)[1])
    except litellm.BadRequestError:
        return model.partition("/")[0]


def _response_format(schema: dict[str, Any]) -> dict[str, Any]:
    name = "".join(c if c.isalnum() else "_" for c in str(schema.get("title", "answer")))
    return {"type": "json_schema", "json_schema": {"name": name[:64], "schema": schema}}


def _key(litellm: Any, resolved: Resolved) -> str | None:
    """Return the secret that is the model's key, None where the environment has the provider's own.

    Without one of its own, a model goes by a secret of the name that the provider's variable has.
    """
    unset = _unset(litellm, resolved)
    names = [resolved.secret] if resolved.secret else unset[:1]
    found = secrets.find(names[0]) if unset and names else None
    if found is None and unset and resolved.secret:
        raise _missing(resolved, unset, f", nor is there a secret {resolved.secret}")
    return found


def _missing(resolved: Resolved, unset: list[str], more: str = "") -> EnvironmentFailure:
    return EnvironmentFailure(
        f'The model "{resolved.model}" needs a credential: {" and ".join(unset)} is not set{more}.',
        help="\n".join(f"export {name}=…" for name in unset),
    )


def _litellm(resolved: Resolved) -> Any:
    """Import litellm, which takes seconds, without its network fetch and its talk on stdout."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ["LITELLM_LOG"] = "ERROR"
    try:
        import litellm
    except ModuleNotFoundError as error:
        if error.name != "litellm":
            raise
        raise EnvironmentFailure(
            f'The model "{resolved.model}" is reached through litellm, which is not installed.',
            help="Install it: pip install litellm",
        ) from None
    return litellm


def _silence(litellm: Any) -> None:
    """Let nobody else have the prompt: whatever was switched on to listen is switched off."""
    import logging

    litellm.suppress_debug_info = True
    litellm.set_verbose = False
    for name in _LISTENERS:
        getattr(litellm, name, []).clear()
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def _check_credentials(litellm: Any, resolved: Resolved, error: Exception) -> None:
    """Raise EnvironmentFailure for what is unset: some providers report it as any error."""
    denied = isinstance(error, litellm.AuthenticationError)
    missing = [name for name in _unset(litellm, resolved) if denied or name in str(error)]
    if missing and _key(litellm, resolved) is None:
        raise _missing(resolved, missing) from error


def _unset(litellm: Any, resolved: Resolved) -> list[str]:
    return list(litellm.validate_environment(resolved.model)["missing_keys"])


def _may_pass(error: Exception) -> bool:
    """Say whether the provider calls a failure passing: its limits, a timeout, its own fault."""
    status = getattr(error, "status_code", None)
    return isinstance(status, int) and (status in _AGAIN or status >= 500)


def _retry_after(error: Exception) -> float:
    """Return the seconds that the provider asks to wait, 0 when it says nothing."""
    own = getattr(getattr(error, "response", None), "headers", None)
    headers = getattr(error, "litellm_response_headers", None) or own or {}
    text = headers.get("retry-after", "")
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0


def _cost(litellm: Any, response: Any) -> float | None:
    """Return the price of a call; litellm knows those of the public models only."""
    try:
        return float(litellm.completion_cost(completion_response=response))
    except Exception:
        return None
