"""The plugin that makes the agents of an app durable in flows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.adk.plugins import BasePlugin

from kitaru import harness
from kitaru.adapters.google_adk.models import durable, next_request
from kitaru.adapters.google_adk.runs import open_run, run_of
from kitaru.adapters.google_adk.tools import make_durable, noted
from kitaru.errors import UsageError


class KitaruPlugin(BasePlugin):
    """Record the model requests and tool calls of an app in flows.

    The conversation of a session is a scope with the name of the root agent. A tool call is one
    step, and its record contains what the tool changed in the session: state, artifacts, a
    transfer. ADK's callbacks are not recorded. They run again when the execution resumes.

    Use it for a runner that you create yourself, in the last place of `plugins`. `KitaruADKRunner`
    adds it, and turns confirmations and long-running tools into waits.

    Args:
        flow_tools: names of tools that make durable calls of their own, such as one that calls
            `kitaru.wait`. They run in the flow's body: again when the execution resumes, but not
            their recorded calls. Tools that are checkpoints or agents are recognized.

    Example:
        app = App(name="support", root_agent=agent, plugins=[KitaruPlugin()])

        @flow
        async def answer(question: str) -> str:
            runner = InMemoryRunner(app=app)
            …
    """

    def __init__(self, *, flow_tools: Iterable[str] = ()) -> None:
        super().__init__(name="kitaru")
        self.flow_tools = frozenset(flow_tools)

    async def on_user_message_callback(self, *, invocation_context: Any, user_message: Any) -> None:
        """Open the scope of the session, in the task of the caller."""
        self._begin(invocation_context)

    async def before_run_callback(self, *, invocation_context: Any) -> None:
        """Open the scope of a session that continues without a message."""
        self._begin(invocation_context)

    def _begin(self, context: Any) -> None:
        if harness.current_execution() is None:
            return
        if context.live_request_queue is not None:
            raise UsageError(
                "ADK's run_live cannot be recorded: its requests and responses are one connection.",
                help="Run the agent with run_async in a flow, or outside of flows.",
            )
        name = context.agent.root_agent.name if context.agent is not None else context.app_name
        open_run(context.session.id, name, self.flow_tools)
        context.artifact_service = noted(context.artifact_service)

    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> None:
        """Let the next request of an agent be a step."""
        agent = callback_context.get_invocation_context().agent
        agent.model = durable(agent.canonical_model)
        run = run_of(callback_context)
        if run is not None:
            name = run.model(callback_context.agent_name)
            next_request.set((run.place(callback_context), name))

    async def before_tool_callback(
        self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any
    ) -> None:
        """Let the call of a tool be a step."""
        make_durable(tool)
