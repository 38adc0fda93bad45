"""What `KitaruClient` offers on a service: executions, deployments, schedules and more.

Each method has the parameters of the method on a store, and raises the same errors. A method that
the service does not offer raises UsageError.
"""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NoReturn

from kitaru.compat.client import overridden
from kitaru.errors import NotFound, UsageError
from kitaru.ops.channels import ChannelInfo
from kitaru.ops.events import Event, checked
from kitaru.ops.many import Done
from kitaru.ops.model_usage import By, Usage
from kitaru.ops.notifications import Notification, Sent
from kitaru.ops.replay_many import Replayed
from kitaru.ops.schedules import Schedule
from kitaru.ops.tokens import CreatedToken, Token
from kitaru.ops.triggers import Trigger
from kitaru.remote.connection import Connection
from kitaru.remote.view import (
    RemoteExecutionView,
    RemoteHandle,
    RemoteReplayHandle,
    all_of,
)
from kitaru.runtime.executions.comparison import Comparison, Row, Side
from kitaru.runtime.executions.deployments import Deployment
from kitaru.runtime.executions.downloads import SignedURL
from kitaru.runtime.executions.listing import Listed, Page
from kitaru.runtime.journal.audit import AuditEntry, AuditPage
from kitaru.runtime.journal.effort import Effort
from kitaru.runtime.journal.json_diff import Difference
from kitaru.runtime.memory.memories import Entry, Version
from kitaru.runtime.telemetry.logs import LogLine
from kitaru.status import ExecutionStatus
from kitaru.wire.cron import Catchup, Overlap
from kitaru.wire.records import SignalRecord, WaitRequest
from kitaru.wire.starts import refuse_while_importing
from kitaru.wire.tags import check_tags
from kitaru.wire.times import written

_AT_ONCE = 500
# The newest executions that are searched for many replays.
_WITHIN = 10_000
_DAY = timedelta(days=1)


def not_offered(what: str) -> NoReturn:
    """Raise the error of a method that only a client on the store itself has."""
    raise UsageError(
        f"client.{what}(…) is not offered over HTTP.",
        help='Use the client on the store itself: KitaruClient("s3://BUCKET/PREFIX")',
    )


