"""Models of all other providers, through litellm, without its messages and its own requests."""

from __future__ import annotations

import os
import sys
from typing import Any

from kitaru.runtime.llm.endpoints import check_endpoint, check_environment
from kitaru.runtime.llm.exchange import (
    Answer,
    Pieces,
    RequestFailed,
    key_of,
    lost,
    missing_key,
    not_installed,
    refused,
    shape,
)
from kitaru.runtime.llm.models import ModelRequest, Resolved

REQUIREMENT = "litellm>=1.83.14,<2"
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
_STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


def load(resolved: Resolved) -> None:
    """Import litellm, which takes seconds. Raise EnvironmentFailure if it is not installed."""
    # Otherwise the import downloads a price list.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ["LITELLM_LOG"] = "ERROR"
    try:
        import litellm  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "litellm":
            _forget_import()
            raise
        raise not_installed(resolved, REQUIREMENT) from None
    except BaseException:
        _forget_import()
        raise


def _forget_import() -> None:
    """Let the next import of litellm start anew.

    Python keeps the submodules of an import that failed midway, for example by Ctrl-C. With these
    submodules every later import fails with "partially initialized module".
    """
    for name in [name for name in sys.modules if name.partition(".")[0] == "litellm"]:
        sys.modules.pop(name, None)


def request_once(request: ModelRequest, resolved: Resolved, pieces: Pieces) -> Answer:
    """Make one request. `exchange` lists the errors."""
    import litellm

    _silence(litellm)
    try:
        return _request(litellm, request, resolved, pieces)
    except RequestFailed:
        raise
    except Exception as error:
        _check_credentials(litellm, resolved, error)
        status = getattr(error, "status_code", None)
        if not isinstance(status, int):
            raise
        raise _refused(resolved, status, error) from None


def _request(litellm: Any, request: ModelRequest, resolved: Resolved, pieces: Pieces) -> Answer:
    messages = request.messages()
    response = litellm.completion(
        model=resolved.model,
        messages=messages,
        timeout=request.timeout,
        # `providers` repeats requests, so that the record can count them.
        num_retries=0,
        max_retries=0,
        **_options(litellm, request, resolved),
        **({} if pieces.stream is None else _STREAMED),
    )
    if pieces.stream is not None:
        response = _whole(litellm, response, messages, resolved, pieces)
    if not response.choices:
        raise lost(resolved, "the response holds no choice")
    return _answer(litellm, response, pieces)


def _whole(
    litellm: Any, stream: Any, messages: list[Any], resolved: Resolved, pieces: Pieces
) -> Any:
    chunks = []
    for chunk in stream:
        chunks.append(chunk)
        if chunk.choices:
            delta = chunk.choices[0].delta
            pieces.take(delta.content)
            for call in delta.tool_calls or ():
                _take_call(pieces, call.index, call)
    if getattr(stream, "received_finish_reason", "") is None:
        # Otherwise a connection that closes early looks like the end of the answer.
        raise lost(resolved, "the connection ended in the middle of the answer")
    return litellm.stream_chunk_builder(chunks, messages=messages)


def _take_call(pieces: Pieces, index: int | None, call: Any) -> None:
    function = call.function
    pieces.take_call(index, call.id or "", function.name or "", function.arguments or "")


def _answer(litellm: Any, response: Any, pieces: Pieces) -> Answer:
    choice, usage = response.choices[0], response.usage
    if pieces.stream is None:
        for index, call in enumerate(choice.message.tool_calls or ()):
            _take_call(pieces, index, call)
    return Answer(
        text=choice.message.content or "",
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost=_cost(litellm, response),
        tool_calls=pieces.calls,
        finish=choice.finish_reason or "",
    )


def _options(litellm: Any, request: ModelRequest, resolved: Resolved) -> dict[str, Any]:
    options: dict[str, Any] = {
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "tools": request.tools,
        # Tools are passed to the model unchanged. Otherwise litellm looks for tool servers, using a
        # package that it does not install.
        "_skip_mcp_handler": True if request.tools else None,
        "response_format": request.schema and shape(request.schema),
        "api_base": resolved.api_base or None,
    }
    check_environment(_provider(litellm, resolved.model))
    if resolved.api_base:
        check_endpoint(resolved.api_base, f"the model {resolved.name}")
    options["api_key"] = key_of(resolved, _unset(litellm, resolved))
    return {name: value for name, value in options.items() if value is not None}


def _provider(litellm: Any, model: str) -> str:
    """Return the provider of a model. litellm also knows short names such as `command-r`."""
    try:
        return str(litellm.get_llm_provider(model)[1])
    except litellm.BadRequestError:
        return model.partition("/")[0]


def _silence(litellm: Any) -> None:
    """Disable all callbacks of litellm: no third party may receive the prompt."""
    import logging

    litellm.suppress_debug_info = True
    litellm.set_verbose = False
    litellm.telemetry = False
    for name in _LISTENERS:
        getattr(litellm, name, []).clear()
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def _check_credentials(litellm: Any, resolved: Resolved, error: Exception) -> None:
    """Raise EnvironmentFailure if a key is unset: some providers report that as any error."""
    denied = isinstance(error, litellm.AuthenticationError)
    missing = [name for name in _unset(litellm, resolved) if denied or name in str(error)]
    if missing and key_of(resolved, _unset(litellm, resolved)) is None:
        raise missing_key(resolved, missing) from error


def _unset(litellm: Any, resolved: Resolved) -> list[str]:
    return list(litellm.validate_environment(resolved.model)["missing_keys"])


def _refused(resolved: Resolved, status: int, error: Exception) -> RequestFailed:
    response = getattr(error, "response", None)
    own = getattr(response, "headers", None)
    headers = getattr(error, "litellm_response_headers", None) or own or {}
    kind = type(error).__name__
    text = str(getattr(error, "message", "") or error).removeprefix(f"litellm.{kind}:")
    return refused(resolved, status, kind, text, headers)


def _cost(litellm: Any, response: Any) -> float | None:
    """Return the price of a call in US dollars. litellm has prices of public models only."""
    try:
        return float(litellm.completion_cost(completion_response=response))
    except Exception:
        return None
