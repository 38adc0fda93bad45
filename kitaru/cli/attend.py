"""Decides what happens beside an execution that runs here: progress, questions, ctrl-C."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kitaru.cli.ask import ask
from kitaru.cli.execution import command, exit_code, show_execution
from kitaru.cli.output import INTERRUPTED, Output, show_interrupted
from kitaru.cli.progress import Progress
from kitaru.errors import AnswerInvalid, WaitConflict

if TYPE_CHECKING:
    from kitaru.client import KitaruClient
    from kitaru.handle import Handle


def attend(
    handle: Handle[Any],
    client: KitaruClient,
    output: Output,
    *,
    asking: bool,
    store: str | None,
    shown: Iterable[str] = (),
) -> int:
    """See an execution through to its end or to a wait, show it, and return the exit code.

    `asking` puts the questions of its waits to whoever sits at the terminal. Ctrl-C ends the
    process and says how to resume; `store` is the `--store` the user gave. `shown` are invocations
    that the progress leaves out: they were recorded before this process began.
    """
    exec_id = handle.exec_id
    progress = Progress(client.executions.get(exec_id).journal, output, shown)
    try:
        status = progress.follow(handle)
        while asking and status == "waiting" and answer_waits(client, exec_id, output):
            status = progress.follow(handle)
    except KeyboardInterrupt:
        code = interrupted(exec_id, output, store)
        # A checkpoint in flight cannot be stopped; it is not recorded and runs again on resume.
        sys.stderr.flush()
        os._exit(code)
    return finish(exec_id, client, output, store)


def answer_waits(client: KitaruClient, exec_id: str, output: Output) -> bool:
    """Ask everything an execution waits for; False when the person would rather not say."""
    try:
        for wait in client.executions.get(exec_id).to_dict()["waits"]:
            if wait["refused"]:
                output.note(wait["refused"])
            while not _answer(client, exec_id, wait, output):
                pass
    except EOFError:
        return False
    return True


def finish(exec_id: str, client: KitaruClient, output: Output, store: str | None) -> int:
    """Show what has become of an execution and return the exit code."""
    document = client.executions.get(exec_id).to_dict()
    if output.as_json:
        output.document(document)
    else:
        show_execution(document, output, store=store)
    return exit_code(document)


def interrupted(exec_id: str, output: Output, store: str | None) -> int:
    """Say that nothing is lost and how to go on; return the exit code of an interruption."""
    resume = command("resume", exec_id, store=store)
    show_interrupted(output, f"execution {exec_id} is interrupted, not lost", resume)
    return INTERRUPTED


def _answer(client: KitaruClient, exec_id: str, wait: dict[str, Any], output: Output) -> bool:
    try:
        client.executions.input(exec_id, ask(wait), wait=wait["name"])
    except AnswerInvalid as error:
        output.note(error.message)
        return False
    except WaitConflict as error:
        # Somebody else was first, and that answer counts.
        output.note(error.message)
    return True
