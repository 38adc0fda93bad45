"""Processes of a conformance test: each is a fork of one that has imported the harness.

    python -m kitaru.testing.adapters MODULE:CLASS

The server reads a request per line from standard input, runs a conversation in a fork, and writes
the exit code of the fork. Importing a harness takes seconds, a fork a few milliseconds.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from kitaru.testing.adapters import conversations
from kitaru.testing.adapters.script import world
from kitaru.wire import redaction

_PATIENCE_SECONDS = 60.0
_EXPLAINING_SECONDS = 2.0
_IMPORTED = "imported.json"


class Processes:
    """Starts processes that have imported a harness."""

    def __init__(self, harness: str) -> None:
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        self._server = subprocess.Popen(
            [sys.executable, "-m", "kitaru.testing.adapters", harness],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": path, "KITARU_CACHE": "false"},
        )  # fmt: skip
        self._line()

    def run(self, folder: Path, **request: Any) -> dict[str, Any]:
        """Run a process to its end; return `{"ended": …}` and what it wrote.

        `ended` is `completed`, `waiting`, `failed`, `killed` or `hung`.
        """
        result = folder / "result.json"
        result.unlink(missing_ok=True)
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({"folder": str(folder), **request}) + "\n")
        self._server.stdin.flush()
        code = self._line()
        if result.is_file():
            written: dict[str, Any] = json.loads(result.read_text())
            return written
        log = (folder / "log").read_text() if (folder / "log").is_file() else ""
        return {"ended": code, "error": log[-4000:]}

    def _line(self) -> str:
        assert self._server.stdout is not None
        line = self._server.stdout.readline().strip()
        if not line:
            raise AssertionError("The process that imports the harness has ended; see its output.")
        return line

    def close(self) -> None:
        """End the server."""
        # It ends with its standard input.
        self._server.communicate()


def serve(harness: str) -> None:
    """Import the harness, then fork for each request."""
    module, _, name = harness.partition(":")
    used = getattr(import_module(module), name)()
    conversations.used[:] = [used]
    with suppress(NotImplementedError):
        # Libraries build the schemas of their messages when they first read one.
        list(used.messages())
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    # What the harness prints must not be read as an answer.
    os.dup2(2, 1)
    # It compiles its patterns at its first use.
    redaction.redacted("")
    gc.collect()
    answers.write("ready\n")
    for line in sys.stdin:
        request = json.loads(line)
        # Collections of a fork would copy and search what the harness imported.
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            answers.close()
            _child(request)
        ended = _ended(pid)
        _import_what_a_child_imported(Path(request["folder"]))
        answers.write(f"{ended}\n")


def _import_what_a_child_imported(folder: Path) -> None:
    """Import modules that the flow imports while it runs, so that later forks have them."""
    listed = folder / _IMPORTED
    if listed.is_file():
        for name in json.loads(listed.read_text()):
            # Some modules are created without an import.
            with suppress(ImportError):
                import_module(name)
        listed.unlink()


def _ended(pid: int) -> str:
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return "killed" if code == -signal.SIGKILL else f"exit code {code}"
        time.sleep(0.001)
    os.kill(pid, signal.SIGUSR1)
    time.sleep(_EXPLAINING_SECONDS)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"


def _explain_hang(*_: object) -> None:
    """Write where the threads and the unfinished tasks of this process are."""
    faulthandler.dump_traceback(all_threads=True)
    for task in gc.get_objects():
        if isinstance(task, asyncio.Task) and not task.done():
            task.print_stack()


def _child(request: dict[str, Any]) -> NoReturn:
    folder = Path(request["folder"])
    code = 1
    before = set(sys.modules)
    try:
        os.dup2(os.open(folder / "log", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
        os.dup2(2, 1)
        signal.signal(signal.SIGUSR1, _explain_hang)
        world.log, world.attempt = folder / "calls", request["attempt"]
        world.chance = random.Random(request["seed"])
        world.kill = tuple(request["kill"]) if request["kill"] else None
        written = folder / "result.part"
        written.write_text(json.dumps(_outcome(request, folder)))
        written.rename(folder / "result.json")
        if imported := sorted(set(sys.modules) - before):
            (folder / _IMPORTED).write_text(json.dumps(imported))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _outcome(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    # Without the commands that only start here, a child would import them for each request.
    from kitaru.errors import KitaruError

    name = request["conversation"]
    if not request["in_flow"]:
        conversation = conversations.CONVERSATIONS[name]
        plain = asyncio.run(_awaited(conversation))
        return {"ended": "completed", "result": plain}
    used = (
        conversations.blocking_conversation_flow
        if request["blocking"]
        else conversations.conversation_flow
    )
    handle = used.options(store=request["store"], exec_id=request["exec_id"], cache=False).run(name)
    status = handle.settle()
    events = len(conversations.live)
    if status == "waiting":
        return {"ended": "waiting", "live": events}
    try:
        return {"ended": "completed", "result": handle.get(), "live": events}
    except KitaruError as error:
        return {"ended": "failed", "error": f"{error}\n{error.help}", "live": events}


async def _awaited(conversation: conversations.Conversation) -> Any:
    return await conversation.run(conversations.used[0])
