"""Decides how the process of one container begins and ends: its command line, outputs and codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kitaru.errors import KitaruError
from kitaru.runtime.observing import logs, telemetry
from kitaru.runtime.recording.failures import user_traceback
from kitaru.runtime.running.host import Stop
from kitaru.runtime.running.promises import NOTHING
from kitaru.runtime.steps.given import Given
from kitaru.runtime.steps.route import END, StepStatus
from kitaru.wire.ids import check_execution_id, execution_id_of
from kitaru.wire.records import WaitRequest
from kitaru.wire.secrecy import redacted
from kitaru.wire.structs import Struct, field

INTERRUPTED = 130


class Request(Struct):
    """One start of a step's container, as its command line tells it.

    `execution` may be empty: then it is the orchestrator's own `run` that names the execution. Only
    the first step is given inputs. `item` says which calls of a fan-out to make. `lists` are
    fields of the outcome: what all nodes are to make before a step, as one text. `answer` is one
    that was given to the orchestrator, as JSON with the `name` of the wait and the `value`.
    `plan_digest` is that of the plan which the document was compiled from, empty where the bundle's
    own digest is checked. `skip_code` is what a step that has nothing to do ends with.
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
    outcome_file: Path | None = None
    given: Given = field(default_factory=Given)
    target: str = ""
    answer: str = ""
    plan_digest: str = ""
    skip_code: int = 0
    lists: Mapping[str, str] = field(default_factory=dict)

    @property
    def exec_id(self) -> str:
        return check_execution_id(self.execution or execution_id_of(self.run))

    def publish(
        self,
        next: str,
        status: StepStatus,
        items: Sequence[str] = (),
        wait: WaitRequest | None = None,
    ) -> None:
        """Write the step's native outputs: what conditions read, and the list of a fan-out."""
        whole: dict[str, Any] = {"next": next, "status": status}
        if items:
            whole["items"] = [*items]
        for name, step in self.lists.items():
            # An engine that reads it takes no empty list.
            whole[name] = json.dumps([*items] if items and next == step else [NOTHING])
        if wait:
            asked = {"name": wait.name, "question": wait.question, "schema": wait.schema}
            whole["wait"] = asked
        outputs = {
            self.next_file: next,
            self.status_file: status,
            self.items_file: json.dumps([*items]),
            self.outcome_file: json.dumps(whole),
        }
        for path, text in outputs.items():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        say(f"kitaru: step {self.step} of {self.exec_id}: {status}, next {next}")


def stop_process(request: Request, why: Stop, error: BaseException | None) -> NoReturn:
    """End the process, or begin it again where another one was first."""
    if why == "cancelled":
        request.publish(END, "end")
        exit_now(0)
    if why == "superseded":
        flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    if isinstance(error, KitaruError):
        exit_now(report(error))
    assert error is not None
    say(user_traceback(error).rstrip())
    exit_now(1)


def report(error: KitaruError) -> int:
    """Say what is wrong; return the exit code for it."""
    say(f"error: {error}")
    return error.exit_code


def exit_now(code: int) -> NoReturn:
    """End the process without unwinding anything."""
    flush()
    os._exit(code)


def flush() -> None:
    """Write down what this process still holds of its output."""
    logs.close_all()
    telemetry.close()
    sys.stdout.flush()
    sys.stderr.flush()


def say(line: str) -> None:
    """Write a line to the step's log, secrets hidden."""
    sys.stderr.write(redacted(line) + "\n")
