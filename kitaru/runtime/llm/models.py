"""Resolve a model by alias or name. The default without a configuration is the offline model."""

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
    """A request of `kitaru.llm`: `model` as the caller wrote it, None for the default.

    `prompt` is one user message, or the messages of a conversation. `schema` is the JSON schema
    of the answer. `retries` and `timeout` (in seconds) apply to each request to the provider.
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
        """Return what identifies the call on a replay: everything except retries and timeout."""
        identity = fields_of(self)
        del identity["retries"], identity["timeout"]
        return identity

    def messages(self) -> list[dict[str, Any]]:
        """Return the conversation in the provider's format; texts are never formatted."""
        text = isinstance(self.prompt, str)
        said = [{"role": "user", "content": self.prompt}] if text else [*self.prompt]
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, *said]


class Resolved(Struct):
    """The alias or model `name`, and `model`, its name for litellm, or `offline`.

    `api_base` is its address, and `secret` the name of the secret with its key. Both are empty if
    the provider's own variables set them. `rpm` and `tpm` are the requests and tokens a minute that
    all processes may use, `at_a_time` the calls of one process; 0 is no limit.
    """

    name: str
    model: str
    api_base: str = ""
    secret: str = ""
    rpm: int = 0
    tpm: int = 0
    at_a_time: int = 0


def mock_response() -> str | None:
    """Return KITARU_LLM_MOCK_RESPONSE, the answer to every model call, or None if unset."""
    return os.environ.get("KITARU_LLM_MOCK_RESPONSE")


def resolve(name: str | None, instead: Mapping[str, str] = _NONE) -> Resolved:
    """Return the model for a name or alias in this process.

    `instead` are models that override the configuration. An alias may refer to another alias. An
    alias without a configuration is the offline model, and so is every model if
    KITARU_LLM_MOCK_RESPONSE is set.

    Raises:
        UsageError: aliases refer to each other in a cycle.
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
    """Return whether recorded model calls would use the same models now, and so remain valid.

    A mock response is never valid for another execution: its text may have been different.
    """
    if calls and mock_response() is not None:
        return False
    return all(resolve(call["asked"]).model == call["resolved"] for call in calls)
