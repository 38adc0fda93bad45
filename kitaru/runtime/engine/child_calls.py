"""Wait for a child execution: a durable call whose value is the child's result.

The call is a wait. Its answer says how the child has ended. A failed or cancelled child raises
`ChildFailed`, which is recorded like the failure of a checkpoint: once the body continues past it.
Until then `retry` of the parent looks at the child again, which may have been retried meanwhile.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from kitaru.errors import UsageError
from kitaru.runtime.engine.calls import Call, Spec, ending
from kitaru.runtime.engine.execution import Execution
from kitaru.runtime.engine.outcomes import Outcome
from kitaru.runtime.engine.places import running_loop
from kitaru.runtime.engine.retries import ONCE
from kitaru.runtime.journal import children
from kitaru.wire.records import WaitRequest

CALLEE = "kitaru.invoke"


def _no_value() -> None:
    """Stand for the function of a call that runs nothing here."""


def result(execution: Execution, child: str, flow: str, invocation: str) -> Any:
    """Return the result of a child; suspend until the child has ended."""
    if execution.loop is not None and execution.loop is running_loop():
        execution.loop.check_may_block(invocation, "await child")
    found = _earlier(execution, invocation)
    if found is None:
        call, request = _begun(execution, child, flow, invocation)
        with ending(call), execution.recording():
            found = execution.outcome_of_wait(call, request, 0)
    return _value_of(execution, found)


def awaited_result(
    execution: Execution, child: str, flow: str, invocation: str
) -> Coroutine[Any, Any, Any]:
    """Return the coroutine that waits for a child. The call's id is taken now."""
    from kitaru.runtime.engine import awaited_calls

    found = _earlier(execution, invocation)
    if found is not None:
        return _known(execution, found)
    call, request = _begun(execution, child, flow, invocation)
    return awaited_calls.ended(execution, call, request)


async def _known(execution: Execution, found: Outcome) -> Any:
    return _value_of(execution, found)


def _begun(
    execution: Execution, child: str, flow: str, invocation: str
) -> tuple[Call, WaitRequest]:
    id = children.wait_of(invocation)
    spec = Spec(id, _no_value, CALLEE, kind="child", policy=ONCE, compared=False)
    request = WaitRequest(
        id, f"The result of {child}, which runs {flow}.", {}, kind="child", child=child
    )
    return execution.begin(spec, (), {}, id, is_complete=False), request


def _earlier(execution: Execution, invocation: str) -> Outcome | None:
    """Return the outcome that the body has already seen, None for its first wait for the child."""
    id = children.wait_of(invocation)
    if not execution.counters.has(id):
        return None
    if (unsealed := execution.unsealed(id)) is not None:
        return unsealed
    with execution.recording():
        record = execution.journal.invocation(id)
    if record is None:
        raise UsageError(
            f"Another task of the flow already waits for the child of {invocation}.",
            help="Let one task wait, and share its result.",
        )
    return Outcome(record)


def _value_of(execution: Execution, outcome: Outcome) -> Any:
    """Return the result of a child, or raise why it has none."""
    value, error = execution.value_of(outcome, unpickle=False)
    if error is None:
        return value
    if not outcome.sealed:
        execution.note_unsealed(outcome.record.id, outcome)
    raise error
