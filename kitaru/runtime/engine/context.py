"""The context of running code: a flow's body, a checkpoint, or neither."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from kitaru.errors import ContextError
from kitaru.wire.structs import Struct

if TYPE_CHECKING:
    from kitaru.runtime.engine.execution import Execution


class OpenCall(Struct):
    """A model call under way: the facts that are known, when it began, and what the call keeps.

    `began` is a reading of `time.perf_counter`, `capture` what the call itself said.
    """

    facts: dict[str, Any]
    began: float
    capture: str | None


class Running:
    """One attempt of one invocation, and what it leaves beside its value.

    `capture` is what the decorators say is to be kept of its model calls, None for nothing,
    `pickle` whether it may load pickles. `loading_seconds` is how long it waited for the import of
    a library that reaches a model, which is not time of its own. `open_calls` are the model calls
    that have not been answered yet: an attempt that is given up leaves them behind.
    """

    __slots__ = (
        "artifacts",
        "calls",
        "capture",
        "invocation",
        "loading_seconds",
        "metadata",
        "open_calls",
        "pickle",
    )

    def __init__(self, invocation: str, capture: str | None = None, pickle: bool = False) -> None:
        self.invocation = invocation
        self.capture = capture
        self.pickle = pickle
        self.calls: list[dict[str, Any]] = []
        self.open_calls: dict[int, OpenCall] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.metadata: dict[str, Any] = {}
        self.loading_seconds = 0.0


class Scope(Struct):
    """The execution that code belongs to; `running` is `None` in the flow's body."""

    execution: Execution
    running: Running | None = None


_scope: ContextVar[Scope | None] = ContextVar("kitaru_scope", default=None)


# A forked child is not part of the execution: another process records that.
os.register_at_fork(after_in_child=lambda: _scope.set(None))


def current() -> Scope | None:
    """Return where the caller runs; `None` outside any flow."""
    return _scope.get()


@contextmanager
def entered(scope: Scope) -> Iterator[None]:
    """Make `scope` the current one of this thread or task."""
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def in_body(what: str) -> Execution:
    """Return the execution of the flow body that calls `what`.

    Raises:
        ContextError: the caller is not in a flow's body.
    """
    scope = _somewhere(what)
    if scope.running is not None:
        raise ContextError(
            f"{what} was used inside the checkpoint {scope.running.invocation}.",
            help=f"Call {what} in the flow's body: a checkpoint is one recorded unit.",
        )
    return scope.execution


def in_checkpoint(what: str) -> tuple[Execution, Running]:
    """Return the execution and the attempt of the checkpoint that calls `what`.

    Raises:
        ContextError: the caller is not in a checkpoint.
    """
    scope = current()
    if scope is None or scope.running is None:
        raise ContextError(
            f"{what} was used outside a checkpoint.",
            help=f"Call {what} in a function decorated with @checkpoint.",
        )
    return scope.execution, scope.running


def _somewhere(what: str) -> Scope:
    scope = current()
    if scope is None:
        raise ContextError(
            f"{what} was used outside a flow, or in a thread that the flow started itself.",
            help="Call it in the body of a function decorated with @flow, started with .run(…); "
            "for concurrency use .submit(…) or .map(…) of a checkpoint.",
        )
    return scope


def anywhere(what: str) -> Scope:
    """Return where the caller runs, body or checkpoint; raise ContextError outside a flow."""
    return _somewhere(what)
