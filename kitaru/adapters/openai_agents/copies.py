"""Copies of agents whose model requests and tool calls are steps of the current run.

model request                  triage.model, triage.model_2
call of a function tool        triage.refund-call_x1
agent as tool, `flow_tool`     triage.research-call_x2.…      a scope without a record
guardrail                      triage.guard-off_topic.…       a scope without a record
tools of an MCP server         triage.shop-tools, triage.price-call_x3
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from agents import (
    Agent,
    CodeInterpreterTool,
    FileSearchTool,
    FunctionTool,
    Handoff,
    HostedMCPTool,
    ImageGenerationTool,
    Model,
    RunContextWrapper,
    Tool,
    WebSearchTool,
)
from agents.mcp import MCPServer
from agents.tool_context import ToolContext
from mcp.types import Tool as MCPTool
from pydantic import TypeAdapter

from kitaru import harness
from kitaru.adapters.openai_agents.models import recorded
from kitaru.adapters.openai_agents.runs import VERSION, recording_run
from kitaru.adapters.openai_agents.state import CallState
from kitaru.errors import ContextError, UsageError

T = TypeVar("T")
_ORIGINAL = "_kitaru_original"
_IN_FLOW = "_kitaru_in_flow"
_GUARDED = "_kitaru_guarded"
_MCP_TOOLS = TypeAdapter(list[MCPTool])
# The provider of the model runs these as a part of the request.
_HOSTED = (
    CodeInterpreterTool,
    FileSearchTool,
    HostedMCPTool,
    ImageGenerationTool,
    WebSearchTool,
)


def flow_tool(tool: FunctionTool) -> FunctionTool:
    """Mark a function tool that makes durable calls itself, and so runs in the flow's body.

    Such a tool calls checkpoints, `kitaru.wait` or another agent. It has no record of its own: when
    the execution resumes, its code runs again, and its durable calls return what is recorded.
    Agents as tools, and tools that are checkpoints, need no mark.

    Example:
        @flow_tool
        @function_tool
        async def ask_person(question: str) -> str:
            return await aio.wait(name="person", question=question, schema=str)
    """
    marked = copy.copy(tool)
    setattr(marked, _IN_FLOW, True)
    return marked


class Copies:
    """The copies of the agents of one run, and of all that they hand over to."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Agent[Any], Agent[Any]]] = {}

    def agent(self, agent: Agent[Any]) -> Agent[Any]:
        """Return the copy of an agent; of a copy, a new one of its original."""
        if any(made is agent for _, made in self._made.values()):
            return agent
        agent = getattr(agent, _ORIGINAL, agent)
        # The tuple keeps the original, so that its id is not used again.
        if id(agent) in self._made:
            return self._made[id(agent)][1]
        made = copy.copy(agent)
        setattr(made, _ORIGINAL, agent)
        # Agents may hand over to each other in a circle.
        self._made[id(agent)] = agent, made
        if isinstance(agent.model, Model):
            made.model = recorded(agent.model)
        made.tools = [_tool(tool, agent.name) for tool in agent.tools]
        if agent.mcp_servers:
            made.mcp_servers = [_Server(server) for server in agent.mcp_servers]  # type: ignore[misc]
            made.get_mcp_tools = functools.partial(_mcp_tools, made.get_mcp_tools)  # type: ignore[method-assign]
        made.handoffs = [self._handoff(one) for one in agent.handoffs]
        made.input_guardrails = [guarded(one) for one in agent.input_guardrails]
        made.output_guardrails = [guarded(one) for one in agent.output_guardrails]
        return made

    def _handoff(self, one: Agent[Any] | Handoff[Any, Any]) -> Agent[Any] | Handoff[Any, Any]:
        if isinstance(one, Agent):
            return self.agent(one)
        invoke = one.on_invoke_handoff

        async def invoked(context: RunContextWrapper[Any], arguments: str) -> Any:
            return self.agent(await invoke(context, arguments))

        made = copy.copy(one)
        made.on_invoke_handoff = invoked
        return made


# Tools of MCP servers


class _Server:
    """A server whose list of tools is recorded: a model was offered the tools of that time."""

    def __init__(self, server: MCPServer) -> None:
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    async def list_tools(self, *args: Any, **options: Any) -> list[MCPTool]:
        """Return the tools that the server offers, or those that are recorded."""
        run = recording_run()
        if run is None:
            return await self._server.list_tools(*args, **options)

        async def body() -> Any:
            found = await self._server.list_tools(*args, **options)
            return _MCP_TOOLS.dump_python(found, mode="json", by_alias=True, exclude_unset=True)

        with run.scope:
            step = harness.step(
                f"{self._server.name}-tools",
                body,
                version=VERSION,
                read=_MCP_TOOLS.validate_python,
            )
        found: list[MCPTool] = await step
        return found


