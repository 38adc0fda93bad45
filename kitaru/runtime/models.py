"""Decides which model answers a call: a configured one through litellm, or the offline model."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from kitaru.errors import EnvironmentFailure

DEFAULT_ALIAS = "fast"
OFFLINE = "offline"
# Names of models hold a slash, a digit or a hyphen; an alias is plain words.
_ALIAS = re.compile(r"[a-z]+(_[a-z]+)*")
_SHOWN = 200
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What `kitaru.llm` was asked: `model` as the caller wrote it, None for the default."""

    prompt: str
    model: str | None = None
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """`name` is the alias or model asked for, `model` what litellm calls it, or `offline`."""

    name: str
    model: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's text and what it took; `cost` is in US dollars, None when no price is known."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    cost: float | None


Configuration = Callable[[], tuple[str, Mapping[str, str]]]
_plan_models: dict[str, str] = {}
_configuration: Configuration | None = None


def use_plan_models(models: Mapping[str, str]) -> None:
    """Take the aliases that the plan carries; whatever this process configures goes before them."""
    _plan_models.clear()
    _plan_models.update(models)


def use_configuration(source: Configuration) -> None:
    """Say where the default model and the aliases of this process come from."""
    global _configuration
    _configuration = source


def resolve(name: str | None, instead: Mapping[str, str] = _NONE) -> Resolved:
    """Return the model that a name or alias stands for here and now.

    `instead` are the models that go before whatever is configured. An alias that nothing configures
    stands for the offline model.
    """
    default, configured = _configuration() if _configuration else (DEFAULT_ALIAS, {})
    asked = name or default
    model = {**_plan_models, **configured, **instead}.get(asked)
    if model is None:
        model = OFFLINE if _ALIAS.fullmatch(asked) else asked
    return Resolved(asked, model)


def same_models(calls: tuple[dict[str, Any], ...]) -> bool:
    """Say whether recorded model calls would go to the same models now, so that they hold."""
    return all(resolve(call["asked"]).model == call["resolved"] for call in calls)


def complete(
    request: ModelRequest, instead: Mapping[str, str] = _NONE
) -> tuple[str, dict[str, Any]]:
    """Make the call once; return the text and what to record of it.

    `instead` are models by alias that this execution asks in place of those that are configured.

    Raises:
        EnvironmentFailure: litellm or a credential is missing.
        Exception: the provider's error, of litellm's type.
    """
    resolved = resolve(request.model, instead)
    started = time.perf_counter()
    if resolved.model == OFFLINE:
        answer = _offline(request, resolved)
    else:
        answer = _through_litellm(request, resolved)
    return answer.text, {
        "asked": request.model,
        "model": resolved.name,
        "resolved": resolved.model,
        "prompt": request.prompt,
        "response": answer.text,
        "system": request.system,
        "temperature": request.temperature,
        "max_tokens": request.max_tokens,
        "tokens": {"prompt": answer.prompt_tokens, "completion": answer.completion_tokens},
        "latency_s": round(time.perf_counter() - started, 6),
        "cost": answer.cost,
    }


def _offline(request: ModelRequest, resolved: Resolved) -> Answer:
    shown = " ".join(request.prompt.split())
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
    text = (
        f'[kitaru offline model: no model is configured for "{resolved.name}"] '
        f"It was asked: {shown}"
    )
    return Answer(text, len(request.prompt.split()), len(text.split()), 0.0)


def _through_litellm(request: ModelRequest, resolved: Resolved) -> Answer:
    litellm = _litellm(resolved)
    messages = [{"role": "user", "content": request.prompt}]
    if request.system is not None:
        messages.insert(0, {"role": "system", "content": request.system})
    options = {"temperature": request.temperature, "max_tokens": request.max_tokens}
    try:
        response = litellm.completion(
            model=resolved.model,
            messages=messages,
            # Trying again is the checkpoint's to decide.
            num_retries=0,
            max_retries=0,
            **{name: value for name, value in options.items() if value is not None},
        )
    except Exception as error:
        missing = _missing_credentials(litellm, resolved, error)
        if not missing:
            raise
        raise EnvironmentFailure(
            f'The model "{resolved.model}" needs a credential: {" and ".join(missing)} is not set.',
            help="\n".join(f"export {name}=…" for name in missing),
        ) from error
    usage = response.usage
    return Answer(
        response.choices[0].message.content or "",
        usage.prompt_tokens,
        usage.completion_tokens,
        _cost(litellm, response),
    )


def _litellm(resolved: Resolved) -> Any:
    """Import litellm, which takes seconds, without its network fetch and its talk on stdout."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_LOG", "ERROR")
    try:
        import litellm
    except ModuleNotFoundError as error:
        if error.name != "litellm":
            raise
        raise EnvironmentFailure(
            f'The model "{resolved.model}" is reached through litellm, which is not installed.',
            help="Install it: pip install litellm",
        ) from None
    litellm.suppress_debug_info = True
    return litellm


def _missing_credentials(litellm: Any, resolved: Resolved, error: Exception) -> list[str]:
    """Return the unset variables that the error is about: some providers report it as any error."""
    unset = litellm.validate_environment(resolved.model)["missing_keys"]
    denied = isinstance(error, litellm.AuthenticationError)
    return [name for name in unset if denied or name in str(error)]


def _cost(litellm: Any, response: Any) -> float | None:
    """Return the price of a call; litellm knows those of the public models only."""
    try:
        return float(litellm.completion_cost(completion_response=response))
    except Exception:
        return None
