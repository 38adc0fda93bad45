"""Import the library that reaches a model while the flow starts, not inside a checkpoint.

litellm takes seconds to import. Without this module the first checkpoint that asks a model would
show them as its own, and a `timeout=` of the checkpoint could expire in them. So whatever runs a
body calls `start` first: a thread imports litellm beside the imports of the flow, if code that the
body mentions asks a model that needs it. `finish` waits for that thread before a checkpoint which
asks a model starts its clock.

What `start` cannot foresee (a model that is named at run time, a helper of another module) is
imported at the first call; the time that it takes is then left out of the checkpoint's, see
`Running.loading_seconds`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

from kitaru import config
from kitaru.errors import KitaruError

# How a model is written in code: `vendor/name`, or an alias; prompts hold spaces.
_MODEL = re.compile(r"[\w.-]+/[\w./:@-]+")
_MOST_FUNCTIONS = 500
_OWN = ("kitaru.checkpoint", "kitaru.flow")

_thread: threading.Thread | None = None


def start(function: Callable[..., Any]) -> None:
    """Begin to import litellm in the background when `function` leads to a model that needs it."""
    global _thread
    if _thread is not None:
        return
    named = {name for code in _asking(function) for name in _models(code)}
    if named and (found := _first_slow(named)) is not None:
        _thread = threading.Thread(target=_load, args=(found,), name="kitaru-load", daemon=True)
        _thread.start()


def finish(function: Callable[..., Any]) -> None:
    """Wait until the import that `start` began is done, if `function` itself asks a model."""
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
        # The call that needs the library raises the same error, where somebody sees it.
        return


def _first_slow(names: set[str]) -> Any:
    """Return the first of the models that is not reached without litellm, None if all are."""
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
    """Yield the models that a piece of code may ask, "" for the default one."""
    aliases = config.models()
    constants = [c for inner in _nested(code) for c in inner.co_consts if isinstance(c, str)]
    named = [text for text in constants if text in aliases or _MODEL.fullmatch(text)]
    yield from named or [""]


def _asking(function: Callable[..., Any]) -> Iterator[CodeType]:
    """Yield the code, of `function` and what it mentions by name, that mentions `llm`."""
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
    """Return the function that a global is, or that a checkpoint or a flow is made of."""
    # Nothing of the user's objects is called: the attributes of a proxy may do anything.
    if type(value).__name__ in ("Checkpoint", "Flow") and type(value).__module__ in _OWN:
        value = value.function
    return value if type(value) is FunctionType else None


def _code(value: Any) -> CodeType | None:
    function = _plain(value)
    return None if function is None else function.__code__
