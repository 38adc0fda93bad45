"""`kitaru.llm`: recorded model calls, which are never made twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypedDict, TypeVar, Unpack, overload

from kitaru.errors import UsageError
from kitaru.runtime.llm import answers
from kitaru.runtime.llm.capture import Capture, check_capture
from kitaru.runtime.llm.model_calls import ModelCall, call_llm
from kitaru.runtime.llm.models import ModelRequest
from kitaru.runtime.llm.replies import Reply

T = TypeVar("T")
Prompt = str | Sequence[dict[str, Any]]


class Options(TypedDict, total=False):
    """What every form of `llm` takes; the meaning of each stands there."""

    model: str | None
    system: str | None
    temperature: float | None
    max_tokens: int | None
    stream: Callable[[str], object] | None
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
    stream: Callable[[str], object] | None = None,
    retries: int = 2,
    timeout: float = 600,
    capture: Capture | None = None,
    name: str | None = None,
) -> Any:
    """Ask a model and return its text; on a resume the recorded text, without asking again.

    In a flow's body this is a durable call of its own; in a checkpoint it belongs to it.

    Args:
        prompt: the user message; or the messages of a conversation, `{"role", "content"}` each.
        model: an alias, such as `fast`, or a model, such as `openai/gpt-4o` or any of litellm's.
            Default: `KITARU_DEFAULT_MODEL`, else `fast`. Aliases come from `KITARU_MODELS` and
            `[tool.kitaru.models]`; one that is not configured is answered by the offline model,
            whose text says so.
        system: the system message; default none.
        temperature: 0 to 2, as the model takes it; default the model's own.
        max_tokens: the most tokens to return; default the model's own.
        tools: what the model may ask to be called, as OpenAI writes it; with it a `kitaru.Reply`
            is returned: the text, and the calls with their arguments.
        schema: the type to answer in: a pydantic model, a dataclass, `list[int]`, …; with it an
            instance is returned. An answer that does not fit is sent back once.
        stream: is given the text piece by piece as it comes, and nothing on a resume; from the
            first piece on a failed request is not made again.
        retries: how often a request is made again after a rate limit, a timeout or a fault of the
            provider's, at its pace (`Retry-After`, at most 60 s); default 2. The checkpoint's own
            retries come after.
        timeout: seconds for one request; default 600.
        capture: what is kept beside the value: `full`, `metadata` (no texts) or `off`; default what
            the checkpoint, the flow or the configuration says, which is `full`.
        name: the invocation's name in a flow's body; default `llm`.

    Raises:
        ContextError: outside a flow.
        UsageError: an argument is wrong, or the model's address is one that must not be asked.
        ModelAnswerInvalid: neither answer fits `schema`, or calls `tools` with JSON objects.
        EnvironmentFailure: the library that reaches the model or a credential is missing.
        ModelRequestError: the provider refused the request or gave no answer.

    Example:
        brief = kitaru.llm(f"Research: {topic}", model="fast")
        city = kitaru.llm("The capital of France?", schema=City)
    """
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
    read = shape.read if shape else answers.text if tools is None else answers.reply
    return call_llm(name, ModelCall(request, read, stream, capture))


_ONE_OF = "Let the model call tools first; then ask for the shape, with what they returned."
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
    if stream is not None and not callable(stream):
        raise UsageError(
            "kitaru.llm: stream must be a function of a text.",
            help='For example stream=lambda text: print(text, end="", flush=True)',
        )
    check_capture("kitaru.llm", capture)


def _json(name: str, given: Any) -> list[dict[str, Any]]:
    """Return a copy of what a provider takes as a list of JSON objects."""
    try:
        copy = json.loads(json.dumps(list(given)))
    except (TypeError, ValueError):
        copy = None
    if not copy or not all(isinstance(item, dict) for item in copy):
        what = "a text, or messages" if name == "prompt" else "a list of tools"
        raise UsageError(
            f"kitaru.llm: {name} must be {what}: JSON objects, at least one.",
            help='For example prompt=[{"role": "user", "content": "Hello"}]',
        )
    return copy  # type: ignore[no-any-return]
