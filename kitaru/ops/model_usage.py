"""Summarise model usage: calls, tokens, latency and cost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from kitaru.errors import UsageError
from kitaru.runtime.executions.listing import executions_since
from kitaru.runtime.executions.model_calls import ModelCall, each_call
from kitaru.runtime.journal.journal import Journal
from kitaru.wire.structs import Struct
from kitaru.wire.times import ago

if TYPE_CHECKING:
    from kitaru.stores.base import Store

By = Literal["model", "flow", "execution", "day"]


class Usage(Struct):
    """The usage of one group of model calls.

    `name` is the model, flow, execution or day. `requests` includes repeated requests. `unpriced`
    counts calls with an unknown price. They add nothing to `cost`, in US dollars. Token counts and
    latency are 0 for calls recorded with `capture="off"`.
    """

    name: str
    calls: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float = 0.0
    cost: float = 0.0
    unpriced: int = 0


def model_usage(
    store: Store, since: timedelta, *, flow: str | None = None, by: By = "model"
) -> tuple[list[Usage], Usage]:
    """Return the usage of each group, the most expensive first, and the total.

    Calls count if they were made in that period, regardless of the start of their executions.
    Results from the cache or from a replayed execution do not count. Failed attempts count.

    Args:
        since: the length of the period before now.
        flow: only executions of this flow.
        by: the grouping.

    Raises:
        UsageError: `by` is not one of the groups.
        EnvironmentFailure: the store cannot be read.

    Example:
        groups, total = model_usage(store, timedelta(days=7), by="flow")
    """
    if by not in get_args(By):
        raise UsageError(f"by={by!r} is not one of {', '.join(get_args(By))}.")
    groups: dict[str, Usage] = {}
    total = Usage("total")
    for item, call in _calls(store, ago(since), flow):
        name = _group(item, call, by)
        groups[name] = _plus(groups.get(name, Usage(name)), call.facts)
        total = _plus(total, call.facts)
    ordered = sorted(groups.values(), key=lambda one: (-one.cost, -one.calls, one.name))
    return ordered, total


def _calls(
    store: Store, begin: str, flow: str | None
) -> Iterator[tuple[dict[str, Any], ModelCall]]:
    for item in executions_since(store, begin, flow=flow):
        journal = Journal.open(store, item["exec_id"])
        for call in each_call(journal):
            if call.made_here and call.at >= begin:
                yield item, call


def _group(item: dict[str, Any], call: ModelCall, by: By) -> str:
    if by == "model":
        return str(call.facts.get("resolved", ""))
    if by == "day":
        return call.at[:10]
    return str(item["flow" if by == "flow" else "exec_id"])


def _plus(sum: Usage, facts: dict[str, Any]) -> Usage:
    tokens, cost = facts.get("tokens") or {}, facts.get("cost")
    return Usage(
        name=sum.name,
        calls=sum.calls + 1,
        requests=sum.requests + int(facts.get("tries", 1)),
        prompt_tokens=sum.prompt_tokens + int(tokens.get("prompt") or 0),
        completion_tokens=sum.completion_tokens + int(tokens.get("completion") or 0),
        latency_s=round(sum.latency_s + float(facts.get("latency_s") or 0), 6),
        cost=round(sum.cost + (cost or 0), 9),
        unpriced=sum.unpriced + (cost is None),
    )
