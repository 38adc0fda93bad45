"""The parts of a model call that are recorded with its attempt."""

from __future__ import annotations

from typing import Any, Literal

from kitaru import config
from kitaru.errors import UsageError
from kitaru.runtime import codec
from kitaru.runtime.engine.attempts import Running
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.telemetry import log_redaction
from kitaru.settings import CAPTURES

Capture = Literal["full", "metadata", "off"]

# What tells whether a cached result still holds, and no more.
_NAMES = ("asked", "model", "resolved")
_STORED = ("prompt", "response")
_TEXTS = (*_STORED, "system", "tools", "schema", "tool_calls")


def check_capture(where: str, given: Any) -> Capture | None:
    """Return what a decorator or a call says; raises UsageError when there is no such policy."""
    if given not in (None, *CAPTURES):
        known = ", ".join(CAPTURES)
        raise UsageError(f"{where}: capture={given!r} is not one of {known}.")
    return given  # type: ignore[no-any-return]


def keep(journal: Journal, running: Running, facts: dict[str, Any], capture: str | None) -> None:
    """Keep the facts of a model call, as far as the policy lets them be kept.

    `full` keeps all of them, texts redacted, prompt and response as stored values; `metadata` the
    numbers and the settings; `off` which model was asked. `capture` is what the call itself said.
    """
    policy = config.setting("capture", argument=capture, decorator=running.capture).value
    if policy == "off":
        kept = {name: facts[name] for name in _NAMES}
    elif policy == "metadata":
        kept = {name: fact for name, fact in facts.items() if name not in _TEXTS}
    else:
        shown = {name: log_redaction.hidden(facts[name]) for name in _TEXTS if facts.get(name)}
        kept = {**facts, **shown, **{name: _stored(journal, shown.get(name)) for name in _STORED}}
    running.calls.append(kept)


def _stored(journal: Journal, shown: Any) -> Any:
    return journal.store_document(
        codec.encode(shown or ""), "str" if isinstance(shown, str) else "messages"
    )
