"""Decides what can be done with executions from outside: look, answer, go on, retry, abort."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kitaru.errors import StateError
from kitaru.flow import ended, go_on, opened, replay
from kitaru.handle import Handle
from kitaru.loading import load_flow
from kitaru.memory import Memories
from kitaru.runtime.executions import listing
from kitaru.runtime.executions.deployments import Deployments
from kitaru.runtime.observing import logs
from kitaru.runtime.recording import commands, launches
from kitaru.runtime.recording.journal import Journal
from kitaru.runtime.recording.lineage import parents
from kitaru.runtime.running.inputs import changed_json
from kitaru.runtime.running.local import running_here
from kitaru.runtime.running.waits import answer, pick
from kitaru.view import ExecutionView
from kitaru.wire.records import EndRecord, WaitAnswer
from kitaru.wire.times import now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta

    from kitaru.runtime.executions.collection import Removed
    from kitaru.runtime.executions.comparison import Comparison
    from kitaru.runtime.observing.logs import LogLine
    from kitaru.stores.base import Store


class KitaruClient:
    """The executions, the deployed flows and the memory in one store.

    Example:
        client = KitaruClient()
        client.executions.input(exec_id, True).wait()
        client.deployments.get("review@stable").version
        client.memory.get("tone", scope="namespace:sales")
    """

    def __init__(self, store: str | Store | None = None) -> None:
        """`store` is a URL such as `sqlite:PATH`; default as configured."""
        where = opened(store)
        self.executions = Executions(where)
        self.deployments = Deployments(where)
        self.memory = Memories(where)


class Executions:
    """What `KitaruClient.executions` offers; every method may raise EnvironmentFailure."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, exec_id: str) -> ExecutionView:
        """Return an execution as it is now; raises NotFound."""
        journal = Journal.open(self._store, exec_id)
        state = journal.state()
        pending = journal.pending_waits() if state.status in ("running", "waiting") else []
        return ExecutionView(
            exec_id=exec_id,
            flow=journal.execution.flow,
            status=state.status,
            waits=tuple(pending),
            error=state.error if state.status == "failed" else None,
            started_at=journal.execution.started_at,
            deployment=launches.version(self._store, exec_id) if journal.execution.target else "",
            journal=journal,
        )

    def list(
        self, *, flow: str | None = None, status: str | None = None, limit: int = 20
    ) -> list[dict[str, Any]]:
        """Return `{"exec_id", "flow", "status", "started_at"}` per execution, newest first."""
        return listing.list_executions(self._store, flow=flow, status=status, limit=limit)

    def page(
        self,
        *,
        flow: str | None = None,
        status: str | None = None,
        limit: int = 20,
        within: int = 10_000,
    ) -> listing.Page:
        """Return what `list` does, having looked at no more than the newest `within` executions."""
        return listing.page_of(self._store, flow=flow, status=status, limit=limit, within=within)

    def each(
        self, *, flow: str | None = None, status: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield what `list` returns, newest first, for as long as you ask for more."""
        return listing.each_execution(self._store, flow=flow, status=status)

    def collect(self, older_than: timedelta, *, dry_run: bool = False) -> Iterator[Removed]:
        """Remove the executions that ended, or failed, so long ago; yield each when it is gone.

        Those stay that run or wait, and those that replays which stay were made from. May be ended
        at any moment, and begun again.

        Args:
            older_than: how long ago an execution must have come to its last status.
            dry_run: yield what would be removed, and remove nothing.

        Example:
            for removed in client.executions.collect(timedelta(days=90)):
                print(removed.exec_id, removed.objects)
        """
        from kitaru.runtime.executions.collection import collect

        return collect(self._store, older_than, dry_run=dry_run)

    def logs(
        self, exec_id: str, invocation: str | None = None, *, follow: bool = False
    ) -> Iterator[LogLine]:
        """Yield the output that was kept of an execution, in order of time; raises NotFound.

        Args:
            invocation: leave out the output of all others; `""` is the flow's body.
            follow: go on until the execution has completed, failed or been cancelled.

        Example:
            for line in client.executions.logs(exec_id, "draft"):
                print(line.at, line.text)
        """
        return logs.lines(Journal.open(self._store, exec_id), invocation, follow)

    def diff(self, a: str, b: str) -> Comparison:
        """Return how execution `b` differs from `a`; raises NotFound.

        Example:
            client.executions.diff(source, replayed).same
        """
        from kitaru.runtime.executions.comparison import compare

        return compare(Journal.open(self._store, a), Journal.open(self._store, b))

    def lineage(self, exec_id: str) -> dict[str, tuple[str, ...]]:
        """Return, by invocation, those whose results it was given, whole or inside an argument.

        By content: an argument that equals a result, or else a part of one, counts as that result.
        Raises NotFound.
        """
        return parents(Journal.open(self._store, exec_id).invocations())

    def input(self, exec_id: str, value: Any, wait: str | None = None) -> Handle[Any]:
        """Answer a wait with JSON, and go on with a local execution in this process.

        Args:
            wait: which one; needed when several are pending.

        Raises:
            AnswerInvalid: the value does not fit the wait's schema; it still waits.
            WaitConflict: it was answered before, with another value.
            NotFound: there is no such execution or wait.
            StateError: nothing was ever asked.
        """
        journal = Journal.open(self._store, exec_id)
        answer(journal, pick(journal, wait), value)
        if journal.end() is not None or journal.execution.mode != "local":
            return Handle(journal, None)
        return self._go_on(journal)

    def resume(self, exec_id: str) -> Handle[Any]:
        """Go on with an execution whose process is gone; what is recorded does not run again.

        Raises:
            NotFound: there is no such execution.
            StateError: it was cancelled, runs in this process, or does not run locally.
        """
        journal = Journal.open(self._store, exec_id)
        run = running_here(journal)
        # What the journal says counts: the body may still be on its way to where it rests.
        if run is not None and run.phase == "running" and journal.state().status == "running":
            raise StateError(
                f"The execution {exec_id} is running in this process.",
                help="Wait for it with .wait() of its handle.",
            )
        return self._go_on(journal)

    def retry(self, exec_id: str) -> Handle[Any]:
        """Run a failed execution again, under the same id: what failed runs, what is recorded not.

        Raises:
            NotFound: there is no such execution.
            StateError: it has not failed.
        """
        journal = Journal.open(self._store, exec_id)
        status = journal.state().status
        if status != "failed":
            raise StateError(
                f"The execution {exec_id} has not failed, it is {status}.",
                help=commands.next_help(journal, status),
            )
        run = running_here(journal)
        if run is not None:
            # The failure is recorded; its thread, which nobody can take over from, is about to end.
            run.settled()
        return self._go_on(journal, cache=False)

    def replay(
        self,
        exec_id: str,
        *,
        start: str = "",
        at_failure: bool = False,
        results: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        models: Mapping[str, str] | None = None,
    ) -> Handle[Any]:
        """Begin a new execution that takes over what precedes `start`, and runs the rest again.

        One that runs locally runs in this process. One of a compiled pipeline is only begun: it
        goes on where its pipeline is run (see `kitaru executions replay`).

        Args:
            start: the invocation, by id or name, to run again from; default the first one.
            at_failure: run again from the invocation that failed.
            results: by invocation, what it shall have returned, however it is called now.
            inputs: inputs to change, as JSON by name.
            models: by alias, the model to ask instead of the one that is configured.

        Raises:
            NotFound: there is no such execution or invocation.
            StateError: it is to be replayed at a failure that it had not.
            UsageError: a name stands for several invocations, or a result cannot be given.
            InputError: an input is unknown or does not fit its annotation.

        Example:
            client.executions.replay(exec_id, start="draft", results={"research": "owls"}).wait()
        """
        from kitaru.runtime.executions.adoption import Changes, adopt

        source = Journal.open(self._store, exec_id)
        changes = Changes(start, at_failure, results or {}, inputs or {}, models or {})
        if source.execution.mode == "local":
            return replay(load_flow(source.execution), source, changes)
        document = None
        if changes.inputs:
            recorded = source.fetch(source.execution.inputs)
            document = changed_json(source.execution.flow, recorded, changes.inputs)
        return Handle(adopt(source, changes, document), None)

    def abort(self, exec_id: str, wait: str | None = None) -> ExecutionView:
        """Answer a pending wait with "no further": the execution is cancelled.

        Raises:
            WaitConflict: the wait was answered before.
            NotFound: there is no such execution or wait.
            StateError: nothing was ever asked.
        """
        journal = Journal.open(self._store, exec_id)
        request = pick(journal, wait, any_pending=True)
        journal.answer(WaitAnswer(request.name, "abort", None, now()))
        return self.cancel(exec_id)

    def cancel(self, exec_id: str) -> ExecutionView:
        """End an execution for good: wherever it runs, it stops at its next durable operation.

        What is recorded stays. Cancelling what is cancelled already changes nothing.

        Raises:
            NotFound: there is no such execution.
            StateError: it is completed.
        """
        journal = Journal.open(self._store, exec_id)
        if journal.finish(EndRecord("cancelled", None, now())).status == "completed":
            raise StateError(
                f"The execution {exec_id} is completed; there is nothing to cancel.",
                help=commands.get_help(journal),
            )
        run = running_here(journal)
        if run is not None:
            run.wake()
        return self.get(exec_id)

    def _go_on(self, journal: Journal, *, cache: bool | None = None) -> Handle[Any]:
        end = journal.end()
        if end is not None:
            return ended(journal, end)
        run = running_here(journal)
        if run is not None:
            run.wake()
            return Handle(journal, run)
        if journal.execution.mode != "local":
            raise StateError(
                f"The execution {journal.exec_id} does not run here but on "
                f"{journal.execution.target or 'its target'}.",
                help="Compile what is left: "
                + commands.command(
                    self._store, "executions", "resume", journal.exec_id, "--target", "T"
                ),
            )
        return go_on(load_flow(journal.execution), journal, cache=cache)
