"""Follow an execution that runs here: progress, prompts for waits, Ctrl-C."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kitaru.cli.output import Output, discard, show_interrupted
from kitaru.cli.render.execution import (
    JSON_PAGE,
    answer_command,
    command,
    exit_code,
    show_execution,
)
from kitaru.cli.render.progress import LAST_LOOK, Progress
from kitaru.errors import AnswerInvalid, WaitConflict
from kitaru.handle import Handle
from kitaru.ops.submit import ProcessHandle
from kitaru.runtime.engine.local_run import running_here
from kitaru.runtime.engine.questions import AnsweredElsewhere, ask
from kitaru.runtime.engine.signals import Terminated, code_of
from kitaru.runtime.journal.processes import attending
from kitaru.runtime.telemetry import logs

if TYPE_CHECKING:
    from kitaru.client import KitaruClient


def attend(
    handle: Handle[Any],
    client: KitaruClient,
    output: Output,
    *,
    asking: bool,
    store: str | None,
    shown: Iterable[str] = (),
) -> int:
    """Follow an execution until it ends or waits, show it, and return the exit code.

    With `asking`, the questions of its waits are prompted for at the terminal. Ctrl-C ends the
    process and prints how to resume. `store` is the `--store` that the user passed. `shown` are
    invocations that the progress omits, because they were recorded before this process started.
    """
    exec_id = handle.exec_id
    progress = Progress(client.executions.get(exec_id).journal, output, shown)
    try:
        status = progress.follow(handle)
        while asking and status == "waiting":
            with attending(client.store, exec_id):
                continued = answer_waits(client, exec_id, output)
            if continued is None:
                break
            handle = continued
            status = progress.follow(handle)
    except (KeyboardInterrupt, Terminated) as interruption:
        if isinstance(handle, ProcessHandle):
            handle.stop()
        logs.close_all()
        code = interrupted(interruption, exec_id, client, output, store)
        # A running checkpoint cannot be stopped. It is not recorded, and runs again on resume.
        sys.stderr.flush()
        os._exit(code)
    return finish(exec_id, client, output, store)


def answer_waits(client: KitaruClient, exec_id: str, output: Output) -> Handle[Any] | None:
    """Prompt for the answers of all pending waits, and return the handle that continues.

    Returns None if the user ends the input without an answer.
    """
    view = client.executions.get(exec_id)
    handle: Handle[Any] | None = Handle(view.journal, running_here(view.journal))
    waits = view.waits_as_json()
    try:
        for wait in waits:
            if wait["refused"]:
                output.note(wait["refused"], hang=2)
            while (handle := _answer(client, exec_id, wait, output)) is None:
                pass
    except EOFError:
        return None
    if not waits:
        # Another process has answered. The one that continues has not recorded it yet.
        time.sleep(LAST_LOOK)
    return handle


def finish(exec_id: str, client: KitaruClient, output: Output, store: str | None) -> int:
    """Show the status of an execution, and return the exit code."""
    document = client.executions.get(exec_id).to_dict(limit=JSON_PAGE if output.as_json else 0)
    try:
        if output.as_json:
            output.document(document)
        else:
            show_execution(document, output, store=store)
    except BrokenPipeError:
        # The exit code still reports how the execution ended.
        discard(1)
    return exit_code(document)


def interrupted(
    interruption: BaseException,
    exec_id: str,
    client: KitaruClient,
    output: Output,
    store: str | None,
) -> int:
    """Print how to resume or answer the execution, and return the exit code."""
    code = code_of(interruption)
    view = client.executions.get(exec_id)
    if view.status == "waiting":
        waits = view.waits_as_json()
        answers = [answer_command(exec_id, wait, store=store) for wait in waits]
        what, help = f"execution {exec_id} waits for an answer", "\n".join(answers)
    else:
        what = f"execution {exec_id} is interrupted, not lost"
        help = command("resume", exec_id, store=store)
    show_interrupted(output, what, help, code)
    return code


def _answer(
    client: KitaruClient, exec_id: str, wait: dict[str, Any], output: Output
) -> Handle[Any] | None:
    journal, name = client.executions.get(exec_id).journal, wait["name"]
    try:
        value = ask(wait, lambda: journal.wait_answer(name) is not None)
        return client.executions.input(exec_id, value, wait=name)
    except AnswerInvalid as error:
        output.note(error.message, hang=2)
        return None
    except (AnsweredElsewhere, WaitConflict) as error:
        # Another process answered first. Its answer is the recorded one.
        output.note(error.message, hang=2)
        return Handle(journal, running_here(journal))
