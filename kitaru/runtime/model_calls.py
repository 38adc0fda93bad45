"""Decides what a model call is where it stands: durable in a flow, part of a checkpoint in one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kitaru.runtime import attempts
from kitaru.runtime.calls import Spec
from kitaru.runtime.context import anywhere, in_checkpoint
from kitaru.runtime.retries import ONCE
from kitaru.wire.names import check_name


def call_llm(
    name: str | None,
    arguments: dict[str, Any],
    run: Callable[[Mapping[str, str]], tuple[str, dict[str, Any]]],
) -> str:
    """Make a model call where the caller stands: durable in a flow's body, a child in a checkpoint.

    `arguments` identify the call on a replay. `run` is given the models that the execution asks
    instead of those that are configured, makes the call and returns the text and what to keep of
    it; texts under `prompt` and `response` are stored as values.
    """
    scope = anywhere("kitaru.llm")
    replayed = scope.execution.journal.execution.replay

    def call(**_: Any) -> str:
        text, kept = run(replayed.models if replayed else {})
        execution, running = in_checkpoint("kitaru.llm")
        attempts.add_model_call(execution, running, kept)
        return text

    if scope.running is not None:
        return call()
    spec = Spec(
        check_name("model call", name or "llm"), call, "kitaru.llm", kind="llm", policy=ONCE
    )
    return str(scope.execution.invoke(spec, (), arguments, None))
