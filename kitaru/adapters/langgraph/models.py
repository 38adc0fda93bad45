"""Chat models and agents of LangChain whose calls are records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage, convert_to_openai_messages
from langchain_core.runnables.config import RunnableConfig, var_child_runnable_config
from langgraph.config import get_config
from langgraph.constants import TAG_NOSTREAM
from langgraph.errors import GraphBubbleUp
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command

from kitaru import harness
from kitaru.adapters.langgraph.messages import (
    ATTRIBUTES,
    decode,
    decode_structured,
    encode,
    encode_structured,
)
from kitaru.adapters.langgraph.places import active_run, agent_name, outer_nodes, task_number
from kitaru.errors import ContextError, UsageError

# Whether a tool of the flow calls. Its scope is the place of the agents that it runs.
_tool: ContextVar[bool] = ContextVar("kitaru_langchain_tool", default=False)
# Without a runner, calls are numbered through all runs of an agent.
_ONE_ATTEMPT = object()

Model = Callable[[ModelRequest[Any]], ModelResponse[Any]]
AsyncModel = Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
Result = ToolMessage | Command[Any]
Tool = Callable[[ToolCallRequest], Result]
AsyncTool = Callable[[ToolCallRequest], Awaitable[Result]]


class KitaruMiddleware(AgentMiddleware[Any, Any, Any]):
    """Records each model request and each tool call of an agent of LangChain.

    In the body of a flow, a call that is recorded does not run again. Outside of flows, and in
    checkpoints, the agent runs as without the middleware. Put it last in `middleware=`: the others
    then see recorded results, and an approval comes before the tool runs.

    The ids of the records begin with the `name=` of the agent: `clerk.model`,
    `clerk.search-call_1`. Run an agent several times at once through a `KitaruGraphRunner`: without
    it, calls of two runs have the same names, which is an error.

    Args:
        flow_tools: names of tools that run in the flow's body, because they make durable calls
            themselves (checkpoints, `kitaru.wait`, another durable agent) or call `interrupt`. Such
            a tool has no record of its own. Tools that are checkpoints need not be named.

    Example:
        agent = create_agent(model, tools, name="clerk", middleware=[KitaruMiddleware()])
    """

    def __init__(self, flow_tools: Iterable[str] = ()) -> None:
        super().__init__()
        self._flow_tools = frozenset(flow_tools)

    def wrap_model_call(self, request: ModelRequest[Any], handler: Model) -> ModelResponse[Any]:
        """Make the request, or return the recorded response."""
        if harness.current_execution() is None:
            return handler(request)

        def body() -> Any:
            with _live_only():
                return _recorded(request, handler(request))

        with _placed():
            record = harness.blocking_step("model", body, kind="llm", attributes=ATTRIBUTES)
        return _response(record, request)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: AsyncModel
    ) -> ModelResponse[Any]:
        """Make the request, or return the recorded response."""
        if harness.current_execution() is None:
            return await handler(request)

        async def body() -> Any:
            with _live_only():
                return _recorded(request, await handler(request))

        with _placed(in_task=True):
            step = harness.step("model", body, kind="llm", attributes=ATTRIBUTES)
        return _response(await step, request)

    def wrap_tool_call(self, request: ToolCallRequest, handler: Tool) -> Result:
        """Run the tool, or return the recorded result."""
        if harness.current_execution() is None:
            return handler(request)
        name, arguments = _step_name(request), request.tool_call["args"]
        with _placed():
            if self._runs_in_flow(request):
                with harness.scope(name), _in_tool():
                    return handler(request)

            def body() -> Any:
                with _only_results(request):
                    return encode(handler(request))

            result: Result = decode(
                harness.blocking_step(
                    name, body, kind="tool", arguments=arguments, attributes=ATTRIBUTES
                )
            )
        return result

    async def awrap_tool_call(self, request: ToolCallRequest, handler: AsyncTool) -> Result:
        """Run the tool, or return the recorded result."""
        if harness.current_execution() is None:
            return await handler(request)
        name, arguments = _step_name(request), request.tool_call["args"]
        if self._runs_in_flow(request):
            with _placed(in_task=True):
                scope = harness.scope(name)
            with scope, _in_tool():
                return await handler(request)

        async def body() -> Any:
            with _only_results(request):
                return encode(await handler(request))

        with _placed(in_task=True):
            step = harness.step(name, body, kind="tool", arguments=arguments, attributes=ATTRIBUTES)
        result: Result = decode(await step)
        return result

    def _runs_in_flow(self, request: ToolCallRequest) -> bool:
        functions = (getattr(request.tool, name, None) for name in ("func", "coroutine"))
        own = any(harness.is_checkpoint(function) for function in functions)
        return own or request.tool_call["name"] in self._flow_tools


@contextmanager
def _placed(*, in_task: bool = False) -> Iterator[None]:
    """Begin the ids of calls with the agent's name. A `KitaruGraphRunner` has places of its own.

    Without a runner, nothing tells in which task of the flow an async agent was started
    (`in_task`), so the agent's name alone is the place of its calls.
    """
    if active_run() is not None or _tool.get():
        yield
        return
    place = ".".join(filter(None, [outer_nodes(), agent_name()])), _ONE_ATTEMPT
    with harness.place_provider(lambda: place, outermost=in_task):
        yield


@contextmanager
def _live_only() -> Iterator[None]:
    """Pass the pieces of a message to the handlers of `kitaru.harness.listen`, not to the flow.

    LangGraph then streams the message as a whole, in a replay as well as live. Otherwise a flow
    would see other pieces after a crash.
    """
    config = get_config()
    manager: Any = config["callbacks"].copy()  # type: ignore[union-attr]
    manager.add_handler(_Live(), inherit=True)
    tags = [*config.get("tags", ()), TAG_NOSTREAM]
    changed: RunnableConfig = {**config, "tags": tags, "callbacks": manager}
    token = var_child_runnable_config.set(changed)
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)


@contextmanager
def _in_tool() -> Iterator[None]:
    """Let the calls of agents inside a tool of the flow have the place of the tool."""
    token = _tool.set(True)
    try:
        yield
    finally:
        _tool.reset(token)


class _Live(BaseCallbackHandler):
    """Emits the pieces of a message as they arrive."""

    run_inline = True

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, **_: Any) -> None:
        """Emit a piece: a chunk of a message of LangChain, or text."""
        text = token if isinstance(token, str) else ""
        harness.emit(token if chunk is None else chunk.message, text)


def _step_name(request: ToolCallRequest) -> str:
    """Return the name of a step, which no other tool call of the same turn has."""
    call = request.tool_call
    # Some small models give their tool calls no ids.
    return "-".join(filter(None, [call["name"], call["id"] or task_number()]))


@contextmanager
def _only_results(request: ToolCallRequest) -> Iterator[None]:
    """Raise an error that a user understands if a tool cannot be recorded as one call."""
    name = request.tool_call["name"]
    try:
        yield
    except GraphBubbleUp as error:
        problem = "calls interrupt"
        cause: Exception = error
    except ContextError as error:
        problem = "makes durable calls itself"
        cause = error
    else:
        return
    raise UsageError(
        f"The tool {name} {problem}, so it cannot be recorded as one call.",
        help=f"Let it run in the flow's body: KitaruMiddleware(flow_tools=[{name!r}]).",
    ) from cause


def _recorded(request: ModelRequest[Any], response: ModelResponse[Any]) -> Any:
    for message in response.result:
        if isinstance(message, AIMessage):
            _note(message, [*filter(None, [request.system_message]), *request.messages])
    return {
        "messages": encode(response.result),
        "structured": encode_structured(response.structured_response),
    }


def _response(record: Any, request: ModelRequest[Any]) -> ModelResponse[Any]:
    structured = decode_structured(record["structured"], request.response_format)
    return ModelResponse(decode(record["messages"]), structured)


def _note(message: AIMessage, prompt: Sequence[BaseMessage]) -> None:
    """Record tokens, model and texts of a response, with the step whose body runs."""
    used, about = message.usage_metadata, message.response_metadata
    details: dict[str, Any] = {}
    if used is not None:
        details = {
            "cached_tokens": used.get("input_token_details", {}).get("cache_read"),
            "reasoning_tokens": used.get("output_token_details", {}).get("reasoning"),
        }
    harness.usage(
        model=about.get("model_name") or about.get("model"),
        provider=about.get("model_provider"),
        input_tokens=used["input_tokens"] if used is not None else None,
        output_tokens=used["output_tokens"] if used is not None else None,
        prompt=convert_to_openai_messages(list(prompt)),
        response=str(message.text),
        tool_calls=[
            {"id": call["id"], "name": call["name"], "arguments": call["args"]}
            for call in message.tool_calls
        ]
        or None,
        finish=about.get("finish_reason") or about.get("stop_reason"),
        **details,
    )
