"""Report executions that are waiting, failed or interrupted when their script ends.

    review_flow.run("kayaks")      # the last line of a script

The process ends when the flow waits or has failed. Without a report the user would not notice. The
id of the execution, its question or error, and the command to continue are printed to stderr. A
failure makes the process exit with 1. If the script received the outcome from `.wait()`, `.get()`
or `.settle()`, the execution is not reported.

Only scripts print this report. In a notebook, an interpreter or a test run the process belongs to
another program, which prints the executions itself and defines its own exit code.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from itertools import zip_longest
from typing import TYPE_CHECKING

from kitaru import hints
from kitaru.errors import KitaruError
from kitaru.runtime.engine import signals
from kitaru.runtime.engine.local_run import LocalRun
from kitaru.runtime.engine.parked_threads import exit_with
from kitaru.runtime.engine.questions import command_of, hint
from kitaru.wire.modules import OURS, SCRIPT, is_project, script
from kitaru.wire.printable import line

if TYPE_CHECKING:
    from kitaru.runtime.journal.journal import Journal
    from kitaru.wire.records import WaitRequest

# Maximum number of reported executions; a server may have left thousands.
_MOST = 10

Question = tuple[str, str]
"""The name of a wait, and why its last answer was refused."""

_lock = threading.Lock()
_left: list[LocalRun] = []
_process = 0


def watch(run: LocalRun, module: str) -> None:
    """Report the outcome of `run` at the end of the script. `module` is the module of its flow."""
    global _process
    if not _is_script(module):
        return
    with _lock:
        if _process != os.getpid():
            _process = os.getpid()
            _left.clear()
            atexit.register(_report)
        signals.raise_when(lambda: any(map(_is_open, _left)))
        # A server starts many executions. Those that ended well need no report.
        _left[:] = [one for one in _left if _is_open(one)]
        if run not in _left:
            _left.append(run)


def _forget_parent() -> None:
    global _lock
    _lock = threading.Lock()
    _left.clear()


os.register_at_fork(after_in_child=_forget_parent)


def write_question(journal: Journal, request: WaitRequest, told: set[Question]) -> None:
    """Print a question with the command that answers it, unless `told` already contains it."""
    key = _question(journal, request)
    if key in told:
        return
    told.add(key)
    question = f": {request.question}" if request.question else ""
    _write(f"waiting  {journal.execution.flow}  {journal.exec_id}")
    _write(f"wait     {request.name}{question} {hint(request.schema or {})}")
    if key[1]:
        _write(f"refused  {key[1]}")
    _write(f"answer   {command_of(journal, request)}")


def _question(journal: Journal, request: WaitRequest) -> Question:
    # A rejected answer counts as a new question.
    return request.name, journal.refused(request.name)


def _is_script(module: str) -> bool:
    if hasattr(sys, "ps1") or sys.flags.interactive or "_pytest.config" in sys.modules:
        return False
    main = script()
    if main.file is not None:
        return main.name.partition(".")[0] not in OURS and is_project(main.file)
    # Python sets `__file__` to this name for standard input; console scripts have a real file.
    return module == SCRIPT and main.namespace.get("__file__", "<stdin>") == "<stdin>"


def _is_open(run: LocalRun) -> bool:
    return run.phase != "done" or (run.error is not None and not run.is_delivered)


def _report() -> None:
    if _process != os.getpid():
        return
    try:
        _report_left()
    except Exception as error:
        # Without the report, only the exit code shows how the executions ended.
        exit_with(1)
        _write(f"unknown  how the executions ended: {_in_a_line(error)}")


def _report_left() -> None:
    runs = [run for run in _left if _is_open(run)]
    if any(run.phase == "done" and not run.is_abandoned for run in runs):
        # Set the exit code first: the rest may fail for lack of memory or because the store is
        # unavailable.
        exit_with(1)
    outcomes = [_report_one(run) for run in runs[:_MOST]]
    if len(runs) > _MOST:
        _write(f"{len(runs) - _MOST} more: kitaru executions list")
    ended = [
        outcome
        for run, outcome in zip_longest(runs, outcomes)
        if run.phase == "done" and not run.is_abandoned
    ]
    if ended and all(outcome == "completed" for outcome in ended):
        # A later run in this script retried the failed execution.
        exit_with(0)


def _report_one(run: LocalRun) -> str:
    """Print the next command for an execution; return its status, `unknown` without a store."""
    journal = run.journal
    head = f"{journal.execution.flow}  {journal.exec_id}"
    try:
        state, waits = journal.state(), journal.pending_waits()
        running = journal.pending_children() if state.status == "waiting" else []
        awaited = journal.pending_events() if state.status == "waiting" else []
    except Exception as error:
        _write(f"unknown  {head}: {error}")
        return "unknown"
    if state.status == "failed" and state.error is not None:
        info = state.error
        where = f"in {info.invocation}: " if info.invocation else ""
        _write(info.traceback.rstrip(), 2)
        _write(f"failed   {head}")
        _write(f"error    {where}{info.type}: {info.message}")
        for line in info.help.split("\n") if info.help else []:
            _write(f"help     {line}")
    elif state.status == "waiting":
        for request in waits:
            write_question(journal, request, run.told)
        for request in running[:_MOST]:
            _write(f"waiting  {head}: for its child {request.child}")
        for request in awaited[:_MOST]:
            _write(f"waiting  {head}: for an event {request.event['name']}")
            _write(f"send     {hints.send_command(journal.store, request.event)}")
    elif state.status == "running":
        _write(f"stopped  {head}")
        if run.error is not None and not run.is_abandoned:
            _write(f"error    {_in_a_line(run.error)}")
        _write(f"resume   {hints.command(journal.store, *_resume(run))}")
    return state.status


def _in_a_line(error: BaseException) -> str:
    text = error.message if isinstance(error, KitaruError) else str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _resume(run: LocalRun) -> tuple[str, ...]:
    return "executions", "resume", run.journal.exec_id


def _write(text: str, indent: int = 9) -> None:
    if text and sys.stderr is not None:
        with suppress(OSError):
            sys.stderr.write(line(text, indent) + "\n")
