"""LangChain's agents for the conformance kit."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, ClassVar

from langchain.agents import AgentState, create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, ModelRetryMiddleware
from langchain.tools import ToolRuntime
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.types import Command
from pydantic import Field

from kitaru.adapters.langgraph import KitaruGraphRunner, KitaruMiddleware
from kitaru.testing.adapters import Agent, Harness, Outcome, Tool, Turn
from kitaru.testing.adapters.harness import Feature


class Model(BaseChatModel):
    """A model that answers with the script's turns."""

    agent: Any = Field(exclude=True)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        """Return the model: the script contains the tool calls."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        return _result(self.agent.respond_blocking(_answered(messages)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        return _result(await self.agent.respond(_answered(messages)))


def _answered(messages: list[BaseMessage]) -> list[str]:
    return [message.tool_call_id for message in messages if isinstance(message, ToolMessage)]


def _result(turn: Turn) -> ChatResult:
    total = turn.input_tokens + turn.output_tokens
    used = {"input_tokens": turn.input_tokens, "output_tokens": turn.output_tokens}
    message = AIMessage(
        turn.text,
        tool_calls=[ToolCall(name=c.tool, args={"item": c.item}, id=c.id) for c in turn.calls],
        usage_metadata={**used, "total_tokens": total},
        response_metadata={"model_name": "scripted-1"},
    )
    return ChatResult(generations=[ChatGeneration(message=message)])


class State(AgentState[Any]):
    """The state of a run, with what its tools change."""

    shared: Annotated[dict[str, Any], operator.or_]


class Built:
    """An agent of LangChain for a script. `inner` counts the tokens of agents among its tools."""

    def __init__(self, agent: Agent) -> None:
        self.inner = 0
        tools = [self._tool(tool) for tool in agent.tools]
        tools += [self._nested(nested) for nested in agent.agents]
        own = [tool.name for tool in agent.tools if tool.has_own_calls]
        middleware: list[Any] = []
        if agent.requests > 1:
            retry = ModelRetryMiddleware(
                max_retries=agent.requests - 1, initial_delay=0.001, on_failure="error"
            )
            middleware.append(retry)
        if asked := {tool.name: True for tool in agent.tools if tool.approval}:
            middleware.append(HumanInTheLoopMiddleware(dict(asked)))
        middleware.append(KitaruMiddleware([*own, *(nested.name for nested in agent.agents)]))
        self.graph = create_agent(
            Model(agent=agent),
            tools,
            name=agent.name,
            middleware=middleware,
            state_schema=State,
        )
        self.runner = KitaruGraphRunner(self.graph)

    def outcome(self, state: Any) -> Outcome:
        """Return the result of a run from the graph's last state."""
        tokens = sum(
            message.usage_metadata["total_tokens"]
            for message in state["messages"]
            if isinstance(message, AIMessage) and message.usage_metadata
        )
        text = str(state["messages"][-1].text)
        return Outcome(text, tokens + self.inner, state=state.get("shared") or None)

    def _tool(self, tool: Tool) -> BaseTool:
        if not tool.changes_state:
            return _structured(tool.name, tool.function, tool.is_async)

        def change(item: str, runtime: ToolRuntime) -> Command[Any]:
            shared = dict(runtime.state["shared"])
            before = dict(shared)
            answer = ToolMessage(tool.function(item, shared), tool_call_id=runtime.tool_call_id)
            changed = {k: v for k, v in shared.items() if before.get(k) != v}
            return Command(update={"shared": changed, "messages": [answer]})

        async def achange(item: str, runtime: ToolRuntime) -> Command[Any]:
            shared = dict(runtime.state["shared"])
            before = dict(shared)
            text = await tool.function(item, shared)
            changed = {k: v for k, v in shared.items() if before.get(k) != v}
            answer = ToolMessage(text, tool_call_id=runtime.tool_call_id)
            return Command(update={"shared": changed, "messages": [answer]})

        kind: Any = {"coroutine": achange} if tool.is_async else {"func": change}
        made: BaseTool = StructuredTool.from_function(**kind, name=tool.name, description=tool.name)
        return made

    def _nested(self, agent: Agent) -> BaseTool:
        async def run(item: str) -> str:
            built = Built(agent)
            found = built.outcome(await built.graph.ainvoke(_asked(item)))
            self.inner += found.tokens
            return found.text

        return _structured(agent.name, run, True)


def _structured(name: str, function: Callable[..., Any], is_async: bool) -> BaseTool:
    if not is_async:
        return StructuredTool.from_function(function, name=name, description=name)

    def blocking(item: str) -> str:
        answer: str = asyncio.run(function(item))
        return answer

    return StructuredTool.from_function(blocking, coroutine=function, name=name, description=name)


def _asked(prompt: str) -> Any:
    return {"messages": [HumanMessage(prompt)], "shared": {}}


class LangChain(Harness):
    """Agents of `create_agent` with `KitaruMiddleware`."""

    packages = ("langgraph", "langchain")
    names = frozenset({"model", "tools"})
    unsupported: ClassVar[dict[Feature, str]] = {
        "guard": "LangChain has no agents that check another one while it runs.",
        "cancel": "LangChain cancels no request of an agent itself.",
        "session": "In a flow, the journal is the only state of a graph.",
        "messages": "LangChain's messages do not remember which fields were set.",
        "versions": "LangChain reads the messages of all its versions.",
    }

    async def run(
        self,
        agent: Agent,
        prompt: str,
        *,
        state: dict[str, Any] | None = None,
        session: str | None = None,
    ) -> Outcome:
        """Run an agent. It may run several times at once, and ask a person."""
        built = Built(agent)
        asked = {**_asked(prompt), "shared": dict(state or {})}
        return built.outcome(await built.runner.ainvoke(asked))

    def run_sync(self, agent: Agent, prompt: str) -> Outcome:
        """Run an agent on the threads of LangGraph."""
        built = Built(agent)
        return built.outcome(built.graph.invoke(_asked(prompt)))

    async def stream(self, agent: Agent, prompt: str) -> AsyncIterator[str]:
        """Yield the messages of an agent."""
        pieces = Built(agent).graph.astream(_asked(prompt), stream_mode="messages")
        async for message, _ in pieces:
            if isinstance(message, AIMessage) and message.text:
                yield str(message.text)

    def answer(self, request: Any, yes: bool) -> Any:
        """Return yes or no."""
        return yes
