"""The process of one container: command line, outputs and exit codes."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from kitaru.errors import EnvironmentFailure, KitaruError
from kitaru.runtime.engine.execution import Stop
from kitaru.runtime.engine.promised_calls import NOTHING
from kitaru.runtime.engine.signals import INTERRUPTED, TERMINATED
from kitaru.runtime.journal.exceptions import user_traceback
from kitaru.runtime.steps.control_flow import END, StepStatus
from kitaru.runtime.steps.inputs import InputSource
from kitaru.runtime.telemetry import logs, spans
from kitaru.stores import open_store
from kitaru.wire.ids import execution_id_of, named_execution_id
from kitaru.wire.printable import visible
from kitaru.wire.records import WaitRequest
from kitaru.wire.redaction import redacted
from kitaru.wire.structs import Struct, field
from kitaru.wire.times import seconds_until, whole_seconds

T = TypeVar("T")

# Another process of the same step may write its outcome at the same time.
_TRIES = 5


class Pause(Struct):
    """Why a step ends at a wait: the wait that is asked, and when to look again without an answer.

    `until` is the first deadline of all waits, empty without one.
    """

    asked: WaitRequest
    until: str = ""


class Request(Struct):
    """One start of a step's container, as described by its command line.

    If `execution` is empty, the orchestrator's own `run` names the execution. Only the first step
    receives inputs. `item` selects the calls of a fan-out to run. `outcome_key` is the store key of
    the outcome, for an orchestrator that reads no file of a container. `lists` are fields of the
    outcome: the items of all nodes before a step, as one string. `answer` is an answer passed to
    the orchestrator, as JSON with the `name` of the wait and the `value`. `plan_digest` is the
    digest of the plan from which the document was compiled, empty if the bundle's own digest is
    checked. `longest_wait` is after how many seconds a wait looks for its answer in any case. The
    file `seconds_file` gets the seconds until the step has to start again. `skip_code` is the exit
    code of a step without work. `existing` means that the execution has already started, with
    recorded inputs.
    """

    plan: Path
    step: str
    execution: str
    run: str
    store: str
    item: str = ""
    next_file: Path | None = None
    status_file: Path | None = None
    items_file: Path | None = None
    seconds_file: Path | None = None
    longest_wait: int = 0
    outcome_file: Path | None = None
    outcome_key: str = ""
    given: InputSource = field(default_factory=InputSource)
    target: str = ""
    answer: str = ""
    plan_digest: str = ""
    skip_code: int = 0
    lists: Mapping[str, str] = field(default_factory=dict)
    existing: bool = False

    @property
    def exec_id(self) -> str:
        return named_execution_id(self.execution or execution_id_of(self.run))

    def publish(
        self,
        next: str,
        status: StepStatus,
        items: Sequence[str] = (),
        pause: Pause | None = None,
    ) -> None:
        """Write the step's native outputs: the values for conditions, and the list of a fan-out."""
        whole: dict[str, Any] = {"next": next, "status": status}
        if items:
            whole["items"] = [*items]
        for name, step in self.lists.items():
            # Engines that read this list do not accept an empty list.
            whole[name] = json.dumps([*items] if items and next == step else [NOTHING])
        seconds = 0
        if pause:
            wait = pause.asked
            asked = {"name": wait.name, "question": wait.question, "schema": wait.schema}
            asked["kind"] = wait.kind
            seconds = self.longest_wait
            if pause.until:
                # The node that waits must not end before the deadline.
                asked["until"] = whole_seconds(pause.until)
                left = max(1, math.ceil(seconds_until(asked["until"])))
                seconds = min(left, self.longest_wait or left)
            if seconds:
                asked["seconds"] = seconds
            # The step to start after the answer. A wait without a step of its own repeats this one.
            asked["step"] = self.step if next == END else next
            whole["wait"] = asked
            whole["execution"] = self.exec_id
        outcome = json.dumps(whole)
        outputs = {
            self.next_file: next,
            self.status_file: status,
            self.items_file: json.dumps([*items]),
            self.seconds_file: str(seconds),
            self.outcome_file: outcome,
        }
        for path, text in outputs.items():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        if self.outcome_key:
            _overwrite(self.store, self.outcome_key, outcome.encode())
        say(f"kitaru: step {self.step} of {self.exec_id}: {status}, next {next}")


