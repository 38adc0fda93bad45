"""Hide secrets in recorded texts, and apply the project's redaction hook."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from kitaru import config
from kitaru.wire import redaction

WITHHELD = "[withheld: the redaction hook failed]"


def hidden(value: Any) -> Any:
    """Return JSON data with the secrets in every text hidden, after the hook has run on each text.

    If the hook fails for a text, the text is withheld: the hook might have hidden any part of it.
    """
    hook = _hook()
    document = redaction.redacted_json(value)
    return document if hook is None else _each(document, hook)


def _each(value: Any, hook: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return _hooked(hook, value)
    if isinstance(value, list):
        return [_each(item, hook) for item in value]
    if isinstance(value, dict):
        return {key: _each(item, hook) for key, item in value.items()}
    return value


def _hooked(hook: Callable[[str], str], text: str) -> str:
    try:
        return str(hook(text))
    except Exception:
        return WITHHELD


def _hook() -> Callable[[str], str] | None:
    found = config.setting("redact").value
    if not isinstance(found, str):
        return found  # type: ignore[no-any-return]
    module, _, name = found.partition(":")
    try:
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    except (ImportError, AttributeError):
        return _withhold


def _withhold(_: str) -> str:
    return WITHHELD
