"""Names of models: which library reaches a model, by the model's name.

The compiler uses it to find the packages of a step, and the runtime to choose the route.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

OFFLINE = "offline"
# Names of models contain a slash, a digit or a hyphen; an alias is plain words.
_ALIAS = re.compile(r"[a-z]+(_[a-z]+)*")
# OpenAI's own names. litellm requires a prefix for all other models.
_OPENAI = re.compile(r"openai/(?!responses/).+|(gpt-|chatgpt-|o\d(-|$)|ft:(gpt|o\d))[^/]*")


def is_alias(name: str) -> bool:
    """Return whether a name can only be an alias. An unset alias is the offline model."""
    return _ALIAS.fullmatch(name) is not None


def is_direct(model: str) -> bool:
    """Return whether a model is reached without litellm.

    Example:
        is_direct("openai/gpt-4o")  # True, and so for every `openai/…` with an `api_base`
    """
    return _OPENAI.fullmatch(model) is not None


def reached(names: Iterable[str], aliases: Mapping[str, Any]) -> set[str]:
    """Return the models that names resolve to, without the offline model.

    `aliases` is `[tool.kitaru.models]`: for each alias a model, another alias, or a table with the
    key `model`.

    Example:
        reached(["fast", "gpt-4o"], {"fast": "anthropic/claude-x"})
    """
    found = set()
    for name in names:
        seen = set[str]()
        while isinstance(step := aliases.get(name), str) and step != name and name not in seen:
            seen.add(name)
            name = step
        if name in seen:
            continue
        if isinstance(step, Mapping):
            found.add(str(step["model"]))
        elif not is_alias(name):
            found.add(name)
    return found - {OFFLINE}