class RemoteExecutions:
    """Executions of a service: `KitaruClient(URL).executions`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, exec_id: str) -> RemoteExecutionView:
        """Return a snapshot of an execution. Raises NotFound."""
        document = self._connection.get("executions", exec_id, limit=1)
        return RemoteExecutionView(self._connection, document)

    def list(
        self, *, flow: str | None = None, status: str | None = None, limit: int = 20
    ) -> builtins.list[Listed]:
        """Return the newest executions; see `Executions.list`."""
        return builtins.list(islice(self.each(flow=flow, status=status), limit))

    def latest(self, *, flow: str | None = None, status: str | None = None) -> RemoteExecutionView:
        """Return the newest execution of a flow or with a status. Raises NotFound."""
        for found in self.list(flow=flow, status=status, limit=1):
            return self.get(found["exec_id"])
        what = " ".join(filter(None, (status, f"execution of {flow}" if flow else "execution")))
        raise NotFound(f"There is no {what}.", help="kitaru executions list")

    def pending_waits(self, exec_id: str) -> tuple[WaitRequest, ...]:
        """Return the pending waits of an execution. Raises NotFound."""
        return self.get(exec_id).waits

    def statistics(self, *, flow: str | None = None) -> dict[str, int]:
        """Return the number of executions by status, of one flow or of all flows."""
        counts = dict.fromkeys(map(str, ExecutionStatus), 0)
        for found in self.each(flow=flow):
            counts[found["status"]] += 1
        return counts

    def page(
        self,
        *,
        flow: str | None = None,
        status: str | None = None,
        limit: int = 20,
        within: int = 10_000,
        after: str = "",
        page: int = 1,
        since: datetime | None = None,
        until: datetime | None = None,
        tag: str | None = None,
        text: str = "",
        parent: str | None = None,
        counts: bool = True,
        where: Iterable[str] = (),
    ) -> Page:
        """Return a page of `list`; see `Executions.page`. The service counts no `total`."""
        period = {
            "since": "" if since is None else written(since),
            "until": "" if until is None else written(until),
            "tag": tag,
            "text": text,
            "parent": parent,
            "where": [*where],
        }
        found = self._page(flow, status, limit, within, after, period)
        for _ in range(page - 1):
            if found.next is None:
                return Page([], found.looked_at, None)
            found = self._page(flow, status, limit, within, found.next, period)
        return found

    def _page(
        self,
        flow: str | None,
        status: str | None,
        limit: int,
        within: int,
        after: str,
        period: Mapping[str, Any],
    ) -> Page:
        named = {"flow": flow, "status": status, "limit": limit, "within": within, "cursor": after}
        found = self._connection.get("executions", **named, **period)
        items = [Listed(one) for one in found["items"]]
        return Page(items, found["looked_at"], found["next_cursor"])

    def each(self, *, flow: str | None = None, status: str | None = None) -> Iterator[Listed]:
        """Yield the entries of `list` lazily, newest first."""
        after, within = "", 1_000_000
        while True:
            found = self._page(flow, status, _AT_ONCE, within, after, {})
            yield from found.items
            if found.next is None:
                return
            after = found.next

    def logs(
        self,
        exec_id: str,
        invocation: str | None = None,
        *,
        follow: bool = False,
        checkpoint: str | None = None,
        limit: int | None = None,
    ) -> Iterator[LogLine]:
        """Yield the recorded output of an execution; see `Executions.logs`."""
        only = checkpoint if invocation is None else invocation
        whole = self.get(exec_id).exec_id
        return islice(self._followed(whole, only) if follow else self._lines(whole, only), limit)

    def _lines(self, exec_id: str, only: str | None) -> Iterator[LogLine]:
        skip: int | None = 0
        while skip is not None:
            path = ("executions", exec_id, "logs")
            # An empty name is the flow's body, which the query cannot express.
            found = self._connection.get(*path, invocation=only, limit=_AT_ONCE, skip=skip)
            lines = (LogLine(**one) for one in found["items"])
            yield from (line for line in lines if only in (None, line.invocation))
            skip = found["next_skip"]

    def _followed(self, exec_id: str, only: str | None) -> Iterator[LogLine]:
        seen: set[str] = set()
        while True:
            for name, id, data in self._connection.events("executions", exec_id, "logs", "follow"):
                if name == "end":
                    return
                if name == "lines" and id not in seen:
                    seen.add(id)
                    lines = (LogLine(**one) for one in data)
                    yield from (line for line in lines if only in (None, line.invocation))

    def diff(self, a: str, b: str, *, limit: int | None = None, skip: int = 0) -> Comparison:
        """Return the differences of execution `b` from `a`. Raises NotFound."""
        most = limit or _AT_ONCE
        found: dict[str, Any] = self._connection.get(
            "executions", a, "diff", b, limit=most, skip=skip
        )
        while limit is None and found["next"] is not None:
            more = self._connection.get("executions", a, "diff", b, limit=most, skip=found["next"])
            found["rows"] += more["rows"]
            found["next"] = more["next"]
        return _comparison(found)

    def lineage(self, exec_id: str, invocation: str | None = None) -> dict[str, tuple[str, ...]]:
        """Return, by invocation, the earlier invocations whose results it used."""
        found = self._connection.get("executions", exec_id, "lineage", invocation=invocation)
        return {id: tuple(parents) for id, parents in found["parents"].items()}

    def calls(
        self,
        exec_id: str,
        invocation: str | None = None,
        *,
        limit: int | None = None,
        skip: int = 0,
    ) -> builtins.list[dict[str, Any]]:
        """Return the model calls of an execution or of one invocation. Raises NotFound."""
        path = ("executions", exec_id, "calls")
        return all_of(self._connection, *path, limit=limit, skip=skip, invocation=invocation)

    def input(
        self,
        exec_id: str,
        value: Any,
        wait: str | None = None,
        *,
        submit: bool = True,
        options: Mapping[str, str] | None = None,
    ) -> RemoteHandle:
        """Answer a wait with JSON; see `Executions.input`.

        A deployed execution continues on its target. A local one continues in the process that
        waits for the answer, or when it is resumed there.
        """
        refuse_while_importing("client.executions.input(…)")
        if not submit or options:
            not_offered("executions.input(submit=, options=)")
        view = self.get(exec_id)
        name = wait if wait is not None else self._only_wait(view)
        path = ("executions", view.exec_id, "waits", name, "answer")
        self._connection.send("POST", *path, body={"value": value})
        return RemoteHandle(self._connection, view.exec_id, view.flow)

    def signal(self, exec_id: str, inbox: str, value: Any) -> SignalRecord:
        """Send JSON to an inbox of an execution; see `Executions.signal`."""
        refuse_while_importing("client.executions.signal(…)")
        path = ("executions", exec_id, "inboxes", inbox, "signals")
        sent = self._connection.send("POST", *path, body={"value": value})
        return SignalRecord(**sent)

    def _only_wait(self, view: RemoteExecutionView) -> str:
        names = [one["name"] for one in view.waits_as_json()] or [one.name for one in view.answers]
        if not names:
            raise UsageError(f"The execution {view.exec_id} waits for nothing.")
        if len(view.waits_as_json()) > 1:
            raise UsageError(
                f"The execution {view.exec_id} has {len(names)} pending waits.",
                help=f"Name one: {', '.join(names)}",
            )
        return str(names[-1])

    def resume(
        self, exec_id: str, *, again: bool = False, options: Mapping[str, str] | None = None
    ) -> RemoteHandle:
        """Resume a deployed execution whose run has ended; see `Executions.resume`."""
        refuse_while_importing("client.executions.resume(…)")
        if options:
            not_offered("executions.resume(options=)")
        return self._started(exec_id, "resume", params={"again": again})

    def retry(self, exec_id: str) -> RemoteHandle:
        """Retry a failed execution of a deployed flow; see `Executions.retry`."""
        refuse_while_importing("client.executions.retry(…)")
        return self._started(exec_id, "retry")

    def replay(
        self,
        exec_id: str,
        *,
        start: str = "",
        at_failure: bool = False,
        results: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        models: Mapping[str, str] | None = None,
        reuse_unchanged: bool = False,
        from_: str = "",
        at: str = "",
        overrides: Mapping[str, Any] | None = None,
        checkpoint_overrides: Mapping[str, Any] | None = None,
        flow_overrides: Mapping[str, Any] | None = None,
        submit: bool = True,
        **changed: Any,
    ) -> RemoteReplayHandle:
        """Start a replay of an execution of a deployed flow; see `Executions.replay`."""
        refuse_while_importing("client.executions.replay(…)")
        if not submit:
            not_offered("executions.replay(submit=)")
        more_results, more_inputs = overridden(overrides, checkpoint_overrides)
        body = {
            "start": start or from_ or at,
            "at_failure": at_failure,
            "results": {**more_results, **(results or {})},
            "inputs": {**more_inputs, **(flow_overrides or {}), **changed, **(inputs or {})},
            "models": dict(models or {}),
            "reuse_unchanged": reuse_unchanged,
        }
        source = self.get(exec_id).exec_id
        found = self._connection.send("POST", "executions", source, "replay", body=body)
        return RemoteReplayHandle(self._connection, found["exec_id"], found["flow"], source)

    def cancel_many(
        self, where: Iterable[str], *, limit: int = 100, within: int = 10_000
    ) -> builtins.list[Done]:
        """Cancel the newest executions that a filter selects; see `Executions.cancel_many`."""
        refuse_while_importing("client.executions.cancel_many(…)")
        return self._many("cancel", where, limit, within)

    def retry_many(
        self, where: Iterable[str], *, limit: int = 100, within: int = 10_000
    ) -> builtins.list[Done]:
        """Retry the newest failed executions of deployed flows; see `Executions.retry_many`."""
        refuse_while_importing("client.executions.retry_many(…)")
        return self._many("retry", where, limit, within)

    def replay_many(
        self,
        *,
        flow: str | None = None,
        status: str | None = None,
        where: Iterable[str] = (),
        limit: int = 20,
        start: str = "",
        at_failure: bool = False,
        results: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        models: Mapping[str, str] | None = None,
        reuse_unchanged: bool = False,
    ) -> builtins.list[Replayed]:
        """Replay the newest executions of a deployed flow or a status, and compare them.

        It returns when all replays have ended or wait; see `Executions.replay_many`.
        """
        refuse_while_importing("client.executions.replay_many(…)")
        named = {"flow": flow, "status": status}
        more = [f"{name}={value}" for name, value in named.items() if value is not None]
        changes = {
            "start": start,
            "at_failure": at_failure,
            "results": dict(results or {}),
            "inputs": dict(inputs or {}),
            "models": dict(models or {}),
            "reuse_unchanged": reuse_unchanged,
        }
        done = self._many("replay", [*where, *more], limit, _WITHIN, changes=changes)
        return [self._replayed(one) for one in done]

    def _replayed(self, one: Done) -> Replayed:
        if not one.replay:
            return Replayed(one.exec_id, error=one.error)
        RemoteHandle(self._connection, one.replay, one.flow).settle()
        return Replayed(one.exec_id, self.diff(one.exec_id, one.replay))

    def _many(
        self, verb: str, where: Iterable[str], limit: int, within: int, **more: Any
    ) -> builtins.list[Done]:
        """Preview what a filter selects, and do it with exactly these executions."""
        body = {"where": [*where], "limit": limit, "within": within, **more}
        found = self._connection.send("POST", "many", verb, body=body)
        confirmed = {**body, "confirm": found["confirm"]}
        found = self._connection.send("POST", "many", verb, body=confirmed)
        return [Done(**one) for one in found["done"]]

    def abort(self, exec_id: str, wait: str | None = None) -> RemoteExecutionView:
        """Cancel the execution instead of answering a pending wait; see `Executions.abort`."""
        refuse_while_importing("client.executions.abort(…)")
        view = self.get(exec_id)
        waits = view.waits_as_json()
        name = wait or (waits[0]["name"] if waits else self._only_wait(view))
        self._connection.send("POST", "executions", view.exec_id, "waits", name, "abort")
        return self.get(view.exec_id)

    abort_wait = abort

    def cancel(self, exec_id: str) -> RemoteExecutionView:
        """Cancel an execution; see `Executions.cancel`."""
        refuse_while_importing("client.executions.cancel(…)")
        return self.get(self._started(exec_id, "cancel").exec_id)

    def _started(
        self, exec_id: str, verb: str, params: Mapping[str, Any] | None = None
    ) -> RemoteHandle:
        found = self._connection.send("POST", "executions", exec_id, verb, params=params)
        return RemoteHandle(self._connection, found["exec_id"], found["flow"])

    def __getattr__(self, name: str) -> Any:
        return _missing("executions", name)


class RemoteEvents:
    """Events of a service: `KitaruClient(URL).events`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, name: str, data: Any = None, *, id: str | None = None) -> Event:
        """Send an event, and return it as it is stored; see `Events.send`."""
        refuse_while_importing("client.events.send(…)")
        # A repeated request must send the same event.
        id = secrets.token_hex(12) if id is None else id
        body = {"name": name, "data": checked(data), "id": id}
        return Event.from_dict(self._connection.send("POST", "events", body=body))

    def get(self, name: str, id: str) -> Event:
        """Return an event."""
        return Event.from_dict(self._connection.get("events", name, id))

    def list(self, name: str | None = None, *, limit: int = 50) -> builtins.list[Event]:
        """Return the newest events, or those of one name, newest first."""
        found = self._connection.get("events", name=name, limit=limit)["items"]
        return [Event.from_dict(one) for one in found]

    def triggers(self, flow: str | None = None) -> builtins.list[Trigger]:
        """Return what events do to the deployed flows, or to one."""
        found = self._connection.get("events", "triggers", flow=flow)["items"]
        return [Trigger.from_dict(one) for one in found]


