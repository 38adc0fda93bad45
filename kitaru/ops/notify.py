"""Notify the orchestrator of an execution of an answer, or of the execution's end."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from kitaru.config import setting
from kitaru.errors import StateError

if TYPE_CHECKING:
    from kitaru_targets.base import Target

    from kitaru.runtime.journal.journal import Journal


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification of an orchestrator.

    `title` names the orchestrator. `outcome` is `told`, `known` if a step has already read the
    answer, `busy` if the run continues by itself, or `unreachable` if `variable`, the setting with
    its address, is not set.
    """

    title: str
    outcome: Literal["told", "known", "busy", "unreachable"]
    variable: str = ""


def notify_answer(
    journal: Journal, wait: str, value: Any, *, is_expired: bool = False
) -> Notice | None:
    """Notify an orchestrator that keeps a run open of an answer; return None without such a run.

    With `is_expired`, the deadline of the wait has passed. A run that waits for its deadline by
    itself need not be found at a wait.

    Raises EnvironmentFailure if the orchestrator cannot be notified; the answer is recorded anyway.
    """
    target = _target(journal)
    if target is None or target.answered is None:
        return None
    if wait in journal.recorded():
        return Notice(target.title, "known")
    reached = connection(target)
    if reached is None:
        return _unreachable(target)
    # A run that waits may have put its token into the store.
    store = {"store": journal.store.url} if target.answered_by_token else {}
    options = {**reached, **store}
    if not (is_expired and target.profile.timers):
        told = target.answered(journal.execution, wait, value, options)
        return Notice(target.title, "told") if told else None
    from kitaru_targets.base import NotReached

    try:
        told = target.answered(journal.execution, wait, value, options, looks=1)
    except NotReached:
        return Notice(target.title, "busy")
    return Notice(target.title, "told") if told else None


def notify_end(journal: Journal) -> Notice | None:
    """End the run of a cancelled execution on its orchestrator; return None without an open run.

    Raises EnvironmentFailure if the orchestrator cannot be notified; the execution is cancelled
    anyway.
    """
    target = _target(journal)
    if target is None or target.cancelled is None:
        return None
    reached = connection(target)
    if reached is None:
        return _unreachable(target)
    return Notice(target.title, "told") if target.cancelled(journal.execution, reached) else None


def connection(target: Target) -> dict[str, str] | None:
    """Return the connection to the orchestrator, None if no setting contains its address."""
    found = {name: setting(f"{target.name}_{name}").value for name in target.connection}
    token = os.environ.get(_variable(target, "TOKEN"))
    return {**found, **({"token": token} if token else {})} if all(found.values()) else None


def _target(journal: Journal) -> Target | None:
    from kitaru_targets import registry

    # A name in a record is not the user's choice, so it must not load a plug-in.
    name = journal.execution.target
    told = name in registry.names() and journal.execution.mode == "deployed"
    target = registry.get(name) if told else None
    return target if target and _stays_open(target, journal) else None


def _stays_open(target: Target, journal: Journal) -> bool:
    """Return whether a run of an execution's pipeline may stay open for an answer."""
    from kitaru_targets.residual_build import kept, plan_of

    if not target.profile.waits_need:
        return target.profile.waits == "native"
    try:
        options = plan_of(kept(journal)).options
    except StateError:
        options = setting(target.name).value
    return target.profile.with_options(options).waits == "native"


def _unreachable(target: Target) -> Notice:
    return Notice(target.title, "unreachable", _variable(target, "URL"))


def _variable(target: Target, what: str) -> str:
    return f"KITARU_{target.name.upper()}_{what}"
