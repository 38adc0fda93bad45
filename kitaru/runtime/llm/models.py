"""Resolve a model by alias or name. Without a configured model, use the offline one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kitaru import config
from kitaru.errors import UsageError
from kitaru.wire.models import OFFLINE, is_alias
from kitaru.wire.structs import Struct, fields_of

_NONE: Mapping[str, str] = MappingProxyType({})


class ModelRequest(Struct):
    """What `kitaru.llm` was asked: `model` as the caller wrote it, None for the default.

    `prompt` is one user message, or the messages of a conversation. `schema` is the JSON schema
    that the answer has to fit. `retries` and `timeout`, in seconds, are about each request to the
    provider.
    """

    prompt: str | list[dict[str, Any]]
    model: str | None = None
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    tools: list[dict[str, Any]] | None = None
    schema: dict[str, Any] | None = None
    retries: int = 2
    timeout: float = 600.0

    def identity(self) -> dict[str, Any]:
        """Return what identifies the call on a replay: all but how patiently it is made."""
        identity = fields_of(self)
        del identity["retries"], identity["timeout"]
        return identity

    def messages(self) -> list[dict[str, Any]]:
        """Return the conversation as a provider takes it; no text is ever formatted."""
        text = isinstance(self.prompt, str)
        said = [{"role": "user", "content": self.prompt}] if text else [*self.prompt]
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, *said]


class Resolved(Struct):
    """`name` is the alias or model asked for, `model` what litellm calls it, or `offline`.

    `api_base` is where it is reached, and `secret` the name of the secret that is its key; both are
    empty where the provider's own variables say so.
    """

    name: str
    model: str
    api_base: str = ""
    secret: str = ""


def mock_response() -> str | None:
    """Return the text that answers every model call, of KITARU_LLM_MOCK_RESPONSE; None for none."""
    return os.environ.get("KITARU_LLM_MOCK_RESPONSE")


def resolve(name: str | None, instead: Mapping[str, str] = _NONE) -> Resolved:
    """Return the model that a name or alias stands for here and now.

    `instead` are the models that go before whatever is configured. An alias may stand for another
    one; one that nothing configures stands for the offline model, and so does every model while
    KITARU_LLM_MOCK_RESPONSE is set.

    Raises:
        UsageError: aliases stand for each other in a circle.
    """
    asked = name or str(config.setting("default_model").value)
    if mock_response() is not None:
        return Resolved(asked, OFFLINE)
    known = {**config.models(), **instead}
    chain = [asked]
    while isinstance(found := known.get(chain[-1]), str) and found != chain[-1]:
        chain.append(found)
        if found in chain[:-1]:
            raise UsageError(
                f"The model aliases {' → '.join(chain)} are a circle.",
                help="Let one of them be a model: kitaru model list",
            )
    if isinstance(found, dict):
        return Resolved(asked, **found)
    return Resolved(asked, OFFLINE if is_alias(chain[-1]) else chain[-1])


def same_models(calls: tuple[dict[str, Any], ...]) -> bool:
    """Tell whether recorded model calls would go to the same models now, so that they hold.

    A mock response holds for no other execution: it may have been another text.
    """
    if calls and mock_response() is not None:
        return False
    return all(resolve(call["asked"]).model == call["resolved"] for call in calls)
