"""Decides how the orchestrator that an execution runs on learns of an answer, or of the end."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from kitaru.cli.output import Output
from kitaru.config import setting
from kitaru.errors import StateError

if TYPE_CHECKING:
    from kitaru_targets.base import Target

    from kitaru.runtime.recording.journal import Journal


def tell(journal: Journal, wait: str, value: Any, output: Output) -> bool:
    """Let a run that its orchestrator parked go on; say whether there is such a run.

    Raises EnvironmentFailure when the orchestrator cannot be told; the answer is recorded anyway.
    """
    target = _target(journal)
    if target is None or target.answered is None:
        return False
    if wait in journal.recorded():
        return True
    given = connection(target)
    if given is None:
        output.note(
            f"recorded; {target.title} is not told without {_variable(target, 'URL')}: there any "
            "response lets a task that asks go on with it, and a run that has ended goes on when "
            "its last successful task is cleared with what is behind it"
        )
        return True
    if not target.answered(journal.execution, wait, value, given):
        return False
    output.note(f"told {target.title}: the run goes on")
    return True


def tell_end(journal: Journal, output: Output) -> None:
    """End the run of a cancelled execution on its orchestrator, where that is reached.

    Raises EnvironmentFailure when it cannot be told; the execution is cancelled anyway.
    """
    target = _target(journal)
    if target is None or target.cancelled is None:
        return
    given = connection(target)
    if given is None:
        output.note(
            f"recorded; the run on {target.title} ends at its next step, and one that asks stays: "
            f"mark it as failed there, or name {_variable(target, 'URL')} to this command"
        )
    elif target.cancelled(journal.execution, given):
        output.note(f"told {target.title}: the run has ended")


def _target(journal: Journal) -> Target | None:
    from kitaru_targets import registry

    # What a record names is not what a person named: it loads no plug-in.
    name = journal.execution.target
    told = name in registry.names() and journal.execution.mode == "deployed"
    target = registry.get(name) if told else None
    return target if target and _stays_open(target, journal) else None


def _stays_open(target: Target, journal: Journal) -> bool:
    """Say whether a run of an execution's pipeline may stay open for an answer."""
    from kitaru_targets.remainder import kept, plan_of

    if not target.profile.waits_need:
        return target.profile.waits == "native"
    try:
        options = plan_of(kept(journal)).options
    except StateError:
        options = setting(target.name).value
    return target.profile.with_options(options).waits == "native"


def connection(target: Target) -> dict[str, str] | None:
    """Return how the orchestrator is reached, None where nobody said where it is."""
    found = {name: setting(f"{target.name}_{name}").value for name in target.connection}
    token = os.environ.get(_variable(target, "TOKEN"))
    return {**found, **({"token": token} if token else {})} if all(found.values()) else None


def _variable(target: Target, what: str) -> str:
    return f"KITARU_{target.name.upper()}_{what}"
