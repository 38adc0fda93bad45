"""Import the client library of a model while the flow starts, not inside a checkpoint.

litellm takes seconds to import. Without this module, these seconds would count as time of the first
checkpoint that calls a model, and its `timeout=` could expire during the import. Code that runs a
flow's body therefore calls `start` first. If the body's code calls a model that needs litellm, a
thread imports it concurrently with the imports of the flow. `finish` waits for that thread before
the timer of a checkpoint that calls a model starts.

`start` cannot detect every model: a name may be computed at run time, or used in a helper of
another module. Such a model's library is imported at the first call, and the import time is
subtracted from the checkpoint's; see `Running.loading_seconds`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

from kitaru import config
from kitaru.errors import KitaruError

# How a model is written in code: `vendor/name`, or an alias. Prompts contain spaces.
_MODEL = re.compile(r"[\w.-]+/[\w./:@-]+")
_MOST_FUNCTIONS = 500
_OWN = ("kitaru.checkpoints", "kitaru.flows")

_thread: threading.Thread | None = None


def start(function: Callable[..., Any]) -> None:
    """Start to import litellm in the background if `function` may call a model that needs it."""
    global _thread
    if _thread is not None:
        return
    named = {name for code in _asking(function) for name in _models(code)}
    if named and (found := _first_slow(named)) is not None:
        _thread = threading.Thread(target=_load, args=(found,), name="kitaru-load", daemon=True)
        _thread.start()


def finish(function: Callable[..., Any]) -> None:
    """Wait for the import that `start` started, if `function` itself calls a model."""
    thread = _thread
    if thread is None or not thread.is_alive():
        return
    code = _code(function)
    if code is None or any("llm" in inner.co_names for inner in _nested(code)):
        thread.join()


def _load(resolved: Any) -> None:
    from kitaru.runtime.llm import providers

    try:
        providers.load(resolved)
    except Exception:
        # The call that needs the library raises the same error, and the user sees it there.
        return


def _first_slow(names: set[str]) -> Any:
    """Return the first of the models that needs litellm, or None."""
    from kitaru.runtime.llm.models import resolve
    from kitaru.wire.models import OFFLINE, is_direct

    for name in sorted(names):
        try:
            resolved = resolve(name or None)
        except KitaruError:
            continue
        if resolved.model != OFFLINE and not is_direct(resolved.model):
            return resolved
    return None


def _models(code: CodeType) -> Iterator[str]:
    """Yield the models that a code object may call, "" for the default model."""
    aliases = config.models()
    constants = [c for inner in _nested(code) for c in inner.co_consts if isinstance(c, str)]
    named = [text for text in constants if text in aliases or _MODEL.fullmatch(text)]
    yield from named or [""]


def _asking(function: Callable[..., Any]) -> Iterator[CodeType]:
    """Yield the code objects that mention `llm`, of `function` and the functions it names."""
    pending, seen = [function], set[int]()
    while pending and len(seen) < _MOST_FUNCTIONS:
        current = pending.pop()
        code = _code(current)
        if code is None or id(code) in seen:
            continue
        seen.add(id(code))
        mentioned = {name for inner in _nested(code) for name in inner.co_names}
        if "llm" in mentioned:
            yield code
        here = getattr(_plain(current), "__globals__", {})
        pending += [here[name] for name in sorted(mentioned) if name in here]


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _plain(value: Any) -> FunctionType | None:
    """Return the plain function behind a global: itself, or that of a checkpoint or flow."""
    # No method of a user's object is called: an attribute of a proxy may run any code.
    if type(value).__name__ in ("Checkpoint", "Flow") and type(value).__module__ in _OWN:
        value = value.function
    return value if type(value) is FunctionType else None


def _code(value: Any) -> CodeType | None:
    function = _plain(value)
    return None if function is None else function.__code__
