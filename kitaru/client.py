"""The client: flows, executions, deployed flows and memory, for programs.

Each method that changes something calls the same operation of `kitaru.ops` as its command.
"""

from __future__ import annotations

import builtins
import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kitaru.compat.client import Artifacts, ReplayHandle, ScopedMemories, overridden
from kitaru.compat.explaining import Explaining
from kitaru.errors import NotFound, UsageError
from kitaru.memory import Memories
from kitaru.runtime.executions import listing
from kitaru.runtime.executions.deployments import DEFAULT_TAG, Deployment, Deployments
from kitaru.runtime.executions.invocation_ref import execution_id
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.telemetry import logs
from kitaru.status import ExecutionStatus as ExecutionStatus
from kitaru.stores import resolve_store
from kitaru.wire.starts import refuse_while_importing
from kitaru.wire.times import written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from kitaru_targets.build import Build
    from kitaru_targets.compare import Difference
    from kitaru_targets.verification import Verification

    from kitaru.errors import KitaruError
    from kitaru.handle import Handle
    from kitaru.ops.backup import Copied
    from kitaru.ops.build_image import BuiltImage
    from kitaru.ops.channels import ChannelInfo
    from kitaru.ops.check import Checked
    from kitaru.ops.check_store import Kept
    from kitaru.ops.compile import Compiled
    from kitaru.ops.deploy import Deployed
    from kitaru.ops.dispatch import Due, Moved
    from kitaru.ops.evaluate import Evaluation
    from kitaru.ops.events import Event
    from kitaru.ops.explain import Explanation
    from kitaru.ops.fingerprint import Contents
    from kitaru.ops.fix import Fixed
    from kitaru.ops.graph import Drawn
    from kitaru.ops.many import Done
    from kitaru.ops.migrate import Migration
    from kitaru.ops.model_usage import By, Usage
    from kitaru.ops.notifications import Notification, Sent
    from kitaru.ops.replay_many import Replayed
    from kitaru.ops.schedules import Schedule
    from kitaru.ops.tokens import CreatedToken, Token
    from kitaru.ops.triggers import Trigger
    from kitaru.ops.verify import Verified
    from kitaru.remote.connection import Connection
    from kitaru.runtime.executions.comparison import Comparison
    from kitaru.runtime.executions.gc import Removed
    from kitaru.runtime.journal.audit import AuditPage
    from kitaru.runtime.telemetry.logs import LogLine
    from kitaru.stores.base import Store
    from kitaru.view import ExecutionView
    from kitaru.wire.cron import Catchup, Overlap
    from kitaru.wire.migrations import Library
    from kitaru.wire.plan import Granularity
    from kitaru.wire.records import SignalRecord, WaitRequest