async def _mcp_tools(get_tools: Callable[[Any], Any], context: Any) -> list[Any]:
    return [_function_tool(tool) for tool in await get_tools(context)]


# Tools


def _tool(tool: Tool, agent: str) -> Tool:
    if isinstance(tool, FunctionTool):
        return _function_tool(tool)
    if isinstance(tool, _HOSTED) or _is_in_container(tool):
        return tool
    kind = type(tool).__name__
    raise UsageError(
        f"The agent {agent} has a {kind}, which runs on this machine and whose calls are not "
        "recorded: a resume would run them again.",
        help="Make it a function tool: @function_tool. Hosted tools, which the provider of the "
        "model runs, are part of the recorded request.",
    )


def _is_in_container(tool: Any) -> bool:
    return type(tool).__name__ in ("ToolSearchTool", "ProgrammaticToolCallingTool") or (
        type(tool).__name__ == "ShellTool" and tool.executor is None
    )


def _function_tool(tool: FunctionTool) -> FunctionTool:
    if isinstance(tool.on_invoke_tool, _Invoker):
        return tool
    made = copy.copy(tool)
    made.on_invoke_tool = _Invoker(made.on_invoke_tool, _makes_durable_calls(tool))
    for name in ("tool_input_guardrails", "tool_output_guardrails"):
        if guards := getattr(tool, name):
            setattr(made, name, [guarded(one) for one in guards])
    return made


def _makes_durable_calls(tool: FunctionTool) -> bool:
    function = getattr(tool, "__wrapped__", None)
    is_agent = getattr(tool, "_is_agent_tool", False)
    return bool(getattr(tool, _IN_FLOW, False) or is_agent or harness.is_checkpoint(function))


class _Invoker:
    """Invokes a function tool: as a step, or in a scope if the tool makes durable calls.

    Attributes and the signature are those of the invoker that it contains.
    """

    def __init__(self, invoke: Callable[[Any, str], Any], in_flow: bool) -> None:
        self.__wrapped__ = invoke
        self._in_flow = in_flow

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            # A protocol of the SDK would replace this object with the one inside.
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    async def __call__(self, context: ToolContext[Any], arguments: str) -> Any:
        run = recording_run()
        if run is None:
            return await self.__wrapped__(context, arguments)
        name = context.tool_name
        key = run.key(name, context.tool_call_id)
        if self._in_flow:
            with run.scope:
                scope = harness.scope(name, key=key, tasks=True)
            with scope:
                return await self.__wrapped__(context, arguments)

        state, before = CallState(context.context, name), dict(vars(context))

        async def body() -> Any:
            context.context = state.own
            try:
                output = await self.__wrapped__(context, arguments)
            finally:
                context.context = before["context"]
            return {"output": output, "state": state.changes(), "call": _noted(context, before)}

        with run.scope:
            step = harness.step(
                name, body, key=key, kind="tool", arguments=_shown(arguments), version=VERSION
            )
        try:
            result = await step
        except ContextError as error:
            raise UsageError(
                f"The tool {name} makes durable calls itself, so it cannot be one record.",
                help="Let it run in the flow's body: put @flow_tool above @function_tool.",
            ) from error
        state.apply(result["state"])
        for attribute, value in result["call"].items():
            setattr(context, attribute, value)
        return result["output"]


def _noted(context: ToolContext[Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the SDK has noted about the call in its context, as far as it is JSON.

    For example, whether the result is the SDK's text for a tool that has failed.
    """
    return {
        name: value
        for name, value in vars(context).items()
        if value is not before.get(name, context) and _is_json(value)
    }


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError, RecursionError):
        return False


def _shown(arguments: str) -> dict[str, Any]:
    try:
        shown = json.loads(arguments or "{}")
    except ValueError:
        shown = None
    return shown if isinstance(shown, dict) else {"arguments": arguments}


# Guardrails


def guarded(guardrail: T) -> T:
    """Return a guardrail whose agents record their calls in a scope of its name."""
    made: Any = copy.copy(guardrail)
    name, function = made.get_name(), made.guardrail_function
    if getattr(function, _GUARDED, False):
        # Runs of agents as tools have the configuration of the outer run.
        return guardrail

    @functools.wraps(function)
    async def run_guardrail(*args: Any) -> Any:
        run = recording_run()
        if run is None:
            return await _awaited(function(*args))
        # Those of tools run concurrently, each with the id of its call.
        call = getattr(getattr(args[0], "context", None), "tool_call_id", None)
        with run.scope:
            scope = harness.scope("guard", key=run.key("guard", name, call), tasks=True)
        with scope:
            return await _awaited(function(*args))

    setattr(run_guardrail, _GUARDED, True)
    made.guardrail_function = run_guardrail
    made.name = name
    return made  # type: ignore[no-any-return]


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
