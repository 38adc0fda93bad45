"""Makes model calls in a process of its own, so that what they import and whom they ask is known.

Reads [[name, environment, arguments of `ask`], …] from its first argument, and writes what became
of each as one JSON document, the only thing on stdout. litellm is left as somebody may leave it who
has his own calls watched; it is not imported where no call needs it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import traceback
from typing import Any

from kitaru.runtime.journal import exceptions
from kitaru.runtime.llm import providers
from kitaru.runtime.llm.model_calls import ask
from kitaru.runtime.llm.models import ModelRequest

SET = ("API_BASE", "API_KEY")
PROVIDERS = (
    "KITARU_MODELS",
    "KITARU_SECRETS",
    "TEAM_KEY",
    *(f"{provider}_{what}" for provider in ("OPENAI", "DEEPSEEK") for what in SET),
)


def made(environment: dict[str, str], request: dict[str, Any]) -> dict[str, Any]:
    for variable in PROVIDERS:
        os.environ.pop(variable, None)
    os.environ.update(environment)
    pieces: list[str] = []
    stream = pieces.append if request.pop("stream", False) else None
    try:
        facts = ask(ModelRequest(**request), stream)[1]
    except Exception as error:
        again = exceptions.decode_exception(exceptions.encode_exception(error))
        said = {"type": type(error).__name__, "again": type(again).__name__, "text": str(error)}
        frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        return {
            **said,
            "help": getattr(error, "help", ""),
            "status": getattr(error, "status", None),
            "cause": error.__cause__ and repr(error.__cause__),
            "frames": [name for name in frames if "site-packages" in name],
            "pieces": pieces,
        }
    return {**facts, "pieces": pieces}


def watched(litellm: Any) -> None:
    """Leave litellm as somebody leaves it who has his own calls watched."""
    litellm.callbacks, litellm.success_callback = [print], [print]
    litellm.set_verbose = True
    logging.getLogger("LiteLLM").setLevel(logging.DEBUG)


def main() -> None:
    pauses: list[float] = []
    providers.time.sleep = pauses.append  # type: ignore[attr-defined]
    hosts: list[str] = []
    look_up = socket.getaddrinfo

    def recorded(host: Any, *rest: Any, **more: Any) -> Any:
        hosts.append(host.decode() if isinstance(host, bytes) else str(host))
        return look_up(host, *rest, **more)

    socket.getaddrinfo = recorded
    results: dict[str, Any] = {}
    calls = json.loads(sys.argv[1])
    for number, (name, environment, request) in enumerate(calls):
        pauses.clear()
        # The pauses were not waited for.
        providers._busy_until.clear()
        results[name] = {**made(environment, request), "pauses": list(pauses)}
        if number == 0 and "litellm" in sys.modules:
            watched(sys.modules["litellm"])
    results["left"] = {"imported": "litellm" in sys.modules}
    if litellm := sys.modules.get("litellm"):
        left = litellm.callbacks + litellm.success_callback + litellm.failure_callback
        results["left"] |= {
            "callbacks": len(left),
            "verbose": litellm.set_verbose,
            "debug": logging.getLogger("LiteLLM").isEnabledFor(logging.DEBUG),
        }
    results["hosts"] = hosts
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
