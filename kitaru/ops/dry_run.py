"""Run the build that an execution was started from on this machine, including its waits.

A dry run starts with a record of its origin: a build directory, or a deployed version. Later
commands, after an answer or a kill, find the same build through that record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru.errors import AnswerInvalid, StateError
from kitaru.hints import command
from kitaru.ops.answer import answer
from kitaru.ops.replay import replay
from kitaru.ops.show import show
from kitaru.runtime.engine.questions import command_of
from kitaru.runtime.engine.scripted_events import ScriptedEvents
from kitaru.runtime.executions.deployments import Deployments
from kitaru.runtime.journal import children, launches, processes
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store, resolve_store
from kitaru.wire.ids import new_execution_id
from kitaru.wire.records import LaunchRecord, WaitRequest

if TYPE_CHECKING:
    from kitaru_targets.build import Build
    from kitaru_targets.dry_run import Report

    from kitaru.ops.compile import Compiled
    from kitaru.runtime.executions.deployments import Deployment
    from kitaru.runtime.executions.replay import Changes
    from kitaru.stores.base import Store
    from kitaru.view import ExecutionView

Ask = Callable[[str], bool]
"""Answers a pending wait of the execution of that id; returns False if there is no answer."""
Read = Callable[[Any, Any], Any]
"""Converts a passed value to the answer of a wait with this JSON schema."""


def begin_dry_run(store: str | Store, compiled: Compiled, inputs: Mapping[str, Any]) -> str:
    """Record that an execution is started from a build directory; return its id.

    Raises:
        InputError: an input is missing, unknown or of the wrong type; nothing is recorded.
    """
    from kitaru_targets.common import parameters

    parameters.values(compiled.build.plan, inputs)
    place = str(compiled.build.directory.resolve())
    launch = LaunchRecord(compiled.plan.flow, dict(inputs), directory=place, is_dry_run=True)
    return _begin(resolve_store(store), launch)


def begin_version(store: Store, version: Deployment, inputs: Mapping[str, Any]) -> str:
    """Record that an execution is a dry run of a deployed version; return its id.

    Raises:
        InputError: an input is missing, unknown or of the wrong type; nothing is recorded.
    """
    from kitaru_targets.common import parameters

    from kitaru.ops.submit import plan_of

    parameters.values(plan_of(store, version), inputs)
    launch = LaunchRecord(version.flow, dict(inputs), version.number, is_dry_run=True)
    return _begin(store, launch)


def begin_replay(store: Store, exec_id: str, changes: Changes) -> str:
    """Create a replay of a dry run, as a dry run of the same build; return its id.

    Raises:
        StateError: the build is not on this machine.
        KitaruError: the errors of `kitaru.ops.replay.replay`.
    """
    with _unpacked(_launched(store, exec_id), store):
        return replay(store, exec_id, changes, submits=False).handle.exec_id


def dry_run(
    store: Store,
    exec_id: str,
    *,
    answers: Mapping[str, Any] | None = None,
    read: Read = lambda value, schema: value,
    ask: Ask | None = None,
    report: Report | None = None,
    skip_time: bool = False,
    events: Iterable[tuple[str, Any]] = (),
) -> ExecutionView:
    """Run the build of a dry run until the execution ends or an answer is missing.

    Finished steps do not run again. Its children are dry runs as well, and run on this machine.

    Args:
        answers: the answer to each wait of the execution or of its children, by the wait's name.
        read: converts an item of `answers` to JSON; default unchanged.
        ask: answers waits that are not in `answers`.
        report: called with each attempt of a step when it ends.
        skip_time: let sleeps end at once, and waits without an answer expire at once.
        events: name and data of the events that come, in this order, when a wait asks for them.

    Raises:
        NotFound: the execution does not exist.
        StateError: the build is not on this machine, or an answer matches no pending wait.
        AnswerInvalid: an answer does not fit its wait's schema; the wait stays pending.
        FlowError, EnvironmentFailure: a step ended without a record in the journal.
    """
    scripted = ScriptedEvents(events)
    _Played(store, dict(answers or {}), read, ask, report, skip_time, scripted).play(exec_id)
    return show(store, exec_id)


def play(store: Store, exec_id: str) -> None:
    """Run the build of a dry run until the execution ends or waits."""
    _play(exec_id, store.url)


@dataclass(frozen=True, slots=True)
class _Played:
    """A dry run that continues after answers, and after the ends of children."""

    store: Store
    answers: dict[str, Any]
    read: Read
    ask: Ask | None
    report: Report | None
    skip_time: bool
    events: ScriptedEvents

    def play(self, exec_id: str) -> None:
        """Run the build of an execution until it ends or an answer is missing."""

        def is_answered() -> bool:
            return self._is_answered(exec_id)

        told = {} if self.report is None else {"report": self.report}
        skip = self.skip_time
        _play(exec_id, self.store.url, ask=is_answered, skip_time=skip, **told)

    def _is_answered(self, exec_id: str) -> bool:
        seen = show(self.store, exec_id)
        if seen.status != "waiting":
            return False
        if seen.events and self.events.deliver(seen.journal):
            return True
        ended = [self._is_ended(exec_id, one) for one in seen.waits_for]
        if any(ended):
            return True
        is_child = bool(seen.parent)
        known = {wait.name for wait in seen.waits} & self.answers.keys()
        if seen.waits and (known or not (is_child or seen.children)):
            return _answer(self.store, exec_id, self.answers, self.read) or self._asks(exec_id)
        return bool(seen.waits) and self._asks(exec_id)

    def _asks(self, exec_id: str) -> bool:
        return self.ask is not None and self.ask(exec_id)

    def _is_ended(self, exec_id: str, wait: WaitRequest) -> bool:
        """Run a child as far as possible; return whether its parent can continue, or continue it.

        A child that runs a flow of the project is continued by the step that waits for it.
        """
        from kitaru_targets.dry_run import pass_time

        store, child = self.store, wait.child
        if children.ending(store, child) is None:
            if launches.recall(store, child) is not None:
                self.play(child)
            elif self._is_answered(child) or pass_time(store, child, self.skip_time):
                return True
        return children.look(store, exec_id, wait.name, child)


def _begin(store: Store, launch: LaunchRecord) -> str:
    exec_id = new_execution_id()
    launches.record_launch(store, exec_id, launch)
    return exec_id


def _answer(store: Store, exec_id: str, answers: dict[str, Any], read: Read) -> bool:
    """Answer the pending waits that have a passed answer; return whether there was one."""
    journal = Journal.open(store, exec_id)
    waits = journal.pending_waits()
    known = [wait for wait in waits if wait.name in answers]
    if answers and not known:
        pending = ", ".join(wait.name for wait in waits)
        raise StateError(
            f"The execution {exec_id} waits for {pending}, not for {', '.join(answers)}.",
            help="\n".join(command_of(journal, wait) for wait in waits),
        )
    for wait in known:
        value = read(answers.pop(wait.name), wait.schema)
        try:
            answer(store, exec_id, value, wait.name)
        except AnswerInvalid as error:
            again = command_of(journal, wait)
            raise AnswerInvalid(error.message, help=f"{error.help}\n{again}") from None
    return bool(known)


def _play(exec_id: str, url: str, **told: Any) -> None:
    from kitaru_targets import dry_run as rehearsal

    opened = open_store(url)
    try:
        launch = _launched(opened, exec_id)
        processes.join(opened, exec_id)
        with _unpacked(launch, opened) as build:
            rehearsal.run(
                build, inputs=launch.inputs, answers={}, store_url=url, exec_id=exec_id, **told
            )
    finally:
        opened.close()


def _launched(store: Store, exec_id: str) -> LaunchRecord:
    """Return the origin of an execution; raise StateError if it is not recorded."""
    launch = launches.recall(store, exec_id)
    if launch is None:
        raise StateError(
            f"The execution {exec_id} does not run here.",
            help="Compile the remaining steps: "
            + command(store, "executions", "resume", exec_id, "--target", "T"),
        )
    return launch


@contextmanager
def _unpacked(launch: LaunchRecord, store: Store) -> Iterator[Build]:
    """Yield the build of a launch, from the disk or the store.

    Raises StateError if the build is not on this machine, and the errors of reading a version.
    """
    from kitaru_targets import build, deploy

    if not launch.deployment:
        yield build.read(Path(launch.directory))
        return
    version = Deployments(store).get(f"{launch.flow}@v{launch.deployment}")
    with deploy.unpacked(version, store) as written:
        yield written