class RemoteSchedules:
    """Schedules of a service: `KitaruClient(URL).schedules`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self,
        name: str,
        cron: str,
        *,
        timezone: str = "UTC",
        inputs: Mapping[str, Any] | None = None,
        overlap: Overlap = "skip",
        catchup: Catchup = "last",
        id: str | None = None,
    ) -> Schedule:
        """Create a schedule that starts a deployed flow; see `Schedules.create`."""
        refuse_while_importing("client.schedules.create(…)")
        from kitaru.ops.invoke import as_json

        body = {
            "name": name, "cron": cron, "timezone": timezone, "overlap": overlap,
            "catchup": catchup, "inputs": as_json(name, inputs or {}), "id": id,
        }  # fmt: skip
        return Schedule.from_dict(self._connection.send("POST", "schedules", body=body))

    def get(self, id: str) -> Schedule:
        """Return a schedule with its next ticks and last runs."""
        return Schedule.from_dict(self._connection.get("schedules", id))

    def list(self, *, flow: str | None = None) -> builtins.list[Schedule]:
        """Return the schedules, or those of one flow, each with its next tick and last run."""
        found = self._connection.get("schedules", flow=flow)["items"]
        return [Schedule.from_dict(one) for one in found]

    def next(self, id: str, count: int = 5) -> builtins.list[str]:
        """Return the next instants of a schedule, also of one that is paused."""
        found: builtins.list[str] = self._connection.get("schedules", id, "next", count=count)[
            "next"
        ]
        return found

    def pause(self, id: str) -> Schedule:
        """Pause a schedule."""
        refuse_while_importing("client.schedules.pause(…)")
        return Schedule.from_dict(self._connection.send("POST", "schedules", id, "pause"))

    def resume(self, id: str) -> Schedule:
        """Resume a paused schedule from now on."""
        refuse_while_importing("client.schedules.resume(…)")
        return Schedule.from_dict(self._connection.send("POST", "schedules", id, "resume"))

    def delete(self, id: str) -> None:
        """Delete a schedule. Its executions remain."""
        refuse_while_importing("client.schedules.delete(…)")
        self._connection.send("DELETE", "schedules", id)

    def trigger(self, id: str) -> str:
        """Start an execution of a schedule now; return its id."""
        refuse_while_importing("client.schedules.trigger(…)")
        return str(self._connection.send("POST", "schedules", id, "trigger")["exec_id"])


class RemoteDeployments:
    """Deployed flows of a service: `KitaruClient(URL).deployments`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def flows(self) -> builtins.list[str]:
        """Return the sorted names of the deployed flows."""
        return [one["flow"] for one in self._connection.get("flows")["items"]]

    def list(self, flow: str) -> builtins.list[Deployment]:
        """Return the versions of a flow, the oldest first; empty if it is not deployed."""
        try:
            found = self._connection.get("flows", flow)["items"]
        except NotFound:
            return []
        return [_deployment(one) for one in reversed(found)]

    def tags(self, flow: str) -> dict[str, int]:
        """Return the version that each tag of a flow points to, by tag."""
        return {tag: one.number for one in self.list(flow) for tag in one.tags}

    def get(self, name: str) -> Deployment:
        """Return the version for a name such as `FLOW`, `FLOW@TAG` or `FLOW@v3`."""
        flow, _, version = name.partition("@")
        found = self._connection.get("flows", flow, "versions", version or "default")
        return _deployment(found)

    def tag(self, name: str, tag: str) -> Deployment:
        """Point a tag to a version."""
        refuse_while_importing("client.deployments.tag(…)")
        version = self.get(name)
        body = {"version": version.version}
        return _deployment(
            self._connection.send("PUT", "flows", version.flow, "tags", tag, body=body)
        )

    def untag(self, flow: str, tag: str) -> None:
        """Remove a tag. Existing executions keep their version."""
        refuse_while_importing("client.deployments.untag(…)")
        self._connection.send("DELETE", "flows", flow, "tags", tag)

    def invoke(
        self,
        flow: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        tag: str | None = None,
        version: int | str | None = None,
        exec_id: str | None = None,
        key: str | None = None,
        options: Mapping[str, str] | None = None,
        tags: Mapping[str, str | float] | None = None,
    ) -> RemoteHandle:
        """Start an execution of a deployed version; see `DeployedFlows.invoke`."""
        refuse_while_importing("client.deployments.invoke(…)")
        if exec_id is not None or options:
            not_offered("deployments.invoke(exec_id=, options=)")
        from kitaru.ops.invoke import as_json

        name, _, named = flow.partition("@")
        if named and (tag is not None or version is not None):
            raise UsageError(
                f"More than one version of {name} was selected.",
                help="Pass one tag or one version.",
            )
        is_number = named[:1] == "v" and named[1:].isdecimal()
        wanted = None if version is None else f"v{str(version).removeprefix('v')}"
        body = {
            "inputs": as_json(name, inputs or {}),
            "tag": tag if not named or is_number else named,
            "version": named if is_number else wanted,
            "tags": check_tags(tags or {}),
        }
        headers = None if key is None else {"idempotency-key": key}
        found = self._connection.send("POST", "flows", name, "invoke", body=body, headers=headers)
        return RemoteHandle(self._connection, found["exec_id"], found["flow"])

    def __getattr__(self, name: str) -> Any:
        return _missing("deployments", name)


