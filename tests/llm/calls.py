"""Makes model calls in a process of its own: litellm takes seconds to import, and warns as it does.

Reads [[name, environment, arguments of `ask`], …] from its first argument, and writes what became
of each as one JSON document, the only thing on stdout.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from kitaru.runtime.llm import providers
from kitaru.runtime.llm.model_calls import ask
from kitaru.runtime.llm.models import ModelRequest
from kitaru.runtime.recording import failures

PROVIDERS = ("OPENAI_API_BASE", "OPENAI_API_KEY", "KITARU_MODELS", "KITARU_SECRETS", "TEAM_KEY")


def made(environment: dict[str, str], request: dict[str, Any]) -> dict[str, Any]:
    for variable in PROVIDERS:
        os.environ.pop(variable, None)
    os.environ.update(environment)
    pieces: list[str] = []
    stream = pieces.append if request.pop("stream", False) else None
    try:
        facts = ask(ModelRequest(**request), stream)[1]
    except Exception as error:
        again = failures.decode_exception(failures.encode_exception(error))
        said = {"type": type(error).__name__, "again": type(again).__name__, "text": str(error)}
        return {**said, "help": getattr(error, "help", ""), "pieces": pieces}
    return {**facts, "pieces": pieces}


def main() -> None:
    pauses: list[float] = []
    providers.time.sleep = pauses.append  # type: ignore[attr-defined]
    results = {}
    import litellm

    # As somebody may have left it, who had his own calls watched.
    litellm.callbacks, litellm.success_callback = [print], [print]
    litellm.set_verbose = True
    logging.getLogger("LiteLLM").setLevel(logging.DEBUG)
    for name, environment, request in json.loads(sys.argv[1]):
        pauses.clear()
        results[name] = {**made(environment, request), "pauses": list(pauses)}
    left = litellm.callbacks + litellm.success_callback + litellm.failure_callback
    results["left"] = {
        "callbacks": len(left),
        "verbose": litellm.set_verbose,
        "debug": logging.getLogger("LiteLLM").isEnabledFor(logging.DEBUG),
    }
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