class KitaruClient(Explaining):
    """The executions, deployed flows and memory of one store, and flows in files.

    `flow` is `review.py`, `review.py:review_flow` or `reviews.flows:review_flow`, as on the command
    line.

    On a service, such as `KitaruClient("https://kitaru.example.com", token=TOKEN)`, executions,
    deployments, schedules, events, memory, artifacts, tokens, notifications and `model_usage` have
    the same methods. Values are JSON there. What needs the store itself raises UsageError.

    Example:
        client = KitaruClient()
        client.check("review.py").findings
        client.executions.input(exec_id, True).wait()
        client.deployments.get("review@stable").version
        client.memory.get("tone", scope="namespace:sales")
    """

    def __init__(self, store: str | Store | None = None, *, token: str | None = None) -> None:
        """Open a store, or connect to a service.

        Args:
            store: a URL such as `sqlite:PATH`, or that of a service, `https://…`. Default: as
                configured.
            token: the token of a service. Default: the variable KITARU_TOKEN.

        Raises:
            UsageError: the URL is not valid, or a token is passed for a store.
        """
        self._connection: Connection | None = None
        if isinstance(store, str) and store.startswith(("http://", "https://")):
            self._connect(store, token or os.environ.get("KITARU_TOKEN"))
            return
        if token is not None:
            raise UsageError(
                "Only a service needs a token.", help='KitaruClient("https://…", token=TOKEN)'
            )
        self.store = resolve_store(store)
        # The store URL in documents, as in the `--store` option of a command.
        self._named = store if store is None or isinstance(store, str) else store.url
        self.executions = Executions(self.store)
        self.deployments = DeployedFlows(self.store, self._named)
        self.schedules = Schedules(self.store)
        self.events = Events(self.store)
        self.memory = Memories(self.store)
        self.memories = ScopedMemories(self.memory)
        self.artifacts = Artifacts(self.store)
        self.tokens = Tokens(self.store)
        self.notifications = Notifications(self.store)

    def _connect(self, url: str, token: str | None) -> None:
        from kitaru.remote import client as remote
        from kitaru.remote.connection import Connection

        self._connection = connection = Connection(url, token)
        # They have the same methods: tests/server/test_remote.py compares the signatures.
        self.store = cast("Store", remote.NoStore(url))
        self._named = url
        self.executions = cast(Executions, remote.RemoteExecutions(connection))
        self.deployments = cast(DeployedFlows, remote.RemoteDeployments(connection))
        self.schedules = cast(Schedules, remote.RemoteSchedules(connection))
        self.events = cast(Events, remote.RemoteEvents(connection))
        self.memory = cast(Memories, remote.RemoteMemories(connection))
        self.memories = ScopedMemories(self.memory)
        self.artifacts = cast(Artifacts, remote.RemoteArtifacts(connection))
        self.tokens = cast(Tokens, remote.RemoteTokens(connection))
        self.notifications = cast(Notifications, remote.RemoteNotifications(connection))

    def model_usage(
        self, since: timedelta, *, flow: str | None = None, by: By = "model"
    ) -> tuple[builtins.list[Usage], Usage]:
        """Return the model calls of a period with tokens, latency and cost, by group and in total.

        Args:
            since: include calls made within this time.
            flow: only executions of this flow.
            by: `model`, `flow`, `execution` or `day`.

        Raises:
            UsageError: `by` is not one of the groups.
            EnvironmentFailure: the store cannot be read.

        Example:
            groups, total = client.model_usage(timedelta(days=7))
            total.cost
        """
        if self._connection is not None:
            from kitaru.remote import client as remote

            return remote.model_usage(self._connection, since, flow=flow, by=by)
        from kitaru.ops.model_usage import model_usage

        return model_usage(self.store, since, flow=flow, by=by)

    def audit(
        self,
        *,
        by: str | None = None,
        action: str | None = None,
        flow: str | None = None,
        exec_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        within: int = 10_000,
        after: str = "",
    ) -> AuditPage:
        """Return a page of the audit log, newest first: who changed something outside of flows.

        Who can write to the bucket can change something without an entry.

        Args:
            by: a part of the name.
            action: such as `answer`, `cancel`, `invoke`, `deploy` or `tag`.
            flow, exec_id: only entries of this flow or execution.
            since, until: the earliest and the latest moment.
            within: look at this many entries for the page.
            after: `next` of the previous page.

        Raises:
            UsageError: the cursor is not valid.
            EnvironmentFailure: the store cannot be read.

        Example:
            [entry.by for entry in client.audit(action="answer").items]
        """
        begin = "" if since is None else written(since)
        end = "" if until is None else written(until)
        if self._connection is not None:
            from kitaru.remote import client as remote

            asked = {
                "by": by,
                "action": action,
                "flow": flow,
                "exec_id": exec_id,
                "since": begin,
                "until": end,
                "limit": limit,
                "within": within,
                "cursor": after,
            }
            return remote.audit(self._connection, asked)
        from kitaru.runtime.journal.audit import entries

        return entries(
            self.store,
            by=by,
            action=action,
            flow=flow,
            exec_id=exec_id,
            since=begin,
            until=end,
            limit=limit,
            within=within,
            after=after,
        )

    def run(
        self,
        flow: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        cache: bool | None = None,
        retries: int | None = None,
        tags: Mapping[str, str | float] | None = None,
    ) -> Handle[Any]:
        """Start a flow in this process, and return its handle at once.

        Args:
            inputs: the flow's inputs by name, as JSON.
            key: what identifies the start, such as `order-7`; see `Flow.options`.
            cache: whether results of other executions may be reused. Default: as decorated.
            retries: default number of retries for checkpoints that set none.
            tags: tags of the execution by name, such as `{"customer": "acme"}`.

        Raises:
            UsageError: there is no such file or flow.
            SourceError: the source has errors.
            FlowError: the module does not import.
            InputError: an input is missing, unknown or does not fit its annotation.
            StateError: the key has started an execution with other inputs.

        Example:
            client.run("review.py", {"topic": "kayaks"}).wait()
        """
        refuse_while_importing("client.run(…)")
        from kitaru.ops.flow_ref import locate
        from kitaru.ops.run import load_flow, run

        loaded = load_flow(locate(flow))
        return run(
            loaded, inputs or {}, store=self.store, key=key, cache=cache, retries=retries, tags=tags
        )

    def check(self, flow: str) -> Checked:
        """Find errors in a flow without importing or running it. See `kitaru.ops.check.check`.

        Raises:
            UsageError: there is no such file or module.
            SourceError: the file is not Python, or has no such flow.

        Example:
            client.check("review.py").is_fatal()
        """
        from kitaru.ops.check import check
        from kitaru.ops.flow_ref import locate

        return check(locate(flow))

    def fix(self, flow: str, *, unsafe_fixes: bool = False, diff: bool = False) -> Fixed:
        """Fix what a check finds in a flow, where the fix is certain; see `kitaru.ops.fix.fix`.

        Raises:
            UsageError: there is no such file or module.
            StateError: a file was changed meanwhile; it is left as it is.
            EnvironmentFailure: a file cannot be written.

        Example:
            print(client.fix("review.py", diff=True).diff)
        """
        refuse_while_importing("client.fix(…)")
        from kitaru.ops.fix import fix
        from kitaru.ops.flow_ref import locate

        return fix(locate(flow), unsafe_fixes=unsafe_fixes, diff=diff)

    def migrate(self, library: Library, file: str, *, diff: bool = False) -> Migration:
        """Rewrite a program of another engine as a flow; see `kitaru.ops.migrate.migrate`.

        Raises:
            SourceError: the file is not Python.
            UsageError: there is no such file, or it cannot be migrated.
            StateError: the file was changed meanwhile; it is left as it is.
            EnvironmentFailure: the file cannot be written.

        Example:
            client.migrate("temporal", "review.py", diff=True).marks
        """
        refuse_while_importing("client.migrate(…)")
        from kitaru.ops.migrate import migrate

        return migrate(library, Path(file), diff=diff)

    def graph(
        self,
        flow: str,
        target: str | None = None,
        *,
        granularity: Granularity = "checkpoint",
        exec_id: str | None = None,
    ) -> Drawn:
        """Return the graph of a flow. See `kitaru.ops.graph.graph`.

        Args:
            target: name of a target. Default: the finest cut of any target.
            granularity: size of a step.
            exec_id: show the durations of this execution, and mark the critical path.

        Raises:
            SourceError: the source has errors.
            UsageError: there is no such file or target, or the execution is of another source.
            NotFound: the execution does not exist.

        Example:
            client.graph("review.py", "vertex").text("svg")
        """
        from kitaru.ops.flow_ref import locate
        from kitaru.ops.graph import graph

        drawn = graph(locate(flow), target, granularity)
        return drawn.timed(self.executions.get(exec_id)) if exec_id else drawn

    def explain(
        self, flow: str, target: str | None = None, *, granularity: Granularity = "checkpoint"
    ) -> Explanation:
        """Explain why each cut of a flow is or is not there. See `kitaru.ops.explain`.

        Changes of the source are tried in memory. Nothing is written, imported or run.

        Args:
            target: name of a target. Default: as configured.
            granularity: size of a step.

        Raises:
            SourceError: the source has errors.
            UsageError: there is no such file or target.

        Example:
            for part in client.explain("review.py", "vertex").uncut:
                print(part.code, part.span.line, part.proposal and part.proposal.what)
        """
        from kitaru.ops.compile import request
        from kitaru.ops.explain import explain

        return explain(request(flow, target, "build", granularity=granularity))

    def fingerprint(self, checkpoint: str) -> Contents:
        """Return the definitions in the fingerprint of a checkpoint, such as `review.py:draft`.

        Raises:
            UsageError: there is no such file or checkpoint.
            SourceError: a file is not Python.
        """
        from kitaru.ops.fingerprint import fingerprint
        from kitaru.ops.flow_ref import locate

        return fingerprint(locate(checkpoint))

    def compile(
        self,
        flow: str,
        target: str | None = None,
        *,
        directory: str | Path = "build",
        granularity: Granularity = "checkpoint",
        image: str | None = None,
        delivery: str = "store",
        strict: bool = False,
    ) -> Compiled:
        """Write the pipeline of a flow for a target. Your code is neither imported nor run.

        The document contains the store URL of this client, unless it is the configured store on
        this machine.

        Args:
            target: name of a target. Default: as configured.
            directory: the build is written to `directory/FLOW/TARGET`.
            granularity: size of a step.
            image: container image of every step. Default: as configured.
            delivery: how the code reaches the container: `store`, `image` or `inline`.
            strict: whether warnings and notes are errors.

        Raises:
            SourceError: the source has errors.
            FlowError: `strict`, and there are findings; nothing was written.
            UsageError: there is no such file or target, or the build cannot be written.

        Example:
            client.compile("review.py", "vertex").build.directory
        """
        refuse_while_importing("client.compile(…)")
        from kitaru.ops.compile import compile, request

        named = request(
            flow,
            target,
            directory,
            granularity=granularity,
            image=image,
            delivery=delivery,
            strict=strict,
            store=self._named,
        )
        return compile(named)

    def compile_all(
        self,
        flow: str,
        *,
        directory: str | Path = "build",
        granularity: Granularity = "checkpoint",
        image: str | None = None,
        delivery: str = "store",
        strict: bool = False,
    ) -> tuple[list[Compiled], dict[str, KitaruError]]:
        """Write the pipeline of a flow for every target, with the options of `compile`.

        Returns the compilations, and the error of each target that rejected the flow. Raises the
        errors of `compile` that apply to every target.
        """
        refuse_while_importing("client.compile_all(…)")
        from kitaru.ops.compile import compile_all, request

        named = request(
            flow,
            "all",
            directory,
            granularity=granularity,
            image=image,
            delivery=delivery,
            strict=strict,
            store=self._named,
        )
        return compile_all(named)

    def dry_run(
        self,
        flow: str,
        inputs: Mapping[str, Any] | None = None,
        target: str | None = None,
        *,
        answers: Mapping[str, Any] | None = None,
        directory: str | Path = ".kitaru/dry-run",
        granularity: Granularity = "checkpoint",
        image: str | None = None,
        delivery: str = "store",
        strict: bool = False,
        skip_time: bool = False,
        events: Sequence[tuple[str, Any]] = (),
    ) -> ExecutionView:
        """Compile a flow, then execute the written pipeline here until it ends or waits.

        To continue it, use `client.executions.dry_run`. The other options are those of `compile`.

        Args:
            inputs: the flow's inputs by name, as JSON.
            answers: answers by the name of the wait.
            skip_time: let sleeps end at once, and waits without an answer expire at once.
            events: name and data of the events that come, in this order, when a wait asks for
                them, such as `[("invoice.paid", {"order": 7})]`.

        Raises:
            InputError: an input is missing, unknown or of the wrong type. Nothing was started.
            AnswerInvalid: an answer does not match its wait's schema. The execution still waits.
            StateError: an answer names no pending wait.
            KitaruError: the errors of `compile`.

        Example:
            client.dry_run("review.py", {"topic": "tea"}, "vertex", answers={"ok": True}).result
        """
        refuse_while_importing("client.dry_run(…)")
        from kitaru.ops.compile import compile, request
        from kitaru.ops.dry_run import begin_dry_run, dry_run

        named = request(
            flow,
            target,
            directory,
            granularity=granularity,
            image=image,
            delivery=delivery,
            strict=strict,
            store=self.store.url,
            rehearses=True,
        )
        exec_id = begin_dry_run(self.store, compile(named), inputs or {})
        return dry_run(self.store, exec_id, answers=answers, skip_time=skip_time, events=events)

    def evaluate(
        self,
        evaluators: Mapping[str, Callable[[ExecutionView], Any]],
        *,
        where: Mapping[str, str] | None = None,
        limit: int = 20,
    ) -> Evaluation:
        """Score the newest executions with functions; see `kitaru.ops.evaluate.evaluate`.

        Args:
            evaluators: functions of an execution by name. They return a number, a boolean, a tuple
                of a number and a note, or None.
            where: conditions by field, such as `{"flow": "review", "newer_than": "7d"}`.
            limit: maximum number of executions.

        Example:
            client.evaluate({"short": lambda run: len(run.result) < 500}).means
        """
        refuse_while_importing("client.evaluate(…)")
        from kitaru.ops.evaluate import evaluate
        from kitaru.ops.where import parse_where

        conditions = [f"{name}={value}" for name, value in (where or {}).items()]
        return evaluate(self.store, evaluators, parse_where(conditions), limit)

    def diff(self, a: str, b: str) -> Difference:
        """Return the differences of build `b` from build `a`. See
        `kitaru.ops.build_diff.diff_builds`.

        Args:
            a, b: build directories; one of them may be a flow.

        Raises:
            UsageError: neither is a build directory.
            SourceError: the source of the flow has errors.

        Example:
            client.diff("build/review/vertex", "review.py").changes
        """
        from kitaru.ops.build_diff import diff_builds

        return diff_builds(a, b)

    def diff_deployed(self, exec_id: str, name: str) -> Difference:
        """Return how a build directory or a flow differs from what an execution ran.

        Raises:
            NotFound: there is no such execution.
            StateError: the store does not have what it ran.
        """
        from kitaru.ops.build_diff import diff_deployed

        return diff_deployed(self.store, execution_id(self.store, exec_id), name)

    def verify(
        self,
        directory: str | Path,
        *,
        source: str | None = None,
        image: str | None = None,
        store: str | None = None,
        sbom: str | Path | None = None,
        with_sdk: bool = False,
    ) -> Verification:
        """Check the digest of every file of a build. The result lists differences in `problems`.

        Args:
            source: the flow, such as `review.py`, to compile again and compare every file with.
            image, store: with `source`, what was passed to the compilation; default the settings.
            sbom: file to write the bill of materials to, if there are no differences.
            with_sdk: ask the vendor's SDK about the document, if it is installed: see `sdk` of the
                result.

        Raises:
            StateError: there is no build in the directory, or it cannot be compared with a source.
            SourceError: the source has errors.
            EnvironmentFailure: `sbom`, and the library of the extra `sbom` is missing.
            UsageError: the source does not exist, or the file `sbom` cannot be written.

        Example:
            client.verify("build/review/vertex", source="review.py").problems
        """
        from kitaru.ops.verify_build import verify_build

        found = verify_build(
            Path(directory), source=source, image=image, store=store, with_sdk=with_sdk
        )
        if sbom is not None and not found.problems:
            from kitaru_targets.sbom import write_sbom

            write_sbom(Path(directory), Path(sbom))
        return found

    def build_image(
        self,
        directory: str | Path,
        *,
        image: str | None = None,
        builder: str | None = None,
        platform: str = "linux/amd64",
        push: bool = True,
        report: Callable[[str], None] | None = None,
    ) -> BuiltImage:
        """Build the container image of a build from its Dockerfile, and push it.

        Args:
            image: name with a tag; default the image that the flow was compiled with.
            builder: `docker`, `podman`, `buildah`, `gcloud` or `az`; default the first that works.
            platform: platform of the nodes that run the image.
            push: push the image. Cloud builders always do.
            report: called with each line that the builder prints.

        Raises:
            StateError: there is no build in the directory, or a file of it was changed.
            UsageError: no image is named, its name contains a digest, or the builder does not fit.
            EnvironmentFailure: no builder works on this machine, or the builder failed.

        Example:
            client.build_image("build/review/kubeflow").pinned
        """
        refuse_while_importing("client.build_image(…)")
        from kitaru.ops.build_image import build_image

        return build_image(
            Path(directory),
            image=image,
            builder=builder,
            platform=platform,
            push=push,
            report=report,
        )

    def upload(self, directory: str | Path) -> str:
        """Put the bundle of a build into the store, and return its digest.

        Raises:
            StateError: there is no build in the directory.
            EnvironmentFailure: the store cannot be written.
        """
        refuse_while_importing("client.upload(…)")
        from kitaru.ops.upload import upload

        return upload(self.store, Path(directory))

    def check_store(self) -> list[Kept]:
        """Check the properties that durability needs from the store, and return the time of each
        check.

        Raises:
            StoreUnsuitable: a check failed.
            EnvironmentFailure: the store cannot be reached, or is damaged.
        """
        from kitaru.ops.check_store import check_store

        return check_store(self.store)

    def dispatch(self, *, processes: int = 2) -> builtins.list[Moved]:
        """Continue all executions that were answered or invoked, and return what was done.

        Executions of the target `local` run in processes of this machine. It returns when they have
        ended or wait. What a service refuses has an `error`, and a later call tries it again.

        Args:
            processes: maximum number of executions of the target `local` at a time.

        Raises:
            EnvironmentFailure: the store cannot be read.

        Example:
            client.dispatch()
        """
        refuse_while_importing("client.dispatch(…)")
        from kitaru.ops.dispatch import Dispatcher

        return Dispatcher(self.store, processes=processes).once()

    def due(self) -> Due:
        """Return how many executions are due to continue, and for how long.

        Raises:
            EnvironmentFailure: the store cannot be read.

        Example:
            client.due().oldest_seconds
        """
        from kitaru.ops.dispatch import due

        return due(self.store)

    def verify_store(self) -> Verified:
        """Read the whole store, compare every object with its digest, and return the findings.

        Raises:
            EnvironmentFailure: it cannot be read.
        """
        from kitaru.ops.verify import verify

        return verify(self.store)

    def backup(self, to: str) -> Copied:
        """Copy the store to the URL `to` while executions run; see `kitaru.ops.backup.backup`.

        Raises:
            RecordCorrupt: the store is damaged; nothing was copied.
            StateError: the file exists, or the bucket contains something else.
            EnvironmentFailure: a store cannot be read or written.
        """
        refuse_while_importing("client.backup(…)")
        from kitaru.ops.backup import backup

        return backup(self.store, to)

    @staticmethod
    def restore(source: str, to: str, *, replace: bool = False) -> Copied:
        """Restore the store URL `to` from the backup URL `source`.

        See `kitaru.ops.backup.restore`.

        Raises:
            NotFound: there is no such file.
            RecordCorrupt: the backup is incomplete, or an object in it is damaged.
            StateError: there is a store already.

        Example:
            KitaruClient.restore("s3://backups/kitaru", "sqlite:kitaru.db")
        """
        refuse_while_importing("KitaruClient.restore(…)")
        from kitaru.ops.backup import restore

        return restore(source, to, replace=replace)