class RemoteMemories:
    """The memory of a service: `KitaruClient(URL).memory`. Values are JSON."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.store = NoStore(connection.url)

    def get(
        self,
        key: str,
        default: Any = None,
        *,
        version: int | None = None,
        strict: bool = False,
        scope: str | None = None,
    ) -> Any:
        """Return the newest value of a key, or that of a version; otherwise `default`."""
        found = self.show(key, version=version, scope=scope)
        if found is None and strict:
            raise NotFound(f"The memory {key} has no value.", help="kitaru memory list")
        return default if found is None else found["value"]

    def entry(
        self, key: str, *, version: int | None = None, scope: str | None = None
    ) -> Entry | None:
        """Return a value with its version; None if there is no value."""
        found = self.show(key, version=version, scope=scope)
        return None if found is None else Entry(**found)

    def set(
        self, key: str, value: Any, *, expect: int | None = None, scope: str | None = None
    ) -> int:
        """Write JSON as the next version of a key, and return the version's number."""
        refuse_while_importing("kitaru.memory.set(…)")
        body = {"value": value, "expect": expect}
        found = self._connection.send("PUT", *self._key(scope, key), body=body)
        return int(found["version"])

    def delete(self, key: str, *, expect: int | None = None, scope: str | None = None) -> bool:
        """Delete a key's value. Return False without a value."""
        refuse_while_importing("kitaru.memory.delete(…)")
        path = self._key(scope, key)
        found = self._connection.send("DELETE", *path, params={"expect": expect})
        return found["version"] is not None

    def list(self, prefix: str = "", *, scope: str | None = None) -> builtins.list[str]:
        """Return the keys that start with `prefix` and have a value, sorted."""
        found: builtins.list[str] = self._connection.get(
            "memory", _scope(scope), "keys", prefix=prefix
        )["items"]
        return found

    def history(
        self, key: str, *, limit: int | None = None, scope: str | None = None
    ) -> builtins.list[Version]:
        """Return the versions of a key, oldest first; at most the newest 500."""
        path = ("memory", _scope(scope), "history", key)
        found = self._connection.get(*path, limit=min(limit or _AT_ONCE, _AT_ONCE))
        return [Version(**one) for one in found["items"]]

    def show(
        self,
        key: str,
        *,
        version: int | None = None,
        at: datetime | None = None,
        scope: str | None = None,
    ) -> dict[str, Any] | None:
        """Return a value as JSON, with its version; None if there is no value."""
        moment = None if at is None else written(at)
        try:
            found: dict[str, Any] = self._connection.get(
                *self._key(scope, key), version=version, at=moment
            )
        except NotFound:
            return None
        return found

    def scopes(self) -> builtins.list[dict[str, Any]]:
        """Return the memories of namespaces and flows, sorted."""
        found: builtins.list[dict[str, Any]] = self._connection.get("memory")["items"]
        return found

    def _key(self, scope: str | None, key: str) -> tuple[str, ...]:
        return "memory", _scope(scope), "keys", key

    def __getattr__(self, name: str) -> Any:
        return _missing("memory", name)