def _overwrite(url: str, key: str, data: bytes) -> None:
    """Store an outcome, which no journal contains, in place of that of an earlier process.

    A step is started again after its container was lost, and after the answer to its wait.
    """
    store = open_store(url or None)
    try:
        for _ in range(_TRIES):
            if store.create(key, data) or store.get(key) == data:
                return
            store.delete(key)
    finally:
        store.close()
    raise EnvironmentFailure(
        f"The outcome {key} in {store.url} cannot be replaced.",
        help="Allow the step to delete objects below native/, then start it again.",
    )


def stop_process(request: Request, why: Stop, error: BaseException | None) -> NoReturn:
    """End the process, or restart it if another process recorded first."""
    try:
        _stop_process(request, why, error)
    except Exception as failure:
        # Such as a full disk when the outputs are written. The flow must not be unwound.
        say(f"error: {type(failure).__name__}: {failure}")
        exit_now(EnvironmentFailure.exit_code)


def _stop_process(request: Request, why: Stop, error: BaseException | None) -> NoReturn:
    if why == "cancelled":
        request.publish(END, "end")
        exit_now(0)
    if why == "superseded":
        flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    if isinstance(error, KitaruError):
        exit_now(report(error))
    assert error is not None
    say_failure(error)
    exit_now(1)


def on_own_thread(work: Callable[[], T]) -> T:
    """Run `work` on a daemon thread, in the context of the caller; return its value.

    Ctrl-C then ends the process here, and does not cancel the tasks of an event loop: an
    interruption must not unwind the flow.
    """
    done: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            done.append((work(), None))
        except BaseException as error:
            done.append((None, error))

    thread = threading.Thread(
        target=copy_context().run, args=(run,), name="kitaru-body", daemon=True
    )
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        exit_now(INTERRUPTED)
    ((value, error),) = done
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def terminate(request: Request) -> None:
    """End the process after SIGTERM; for the signal handler.

    The container ends with the process. The flow is not unwound. The interrupted code may hold a
    lock needed to write the last log lines, so another thread writes them while that code
    continues.
    """
    try:
        threading.Thread(target=_terminate, args=(request,), name="kitaru-end", daemon=True).start()
    except (RuntimeError, MemoryError):
        _terminate(request)


def _terminate(request: Request) -> NoReturn:
    words = ["kitaru", "executions", "resume", request.exec_id]
    words += ["--store", request.store] if request.store else []
    say(
        f"kitaru: step {request.step} of {request.exec_id}: terminated by SIGTERM; what is "
        f"recorded does not run again\nhelp: start the step again, or: {shlex.join(words)}"
    )
    exit_now(TERMINATED)


def report(error: KitaruError) -> int:
    """Print an error and return its exit code."""
    say(f"error: {error}")
    return error.exit_code


def exit_now(code: int) -> NoReturn:
    """End the process without unwinding anything."""
    try:
        flush()
    finally:
        os._exit(code)


def flush() -> None:
    """Write the remaining buffered output of this process, as far as possible."""
    for write in (logs.close_all, spans.close, sys.stdout.flush, sys.stderr.flush):
        with suppress(Exception):
            write()


def say(line: str) -> None:
    """Write a line to the step's log with secrets masked; a failing log never ends a step."""
    with suppress(Exception):
        sys.stderr.write(visible(redacted(line)) + "\n")


def say_failure(error: BaseException) -> None:
    """Write the traceback of the flow's exception, or as much of it as memory allows."""
    try:
        say(user_traceback(error).rstrip())
    except Exception:
        say(f"{type(error).__name__}, whose traceback cannot be shown")