class Tokens:
    """Tokens of a service of the store: `KitaruClient.tokens`.

    Example:
        made = client.tokens.create("ci", "operator", flows=["review"])
        made.secret                       # kit_…, shown only here
        client.tokens.revoke("ci")
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(
        self,
        name: str,
        role: str,
        *,
        flows: Sequence[str] = (),
        expires: timedelta | None = None,
    ) -> CreatedToken:
        """Create a token. Only the result contains it; the store contains its digest.

        Args:
            name: what answers and audit entries name.
            role: `viewer`, `approver`, `operator` or `admin`.
            flows: names of flows, or patterns such as `billing-*`. Default: all flows.
            expires: how long it is valid. Default: until it is revoked.

        Raises:
            UsageError: the name, the role or a flow is not valid, or the time is not positive.
            EnvironmentFailure: the store cannot be written.
        """
        refuse_while_importing("client.tokens.create(…)")
        from kitaru.ops.tokens import create_token

        return create_token(self._store, name, role, flows=flows, expires=expires)

    def list(self, *, sessions: bool = False) -> builtins.list[Token]:
        """Return the tokens, the oldest first; with `sessions`, those of people who logged in."""
        from kitaru.ops.tokens import list_tokens

        return list_tokens(self._store, sessions=sessions)

    def revoke(self, named: str) -> Token:
        """Revoke a token by its id, prefix or name, and the sessions that began with it.

        Raises:
            NotFound: there is no such token.
            UsageError: several valid tokens have that name.
        """
        refuse_while_importing("client.tokens.revoke(…)")
        from kitaru.ops.tokens import revoke_token

        return revoke_token(self._store, named)


class Notifications:
    """Notifications of executions: `KitaruClient.notifications`.

    Example:
        client.notifications.test("reviewers").status
        [one.error for one in client.notifications.list() if one.error]
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(self, exec_id: str | None = None) -> builtins.list[Notification]:
        """Return the notifications that are pending.

        Args:
            exec_id: only those of this execution, also the ones that were delivered or given up.

        Raises:
            NotFound: there is no such execution.
            EnvironmentFailure: the store cannot be read.
        """
        from kitaru.ops.notifications import list_notifications

        return list_notifications(self._store, exec_id)

    def channels(self) -> builtins.list[ChannelInfo]:
        """Return the channels of the settings in force; raise UsageError for a wrong one."""
        from kitaru.ops.notifications import list_channels

        return list_channels()

    def test(self, channel: str) -> Sent:
        """Send a test message through a channel now, once.

        Raises:
            NotFound: there is no such channel.
            UsageError: the channel, or the value of a secret, is not valid.
            EnvironmentFailure: a secret cannot be read.
        """
        refuse_while_importing("client.notifications.test(…)")
        from kitaru.ops.notifications import send_test

        return send_test(channel)


