"""The runs of agents in a flow: scopes of their records, and keys of their calls.

root agent          support.model, support.model_2
sub-agent           support.billing-model
parallel branch     support.checks_stock.stock-model
tool call           support.refund-call_x1            the id that the model gave
                    support.refund-model_2-0          a call of response model_2 without an id
agent as tool       support.research-call_x2.researcher.model
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any

from kitaru import harness

VERSION = f"google-adk {version('google-adk')}"
"""Recorded with each step."""

# ADK removes ids with this beginning from what it sends to a model.
_CLIENT_ID = "adk-"
_GENERATED = re.compile(r"adk-[\w-]+:")


class Run:
    """A conversation of an agent in a flow: its scope, and the tool calls that it has made."""

    def __init__(self, name: str, flow_tools: Iterable[str]) -> None:
        self.name = name
        self.flow_tools = frozenset(flow_tools)
        self.scope = harness.scope(name)
        # Set when the last tool that has changed the session is recorded.
        self.last_change: asyncio.Event | None = None
        self._branches: dict[str, harness.scope] = {}
        self._taken: dict[tuple[str, str], int] = {}

    def register(self, session_id: str) -> None:
        """Let the calls of a session belong to this run."""
        runs = _runs.get()
        if runs is None:
            _runs.set(runs := {})
        runs[session_id] = self

    def place(self, context: Any) -> harness.scope:
        """Return the scope of a branch: agents in parallel branches run side by side."""
        branch = _branch(context)
        if not branch:
            return self.scope
        if branch not in self._branches:
            with self.scope:
                self._branches[branch] = harness.scope(branch, key=self.short(branch))
        return self._branches[branch]

    def model(self, agent: str) -> str:
        """Return the name of the requests of an agent."""
        return "model" if agent == self.name else f"{agent}-model"

    def key(self, tool: str, context: Any) -> str:
        """Return the key of a call of a tool."""
        key = f"{tool}-{self.short(context.function_call_id or '')}"
        if context.tool_confirmation is not None:
            # The same call, after a person has approved or rejected it.
            key += "-confirmed"
        place = (_branch(context), key)
        number = self._taken[place] = self._taken.get(place, 0) + 1
        # Some models and tests use the id of a call more than once.
        return key if number == 1 else f"{key}_{number}"

    def short(self, text: str) -> str:
        """Return an id of a call, or a branch, without the execution and the path of the scope."""
        return _GENERATED.sub("", text).replace(f"{self.scope.path}.", "")


def call_id(exec_id: str, step: str, index: str) -> str:
    """Return an id for a call that the model gave none. It is unique in all sessions."""
    return f"{_CLIENT_ID}{exec_id}:{step}-{index}"


# By session. The body of an execution has its own context.
_runs: ContextVar[dict[str, Run] | None] = ContextVar("kitaru_google_adk_runs", default=None)


def open_run(session_id: str, name: str, flow_tools: Iterable[str]) -> None:
    """Begin the run of a session here, unless it exists."""
    if session_id not in (_runs.get() or {}):
        Run(name, flow_tools).register(session_id)


def run_of(context: Any) -> Run | None:
    """Return the run that a context of ADK belongs to; None where nothing can be recorded."""
    if harness.current_execution() is None:
        return None
    return (_runs.get() or {}).get(context.session.id)


def _branch(context: Any) -> str:
    return context.get_invocation_context().branch or ""
