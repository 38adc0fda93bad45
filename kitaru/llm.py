"""Decides what a model call is to the author: one line, recorded, never made twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru.errors import UsageError
from kitaru.runtime import model_calls, models


def llm(
    prompt: str,
    *,
    model: str | None = None,
    system: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    name: str | None = None,
) -> str:
    """Ask a model and return its text; on a resume the recorded text, without asking again.

    In a flow's body this is a durable call of its own; in a checkpoint it belongs to it.

    Args:
        prompt: the user message.
        model: an alias, such as `fast`, or what litellm calls a model, such as `openai/gpt-4o`.
            Default: `KITARU_DEFAULT_MODEL`, else `fast`. Aliases come from `KITARU_MODELS` and
            `[tool.kitaru.models]`; one that is not configured is answered by the offline model,
            whose text says so.
        system: the system message; default none.
        temperature: 0 to 2, as the model takes it; default the model's own.
        max_tokens: the most tokens to return; default the model's own.
        name: the invocation's name in a flow's body; default `llm`.

    Raises:
        ContextError: outside a flow.
        UsageError: an argument has the wrong type.
        EnvironmentFailure: litellm or a credential is missing.
        Exception: the provider's error, of litellm's type.

    Example:
        brief = kitaru.llm(f"Research: {topic}", model="fast")
    """
    request = models.ModelRequest(prompt, model, system, temperature, max_tokens)
    _check(request)
    arguments = {slot: getattr(request, slot) for slot in models.ModelRequest.__slots__}
    return model_calls.call_llm(name, arguments, lambda instead: models.complete(request, instead))


def _check(request: models.ModelRequest) -> None:
    for name, kinds in (
        ("prompt", str),
        ("model", str | None),
        ("system", str | None),
        ("temperature", float | int | None),
        ("max_tokens", int | None),
    ):
        value: Any = getattr(request, name)
        if not isinstance(value, kinds):
            raise UsageError(
                f"kitaru.llm: {name} must be {getattr(kinds, '__name__', kinds)}, "
                f"not {type(value).__name__}"
            )


def _configured() -> tuple[str, Mapping[str, str]]:
    # Reads files, which a flow without model calls need not wait for.
    from kitaru import config

    return str(config.setting("default_model").value), config.models()


models.use_configuration(_configured)
