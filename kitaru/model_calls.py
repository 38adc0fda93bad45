"""`kitaru.llm`: recorded model calls, which are never made twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, TypeVar, Unpack, overload

from kitaru.errors import UsageError
from kitaru.runtime.engine.primitives import blocking
from kitaru.runtime.llm import answers
from kitaru.runtime.llm.model_calls import Capture, ModelCall, call_llm, check_capture
from kitaru.runtime.llm.models import ModelRequest
from kitaru.runtime.llm.replies import Reply

T = TypeVar("T")
Prompt = str | Sequence[dict[str, Any]]


class Options(TypedDict, total=False):
    """The options of all forms of `llm`, which documents them."""

    model: str | None
    system: str | None
    temperature: float | None
    max_tokens: int | None
    stream: Callable[[str], object] | bool | None
    retries: int
    timeout: float
    capture: Capture | None
    name: str | None


@overload
def llm(prompt: Prompt, *, schema: type[T], **options: Unpack[Options]) -> T: ...
@overload
def llm(
    prompt: Prompt, *, tools: Sequence[dict[str, Any]], **options: Unpack[Options]
) -> Reply: ...
@overload
def llm(prompt: Prompt, **options: Unpack[Options]) -> str: ...
def llm(
    prompt: Prompt,
    *,
    model: str | None = None,
    system: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    tools: Sequence[dict[str, Any]] | None = None,
    schema: Any = None,
    stream: Callable[[str], object] | bool | None = None,
    retries: int = 2,
    timeout: float = 600,
    capture: Capture | None = None,
    name: str | None = None,
) -> Any:
    """Call a model and return its text. A resume returns the recorded text without a call.

    In a flow's body this is a durable call of its own. In a checkpoint it belongs to the
    checkpoint.

    Args:
        prompt: the user message, or the messages of a conversation as `{"role", "content"}`.
        model: an alias, such as `fast`, or a model, such as `openai/gpt-4o` or any of litellm's.
            Default: `KITARU_DEFAULT_MODEL`, then `fast`. Aliases come from `KITARU_MODELS` and
            `[tool.kitaru.models]`. If an alias is not configured, the offline model answers; its
            text says so.
        system: the system message. Default: none.
        temperature: 0 to 2. Default: the model's default.
        max_tokens: maximum number of tokens to return. Default: the model's default.
        tools: tools that the model may call, in OpenAI's format. With tools, a `kitaru.Reply` is
            returned: the text, and the tool calls with their arguments.
        schema: type of the answer: a pydantic model, a dataclass, `list[int]`, …. With a schema, an
            instance is returned. An invalid answer is sent back once.
        stream: function that receives the text piece by piece. It is not called on a resume. After
            the first piece, a failed request is not retried. The pieces are also shown to people
            who watch the execution; True shows them only there. Nothing is streamed by default.
        retries: how often to retry a request after a rate limit, a timeout or a fault of the
            provider, after the pause in `Retry-After` (at most 60 s). Default: 2. The retries of
            the checkpoint come after these.
        timeout: seconds for one request. Default: 600.
        capture: what is recorded in addition to the value: `full`, `metadata` (no texts) or `off`.
            Default: the setting of the checkpoint, the flow or the configuration, which is `full`.
        name: name of the invocation in a flow's body. Default: `llm`.

    Raises:
        ContextError: the call is outside a flow.
        UsageError: an argument is wrong, or the model's address is not allowed.
        ModelAnswerInvalid: both answers do not match `schema`, or call `tools` with arguments that
            are not JSON objects.
        EnvironmentFailure: the library for the model or a credential is missing.
        ModelRequestError: the provider rejected the request or did not answer.

    Example:
        brief = kitaru.llm(f"Research: {topic}", model="fast")
        city = kitaru.llm("The capital of France?", schema=City)
    """
    request, read = prepared(
        prompt, model, system, temperature, max_tokens, tools, schema, stream, retries, timeout,
        capture,
    )  # fmt: skip
    return blocking(call_llm(name, ModelCall(request, read, stream, capture)))


def prepared(
    prompt: Prompt,
    model: str | None,
    system: str | None,
    temperature: float | None,
    max_tokens: int | None,
    tools: Sequence[dict[str, Any]] | None,
    schema: Any,
    stream: Callable[[str], object] | bool | None,
    retries: int,
    timeout: float,
    capture: Capture | None,
) -> tuple[ModelRequest, Callable[[Any], Any]]:
    """Return the request of a checked call, and what turns the answer into its value."""
    if tools is not None and schema is not None:
        raise UsageError("kitaru.llm: tools and schema exclude each other.", help=_ONE_OF)
    shape = None if schema is None else answers.Shape(schema)
    request = ModelRequest(
        prompt=prompt if isinstance(prompt, str) else _json("prompt", prompt),
        model=model,
        system=system,
        temperature=temperature,
        max_tokens=max_tokens,
        tools=None if tools is None else _json("tools", tools),
        schema=shape.schema if shape else None,
        retries=retries,
        timeout=timeout,
    )
    _check(request, stream, capture)
    return request, shape.read if shape else answers.text if tools is None else answers.reply


_ONE_OF = (
    "Let the model call tools first. Then call it with the schema and the results of the tools."
)
_KINDS: tuple[tuple[str, Any], ...] = (
    ("model", str | None),
    ("system", str | None),
    ("temperature", float | int | None),
    ("max_tokens", int | None),
    ("retries", int),
    ("timeout", float | int),
)


def _check(request: ModelRequest, stream: Any, capture: Any) -> None:
    for name, kinds in _KINDS:
        value: Any = getattr(request, name)
        if not isinstance(value, kinds):
            raise UsageError(
                f"kitaru.llm: {name} must be {getattr(kinds, '__name__', kinds)}, "
                f"not {type(value).__name__}"
            )
    if request.retries < 0 or request.timeout <= 0:
        raise UsageError("kitaru.llm: retries must be 0 or more, and timeout more than 0 seconds.")
    if not (stream is None or isinstance(stream, bool) or callable(stream)):
        raise UsageError(
            "kitaru.llm: stream must be True, or a function that accepts a string.",
            help='For example stream=lambda text: print(text, end="", flush=True)',
        )
    check_capture("kitaru.llm", capture)


def _json(name: str, given: Any) -> list[dict[str, Any]]:
    """Return a copy of a list of JSON objects for a provider."""
    try:
        copy = json.loads(json.dumps(list(given)))
    except (TypeError, ValueError):
        copy = None
    if not copy or not all(isinstance(item, dict) for item in copy):
        what = "a string, or messages" if name == "prompt" else "a list of tools"
        raise UsageError(
            f"kitaru.llm: {name} must be {what}: JSON objects, at least one.",
            help='For example prompt=[{"role": "user", "content": "Hello"}]',
        )
    return copy  # type: ignore[no-any-return]
