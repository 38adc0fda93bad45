"""Executions of a service: a snapshot, and a handle."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

from kitaru.errors import CheckpointFailed, FlowError, StateError, UsageError, WaitTimeout
from kitaru.remote.connection import Connection
from kitaru.runtime.journal.effort import Effort
from kitaru.status import ExecutionStatus
from kitaru.wire.records import ErrorInfo, Replay, WaitAnswer, WaitRequest

_FIRST_LOOK = 0.1
_LAST_LOOK = 2.0
_AT_ONCE = 500


class RemoteExecutionView:
    """A snapshot of an execution of a service: `kitaru.view.ExecutionView` without its records.

    `result` and `inputs` are JSON. Instead of the records `invocations` and `attempts`, use
    `to_dict()`.
    """

    def __init__(self, connection: Connection, document: dict[str, Any]) -> None:
        self._connection = connection
        self._document = document
        self.exec_id: str = document["exec_id"]
        self.flow: str = document["flow"]
        self.flow_name = self.flow_id = self.flow
        self.status = ExecutionStatus(document["status"])
        self.started_at: str = document["started_at"]
        self.last_sign: str = document["last_sign"]
        self.deployment: str = document["deployment"]
        self.inputs: Any = document["inputs"]
        self.result: Any = document["result"]
        self.notes: dict[str, Any] = document["notes"]
        self.unasked: tuple[str, ...] = tuple(document["unasked"])
        self.codes: list[dict[str, str]] = document["codes"]
        self.effort = Effort(**document["effort"])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise UsageError(
            f"An execution of a service has no {name!a}.",
            help="Read it with to_dict(), or use the client on the store itself.",
        )

    @property
    def waits(self) -> tuple[WaitRequest, ...]:
        """The pending waits."""
        found = self._connection.get("executions", self.exec_id, "waits")["items"]
        return tuple(
            WaitRequest(
                one["name"],
                one["question"],
                one["schema"],
                one["metadata"],
                one["asked_at"],
                deadline=one["deadline"],
            )
            for one in found
        )

    @property
    def waits_for(self) -> tuple[str, ...]:
        """The children whose end it waits for."""
        return tuple(self._document["waits_for"])

    @property
    def events(self) -> list[dict[str, Any]]:
        """The pending waits for events, as JSON."""
        found: list[dict[str, Any]] = self._document["events"]
        return found

    @property
    def parent(self) -> str:
        """The execution that started it as a child; empty without one."""
        found: str = self._document["parent"]
        return found

    @property
    def children(self) -> list[dict[str, str]]:
        """The child executions that it has started, with the call that started each, as JSON."""
        found: list[dict[str, str]] = self._document["children"]
        return found

    @property
    def pending_wait(self) -> WaitRequest | None:
        """The first wait without an answer; None if no wait is pending."""
        return next(iter(self.waits), None)

    @property
    def answers(self) -> list[WaitAnswer]:
        """The answers of its waits, in order of time, with who gave each."""
        found = self._connection.get("executions", self.exec_id, "answers")["items"]
        return [WaitAnswer(**one) for one in found]

    @property
    def error(self) -> ErrorInfo | None:
        """The reason of a failure."""
        found = self._document["error"]
        return None if found is None else ErrorInfo(**found)

    failure = error

    @property
    def replay(self) -> Replay | None:
        """Which execution this one replays; None if it is not a replay."""
        found = self._document["replay"]
        if found is None:
            return None
        lists = {"results": tuple(found["results"]), "inputs": tuple(found["inputs"])}
        return Replay(**{**found, **lists})

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The model calls in it, as JSON."""
        return all_of(self._connection, "executions", self.exec_id, "calls")

    def waits_as_json(self) -> list[dict[str, Any]]:
        """Return the questions that are not answered, as JSON."""
        found: list[dict[str, Any]] = self._document["waits"]
        return found

    def to_dict(self, *, limit: int | None = None, after: str = "") -> dict[str, Any]:
        """Return the JSON that commands print; see `ExecutionView.to_dict`."""
        most = min(limit or _AT_ONCE, _AT_ONCE)
        path = ("executions", self.exec_id)
        document: dict[str, Any] = self._connection.get(*path, limit=most, after=after)
        while limit is None and document["next"] is not None:
            more = self._connection.get(*path, limit=most, after=document["next"])
            document["invocations"] += more["invocations"]
            document["next"] = more["next"]
        return document

    def __repr__(self) -> str:
        return f"<RemoteExecutionView {self.exec_id} of {self.flow}: {self.status}>"