@dataclass(frozen=True)
class RemoteArtifact:
    """A stored value of an execution of a service."""

    id: str
    name: str
    type: str
    kind: str
    invocation: str
    connection: Connection = field(repr=False, compare=False)

    @property
    def save_type(self) -> str:
        """Alias of `type`."""
        return self.type

    def load(self) -> Any:
        """Return the value as JSON."""
        exec_id = self.id.partition("/")[0]
        return self.connection.get("executions", exec_id, "downloads", self.name)


class RemoteArtifacts:
    """The artifacts of executions of a service: `KitaruClient(URL).artifacts`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(
        self,
        exec_id: str,
        *,
        name: str | None = None,
        kind: str | None = None,
        producing_call: str | None = None,
        limit: int | None = None,
    ) -> builtins.list[RemoteArtifact]:
        """Return the artifacts of an execution; see `Artifacts.list`."""
        whole = self._connection.get("executions", exec_id, limit=1)["exec_id"]
        found = (
            _artifact(self._connection, whole, one)
            for one in all_of(self._connection, "executions", whole, "artifacts")
        )
        chosen = (
            one
            for one in found
            if name in (None, one.name)
            and kind in (None, one.kind, one.type)
            and producing_call in (None, one.invocation)
        )
        return builtins.list(islice(chosen, limit))

    def get(self, artifact_id: str) -> RemoteArtifact:
        """Return the artifact with this id; raises NotFound."""
        exec_id, _, rest = artifact_id.partition("/")
        for one in self.list(exec_id) if rest else ():
            if one.id == artifact_id:
                return one
        raise NotFound(f"There is no artifact {artifact_id!a}.")

    def url(self, exec_id: str, name: str, *, lifetime: timedelta | None = None) -> SignedURL:
        """Return a URL from which anybody can read an artifact; see `Artifacts.url`."""
        refuse_while_importing("client.artifacts.url(…)")
        seconds = None if lifetime is None else int(lifetime.total_seconds())
        path = ("executions", exec_id, "signed-urls", name)
        return SignedURL(**self._connection.get(*path, seconds=seconds))


class RemoteTokens:
    """The tokens of a service: `KitaruClient(URL).tokens`, for admins."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self,
        name: str,
        role: str,
        *,
        flows: Sequence[str] = (),
        expires: timedelta | None = None,
    ) -> CreatedToken:
        """Create a token; see `Tokens.create`."""
        refuse_while_importing("client.tokens.create(…)")
        seconds = None if expires is None else expires.total_seconds()
        body = {"name": name, "role": role, "flows": [*flows], "expires_seconds": seconds}
        found = self._connection.send("POST", "tokens", body=body)
        return CreatedToken(found["secret"], Token.from_dict(found["token"]))

    def list(self, *, sessions: bool = False) -> builtins.list[Token]:
        """Return the tokens, the oldest first; see `Tokens.list`."""
        found = self._connection.get("tokens", sessions=sessions)
        return [Token.from_dict(one) for one in found["items"]]

    def revoke(self, named: str) -> Token:
        """Revoke a token by its id, prefix or name; see `Tokens.revoke`."""
        refuse_while_importing("client.tokens.revoke(…)")
        return Token.from_dict(self._connection.send("DELETE", "tokens", named))