class DeployedFlows(Deployments):
    """Deployed flows: `KitaruClient.deployments`."""

    def __init__(self, store: Store, named: str | None = None) -> None:
        """`named` is the store URL in documents. Default: the configured store."""
        super().__init__(store)
        self._named = named

    def tag(self, name: str, tag: str) -> Deployment:
        """Point a tag to a version. With the tag `default`, its schedule and events count from now.

        `name` is `FLOW@TAG` or `FLOW@vN`.

        Raises:
            NotFound: the flow is not deployed, or has no such version or tag.
            UsageError: the tag is not valid.
            StateError: the tag has moved, but another schedule has the id of the flow's schedule.
        """
        moved = super().tag(name, tag)
        if tag == DEFAULT_TAG:
            from kitaru.ops.declared import declare

            declare(self._store, moved.flow)
        return moved

    def deploy(
        self,
        flow: str,
        target: str | None = None,
        *,
        tag: str | Sequence[str] = (),
        dry_run: bool = False,
        granularity: Granularity = "checkpoint",
        image: str | None = None,
        delivery: str = "store",
        strict: bool = False,
    ) -> Deployed:
        """Compile a flow, and store the build as its next version.

        Args:
            flow: as for `KitaruClient.compile`.
            target: name of a target. Default: as configured, then `local`.
            tag: tag, or list of tags, to move to the version.
            dry_run: return what would change, and store nothing.
            granularity, image, delivery, strict: as for `KitaruClient.compile`.

        Raises:
            SourceError: the source has errors.
            UsageError: a tag or the target is not valid.

        Example:
            client.deployments.deploy("review.py", tag="stable").deployment.version
        """
        refuse_while_importing("client.deployments.deploy(…)")
        from kitaru.ops.compile import request
        from kitaru.ops.deploy import LOCAL, deploy

        named = request(
            flow,
            target,
            "",
            default=LOCAL,
            granularity=granularity,
            image=image,
            delivery=delivery,
            strict=strict,
            store=self._named,
        )
        return deploy(named, self._store, [tag] if isinstance(tag, str) else tag, keeps=not dry_run)

    def dry_run(
        self,
        flow: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        tag: str | None = None,
        version: int | str | None = None,
        answers: Mapping[str, Any] | None = None,
    ) -> ExecutionView:
        """Execute the document of a deployed version here until it ends or waits.

        `flow`, `inputs`, `tag` and `version` are the same as for `invoke`.

        Args:
            answers: answers by the name of the wait.

        Raises:
            NotFound: no such flow is deployed, or it has no such version or tag.
            InputError: the inputs do not match the version. Nothing was started.
            AnswerInvalid: an answer does not match its wait's schema. The execution still waits.
            StateError: an answer names no pending wait.
        """
        refuse_while_importing("client.deployments.dry_run(…)")
        from kitaru.ops.dry_run import begin_version, dry_run
        from kitaru.ops.invoke import as_json, find

        found = find(self._store, flow, tag=tag, version=version)
        exec_id = begin_version(self._store, found, as_json(flow, inputs or {}))
        return dry_run(self._store, exec_id, answers=answers)

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
    ) -> Handle[Any]:
        """Start an execution of a deployed version on its target. Default: the tag `default`.

        Args:
            flow: the flow's name, or `FLOW@TAG`, `FLOW@v3`.
            version: 3, "3" or "v3".
            exec_id: execution id. Repeating a call with the same id, version and inputs starts no
                second run.
            key: what identifies the start, such as `order-7`, instead of an id. The same key of a
                flow is the same execution, even if the tag has moved.
            options: options of the target's service. They override those of the settings.
            tags: tags of the execution by name, such as `{"customer": "acme"}`.

        Raises:
            NotFound: no such flow is deployed, or it has no such version or tag.
            InputError: the inputs do not match the version. Nothing was started.
            StateError: the execution `exec_id` was started from another version or in another way,
                or the key with other inputs.
            EnvironmentFailure: the SDK or a package is missing, or the store or service failed.

        Example:
            client.deployments.invoke(flow="review", inputs={"topic": "tea"}, tag="stable").wait()
        """
        refuse_while_importing("client.deployments.invoke(…)")
        from kitaru.ops.invoke import invoke_named

        return invoke_named(
            self._store,
            flow,
            inputs or {},
            tag=tag,
            version=version,
            exec_id=exec_id,
            key=key,
            options=options,
            tags=tags,
        )