class RemoteHandle:
    """A handle of an execution of a service: `kitaru.Handle` with a result as JSON."""

    def __init__(self, connection: Connection, exec_id: str, flow: str) -> None:
        self._connection = connection
        self.exec_id = exec_id
        self.flow = flow

    @property
    def status(self) -> ExecutionStatus:
        """The current status."""
        return ExecutionStatus(self._document()["status"])

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until the execution has ended, and return its result; see `Handle.wait`."""
        self._settle(timeout, until_waiting=False)
        return self.get()

    def settle(self, timeout: float | None = None) -> ExecutionStatus:
        """Wait until the execution has ended or waits for an answer, and return its status."""
        return self._settle(timeout, until_waiting=True)

    def get(self) -> Any:
        """Return the result of an execution that has ended; raises what `Handle.get` raises."""
        document = self._document()
        status, error = document["status"], document["error"]
        if status == "completed":
            return document["result"]
        if error is not None:
            cls = CheckpointFailed if error["invocation"] else FlowError
            where = f"in the checkpoint {error['invocation']} " if error["invocation"] else ""
            raise cls(
                f"The execution {self.exec_id} of {self.flow} failed {where}with "
                f"{error['type']}: {error['message']}",
                help=error["help"],
            )
        if status == "cancelled":
            raise StateError(f"The execution {self.exec_id} of {self.flow} was cancelled.")
        raise StateError(
            f"The execution {self.exec_id} is {status}; it has no result.",
            help="Wait for it with .wait().",
        )

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for the result without blocking the event loop; raises what `wait` raises."""
        import asyncio

        return asyncio.to_thread(self.wait).__await__()

    def _settle(self, timeout: float | None, *, until_waiting: bool) -> ExecutionStatus:
        deadline = None if timeout is None else time.monotonic() + timeout
        look = _FIRST_LOOK
        while True:
            status = self.status
            if status.is_finished or (until_waiting and status in ("waiting", "sleeping")):
                return status
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(
                    f"The execution {self.exec_id} had not ended in time; it continues to run.",
                    help="Wait again with .wait(), or read .status.",
                )
            time.sleep(look)
            look = min(_LAST_LOOK, look * 1.5)

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = self._connection.get("executions", self.exec_id, limit=1)
        return document

    def __repr__(self) -> str:
        return f"<RemoteHandle {self.exec_id} of {self.flow}>"


class RemoteReplayHandle(RemoteHandle):
    """The handle of a replay, which is also the only item of its `results`."""

    def __init__(self, connection: Connection, exec_id: str, flow: str, source: str) -> None:
        super().__init__(connection, exec_id, flow)
        self.source_exec_id = source

    @property
    def replay_exec_id(self) -> str:
        """The id of the replay: alias of `exec_id`."""
        return self.exec_id

    @property
    def results(self) -> tuple[RemoteReplayHandle, ...]:
        """The started replays: only this one."""
        return (self,)


def all_of(
    connection: Connection, *path: str, limit: int | None = None, skip: int = 0, **params: Any
) -> list[Any]:
    """Return the items of all pages of a list, at most `limit`."""
    found: list[Any] = []
    while limit is None or len(found) < limit:
        most = _AT_ONCE if limit is None else min(_AT_ONCE, limit - len(found))
        page = connection.get(*path, limit=most, skip=skip + len(found), **params)
        found += page["items"]
        if page["next_skip"] is None:
            break
    return found
