"""Make a model call: choose the route to the model, and repeat requests that may succeed later.

```
ask ── a test's script ── yes ─▶ script
    ├─ offline model?  ── yes ─▶ offline_text
    └─ openai/…, gpt-… ── yes ─▶ openai_http    httpx, ~0.1 s to import
                       └─ no  ─▶ litellm_route  every other provider, seconds to import
```

`load` imports what a route needs. `model_calls` calls it before the timer of a call starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kitaru.runtime.engine.retries import Policy, chance
from kitaru.runtime.llm import litellm_route, offline, openai_http
from kitaru.runtime.llm.exchange import Answer, Pieces, RequestFailed, Stream
from kitaru.runtime.llm.models import ModelRequest, Resolved
from kitaru.wire.models import OFFLINE, is_direct

__all__ = ["Answer", "Stream", "ask", "load"]

# If a provider requests a longer pause, the error is raised at once.
_LONGEST_PAUSE = 60.0
_TOO_MANY = 429

_busy_until: dict[str, float] = {}

script: Callable[[ModelRequest, Resolved, Pieces], Answer] | None = None
"""Answers every call instead of the model; `kitaru.testing` sets it."""


def load(resolved: Resolved) -> None:
    """Import the library of a model's route. Raise EnvironmentFailure if it is missing."""
    if resolved.model != OFFLINE and script is None:
        _route(resolved).load(resolved)


def ask(request: ModelRequest, resolved: Resolved, stream: Stream | None = None) -> Answer:
    """Make the call, and repeat it after a failure that the provider reports as temporary.

    `stream` receives the text piece by piece. After the first piece, no request is repeated.

    Raises:
        EnvironmentFailure: a library or a credential is missing.
        UsageError: the model's address is not allowed.
        ModelRequestError: the provider refused the request or gave no answer.
    """
    if script is not None:
        return script(request, resolved, Pieces(stream))
    if resolved.model == OFFLINE:
        return _offline(request, resolved, Pieces(stream))
    return _reach(request, resolved, Pieces(stream))


def _reach(request: ModelRequest, resolved: Resolved, pieces: Pieces) -> Answer:
    load(resolved)
    route = _route(resolved)
    policy = Policy(retries=request.retries, delay=1.0, backoff=2.0)
    tries = 0
    _rest(resolved)
    while True:
        tries += 1
        try:
            found: Answer = route.request_once(request, resolved, pieces)
        except RequestFailed as failure:
            pause = max(policy.pause(tries, chance()), failure.pause)
            repeatable = failure.temporary and not pieces.begun
            if not repeatable or tries > request.retries or pause > _LONGEST_PAUSE:
                failure.error.tries = tries
                raise failure.error from None
            if failure.error.status == _TOO_MANY:
                _busy_until[resolved.model] = time.monotonic() + pause
            pieces = Pieces(pieces.stream)
        else:
            return _counted(found, tries)
        time.sleep(pause)


def _rest(resolved: Resolved) -> None:
    """Wait while the model is busy. What it answered one thread is true for all of them."""
    while (left := _busy_until.get(resolved.model, 0.0) - time.monotonic()) > 0:
        time.sleep(left)


def _route(resolved: Resolved) -> Any:
    return openai_http if is_direct(resolved.model) else litellm_route


def _counted(found: Answer, tries: int) -> Answer:
    from dataclasses import replace

    return replace(found, tries=tries)


def _offline(request: ModelRequest, resolved: Resolved, pieces: Pieces) -> Answer:
    asked = str(request.messages()[-1].get("content"))
    text = offline.offline_text(asked, resolved.name, request.schema)
    pieces.take(text)
    return Answer(text, len(asked.split()), len(text.split()), 0.0)