class Events:
    """Events that executions wait for: `KitaruClient.events`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def send(self, name: str, data: Any = None, *, id: str | None = None) -> Event:
        """Send an event, and return it as it is stored. It is stored when this returns.

        An event that was sent before under the same name and id is returned as it was sent first.
        Events are not removed, so an id is known for as long as the store exists.

        Args:
            name: name of the event, such as `invoice.created`.
            data: JSON of at most 256 KiB.
            id: id of the event, such as that of a delivery. Default: a new one.

        Raises:
            UsageError: the name or the id is not valid, or the data is not JSON or too long.

        Example:
            client.events.send("invoice.created", {"invoice": 7, "amount": 120}, id="delivery-1")
        """
        refuse_while_importing("client.events.send(…)")
        from kitaru.ops.events import send_event

        return send_event(self._store, name, data, id=id)

    def get(self, name: str, id: str) -> Event:
        """Return an event, with the executions that it started or cancelled.

        Raises NotFound if it does not exist, or was removed.
        """
        from kitaru.ops.events import get_event

        return get_event(self._store, name, id)

    def triggers(self, flow: str | None = None) -> builtins.list[Trigger]:
        """Return what events do to the deployed flows, or to one: which start and cancel them.

        Example:
            [(one.flow, one.events.on) for one in client.events.triggers()]
        """
        from kitaru.ops.triggers import list_triggers

        return list_triggers(self._store, flow)

    def list(self, name: str | None = None, *, limit: int = 50) -> builtins.list[Event]:
        """Return the newest events, or those of one name, newest first; at most `limit`."""
        from kitaru.ops.events import list_events

        return list_events(self._store, name, limit=limit)


class Schedules:
    """Schedules of deployed flows: `KitaruClient.schedules`.

    A dispatcher starts their executions: `kitaru dispatcher run`, or `kitaru serve`. Instants are
    in UTC, such as `2026-12-01T01:00:00.000000Z`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

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
        """Create a schedule that starts a deployed flow.

        Args:
            name: `FLOW` (its tag `default`), `FLOW@TAG` or `FLOW@vN`. A tag is resolved at each
                tick.
            cron: five fields: minute, hour, day of month, month, day of week.
            timezone: IANA name of the time zone of `cron`.
            inputs: inputs of the executions.
            overlap: what a tick does while the previous execution has not ended: `skip` it, `queue`
                it, `cancel` the previous execution, or `allow` both.
            catchup: which ticks start that no dispatcher decided in time: `none`, the `last` one,
                or `all`, at most 100.
            id: id of the schedule, default the name of the flow.

        Raises:
            NotFound: the flow is not deployed, or has no such version or tag.
            UsageError: the expression, the zone, the id or a policy is not valid.
            InputError: an input is missing, unknown or of the wrong type.
            StateError: there is a schedule with this id.

        Example:
            client.schedules.create("review@stable", "0 2 * * *", timezone="Europe/Berlin")
        """
        refuse_while_importing("client.schedules.create(…)")
        from kitaru.ops.schedules import create_schedule

        return create_schedule(
            self._store,
            name,
            cron,
            timezone=timezone,
            inputs=inputs,
            overlap=overlap,
            catchup=catchup,
            id=id,
        )

    def get(self, id: str) -> Schedule:
        """Return a schedule with its next ticks and last runs. Raises NotFound."""
        from kitaru.ops.schedules import get_schedule

        return get_schedule(self._store, id)

    def list(self, *, flow: str | None = None) -> builtins.list[Schedule]:
        """Return the schedules, or those of one flow, each with its next tick and last run."""
        from kitaru.ops.schedules import list_schedules

        return list_schedules(self._store, flow)

    def next(self, id: str, count: int = 5) -> builtins.list[str]:
        """Return the next instants of a schedule, also of one that is paused. Raises NotFound."""
        from kitaru.ops.schedules import next_ticks

        return next_ticks(self._store, id, count)

    def pause(self, id: str) -> Schedule:
        """Pause a schedule. Its ticks until `resume` start nothing, and are not caught up."""
        refuse_while_importing("client.schedules.pause(…)")
        from kitaru.ops.schedules import pause_schedule

        return pause_schedule(self._store, id)

    def resume(self, id: str) -> Schedule:
        """Resume a paused schedule from now on. Raises NotFound."""
        refuse_while_importing("client.schedules.resume(…)")
        from kitaru.ops.schedules import resume_schedule

        return resume_schedule(self._store, id)

    def delete(self, id: str) -> None:
        """Delete a schedule. Its executions remain. Raises NotFound."""
        refuse_while_importing("client.schedules.delete(…)")
        from kitaru.ops.schedules import delete_schedule

        delete_schedule(self._store, id)

    def trigger(self, id: str) -> str:
        """Start an execution of a schedule now, whatever else runs; return its id.

        Raises:
            NotFound: there is no such schedule, or its flow has no such version or tag.
            InputError: the inputs are not those of the version.
        """
        refuse_while_importing("client.schedules.trigger(…)")
        from kitaru.ops.schedules import trigger_schedule

        return trigger_schedule(self._store, id).exec_id