class RemoteNotifications:
    """The notifications of a service: `KitaruClient(URL).notifications`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, exec_id: str | None = None) -> builtins.list[Notification]:
        """Return the notifications that are pending; see `Notifications.list`."""
        found = self._connection.get("notifications", exec_id=exec_id)
        return [Notification(**one) for one in found["items"]]

    def channels(self) -> builtins.list[ChannelInfo]:
        """Return the channels of the service, for admins."""
        found = self._connection.get("notifications", "channels")["items"]
        return [
            ChannelInfo(**{**one, "on": tuple(one["on"]), "flows": tuple(one["flows"])})
            for one in found
        ]

    def test(self, channel: str) -> Sent:
        """Let the service send a test message, for admins; see `Notifications.test`."""
        refuse_while_importing("client.notifications.test(…)")
        path = "notifications", "channels", channel, "test"
        return Sent(**self._connection.send("POST", *path))


def audit(connection: Connection, asked: Mapping[str, Any]) -> AuditPage:
    """Return a page of the audit log; see `KitaruClient.audit`."""
    found = connection.get("audit", **asked)
    items = [AuditEntry(**one) for one in found["items"]]
    return AuditPage(items, found["looked_at"], found["next_cursor"])


def model_usage(
    connection: Connection, since: timedelta, *, flow: str | None = None, by: By = "model"
) -> tuple[builtins.list[Usage], Usage]:
    """Return the model calls of a period; see `KitaruClient.model_usage`."""
    found = connection.get("usage", days=since / _DAY, flow=flow, by=by)
    return [Usage(**one) for one in found["items"]], Usage(**found["total"])


def _missing(place: str, name: str) -> NoReturn:
    if name.startswith("_"):
        raise AttributeError(name)
    not_offered(f"{place}.{name}")


def _scope(scope: str | None) -> str:
    from kitaru.config import setting

    text = setting("memory_scope", argument=scope).value
    if text is None:
        raise UsageError(
            "Outside a flow a memory needs a scope.", help="Pass scope=, such as namespace:sales."
        )
    return str(text)


def _deployment(document: Mapping[str, Any]) -> Deployment:
    return Deployment(
        flow=document["flow"],
        number=int(document["version"].removeprefix("v")),
        target=document["target"],
        digest=document["digest"],
        files={},
        deployed_at=document["deployed_at"],
        kitaru_version=document["kitaru"],
        tags=tuple(document["tags"]),
    )


def _comparison(document: Mapping[str, Any]) -> Comparison:
    a, b = (
        Side(**{**one, "total": Effort(**one["total"]), "own": Effort(**one["own"])})
        for one in (document["a"], document["b"])
    )
    rows = tuple(Row(**{**one, "differences": _differences(one)}) for one in document["rows"])
    same, counts, next = document["same"], document["counts"], document["next"]
    return Comparison(a, b, rows, same, _differences(document), counts, next)


def _differences(document: Mapping[str, Any]) -> tuple[Difference, ...]:
    return tuple(
        Difference(**{**one, "lines": tuple(one["lines"])}) for one in document["differences"]
    )


class NoStore:
    """What a client of a service has instead of a store: every use is an error."""

    remote = True

    def __init__(self, url: str) -> None:
        self.url = url

    def __getattr__(self, name: str) -> Any:
        return _missing("store", name)


def _artifact(connection: Connection, exec_id: str, one: Mapping[str, Any]) -> RemoteArtifact:
    saved, name, invocation = one["saved"], one["name"], one["invocation"]
    kind = "saved" if saved else "result" if name == invocation else "call"
    id = f"{exec_id}/{invocation}/{'' if kind == 'result' else name}"
    return RemoteArtifact(id, name, one["type"], kind, invocation, connection)
