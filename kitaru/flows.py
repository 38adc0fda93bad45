"""The `@flow` decorator: functions that run durably, and can be deployed.

`kitaru.local_flow` runs a flow in this process. Methods about deployments call use cases of
`kitaru.ops`, and import them when they are called.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, overload

from kitaru.handle import Handle
from kitaru.local_flow import FlowOptions, LocalFlow, Runner
from kitaru.wire.starts import refuse_while_importing

if TYPE_CHECKING:
    from kitaru.ops.invoke import FlowDeployment
    from kitaru.runtime.engine.local_children import RunningChild
    from kitaru.stores.base import Store

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")

__all__ = ["Flow", "FlowOptions", "Handle", "Runner", "flow"]


class Flow(LocalFlow[P, R_co], Generic[P, R_co]):
    """A flow, created by `@flow`. Run it with `.run(…)`."""

    def deploy(
        self,
        *,
        target: str | None = None,
        tag: str | Sequence[str] = (),
        image: str | None = None,
        store: str | Store | None = None,
    ) -> FlowDeployment:
        """Compile this flow from its file, and store the build as its next version.

        The first version gets the tag `default`. Later, only the named tags move.

        Args:
            target: name of a target. Default: as configured, then `local`, a process that reads
                only the store.
            tag: tag, or list of tags, to move to the version.
            image: container image of the steps.

        Raises:
            SourceError: the source has errors.
            UsageError: a tag or the target is not valid.

        Example:
            review_flow.deploy(tag="stable").invoke(topic="kayaks").wait()
        """
        refuse_while_importing(f"{self.name}.deploy(…)", self.module)
        from kitaru.ops.deploy import deploy_flow

        return deploy_flow(self, target=target, tag=tag, image=image, store=store)

    @overload
    def invoke(
        self: Flow[P, Coroutine[Any, Any, S]], *args: P.args, **kwargs: P.kwargs
    ) -> Handle[S]: ...
    @overload
    def invoke(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R_co]: ...
    def invoke(self, *args: P.args, **kwargs: P.kwargs) -> Handle[Any]:
        """Start an execution of the version that the tag `default` points at, on its target.

        Another version: `review_flow.deployment(tag="stable").invoke(…)`.

        Raises:
            NotFound: the flow is not deployed in the configured store.
            InputError: the inputs are not those of the version.
            EnvironmentFailure: the SDK or a package is missing, or the store or service failed.

        Example:
            review_flow.invoke(topic="kayaks").wait()
        """
        refuse_while_importing(f"{self.name}.invoke(…)", self.module)
        from kitaru.ops.invoke import invoke_flow

        return invoke_flow(self, args, kwargs)

    def deployments(self, *, store: str | Store | None = None) -> list[FlowDeployment]:
        """Return the deployed versions of this flow, the oldest first."""
        from kitaru.ops.invoke import deployments_of

        return deployments_of(self, store)

    def deployment(
        self,
        *,
        tag: str | None = None,
        version: int | str | None = None,
        store: str | Store | None = None,
    ) -> FlowDeployment:
        """Return one deployed version of this flow. Default: the version of the tag `default`.

        Raises NotFound if there is no such version or tag.
        """
        from kitaru.ops.invoke import deployment_of

        return deployment_of(self, tag, version, store)

    def _start_deployed(self, store: Store, exec_id: str) -> RunningChild | None:
        """Start the run of a child of this flow, as `kitaru invoke` does; see `LocalFlow`."""
        from kitaru.ops.invoke import start_child

        return start_child(store, exec_id)


@overload
def flow(function: Callable[P, R], /) -> Flow[P, R]: ...
@overload
def flow(**options: Unpack[FlowOptions]) -> Callable[[Callable[P, R]], Flow[P, R]]: ...
def flow(
    function: Callable[P, R] | None = None, /, **options: Unpack[FlowOptions]
) -> Flow[P, R] | Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a function, `def` or `async def`, a flow; used as `@flow` or `@flow(…)`.

    Args:
        name: what executions call it; default the function's name.
        cache: whether its checkpoints may use results of other executions; default true.
        retries, retry_delay, backoff, retry_on: for checkpoints that do not say themselves, as
            `@checkpoint` takes them; default as configured (0 retries), without delay, doubling,
            any exception.
        max_parallel: how many submitted calls run at the same time, as threads or as nodes; default
            as configured (8).
        capture: what is kept of model calls where neither the call nor its checkpoint says:
            `full`, `metadata` (no texts) or `off`; default as configured, which is `full`.
        budget: how much its model calls may use: `usd` and `tokens` of one execution,
            `usd_per_day` and `tokens_per_day` of all executions on one day of UTC. Further calls
            raise BudgetExceeded. An execution that has cost `notify_usd` continues, and people are
            notified. Default as configured, which is no limit.
        image: the container image of its steps, written out; default as configured.
        stack: the stack whose settings count where no other is named; default as configured.
        schedule: a cron expression. The deployed version with the tag `default` starts at its
            instants, through a dispatcher. Each input needs a default.
        timezone: IANA name of the time zone of `schedule`; default UTC.
        overlap: what a tick does while the previous execution has not ended: `skip` (default),
            `queue`, `cancel` or `allow`.
        catchup: which ticks start that no dispatcher decided in time: `none`, `last` (default) or
            `all`.
        schedule_by: who starts the flow: a `dispatcher` (default), or the `target`, through a
            schedule of its own that the build contains.
        concurrency: how many executions run at the same time: a number, `kitaru.limit(…)`, or
            several of them. One that waits for an answer does not count.
        rate_limit: how many executions start in a period: `kitaru.limit(60, per="1m")`, or several.
        priority: path of an input that is a number, such as `input.priority`. An execution with one
            more is started as if it had waited ten minutes longer.
        on: names of events, such as `invoice.created`. Each event starts the deployed version with
            the tag `default`, once, through a dispatcher. The input `event` is the whole event,
            and other inputs are the fields of its data with their names.
        where: a condition on `data`, `id`, `name` and `at` of those events, in the Common
            Expression Language, such as `data.amount > 100`. It needs the extra `events`.
        cancel_on: events that cancel executions of a deployed version that have not ended: names,
            or `kitaru.on_event(…)`, which selects executions by their inputs, or several.
        on_failure: a deployed flow, `FLOW`, `FLOW@TAG` or `FLOW@vN`, that starts when an execution
            of this flow fails, once this flow is deployed too. Its inputs are those that an event
            gives: `exec_id`, `flow`, `error`, or the whole `event`. A dispatcher starts it.
        on_waiting: the same when an execution asks a question, with the inputs `exec_id`, `flow`,
            `wait`, `question` and `deadline`.

    Raises:
        UsageError: the function is a generator, or an option is wrong.

    Example:
        @flow
        def review_flow(topic: str) -> str:
            return draft(research(topic))
    """
    if function is not None:
        return Flow(function, **options)
    return lambda f: Flow(f, **options)