class Executions(Explaining):
    """Executions: `KitaruClient.executions`. Every method may raise EnvironmentFailure.

    `exec_id` is an id, a unique prefix of at least 4 characters, or `latest` for the execution that
    started last. Without a match, NotFound is raised; with several matches, UsageError.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def _whole(self, exec_id: str) -> str:
        return execution_id(self._store, exec_id)

    def get(self, exec_id: str) -> ExecutionView:
        """Return a snapshot of an execution. Raises NotFound.

        Example:
            client.executions.get("latest").status
        """
        from kitaru.ops.show import show

        return show(self._store, self._whole(exec_id))

    def list(
        self, *, flow: str | None = None, status: str | None = None, limit: int = 20
    ) -> list[listing.Listed]:
        """Return `{"exec_id", "flow", "status", "started_at"}` per execution, newest first.

        Each key is also an attribute: `client.executions.list()[0].exec_id`.
        """
        return listing.list_executions(self._store, flow=flow, status=status, limit=limit)

    def latest(self, *, flow: str | None = None, status: str | None = None) -> ExecutionView:
        """Return the newest execution of a flow or with a status. Raises NotFound.

        Example:
            client.executions.latest(flow="review", status="waiting")
        """
        for found in self.each(flow=flow, status=status):
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
    ) -> listing.Page:
        """Return a page of `list`, searching at most the newest `within` executions.

        Its items also have a title, what the execution is up to, and its tokens and cost; see
        `kitaru.wire.records.Summary`.

        Args:
            after: the last execution of the previous page.
            page: number of the page of `limit` executions after that.
            since, until: earliest and latest start. Without a time zone, it is local time.
            tag: the tag that the execution was invoked by.
            text: occurs in its title, its first inputs, its question, error or result.
            parent: the execution that started it as a child.
            counts: whether to count `total`, for which the whole index is read.
            where: more conditions, such as `["older_than=2h", "input.customer=acme"]`; see
                `kitaru.ops.where.parse_where`.

        Raises:
            UsageError: a condition is not valid.
        """
        from kitaru.ops.where import parse_where

        named = {
            "flow": flow,
            "status": status,
            "tag": tag,
            "text": text,
            "parent": parent,
            "since": "" if since is None else written(since),
            "until": "" if until is None else written(until),
        }
        selected = parse_where(where).narrowed(**named)
        return listing.page_of(
            self._store,
            selected,
            limit=limit,
            within=within,
            after=after,
            page=page,
            counts=counts,
        )

    def each(
        self, *, flow: str | None = None, status: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the entries of `list` lazily, newest first."""
        return listing.each_execution(self._store, flow=flow, status=status)

    def collect(self, older_than: timedelta, *, dry_run: bool = False) -> Iterator[Removed]:
        """Remove executions that ended or failed long ago. Yield each after its removal.

        Running and waiting executions are kept, and so are the sources of replays that are kept.
        The removal may be interrupted at any time and repeated.

        Args:
            older_than: minimum time since an execution reached its last status.
            dry_run: yield what would be removed, and remove nothing.

        Example:
            for removed in client.executions.collect(timedelta(days=90)):
                print(removed.exec_id, removed.objects)
        """
        refuse_while_importing("client.executions.collect(…)")
        from kitaru.runtime.executions.gc import collect

        return collect(self._store, older_than, dry_run=dry_run)

    def logs(
        self,
        exec_id: str,
        invocation: str | None = None,
        *,
        follow: bool = False,
        checkpoint: str | None = None,
        limit: int | None = None,
    ) -> Iterator[LogLine]:
        """Yield the recorded output of an execution in order of time. Raises NotFound.

        Args:
            invocation: return only the output of this invocation. `""` is the flow's body.
            follow: continue until the execution has completed, failed or been cancelled.
            checkpoint: alias of `invocation`.
            limit: maximum number of lines. Default: all.

        Example:
            for line in client.executions.logs(exec_id, "draft"):
                print(line.at, line.text)
        """
        journal = Journal.open(self._store, self._whole(exec_id))
        only = checkpoint if invocation is None else invocation
        return islice(logs.lines(journal, only, follow), limit)

    def export(self, exec_id: str) -> dict[str, Any]:
        """Return an execution as a JSON document, for `import_execution`; see `kitaru.ops.export`.

        Raises:
            NotFound: there is no such execution.
            RecordCorrupt: an object of it is missing or damaged.
            StateError: it is too large; back up its store instead.

        Example:
            Path("run.json").write_text(json.dumps(client.executions.export(exec_id)))
        """
        from kitaru.ops.export import export

        return export(self._store, self._whole(exec_id))

    def import_execution(self, document: Mapping[str, Any]) -> str:
        """Create an exported execution in this store, with its id; return the id.

        Raises:
            UsageError: the document is not an export.
            RecordTooNew: a newer release made it.
            RecordCorrupt: it was changed.
            StateError: there is another execution with this id.

        Example:
            client.executions.import_execution(json.loads(Path("run.json").read_text()))
        """
        refuse_while_importing("client.executions.import_execution(…)")
        from kitaru.ops.export import import_execution

        return import_execution(self._store, document)

    def diff(self, a: str, b: str, *, limit: int | None = None, skip: int = 0) -> Comparison:
        """Return the differences of execution `b` from `a`. Raises NotFound.

        Args:
            limit: maximum number of rows. Default: all. If there are more rows, only those that
                differ are returned, and `counts` contains the number of each kind.
            skip: number of rows to skip.

        Example:
            client.executions.diff(source, replayed).same
        """
        from kitaru.runtime.executions.comparison import compare

        journals = [Journal.open(self._store, self._whole(one)) for one in (a, b)]
        return compare(*journals, limit=limit, skip=skip)

    def lineage(self, exec_id: str, invocation: str | None = None) -> dict[str, tuple[str, ...]]:
        """Return, by invocation, the earlier invocations whose results it used.

        Content is compared: an argument that equals a result, or a part of one, counts as that
        result. Raises NotFound.

        Args:
            invocation: return only the ancestors and descendants of its result.
        """
        from kitaru.ops.lineage import lineage

        return lineage(self._store, self._whole(exec_id), invocation)

    def calls(
        self,
        exec_id: str,
        invocation: str | None = None,
        *,
        limit: int | None = None,
        skip: int = 0,
    ) -> builtins.list[dict[str, Any]]:
        """Return the model calls of an execution or of one invocation. Raises NotFound.

        Args:
            limit: maximum number of calls. Default: all.
            skip: number of calls to skip.

        Example:
            [call["cost"] for call in client.executions.calls(exec_id, "draft")]
        """
        from kitaru.ops.calls import calls

        return calls(self._store, self._whole(exec_id), invocation, limit=limit, skip=skip)

    def dry_run(
        self,
        exec_id: str,
        *,
        answers: Mapping[str, Any] | None = None,
        events: Sequence[tuple[str, Any]] = (),
    ) -> ExecutionView:
        """Continue a dry run here until it ends or waits. Finished steps do not run again.

        Args:
            answers: answers by the name of the wait.
            events: name and data of the events that come, in this order, when a wait asks for them.

        Raises:
            NotFound: there is no such execution.
            StateError: this machine does not have its build, or an answer names no pending wait.
            AnswerInvalid: an answer does not match its wait's schema. The execution still waits.

        Example:
            client.executions.dry_run(exec_id, answers={"approve": True}).status
        """
        refuse_while_importing("client.executions.dry_run(…)")
        from kitaru.ops.dry_run import dry_run

        return dry_run(self._store, self._whole(exec_id), answers=answers, events=events)

    def input(
        self,
        exec_id: str,
        value: Any,
        wait: str | None = None,
        *,
        submit: bool = True,
        options: Mapping[str, str] | None = None,
    ) -> Handle[Any]:
        """Answer a wait with JSON, and continue the execution.

        A local execution continues in this process, and a deployed one on its target, as with
        `kitaru executions input`.

        Args:
            wait: name of the wait. Required if several are pending.
            submit: whether to start the remaining steps of a deployed execution.
            options: options of the target's service. They override those of the settings.

        Raises:
            AnswerInvalid: the value does not match the wait's schema. The execution still waits.
            WaitConflict: the wait was answered before, with another value.
            NotFound: there is no such execution or wait.
            StateError: the execution has no wait.
            EnvironmentFailure: the answer is recorded, but the target cannot be reached.
        """
        refuse_while_importing("client.executions.input(…)")
        from kitaru.ops.answer import answer

        whole = self._whole(exec_id)
        return answer(self._store, whole, value, wait, submits=submit, options=options).handle

    def signal(self, exec_id: str, inbox: str, value: Any) -> SignalRecord:
        """Send JSON to an inbox of an execution, which reads it with `kitaru.inbox`.

        The signal is stored when this method returns, and is numbered.

        Args:
            inbox: name of the inbox.

        Raises:
            NotFound: there is no such execution.
            StateError: the execution has ended.
            UsageError: the name is not valid, or the value is not JSON or too long.

        Example:
            client.executions.signal(exec_id, "steer", "Look at the prices first.").number
        """
        refuse_while_importing("client.executions.signal(…)")
        from kitaru.ops.signal import signal

        return signal(self._store, self._whole(exec_id), inbox, value)

    def resume(
        self, exec_id: str, *, again: bool = False, options: Mapping[str, str] | None = None
    ) -> Handle[Any]:
        """Resume an execution whose process or run has ended. Recorded calls do not run again.

        A local execution runs in this process. A deployed one is submitted to its target.

        Args:
            again: start another run even if one was started for the current wait.
            options: options of the target's service. They override those of the settings.

        Raises:
            NotFound: there is no such execution.
            StateError: it was cancelled, waits for an answer, runs in this process, is a dry run,
                or was already submitted.
            EnvironmentFailure: the SDK is missing, or the store or service failed.
        """
        refuse_while_importing("client.executions.resume(…)")
        from kitaru.ops.resume import resume

        return resume(self._store, self._whole(exec_id), again=again, options=options).handle

    def write_residual(
        self,
        exec_id: str,
        target: str,
        *,
        directory: str | Path = "build",
        image: str | None = None,
    ) -> Build:
        """Write the residual pipeline of an execution: its remaining steps, to be deployed.

        Only the store is read. The code is the one that the execution started with.

        Args:
            target: name of a target.
            directory: the build is written to `directory/FLOW/TARGET-EXEC`.
            image: container image of every step. Default: as configured.

        Raises:
            NotFound: there is no such execution.
            StateError: the store does not have its code.
            UsageError: it runs on this machine, or the target is unknown.

        Example:
            client.executions.write_residual(exec_id, "vertex").directory
        """
        refuse_while_importing("client.executions.write_residual(…)")
        from kitaru.ops.resume import Place, check_stored, write_residual

        journal = Journal.open(self._store, self._whole(exec_id))
        check_stored(journal)
        return write_residual(journal, Place(target, Path(directory), image))

    def retry(self, exec_id: str) -> Handle[Any]:
        """Retry a failed execution under the same id. Recorded checkpoints do not run again.

        Raises:
            NotFound: there is no such execution.
            StateError: it has not failed.
        """
        refuse_while_importing("client.executions.retry(…)")
        from kitaru.ops.retry import retry

        return retry(self._store, self._whole(exec_id)).handle

    def replay(
        self,
        exec_id: str,
        *,
        start: str = "",
        at_failure: bool = False,
        results: Mapping[str, Any] | None = None,
        inputs: Mapping[str, Any] | None = None,
        models: Mapping[str, str] | None = None,
        from_: str = "",
        at: str = "",
        overrides: Mapping[str, Any] | None = None,
        checkpoint_overrides: Mapping[str, Any] | None = None,
        flow_overrides: Mapping[str, Any] | None = None,
        submit: bool = True,
        reuse_unchanged: bool = False,
        **changed: Any,
    ) -> ReplayHandle[Any]:
        """Start a new execution that reuses the records before `start`, and run the rest again.

        A replay of a local execution runs in this process. The remaining steps of a deployed one
        are started on its target.

        Args:
            start: id or name of the first invocation to run again. Default: everything.
            at_failure: run again from the invocation that failed.
            results: results to inject, by invocation. They are returned for any arguments.
            inputs: inputs to change, as JSON by name.
            models: models to use instead of the configured ones, by alias.
            from_, at: aliases of `start`.
            overrides: `results` by `checkpoint.NAME`, and `inputs` by `input.NAME`.
            checkpoint_overrides: `results`, each as `{"output": value}`.
            flow_overrides: alias of `inputs`.
            submit: whether to start the remaining steps of a deployed execution.
            changed: inputs to change, by name, as in `inputs`.
            reuse_unchanged: reuse each result whose code and arguments are unchanged, and run the
                other calls. Not with `start` or `at_failure`.

        Raises:
            NotFound: there is no such execution or invocation.
            StateError: `at_failure` is set, and the execution did not fail.
            UsageError: a name matches several invocations, or a result cannot be injected.
            InputError: an input is unknown or does not match its annotation.
            EnvironmentFailure: the target cannot be reached. The replay is recorded.

        Example:
            client.executions.replay(exec_id, start="draft", results={"research": "owls"}).wait()
        """
        refuse_while_importing("client.executions.replay(…)")
        from kitaru.ops.replay import replay
        from kitaru.runtime.executions.replay import Changes

        more_results, more_inputs = overridden(overrides, checkpoint_overrides)
        changes = Changes(
            start or from_ or at,
            at_failure,
            {**more_results, **(results or {})},
            {**more_inputs, **(flow_overrides or {}), **changed, **(inputs or {})},
            models or {},
            reuse_unchanged,
        )
        source = self._whole(exec_id)
        begun = replay(self._store, source, changes, submits=submit)
        return ReplayHandle(begun.handle, source)

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
        """Replay the newest executions of a flow or status with the same changes, and compare them.

        They run one after the other, each until it ends or waits. Running executions and replays
        are skipped. `start`, `at_failure`, `results`, `inputs`, `models` and `reuse_unchanged` are
        as for `replay`.

        Args:
            flow: only executions of this flow.
            status: only executions with this status.
            where: more conditions, as for `page`.
            limit: maximum number of executions.

        Example:
            cohort = client.executions.replay_many(flow="review", models={"fast": "openai/gpt-4o"})
            [one.source for one in cohort if not one.is_same]
        """
        refuse_while_importing("client.executions.replay_many(…)")
        from kitaru.ops.replay_many import replay_each, select
        from kitaru.ops.where import parse_where
        from kitaru.runtime.executions.replay import Changes

        changes = Changes(
            start, at_failure, results or {}, inputs or {}, models or {}, reuse_unchanged
        )
        selected = parse_where(where).narrowed(flow=flow, status=status)
        sources = [one.exec_id for one in select(self._store, selected, limit).items]
        return replay_each(self._store, lambda source: changes, sources)

    def cancel_many(
        self, where: Iterable[str], *, limit: int = 100, within: int = 10_000
    ) -> builtins.list[Done]:
        """Cancel the newest executions that a filter selects, and return what was done with each.

        Args:
            where: conditions, such as `["flow=review", "older_than=2d"]`, which must all hold; see
                `kitaru.ops.where.parse_where`.
            limit: maximum number of executions.
            within: search the newest N executions.

        Raises:
            UsageError: a condition is not valid, or the filter is empty.

        Example:
            client.executions.cancel_many(["tag.customer=acme", "status=waiting"])
        """
        refuse_while_importing("client.executions.cancel_many(…)")
        from kitaru.ops.many import carry_out, select
        from kitaru.ops.where import parse_where

        page = select(self._store, "cancel", parse_where(where), limit=limit, within=within)
        return [*carry_out(self._store, "cancel", [one.exec_id for one in page.items])]

    def retry_many(
        self, where: Iterable[str], *, limit: int = 100, within: int = 10_000
    ) -> builtins.list[Done]:
        """Retry the newest failed executions that a filter selects; see `cancel_many`.

        A local execution runs in this process until it ends or waits.

        Example:
            client.executions.retry_many(["flow=review", "newer_than=2d"])
        """
        refuse_while_importing("client.executions.retry_many(…)")
        from kitaru.ops.many import carry_out, select
        from kitaru.ops.where import parse_where

        page = select(self._store, "retry", parse_where(where), limit=limit, within=within)
        return [*carry_out(self._store, "retry", [one.exec_id for one in page.items])]

    def abort(self, exec_id: str, wait: str | None = None) -> ExecutionView:
        """Cancel the execution instead of answering a pending wait.

        Raises:
            WaitConflict: the wait was answered before.
            NotFound: there is no such execution or wait.
            StateError: the execution has no wait.
        """
        refuse_while_importing("client.executions.abort(…)")
        from kitaru.ops.cancel import abort

        return abort(self._store, self._whole(exec_id), wait).view

    abort_wait = abort

    def cancel(self, exec_id: str) -> ExecutionView:
        """Cancel an execution. It stops at its next durable operation and cannot be resumed.

        Records stay. Cancelling a cancelled execution has no effect.

        Raises:
            NotFound: there is no such execution.
            StateError: it is completed.
        """
        refuse_while_importing("client.executions.cancel(…)")
        from kitaru.ops.cancel import cancel

        return cancel(self._store, self._whole(exec_id)).view
