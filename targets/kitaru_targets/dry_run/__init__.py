"""Dry runs: run the emitted document on this machine, including waits.

Only the document is read, not the plan next to it. Order, conditions, inputs, environment and
retries are those of the document. Each step is a process with the exact command in the document.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kitaru.errors import (
    EnvironmentFailure,
    FlowError,
    KitaruError,
    NotFound,
    StateError,
    UsageError,
)
from kitaru.runtime.engine import waits
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import Store, open_store
from kitaru.wire import keys
from kitaru.wire.ids import new_execution_id
from kitaru.wire.times import seconds_until
from kitaru_targets import bundle
from kitaru_targets.build import Build
from kitaru_targets.common import parameters
from kitaru_targets.dry_run.process import Ended, Machine, Report
from kitaru_targets.residual_build import remainder
from kitaru_targets.upload import carry, upload

__all__ = ["Ended", "Report", "run"]

_LAST_LINES = 12


def _silent(_: Ended) -> None:
    pass


def _nobody() -> bool:
    return False


def run(
    build: Build,
    *,
    inputs: Mapping[str, Any],
    answers: Mapping[str, Any],
    store_url: str,
    exec_id: str | None = None,
    report: Report = _silent,
    ask: Callable[[], bool] = _nobody,
    skip_time: bool = False,
) -> str:
    """Run a build's document here until it ends, or until an answer is missing.

    Args:
        inputs: the flow's inputs by name, as JSON values.
        answers: an answer for each wait to answer, by the wait's name.
        store_url: the store of the bundle and the journal; not `memory:`, because steps are
            processes.
        exec_id: the execution to resume; default a new one.
        report: called after each attempt of a step.
        ask: called if no item of `answers` fits, to answer a pending wait; returns whether it did.
        skip_time: let sleeps end at once, and waits without an answer expire at once.

    Returns:
        The execution's id; its journal contains the outcome.

    Raises:
        InputError: an input is missing, unknown or of the wrong type.
        AnswerInvalid: an answer does not fit the wait's schema; the wait stays pending.
        UsageError: an answer is for a wait that was not asked, while another wait is pending.
        FlowError, EnvironmentFailure: a step ended without a record in the journal.
    """
    store = _open(store_url)
    try:
        chosen = exec_id or new_execution_id()
        given = {parameters.STORE: store.url, parameters.EXECUTION: exec_id or ""}
        left = dict(answers)
        if exec_id and answers and store.get(keys.execution(exec_id)) is not None:
            _answer(store, exec_id, left)
        # Without a parameter, an execution has the id of its first run. Later runs continue it.
        run_id = new_execution_id() if exec_id else chosen

        def answered() -> bool:
            return _answer(store, chosen, left) or ask() or pass_time(store, chosen, skip_time)

        _play(build, inputs, given, store, chosen, run_id, report, answered)
        given[parameters.EXECUTION] = chosen
        while answered():
            _play(build, inputs, given, store, chosen, new_execution_id(), report, answered)
        return chosen
    finally:
        store.close()


def _open(url: str) -> Store:
    store = open_store(url)
    if store.url.startswith("memory:"):
        raise UsageError(
            "A dry run cannot use a store in memory: its steps are processes.",
            help="use --store sqlite:PATH",
        )
    return store


def _play(
    build: Build,
    inputs: Mapping[str, Any],
    given: Mapping[str, Any],
    store: Store,
    exec_id: str,
    run_id: str,
    report: Report,
    answered: Callable[[], bool],
) -> None:
    """Run the remaining steps of the document once, as one run."""
    with tempfile.TemporaryDirectory(prefix="kitaru-dry-run-") as made:
        left = _left(build, store, exec_id, Path(made) / "rest")
        upload(left, store)
        values = dict(given)
        if left is build:
            values |= carry(build, inputs, store)
        folder = Path(made) / "image"
        folder.mkdir()
        if left.delivery == "image":
            bundle.unpack(bundle.contents(left.read("bundle.zip")), folder)
        further = {name: left.read(name).decode() for name in left.target.further}
        machine = Machine(folder, Path(made), report, answered, further)
        text = left.read(left.target.document).decode()
        left.target.execute(text, values, run_id, machine)
    for ended in machine.failures.values():
        if ended.code != 1:
            raise _failure(ended)
        _check_recorded(given, exec_id, ended)


def _left(build: Build, store: Store, exec_id: str, directory: Path) -> Build:
    """Return the build of the remaining steps; the whole build if no step or every step ran."""
    try:
        journal = Journal.open(store, exec_id)
    except NotFound:
        return build
    return build if journal.end() is not None else remainder(build, journal, directory)


def _check_recorded(given: Mapping[str, Any], exec_id: str, ended: Ended) -> None:
    """Raise an error if a step exited with code 1 without a failure of the flow in the journal."""
    store = open_store(str(given[parameters.STORE]))
    try:
        if Journal.open(store, exec_id).state().status == "failed":
            return
    except NotFound:
        pass
    finally:
        store.close()
    raise _failure(ended)


def _failure(ended: Ended) -> KitaruError:
    last = "\n".join(ended.log.rstrip().splitlines()[-_LAST_LINES:])
    kind = {1: FlowError, 2: UsageError}.get(ended.code, EnvironmentFailure)
    return kind(f"step {ended.step} ended with code {ended.code}:\n{last}")


def pass_time(store: Store, exec_id: str, skips: bool) -> bool:
    """Wait until the next sleep ends, or skip to the next deadline; return whether there is one."""
    journal = Journal.open(store, exec_id)
    pending = [one for one in journal.pending_requests() if one.deadline]
    if not pending or not (skips or journal.state().status == "sleeping"):
        return False
    first = min(pending, key=lambda one: one.deadline)
    if not skips:
        time.sleep(max(0.0, seconds_until(first.deadline)))
    journal.expire(first)
    return True


def _answer(store: Store, exec_id: str, answers: dict[str, Any]) -> bool:
    """Answer the pending waits that have an answer; return whether there was one."""
    journal = Journal.open(store, exec_id)
    if journal.state().status != "waiting":
        return False
    pending = journal.pending_waits()
    known = [request for request in pending if request.name in answers]
    for request in known:
        waits.answer(journal, request, answers.pop(request.name))
    if pending and not known and answers:
        raise StateError(
            f"The execution {exec_id} waits for {', '.join(r.name for r in pending)}, "
            f"not for {', '.join(answers)}",
            help=f"answer it with --answer {pending[0].name}=VALUE",
        )
    return bool(known)
